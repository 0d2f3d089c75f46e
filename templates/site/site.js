"use strict";
// Everything works without this; it only makes some of it quicker.
for (const time of document.querySelectorAll("time[datetime]")) {
  time.title = new Date(time.dateTime).toLocaleString();
}
const search = document.querySelector("input[type=search]");
document.addEventListener("keydown", (event) => {
  const typing = event.target.closest("input, select, textarea");
  if (search && event.key === "/" && !typing && !event.ctrlKey && !event.metaKey && !event.altKey) {
    event.preventDefault();
    search.focus();
    search.select();
  }
});
for (const select of document.querySelectorAll("form.filter select")) {
  select.addEventListener("change", () => select.form.requestSubmit());
}
const seconds = Number(document.body.dataset.refresh);
if (seconds > 0) {
  // Somebody who reads further down, has something open or is on the way with the keyboard is not disturbed.
  const undisturbed = () =>
    !document.hidden && scrollY < 50 && document.activeElement === document.body && !document.querySelector("details[open]");
  setInterval(() => { if (undisturbed()) location.reload(); }, seconds * 1000);
}
