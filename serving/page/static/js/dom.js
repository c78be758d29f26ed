// Elements and tables. Text is always set as text, so nothing of an event becomes markup.

export const byId = (id) => document.getElementById(id);

export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value !== null && value !== undefined && value !== false) made.setAttribute(key, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

export const setText = (node, text) => {
  if (node.textContent !== text) node.textContent = text;
};

// Words with `commands` in them.
export function words(text) {
  return text.split("`").map((part, place) => (place % 2 ? element("code", {}, part) : part));
}

// A table in a region that scrolls: columns are {head, number}, rows arrays of texts or nodes. What is equal stays, so that
// whoever reads or selects it is not disturbed.
export class Table {
  constructor(caption, columns, { tall = false } = {}) {
    this.columns = columns;
    this.body = element("tbody");
    const heads = columns.map(({ head, number }) => element("th", { scope: "col", class: number ? "number" : null }, head));
    const table = element("table", {}, element("caption", {}, caption), element("thead", {}, element("tr", {}, ...heads)), this.body);
    this.node = element("div", { class: tall ? "scroll tall" : "scroll", tabindex: "0", role: "region", "aria-label": caption }, table);
  }

  show(rows) {
    while (this.body.rows.length > rows.length) this.body.deleteRow(-1);
    rows.forEach((cells, place) => {
      const row = this.body.rows[place] ?? this.body.appendChild(element("tr"));
      cells.forEach((value, column) => {
        let cell = row.cells[column];
        if (!cell) {
          const head = column === 0 && !this.columns[0].number;
          cell = row.appendChild(element(head ? "th" : "td", { scope: head ? "row" : null }));
          if (this.columns[column].number) cell.className = "number";
        }
        if (value instanceof Node) {
          if (!cell.firstChild?.isEqualNode?.(value)) cell.replaceChildren(value);
        } else {
          setText(cell, value);
        }
      });
    });
  }
}
