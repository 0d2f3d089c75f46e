"use strict";
// Without this script every row is there. With it long tables show a piece at a time, so that they stay quick; until they
// do, their rows are hidden, because laying out all of them is what takes the time.
const PIECE = 500;
document.documentElement.className = "scripted";
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
    body.replaceChildren(...matching.slice(0, shown));
    const number = (count) => count.toLocaleString("en");
    told.textContent = matching.length === rows.length ? `${number(rows.length)} rows` : `${number(matching.length)} of ${number(rows.length)} rows`;
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
  addEventListener("beforeprint", () => { body.replaceChildren(...matching); more.hidden = true; });
  addEventListener("afterprint", show);
  show();
  table.classList.add("ready");
};
addEventListener("DOMContentLoaded", () => document.querySelectorAll("table.rows").forEach(enliven));
