// Puts what the stream tells where it belongs, and says what is not known.

import { choose, chosen } from "./address.js";
import { Chart, timeColumn } from "./chart.js";
import { byId, element, setText, words } from "./dom.js";
import { clock, count, duration, milliseconds, UNKNOWN } from "./format.js";
import { Ledger } from "./ledger.js";
import { Panels } from "./panels.js";
import { setUpSql } from "./sql.js";
import { Stream } from "./stream.js";
import { setUpTheme } from "./theme.js";

const UNKNOWN_AFTER_S = 10;
const known = (value, format = count) => (value === null || value === undefined ? "not known" : format(value));
const number = (head, value) => ({ head, number: true, value });
const column = (name, format) => (data, row) => known(data[name][row], format);
const latency = (name) => (data, row) => (data.batch[row] === null ? "not known" : milliseconds(data[name][row]));

const perMinute = (data, name) => data[name].map((value) => (value === null ? null : value / data.minutes));
const sum = (data) => data.batch.map((value, row) => (value === null ? null : (value + data.speed[row]) / data.minutes));

const views = new Chart(byId("views"), {
  caption: "Views by step of time",
  legend: [
    { label: "batch", swatch: "batch" }, { label: "speed", swatch: "speed" },
    { label: "the seam: where the live run was cut", swatch: "seam" }, { label: "not known", swatch: "unknown" },
  ],
  series: [
    { label: "batch and speed", color: "speed", bars: true, column: sum },
    { label: "batch", color: "batch", bars: true, column: (data) => perMinute(data, "batch") },
  ],
  columns: [timeColumn, number("batch", column("batch")), number("speed", column("speed")), number("errors", column("errors"))],
});
const visitors = new Chart(byId("visitors"), {
  caption: "Visitors by step of time",
  legend: [{ label: "visitors", swatch: "batch" }, { label: "± one standard error, 2.3 %", swatch: "band" }, { label: "not known", swatch: "unknown" }],
  series: [
    { label: "high", band: true, column: (data) => data.visitors_high },
    { label: "low", column: (data) => data.visitors_low },
    { label: "visitors", color: "batch", column: (data) => data.visitors },
  ],
  columns: [
    timeColumn, number("visitors", column("visitors")), number("from", column("visitors_low", Math.round)), number("to", column("visitors_high", Math.round)),
  ],
});
const latencies = new Chart(byId("latency"), {
  caption: "Percentiles of latency by step of time",
  format: milliseconds,
  legend: [{ label: "p50", swatch: "p50" }, { label: "p95", swatch: "p95" }, { label: "p99", swatch: "p99" }, { label: "not known", swatch: "unknown" }],
  series: ["p50", "p95", "p99"].map((name) => ({ label: name, color: name, column: (data) => data[`${name}_ms`] })),
  columns: [timeColumn, ...["p50", "p95", "p99"].map((name) => number(name, latency(`${name}_ms`)))],
});
const freshness = new Chart(byId("freshness"), {
  caption: "How old the newest record was that was not counted yet, at most",
  format: duration,
  legend: [{ label: "seconds until counted", swatch: "batch" }, { label: "not known", swatch: "unknown" }],
  series: [{ label: "age", color: "batch", column: (data) => data.age_s }],
  columns: [{ head: "at", value: (data, row) => clock(data.at[row]) }, number("age", column("age_s", duration))],
});
const timed = [views, visitors, latencies];
const ledger = new Ledger(byId("ledger"));
const panels = new Panels();

const parts = new Map();
let rows = null; // the columns of the range, and its step
let pulse = null;
let ahead = 0; // of the server's clock before ours, in seconds
let lostSince = null;
let told = "";

const nowS = () => Date.now() / 1_000 + ahead;

function showRuns(data) {
  panels.showRuns(data);
  views.marks.seam = data.live ? { at: data.live.started_s, text: `seam: run ${data.live.run_id}` } : null;
  views.draw();
}

function marks() {
  const until = nowS();
  const outages = (parts.get("outages")?.data ?? []).filter(({ what }) => what === "Kafka");
  return { until, knownUntil: pulse?.known_until ?? null, outages };
}

function showRows() {
  if (!rows) return;
  const { columns: data, step_s: step } = rows;
  data.at = data.at_s;
  data.minutes = step / 60;
  for (const chart of timed) chart.show(data, { ...marks(), from: data.at[0], step });
  const sumOf = (name) => data[name].reduce((all, value) => all + (value ?? 0), 0);
  const unknown = data.batch.filter((value) => value === null).length;
  const [batch, speed] = [sumOf("batch"), sumOf("speed")];
  setText(byId("tile-views"), unknown === data.batch.length ? UNKNOWN : count(batch + speed));
  setText(byId("tile-views-note"), `${count(batch)} batch, ${count(speed)} speed${unknown ? `; ${unknown} of ${data.batch.length} steps not known` : ""}`);
  setText(byId("tile-errors"), unknown === data.batch.length ? UNKNOWN : count(sumOf("errors")));
  setText(byId("tile-errors-note"), "status 500 and above");
}

// The newest rows take the place of those that they are newer than.
function mergeTail({ columns: tail, step_s: step }) {
  if (!rows || rows.step_s !== step) return;
  const { columns: data } = rows;
  tail.at_s.forEach((at, row) => {
    const place = data.at_s.indexOf(at);
    const isNew = at > data.at_s.at(-1);
    for (const name of Object.keys(tail)) {
      if (place >= 0) data[name][place] = tail[name][row];
      else if (isNew) data[name].push(tail[name][row]);
    }
  });
  const first = data.at_s.at(-1) - rows.span;
  while (data.at_s[0] < first) for (const name of Object.keys(tail)) data[name].shift();
}

function showTotals(totals) {
  const visitorsKnown = totals.visitors ?? 0;
  setText(byId("tile-visitors"), count(visitorsKnown));
  setText(byId("tile-visitors-note"), visitorsKnown ? `± ${count(Math.round(visitorsKnown * 0.023))}, one standard error` : "");
  setText(byId("tile-latency"), milliseconds(totals.p95_ms));
  setText(byId("tile-latency-note"), totals.p50_ms === null ? "no event has a duration" : `half within ${milliseconds(totals.p50_ms)}, 99 % within ${milliseconds(totals.p99_ms)}`);
}

const showPart = {
  series: (data) => {
    rows = data;
    rows.span = data.columns.at_s.at(-1) - data.columns.at_s[0];
    showRows();
  },
  tail: (data) => {
    mergeTail(data);
    showRows();
  },
  totals: showTotals,
  pages: (data) => panels.showPages(data),
  referrers: (data) => panels.showReferrers(data),
  sites: showSites,
  runs: showRuns,
  ledger: (data) => ledger.show(data.partitions, data.batch_counted),
  quarantine: (data) => panels.showQuarantine(data),
  budgets: (data) => panels.showBudgets(data),
  servers: (data) => panels.showServers(data),
  problems: showProblems,
  outages: (data) => {
    panels.showOutages(data);
    for (const chart of timed) chart.move(nowS(), marks());
  },
  lag: (data) => panels.showLag(data),
  freshness: (data) => freshness.show(data, { from: data.at[0], until: data.at.at(-1) + 10, knownUntil: data.at.at(-1), step: 10 }),
};

function showProblems({ found: problems, asked }) {
  panels.showProblems(problems, asked);
  // Said aloud once, and not again while only numbers in it change.
  const text = problems.map(({ what }) => what.replace(/\d+/g, "")).join("; ");
  if (text !== told) setText(byId("announcer"), problems.length ? problems.map(({ what }) => what).join("; ") : asked ? "All is well" : "");
  told = text;
}

function showSites(sites) {
  const select = byId("site");
  const { site } = scope;
  const all = site && !sites.includes(site) ? [site, ...sites] : sites;
  const wanted = ["", ...all];
  if (wanted.length === select.options.length && wanted.every((name, place) => select.options[place].value === name)) return;
  select.replaceChildren(element("option", { value: "" }, "all sites"), ...all.map((name) => element("option", { value: name }, name)));
  select.value = site;
}

// Which sections are as old as which of the two that are asked.
const DATABASE = ["views", "visitors", "latency", "pages", "referrers", "ledger", "runs", "quarantine"];
const PARTS = { views: "series", visitors: "series", latency: "series" };

function showStale() {
  const away = pulse?.database.away;
  for (const name of DATABASE) {
    const part = parts.get(PARTS[name] ?? name);
    const section = byId(name).closest("section");
    const since = lostSince ?? (away ? pulse.database.at : null);
    let text = null;
    if (lostSince !== null || away) text = since ? `Not known since ${clock(since)} UTC: what stands here is older` : "Not known: no answer yet";
    else if (part?.error) text = `Not known since ${clock(part.failed_since)} UTC: ${part.error}`;
    if (text) section.dataset.stale = text;
    else delete section.dataset.stale;
  }
}

function showBanner() {
  const said = [];
  if (lostSince !== null) {
    said.push(`This page has lost its server since ${clock(lostSince)} UTC, and tries again. What stands below is older; what happens now is not known. \`make up\` brings the server back.`);
  } else if (pulse) {
    const { database, kafka } = pulse;
    if (database.away) said.push(`TimescaleDB does not answer${database.at ? ` since ${clock(database.at)} UTC` : ""}. What stands below is older; what happens now is not known.`);
    if (kafka.away) said.push(`Kafka does not answer${kafka.at ? ` since ${clock(kafka.at)} UTC` : ""}. No event is taken meanwhile: that is not the same as no views.`);
  }
  const text = said.join(" ");
  const banner = byId("banner");
  if (banner.dataset.text !== text) {
    banner.dataset.text = text;
    banner.replaceChildren(...said.map((line) => element("p", { class: "outage" }, ...words(line))));
  }
}

function showFreshness() {
  const age = pulse && pulse.known_until !== null && lostSince === null ? nowS() - pulse.known_until : null;
  setText(byId("tile-freshness"), age === null ? UNKNOWN : duration(Math.max(0, age)));
  const late = age !== null && age > UNKNOWN_AFTER_S;
  setText(byId("tile-freshness-note"), age === null ? "not known" : late ? `counted up to ${clock(pulse.known_until)}: what came since is not known` : "counted up to that long ago");
}

function showClock() {
  showStale();
  showBanner();
  showFreshness();
  const away = lostSince !== null || (pulse && (pulse.database.away || pulse.kafka.away));
  if (rows && away) for (const chart of timed) chart.move(nowS(), marks());
  const state = lostSince !== null ? "no connection, trying again" : pulse ? `live, ${clock(nowS())} UTC` : "connecting…";
  setText(byId("connection"), state);
}

const stream = new Stream(
  (event, content) => {
    lostSince = null;
    if (event === "scope") {
      parts.clear();
      rows = null;
    } else if (event === "pulse") {
      pulse = content;
      ahead = content.now - Date.now() / 1_000;
      showClock();
    } else {
      parts.set(content.name, content);
      if (content.data !== null) showPart[content.name](content.data);
      if (content.error) showStale();
    }
  },
  () => {
    lostSince ??= nowS();
    showClock();
  },
);

let scope = { site: "", range: "" };

function look(next) {
  scope = next;
  byId("range").value = scope.range;
  showSites([...byId("site").options].map(({ value }) => value).filter(Boolean));
  byId("site").value = scope.site;
  stream.open(scope);
}

async function begin() {
  const about = await (await fetch("/about")).json();
  byId("range").replaceChildren(...about.ranges.map(({ name, text }) => element("option", { value: name }, text)));
  const fallback = about.default_range;
  const fromAddress = () => {
    const found = chosen(fallback);
    return about.ranges.some(({ name }) => name === found.range) ? found : { ...found, range: fallback };
  };
  byId("scope").addEventListener("change", () => {
    const next = { site: byId("site").value, range: byId("range").value };
    choose(next);
    look(next);
  });
  byId("scope").addEventListener("submit", (event) => event.preventDefault());
  addEventListener("popstate", () => look(fromAddress()));
  setUpTheme(byId("theme"), () => [...timed, freshness].forEach((chart) => chart.redraw()));
  setUpSql(about);
  setInterval(showClock, 1_000);
  look(fromAddress());
}

begin().catch(() => {
  byId("banner").replaceChildren(element("p", { class: "outage" }, "This page's server did not answer. Load the page again; ", element("code", {}, "make up"), " brings the server back."));
});
