"use strict";
// Without this script every row is there. With it long tables show a piece at a time, so that they stay quick; until they
// do, their rows are hidden, because laying out all of them is what takes the time.
const PIECE = 500;
// More than this many rows of a table browsers fail to print.
const PAPER = 5000;
document.documentElement.className = "scripted";
// Where rows are blocks of their own each cell says what it is.
const label = (table, rows) => {
  const names = Array.from(table.tHead.rows[0].cells, (th) => th.textContent);
  for (const row of rows) for (const cell of row.cells) cell.dataset.label ??= names[cell.cellIndex];
};
const enliven = (table) => {
  const body = table.tBodies[0];
  let rows = Array.from(body.rows);
  let matching = rows;
  let shown = PIECE;
  const filter = document.createElement("input");
  filter.type = "search";
  filter.placeholder = "Filter these rows";
  filter.setAttribute("aria-label", "Filter these rows");
  const told = document.createElement("span");
  told.className = "dim told";
  told.setAttribute("role", "status");
  const more = document.createElement("button");
  more.type = "button";
  more.className = "more";
  const show = () => {
    const piece = matching.slice(0, shown);
    label(table, piece);
    body.replaceChildren(...piece);
    const number = (count) => count.toLocaleString("en");
    told.textContent = matching.length === rows.length ? `${number(rows.length)} rows` : `${number(matching.length)} of ${number(rows.length)} rows: “${filter.value.trim()}”`;
    const left = matching.length - shown;
    more.hidden = left <= 0;
    more.textContent = `Show ${number(Math.min(left, 10 * PIECE))} more of ${number(left)}`;
  };
  more.addEventListener("click", () => { shown += 10 * PIECE; show(); });
  const texts = new Map();
  const text = (row) => {
    if (!texts.has(row)) texts.set(row, row.textContent.toLowerCase());
    return texts.get(row);
  };
  const find = () => {
    const words = filter.value.toLowerCase().split(/\s+/).filter(Boolean);
    matching = words.length ? rows.filter((row) => words.every((word) => text(row).includes(word))) : rows;
    shown = PIECE;
    show();
  };
  let waiting;
  filter.addEventListener("input", () => { clearTimeout(waiting); waiting = setTimeout(find, 150); });
  table.parentElement.before(filter, told);
  table.parentElement.after(more);
  for (const th of table.tHead.rows[0].cells) {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...th.childNodes);
    th.append(button);
    button.addEventListener("click", () => {
      const down = th.getAttribute("aria-sort") === "ascending";
      for (const other of table.tHead.rows[0].cells) other.removeAttribute("aria-sort");
      th.setAttribute("aria-sort", down ? "descending" : "ascending");
      const value = (row) => { const cell = row.cells[th.cellIndex]; return cell.dataset.v ?? cell.textContent; };
      const number = th.classList.contains("n");
      const compare = (a, b) => (number ? Number(a[0]) - Number(b[0]) : a[0] < b[0] ? -1 : a[0] > b[0] ? 1 : 0);
      rows = rows.map((row) => [value(row), row]).sort(compare).map((pair) => pair[1]);
      if (down) rows.reverse();
      find();
    });
  }
  // On paper there is nothing to click.
  addEventListener("beforeprint", () => {
    body.replaceChildren(...matching.slice(0, PAPER));
    if (matching.length > PAPER) told.append(`; the first ${PAPER.toLocaleString("en")} are printed, the CSV and the JSON have all`);
  });
  addEventListener("afterprint", show);
  show();
  table.classList.add("ready");
};
addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll("table.rows").forEach(enliven);
  document.querySelectorAll("table:not(.rows)").forEach((table) => label(table, table.tBodies[0].rows));
});
