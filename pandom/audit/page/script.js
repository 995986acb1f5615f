// Filters of the matrix; without JavaScript the page simply shows everything.
"use strict";
const form = document.getElementById("filters");
const table = document.getElementById("matrix");
form.hidden = false;
function show() {
  const text = form.elements.text.value.toLowerCase();
  const kind = form.elements.kind.value;
  const role = form.elements.role.value;
  const drift = form.elements.drift.checked;
  let seen = 0;
  for (const row of table.tBodies[0].rows) {
    const fits = row.dataset.name.includes(text) && (!kind || row.dataset.kind === kind)
      && (!drift || row.querySelector("td.drift"));
    row.hidden = !fits;
    seen += fits ? 1 : 0;
  }
  for (const cell of table.querySelectorAll("[data-role]")) {
    cell.hidden = Boolean(role) && cell.dataset.role !== role;
  }
  document.getElementById("seen").textContent = seen + " objects shown";
}
form.addEventListener("input", show);
form.addEventListener("submit", (event) => event.preventDefault());
show();
for (const event of ["beforeprint"]) {
  addEventListener(event, () => document.querySelectorAll("details").forEach((one) => { one.open = true; }));
}
