// Numbers and times as people read them; what is not known is a dash.

export const UNKNOWN = "–";
const whole = new Intl.NumberFormat("en");

export const count = (value) => (value === null || value === undefined ? UNKNOWN : whole.format(value));

export function milliseconds(value) {
  if (value === null || value === undefined) return UNKNOWN;
  if (value >= 10_000) return `${(value / 1_000).toFixed(1)} s`;
  if (value === 0) return "0 ms";
  return `${value >= 100 ? Math.round(value) : value.toPrecision(2)} ms`;
}

export function bytes(value) {
  if (value === null || value === undefined) return UNKNOWN;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  while (size >= 1_024 && unit < units.length - 1) {
    size /= 1_024;
    unit += 1;
  }
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7_200) return `${Math.floor(seconds / 60)} min ${Math.round(seconds % 60)} s`;
  return `${Math.floor(seconds / 3_600)} h ${Math.round((seconds % 3_600) / 60)} min`;
}

export const clock = (seconds) => new Date(seconds * 1_000).toISOString().slice(11, 19);
export const day = (seconds) => new Date(seconds * 1_000).toISOString().slice(0, 10);

// Where a row of so many seconds begins.
export function moment(seconds, step) {
  if (step >= 86_400) return day(seconds);
  return step >= 3_600 ? `${day(seconds).slice(5)} ${clock(seconds).slice(0, 5)}` : clock(seconds).slice(0, 5);
}
