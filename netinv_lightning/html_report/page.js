"use strict";
// Behaviour of the page: sortable and filterable tables, enlarged pictures, copy buttons. charts.js draws charts.

const all = (selector, within = document) => [...within.querySelectorAll(selector)];
const data = JSON.parse(document.getElementById("data").textContent);

// Navigation: one link per section.
for (const title of all("h2[data-nav]")) {
  const link = document.createElement("a");
  link.href = `#${title.closest("section").id}`;
  link.textContent = title.dataset.nav;
  const item = document.createElement("li");
  item.append(link);
  document.querySelector("nav ul").append(item);
}

// Tables: a click on a header sorts by its column, a second click reverses. Empty cells stay last.
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?$/i;
function sortBy(table, index, descending) {
  const rows = all("tbody tr", table);
  const values = new Map(rows.map((row) => [row, row.cells[index].dataset.value]));
  const filled = [...values.values()].filter((value) => value !== "" && value !== "nan");
  const numeric = filled.every((value) => NUMBER.test(value.replace(/ ±.*/, "").trim()));
  const compare = (a, b) => {
    const [one, other] = [values.get(a), values.get(b)];
    const missing = (value) => value === "" || value === "nan";
    if (missing(one) || missing(other)) return missing(one) - missing(other);
    const order = numeric ? parseFloat(one) - parseFloat(other) : one.localeCompare(other, "en", { numeric: true });
    return descending ? -order : order;
  };
  table.tBodies[0].append(...rows.sort(compare));
}
for (const table of all("table.sortable")) {
  const headers = all("thead th", table);
  const rows = [...table.tBodies[0].rows];
  headers.forEach((header, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...header.childNodes);
    header.append(button);
    header.setAttribute("aria-sort", "none");
    const cells = rows.map((row) => row.cells[index]);
    if (cells.length && cells.every((cell) => /^[-+\d. ±e]*$|^nan$/.test(cell.textContent)))
      for (const cell of [header, ...cells]) cell.classList.add("number");
    button.addEventListener("click", () => {
      const descending = header.getAttribute("aria-sort") === "ascending";
      for (const other of headers) other.setAttribute("aria-sort", "none");
      header.setAttribute("aria-sort", descending ? "descending" : "ascending");
      sortBy(table, index, descending);
    });
  });
}
for (const input of all("input[data-filters]")) {
  const rows = all("tbody tr", document.getElementById(input.dataset.filters));
  const count = input.closest("p").querySelector("output");
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const row of rows) row.hidden = !words.every((word) => row.textContent.toLowerCase().includes(word));
    const left = rows.filter((row) => !row.hidden).length;
    count.textContent = left === rows.length ? `${left} rows` : `${left} of ${rows.length} rows`;
  });
}

// Pictures: a click enlarges, the arrow keys show the next one, Esc closes (built into the dialog).
const viewer = document.getElementById("viewer");
let opened = null;
function show(button) {
  opened = button;
  const picture = button.querySelector("img");
  const large = viewer.querySelector("img");
  large.src = picture.src;
  large.alt = picture.alt;
  document.getElementById("viewer-title").textContent = picture.alt;
  document.getElementById("viewer-file").href = button.dataset.file;
  if (!viewer.open) viewer.showModal();
}
function go(by) {
  const buttons = all("button.enlarge").filter((button) => button === opened || button.offsetParent !== null);
  show(buttons[(buttons.indexOf(opened) + by + buttons.length) % buttons.length]);
}
for (const button of all("button.enlarge")) button.addEventListener("click", () => show(button));
viewer.querySelector(".close").addEventListener("click", () => viewer.close());
viewer.querySelector(".previous").addEventListener("click", () => go(-1));
viewer.querySelector(".next").addEventListener("click", () => go(1));
viewer.addEventListener("click", (event) => {
  if (event.target === viewer) viewer.close();
});
viewer.addEventListener("keydown", (event) => {
  if (event.key === "ArrowLeft") go(-1);
  if (event.key === "ArrowRight") go(1);
});

// Grids drawn during training: a slider selects one.
for (const frames of all(".frames")) {
  const slider = frames.querySelector("input");
  const choose = () => {
    all(".frame", frames).forEach((frame, index) => (frame.hidden = index !== Number(slider.value)));
    frames.querySelector("output").textContent = all(".frame", frames)[Number(slider.value)].dataset.step;
  };
  slider.addEventListener("input", choose);
  if (Number(slider.max) > 0) {
    frames.querySelector(".slider").hidden = false;
    choose();
  }
}

// Copy buttons.
for (const button of all("button.copy")) {
  const code = button.previousElementSibling;
  button.addEventListener("click", async () => {
    try {
      await navigator.clipboard.writeText(code.textContent);
    } catch {
      getSelection().selectAllChildren(code); // if the browser forbids writing to the clipboard
      document.execCommand("copy");
    }
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });
}

for (const log of all("pre.log-end")) log.scrollTop = log.scrollHeight;
