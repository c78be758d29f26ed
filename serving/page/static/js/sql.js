// The SQL box: one statement, as role reader.

import { byId, element, setText, Table } from "./dom.js";
import { count } from "./format.js";

export function setUpSql({ questions, limits }) {
  const [choice, statement, said, answer] = ["question", "statement", "sql-said", "sql-answer"].map(byId);
  choice.append(...questions.map(({ title }, place) => element("option", { value: String(place) }, title)));
  choice.addEventListener("change", () => {
    if (choice.value) statement.value = questions[Number(choice.value)].sql.trimEnd();
  });
  setText(byId("sql-limits"), `Read only, up to ${limits.seconds} s and ${count(limits.rows)} rows. Ctrl+Enter asks.`);
  statement.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) byId("sql").requestSubmit();
  });
  byId("sql").addEventListener("submit", async (event) => {
    event.preventDefault();
    setText(said, "asking…");
    try {
      const response = await fetch("/sql", { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ sql: statement.value }) });
      const found = await response.json();
      if (response.ok && !found.refused) show(found);
      else refuse(found.refused ?? found.detail);
    } catch {
      refuse("the page's server does not answer");
    }
  });

  function refuse(detail) {
    said.replaceChildren(element("pre", { class: "bad" }, detail));
    answer.replaceChildren();
  }

  function show({ columns, numeric, rows, cut, took_s }) {
    setText(said, `${cut ? "the first " : ""}${count(rows.length)} row${rows.length === 1 ? "" : "s"}, ${took_s} s${cut ? "; there are more: `make query` shows all" : ""}`);
    const table = new Table("Answer", columns.map((head, place) => ({ head, number: numeric[place] })), { tall: true });
    table.show(rows.map((row) => row.map((value) => value ?? "")));
    answer.replaceChildren(table.node);
  }
}
