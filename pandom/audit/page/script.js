// Filters of the matrix, and its cells by keyboard; without JavaScript the page shows everything.
"use strict";
const form = document.getElementById("filters");
const table = document.getElementById("matrix");
const rows = [...table.tBodies[0].rows];
form.hidden = false;

function show() {
  const text = form.elements.text.value.toLowerCase();
  const kind = form.elements.kind.value;
  const role = form.elements.role.value;
  const drift = form.elements.drift.checked;
  let seen = 0;
  for (const row of rows) {
    const fits = row.dataset.name.includes(text) && (!kind || row.dataset.kind === kind)
      && (!drift || row.querySelector(role ? `td.drift[data-role="${role}"]` : "td.drift"));
    row.hidden = !fits;
    seen += fits ? 1 : 0;
  }
  // Columns without any drift in the rows that are left say nothing then.
  const wrong = new Set(rows.filter((row) => !row.hidden)
    .flatMap((row) => [...row.querySelectorAll("td.drift")].map((cell) => cell.dataset.role)));
  for (const cell of table.querySelectorAll("[data-role]")) {
    cell.hidden = (role && cell.dataset.role !== role) || (drift && !wrong.has(cell.dataset.role));
  }
  document.getElementById("seen").textContent = `${seen} of ${rows.length} objects`;
}
form.addEventListener("input", show);
form.addEventListener("submit", (event) => event.preventDefault());
show();

// One cell at a time takes the focus: Tab enters and leaves, arrows move.
const STEPS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const shown = (row) => [...row.cells].filter((cell) => cell.dataset.role && !cell.hidden);

function say(cell) {
  const row = cell.parentElement;
  const label = cell.getAttribute("aria-label") || "nothing";
  document.getElementById("cell").textContent =
    `${cell.dataset.role} on ${row.cells[0].textContent}: ${label}`;
}
table.parentElement.addEventListener("keydown", (event) => {
  const step = STEPS[event.key];
  const left = rows.filter((row) => !row.hidden);
  if (!step || left.length === 0) return;
  event.preventDefault();
  const now = document.activeElement.closest("td");
  const y = now ? left.indexOf(now.parentElement) : -1;
  const x = y < 0 ? 0 : shown(left[y]).indexOf(now) + step[1];
  const cells = shown(left[Math.min(Math.max(y + (y < 0 ? 1 : step[0]), 0), left.length - 1)]);
  const next = cells[Math.min(Math.max(x, 0), cells.length - 1)];
  if (!next) return;
  next.tabIndex = -1;
  next.focus();
  say(next);
});
table.addEventListener("click", (event) => {
  const cell = event.target.closest("td[data-role]");
  if (cell) say(cell);
});
addEventListener("beforeprint", () => {
  for (const one of document.querySelectorAll("details")) one.open = true;
});
