// What is no chart: health in words, servers, pages, lag, runs, quarantine, disk and memory.

import { byId, element, Table, words } from "./dom.js";
import { bytes, clock, count, day, duration, milliseconds, UNKNOWN } from "./format.js";

const number = (head) => ({ head, number: true });

function bar(share, kind = "") {
  const filled = element("span", { class: kind });
  filled.style.width = `${Math.min(100, Math.max(0, 100 * share))}%`;
  return element("div", { class: "bar", "aria-hidden": "true" }, filled);
}

function noted(title, node) {
  return element("div", {}, element("h3", {}, title), node);
}

export class Panels {
  constructor() {
    this.servers = new Table("Whether each takes connections or is ready", [{ head: "server" }, { head: "state" }, { head: "says" }], { tall: true });
    byId("servers").replaceChildren(this.servers.node, (this.outages = element("div")));
    this.pages = new Table("Pages", [{ head: "page" }, { head: "site" }, number("views"), number("visitors"), number("errors"), number("p95")], { tall: true });
    byId("pages").replaceChildren((this.pagesSince = element("p", { class: "note" })), this.pages.node);
    this.referrers = new Table("Hosts that visitors came from", [{ head: "host" }, number("views"), number("visitors")], { tall: true });
    byId("referrers").replaceChildren((this.referrersSince = element("p", { class: "note" })), this.referrers.node);
    const lag = ["Kafka", "speed", "speed lag"].map(number);
    this.lag = new Table("Next offset of each part, and how many it is behind", [
      { head: "partition" }, ...lag, { head: "drawn" }, number("archive"), number("archive lag"), { head: "drawn" }, number("batch"), number("held back"),
    ]);
    byId("lag").replaceChildren(this.lag.node);
    this.runs = new Table("The last runs", [
      { head: "run" }, { head: "kind" }, { head: "state" }, { head: "began" }, number("took"), number("days"), number("events"), { head: "how far, or why it failed" },
    ]);
    byId("runs").replaceChildren((this.progress = element("div")), this.runs.node);
    this.memory = new Table("Memory that each container may take; compose/engine docker stats shows what it takes", [{ head: "container" }, number("limit"), { head: "of the machine" }]);
    this.disk = new Table("Disk", [{ head: "what" }, number("taken"), number("of"), number("in 24 hours"), { head: "share" }]);
    byId("budgets").replaceChildren(this.disk.node, (this.machine = element("p")), this.memory.node);
  }

  showProblems(problems, asked) {
    const nodes = problems.map(({ what, means, commands, grave }) => {
      const said = [element("p", {}, element("strong", {}, ...words(what)))];
      if (means) said.push(element("p", {}, means));
      if (commands.length) said.push(element("p", {}, "Try ", ...commands.flatMap((command, place) => [place ? ", or " : "", element("code", {}, command)])));
      return element("div", { class: grave ? "outage" : "notice" }, ...said);
    });
    const ok = asked
      ? element("p", {}, element("span", { class: "good" }, "All is well: "), "every server answers, and nothing waits.")
      : element("p", {}, "asking…");
    const made = element("div", {}, ...(nodes.length ? nodes : [ok]));
    if (!byId("problems").firstChild?.isEqualNode?.(made)) byId("problems").replaceChildren(made);
  }

  showServers(servers) {
    const states = new Map([[true, ["good", "up"]], [false, ["bad", "down"]], [null, ["note", "not asked yet"]]]);
    this.servers.show(servers.map(({ name, up, detail }) => {
      const [kind, word] = states.get(up);
      return [name, element("span", { class: kind }, word), detail];
    }));
  }

  showOutages(outages) {
    const items = [...outages].reverse().slice(0, 10).map(({ what, from_s, until_s }) =>
      element("li", {}, `${what}: ${clock(from_s)} to ${until_s === null ? "now" : `${clock(until_s)} (${duration(until_s - from_s)})`}`));
    this.outages.replaceChildren(noted("Outages of the last day", items.length ? element("ul", {}, ...items) : element("p", {}, "None since this page's server began.")));
  }

  showPages({ since, rows }) {
    this.pagesSince.textContent = `since ${day(since)} ${clock(since).slice(0, 5)}; rows are of an hour, or of a day`;
    this.pages.show(rows.map((row) => [row.page, row.site, count(row.views), count(row.visitors), count(row.errors), milliseconds(row.p95_ms)]));
  }

  showReferrers({ since, rows, view }) {
    if (!view) {
      this.referrersSince.replaceChildren(...words("No view in contract/streams/page_views.py has the keys `site` and `referrer_host`."));
      this.referrers.node.hidden = true;
      return;
    }
    this.referrers.node.hidden = false;
    this.referrersSince.textContent = `since ${day(since)} ${clock(since).slice(0, 5)}; other pages of the site left out`;
    this.referrers.show(rows.map((row) => [row.referrer_host || "(direct)", count(row.views), count(row.visitors)]));
  }

  showLag(rows) {
    const most = Math.max(1, ...rows.map((row) => Math.max(row.speed_lag ?? 0, row.archive_lag ?? 0)));
    this.lag.show(rows.map((row) => [
      String(row.partition), count(row.kafka), count(row.speed), count(row.speed_lag), row.speed_lag === null ? UNKNOWN : bar(row.speed_lag / most, "speed"),
      count(row.archive), count(row.archive_lag), row.archive_lag === null ? UNKNOWN : bar(row.archive_lag / most), count(row.batch), count(row.held_back),
    ]));
  }

  showRuns({ runs }) {
    const working = runs.filter(({ state }) => state === "running");
    const made = element("div", {}, ...working.map((run) => {
      const label = `run ${run.run_id} (${run.kind}) works: ${run.step ?? "beginning"}${run.tasks ? `, ${run.tasks_done} of ${run.tasks} tasks` : ""}`;
      const progress = element("progress", { "aria-label": label, max: run.tasks || 1 });
      if (run.tasks) progress.value = run.tasks_done;
      return element("div", {}, element("p", {}, label), progress);
    }));
    if (!this.progress.firstChild?.isEqualNode?.(made)) this.progress.replaceChildren(made);
    this.runs.show(runs.map((run) => {
      const state = run.is_live ? "live" : run.state;
      const how = run.state === "running" ? `${run.step ?? "beginning"} ${run.tasks ? `${run.tasks_done}/${run.tasks}` : ""}` : run.error ?? "";
      return [String(run.run_id), run.kind, state, `${day(run.started_s)} ${clock(run.started_s)}`, duration(run.duration_s), count(run.days), count(run.events), how];
    }));
  }

  showQuarantine(reasons) {
    if (!reasons.length) {
      byId("quarantine").replaceChildren(element("p", {}, "Empty: every record so far is an event."));
      return;
    }
    const made = element("div", {}, ...reasons.map(({ reason, records, samples }) => {
      const table = new Table(`The last records of ${reason}`, [{ head: "partition:offset" }, { head: "came" }, { head: "why" }, number("bytes")]);
      table.show(samples.map((sample) => [
        `${sample.partition}:${sample.offset}`, sample.at_s === null ? UNKNOWN : `${day(sample.at_s)} ${clock(sample.at_s)}`, sample.detail ?? "", count(sample.value_bytes),
      ]));
      return noted(`${reason}: ${count(records)}`, table.node);
    }));
    if (!byId("quarantine").firstChild?.isEqualNode?.(made)) byId("quarantine").replaceChildren(made);
  }

  showBudgets({ disk, memory }) {
    const used = disk?.size_bytes == null || disk.free_bytes == null ? null : disk.size_bytes - disk.free_bytes;
    const rows = [
      ["Kafka's log of the topic", disk?.kafka_bytes, disk?.kafka_budget_bytes, disk?.kafka_day_bytes],
      ["the archive, with its copies", disk?.archive_bytes, null, disk?.archive_day_bytes],
      ["the disk of Kafka's log, all of it", used, disk?.size_bytes, null],
    ];
    this.disk.show(rows.map(([what, taken, of, grown]) => [what, bytes(taken), bytes(of), bytes(grown), taken != null && of ? bar(taken / of) : ""]));
    const { limits, machine } = memory;
    const all = Object.values(limits).reduce((sum, one) => sum + one, 0);
    this.machine.replaceChildren(`Memory: containers may take ${bytes(all)} together; of this machine's ${bytes(machine.total_bytes)}, ${bytes(machine.available_bytes)} are available.`, bar(1 - machine.available_bytes / machine.total_bytes));
    const sorted = Object.entries(limits).sort((one, other) => other[1] - one[1]);
    this.memory.show(sorted.map(([name, limit]) => [name, bytes(limit), bar(limit / machine.total_bytes)]));
  }
}
