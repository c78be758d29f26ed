// The ledger as a picture: the records that came in, and where each of them went.

import { element, Table } from "./dom.js";
import { count } from "./format.js";

const NS = "http://www.w3.org/2000/svg";
const WIDTH = 640;
const BAR = 18;
const GAP = 30;
const LEAST = 3; // what is there is seen, however little it is
const FLOW = 190;
const ENDS = [
  ["batch", "counted by batch", "batch"],
  ["speed", "counted by speed", "speed"],
  ["duplicate", "duplicates", "duplicate"],
  ["quarantined", "in quarantine", "quarantined"],
  ["forgotten", "forgotten", "forgotten"],
];

function shape(name, attributes, ...children) {
  const made = document.createElementNS(NS, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

export class Ledger {
  constructor(place) {
    this.picture = element("div", { role: "img" });
    const numbers = ["received", "counted", "duplicates", "quarantined", "forgotten", "difference", "in flight", "lost"];
    const columns = [{ head: "partition" }, ...numbers.map((head) => ({ head, number: true }))];
    this.table = new Table("Ledger: received = counted + duplicates + quarantined + forgotten", columns);
    place.replaceChildren(element("figure", {}, element("div", { class: "figure even" }, this.picture, this.table.node)));
  }

  show(rows, batchCounted) {
    const names = ["received", "counted", "duplicate", "quarantined", "forgotten", "difference", "in_flight", "lost"];
    const sums = Object.fromEntries(names.map((name) => [name, rows.reduce((sum, row) => sum + row[name], 0)]));
    const cells = (row) => names.map((name) => count(row[name]));
    this.table.show([...rows.map((row) => [String(row.partition), ...cells(row)]), ["all", ...cells(sums)]]);
    this.draw(sums, batchCounted);
  }

  draw(sums, batchCounted) {
    const batch = batchCounted === null ? null : Math.min(batchCounted, sums.counted);
    const parts = { ...sums, batch: batch ?? sums.counted, speed: batch === null ? 0 : sums.counted - batch };
    const ends = ENDS.filter(([name]) => parts[name] > 0 || name === "batch");
    const scale = FLOW / Math.max(1, sums.received);
    const heights = ends.map(([name]) => (parts[name] > 0 ? Math.max(LEAST, parts[name] * scale) : 0));
    const top = 24;
    const total = heights.reduce((sum, height) => sum + height, 0);
    const picture = shape("svg", { viewBox: `0 0 ${WIDTH} ${top + total + GAP * (ends.length - 1) + 16}`, width: "100%" });
    picture.append(shape("rect", { x: 0, y: top, width: BAR, height: Math.max(LEAST, total), fill: "var(--muted)" }));
    picture.append(shape("text", { x: 0, y: top - 8 }, `${count(sums.received)} received`));
    let left = top;
    let right = top;
    ends.forEach(([name, label, hue], place) => {
      const height = heights[place];
      const [x0, x1, middle] = [BAR, WIDTH - 250, (WIDTH - 250 + BAR) / 2];
      const flow = `M${x0} ${left}C${middle} ${left} ${middle} ${right} ${x1} ${right}V${right + height}` +
        `C${middle} ${right + height} ${middle} ${left + height} ${x0} ${left + height}Z`;
      picture.append(shape("path", { d: flow, fill: `var(--${hue})`, class: "flow" }));
      picture.append(shape("rect", { x: x1, y: right, width: BAR, height, fill: `var(--${hue})` }));
      const said = batch === null && name === "batch" ? "counted" : label;
      picture.append(shape("text", { x: x1 + BAR + 8, y: right + Math.max(height, 8) / 2 + 5 }, `${count(parts[name])} ${said}`));
      left += height;
      right += height + GAP;
    });
    this.picture.replaceChildren(picture);
    const told = ends.map(([name, label]) => `${count(parts[name])} ${label}`).join(", ");
    this.picture.setAttribute("aria-label", `Of ${count(sums.received)} records received: ${told}`);
  }
}
