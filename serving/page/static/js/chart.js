// A line or bar chart over time, with its legend and its table. What nobody knows is hatched and has no line: it is not zero.

import uPlot from "/vendor/uPlot.esm.js";
import { element, setText, Table } from "./dom.js";
import { moment } from "./format.js";
import { color } from "./theme.js";

const HEIGHT = 250;
const UNKNOWN_AFTER_S = 10;

export class Chart {
  // series: [{column, label, color, bars, band, format}] in the order in which they are drawn.
  constructor(place, { caption, series, columns, legend, format }) {
    Object.assign(this, { series, columns, format });
    this.table = new Table(caption, columns);
    this.plot = element("div", { class: "plot", role: "img", "aria-label": `${caption}: the table beside it has the numbers` });
    const entries = legend.map(({ label, swatch }) =>
      element("li", {}, element("span", { class: `swatch swatch-${swatch}`, "aria-hidden": "true" }), label));
    this.readout = element("li", { class: "readout", "aria-hidden": "true" });
    const parts = [element("ul", { class: "legend" }, ...entries, this.readout), element("div", { class: "figure" }, this.plot, this.table.node)];
    place.replaceChildren(element("figure", {}, ...parts));
    this.marks = { from: 0, until: 0, knownUntil: null, outages: [], seam: null, step: 60 };
    this.data = { at: [] };
    new ResizeObserver(() => this.chart?.setSize({ width: this.plot.clientWidth, height: HEIGHT })).observe(this.plot);
  }

  show(data, marks) {
    this.data = data;
    Object.assign(this.marks, marks);
    this.draw();
    const rows = data.at.map((at, row) => this.columns.map(({ value }) => value(data, row, this.marks.step)));
    this.table.show(rows.reverse().slice(0, 400));
  }

  // Time goes on where no answer comes.
  move(until, marks) {
    Object.assign(this.marks, marks, { from: this.marks.from + (until - this.marks.until), until });
    this.draw();
  }

  draw() {
    if (!this.data.at.length) return;
    const columns = [this.data.at, ...this.series.map(({ column }) => column(this.data))];
    if (this.chart) this.chart.setData(columns);
    else this.chart = new uPlot(this.options(), columns, this.plot);
  }

  // Colours are of the theme.
  redraw() {
    this.chart?.destroy();
    this.chart = null;
    this.draw();
  }

  options() {
    const axis = { stroke: color("muted"), grid: { stroke: color("line"), width: 1 }, ticks: { stroke: color("line") } };
    const values = this.format ? (_, splits) => splits.map(this.format) : undefined;
    const times = (_, splits) => splits.map((at) => moment(at, this.marks.step >= 86_400 ? 86_400 : this.marks.until - this.marks.from > 172_800 ? 3_600 : 60));
    return {
      width: this.plot.clientWidth,
      height: HEIGHT,
      tzDate: (at) => uPlot.tzDate(new Date(at * 1_000), "Etc/UTC"),
      legend: { show: false },
      cursor: { y: false, points: { show: false }, drag: { x: false, y: false } },
      scales: {
        x: { range: () => [this.marks.from, this.marks.until] },
        y: { range: (_, low, high) => [0, Math.max(high ?? 0, 1) * 1.08] },
      },
      axes: [{ ...axis, values: times, space: 70 }, { ...axis, values, size: 64 }],
      series: [{}, ...this.series.map((one) => this.line(one))],
      bands: this.series.flatMap(({ band }, place) => (band ? [{ series: [place + 1, place + 2], fill: color("band") }] : [])),
      hooks: { drawClear: [(chart) => this.hatch(chart)], draw: [(chart) => this.drawSeam(chart)], setCursor: [(chart) => this.read(chart)] },
    };
  }

  line(one) {
    const stroke = one.color ? color(one.color) : "transparent";
    if (!one.bars) return { label: one.label, stroke, width: 2, spanGaps: false, points: { size: 4 } };
    const paths = uPlot.paths.bars({ size: [1, 60], align: 1, gap: 1 });
    return { label: one.label, stroke, fill: stroke, width: 0, paths, points: { show: false } };
  }

  // What stands under the pointer; the table has the same for who has none.
  read(chart) {
    const row = chart.cursor.idx;
    const cells = row == null ? [] : this.columns.map(({ head, value }) => `${head} ${value(this.data, row, this.marks.step)}`);
    setText(this.readout, cells.join(", "));
  }

  unknown() {
    const { until, knownUntil, outages } = this.marks;
    const found = outages.map((outage) => [outage.from_s, outage.until_s ?? until]);
    if (knownUntil === null || until - knownUntil > UNKNOWN_AFTER_S) found.push([knownUntil ?? this.marks.from, until]);
    return found.filter(([from, to]) => to > this.marks.from && from < until);
  }

  hatch(chart) {
    const { ctx, bbox } = chart;
    for (const [from, to] of this.unknown()) {
      const left = Math.max(bbox.left, chart.valToPos(from, "x", true));
      const right = Math.min(bbox.left + bbox.width, chart.valToPos(to, "x", true));
      ctx.save();
      ctx.beginPath();
      ctx.rect(left, bbox.top, Math.max(2, right - left), bbox.height);
      ctx.clip();
      ctx.strokeStyle = color("hatch");
      ctx.lineWidth = devicePixelRatio;
      ctx.beginPath();
      for (let x = left - bbox.height; x < right; x += 8 * devicePixelRatio) {
        ctx.moveTo(x, bbox.top + bbox.height);
        ctx.lineTo(x + bbox.height, bbox.top);
      }
      ctx.stroke();
      ctx.restore();
    }
  }

  drawSeam(chart) {
    const { seam, from, until } = this.marks;
    if (!seam || seam.at < from || seam.at > until) return;
    const { ctx, bbox } = chart;
    const x = chart.valToPos(seam.at, "x", true);
    ctx.save();
    ctx.strokeStyle = color("seam");
    ctx.fillStyle = color("seam");
    ctx.lineWidth = 2 * devicePixelRatio;
    ctx.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
    ctx.beginPath();
    ctx.moveTo(x, bbox.top);
    ctx.lineTo(x, bbox.top + bbox.height);
    ctx.stroke();
    ctx.font = `${12 * devicePixelRatio}px system-ui, sans-serif`;
    const isLeft = x > bbox.left + bbox.width / 2;
    ctx.textAlign = isLeft ? "right" : "left";
    ctx.fillText(seam.text, x + (isLeft ? -6 : 6) * devicePixelRatio, bbox.top + 12 * devicePixelRatio);
    ctx.restore();
  }
}

export const timeColumn = { head: "from", value: (data, row, step) => moment(data.at[row], step) };
