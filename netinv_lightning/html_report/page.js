"use strict";
// Behaviour of the page: sortable and filterable tables, enlarged pictures, copy buttons, charts.

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

// Charts. Plotly interprets markup in text, so text is escaped.
const dark = matchMedia("(prefers-color-scheme: dark)");
const colours = () =>
  dark.matches
    ? ["#56b4e9", "#f08a4b", "#3fc79a", "#e29cc7", "#f0c24b", "#b7a1dc", "#f0717a", "#a8b0b8", "#d2a458", "#8fe0f5"]
    : ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b07800", "#56b4e9", "#8c6bb1", "#7f7f7f", "#b2182b", "#1b9aaa"];
const plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;");
const isLog = (plot) => plot.closest("section, figure").querySelector("button.log")?.getAttribute("aria-pressed") === "true";
function layout(plot, legends, more) {
  const rows = legends < 2 ? 0 : Math.ceil(legends / (plot.clientWidth < 480 ? 1 : 3));
  plot.style.height = `${(plot.id === "compared" ? 380 : 310) + 20 * rows}px`; // room for the legend
  const style = getComputedStyle(document.documentElement);
  const [text, line, ground, accent] = ["--text", "--line", "--ground", "--accent"].map((name) => style.getPropertyValue(name).trim());
  const axis = { gridcolor: line, zerolinecolor: line, linecolor: line };
  return {
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    font: { color: text, family: getComputedStyle(document.body).fontFamily, size: 12 },
    colorway: colours(),
    hoverlabel: { bgcolor: ground, bordercolor: line, font: { color: text }, namelength: -1 },
    modebar: { bgcolor: "rgba(0,0,0,0)", color: line, activecolor: accent },
    margin: { l: 48, r: 12, t: 8, b: 48 + 20 * rows },
    hovermode: "closest",
    showlegend: rows > 0,
    legend: { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom" },
    ...more,
    xaxis: { ...axis, ...more.xaxis },
    yaxis: { ...axis, automargin: "left", type: isLog(plot) ? "log" : "linear", ...more.yaxis },
  };
}
const OPTIONS = { responsive: true, displaylogo: false, modeBarButtons: [["toImage", "zoom2d", "pan2d", "resetScale2d"]] };

function drawCurves(plot) {
  const chart = data.charts[Number(plot.dataset.chart)];
  const traces = chart.curves.map((curve) => ({
    type: "scatter", mode: curve.x.length < 30 ? "lines+markers" : "lines", name: plain(curve.label), x: curve.x, y: curve.y,
    line: { width: 1.8 }, marker: { size: 5 }, hovertemplate: "%{y:.4g}",
  }));
  const steps = chart.curves.flatMap((curve) => curve.x);
  const whole = Math.max(...steps) - Math.min(...steps) < 8 ? { dtick: 1 } : {}; // epochs
  const yaxis = traces.length === 1 ? { title: { text: traces[0].name } } : {};
  return Plotly.react(plot, traces, layout(plot, traces.length, { hovermode: "x unified", xaxis: { title: { text: "step" }, ...whole }, yaxis }), OPTIONS);
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const spread = (values) =>
  values.length < 2 ? 0 : Math.sqrt(values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / (values.length - 1));
function drawComparison(plot) {
  const metric = document.getElementById("by-metric").value;
  const key = document.getElementById("by-key").value;
  const runs = data.comparison.runs.filter((run) => metric in run.metrics);
  const few = (other) => new Set(runs.map((run) => run.keys[other])).size <= 8;
  const colour = data.comparison.keys.find((other) => other !== key && other !== "seed" && few(other)) ?? "";
  const place = (run) => (key ? (run.keys[key] ?? "(default)") : run.name);
  const numeric = key !== "" && runs.every((run) => NUMBER.test(place(run)));
  const ordered = runs.toSorted((a, b) => (numeric ? place(a) - place(b) : place(a).localeCompare(place(b), "en", { numeric: true })));
  const coloured = Map.groupBy(ordered, (run) => (colour && key ? `${colour}=${run.keys[colour] ?? "(default)"}` : metric));
  const groups = [...coloured].sort(([one], [other]) => one.localeCompare(other, "en", { numeric: true }));
  const traces = groups.flatMap(([name, members], index) => {
    const paint = colours()[index % colours().length];
    const x = (run) => (numeric ? Number(place(run)) : plain(place(run)));
    const points = {
      type: "scatter", mode: "markers", name: plain(name), legendgroup: name, x: members.map(x), y: members.map((run) => run.metrics[metric]),
      text: members.map((run) => plain([run.name, ...Object.entries(run.keys).map((pair) => pair.join("="))].join(", "))),
      hovertemplate: "%{y:.4g}<br>%{text}<extra></extra>", marker: { color: paint, size: 8, opacity: 0.75 },
    };
    const repeated = [...Map.groupBy(members, x)].map(([at, same]) => [at, same.map((run) => run.metrics[metric])]);
    if (repeated.every(([, values]) => values.length < 2)) return [points];
    const means = {
      type: "scatter", mode: "markers", name: plain(name), legendgroup: name, showlegend: false, x: repeated.map(([at]) => at),
      y: repeated.map(([, values]) => mean(values)), error_y: { array: repeated.map(([, values]) => spread(values)), color: paint, thickness: 1.5 },
      marker: { symbol: "line-ew-open", size: 22, color: paint, line: { width: 3 } },
      hovertemplate: "mean %{y:.4g}<extra></extra>",
    };
    return [points, means];
  });
  const places = new Set(ordered.map(place)).size;
  const xaxis = { title: { text: plain(key || "run") }, ...(numeric ? {} : { type: "category", range: [-0.5, places - 0.5] }) };
  return Plotly.react(plot, traces, layout(plot, groups.length, { xaxis, yaxis: { title: { text: plain(metric) } } }), OPTIONS);
}

// Plotly is large: it is evaluated when the first chart comes near the window, so the page opens fast.
function draw(plot) {
  if (!window.Plotly) {
    const script = document.createElement("script");
    script.textContent = document.getElementById("plotly").textContent;
    document.head.append(script);
  }
  return plot.id === "compared" ? drawComparison(plot) : drawCurves(plot);
}
const drawn = new Set();
const watcher = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries)
      if (isIntersecting && !drawn.has(target)) {
        drawn.add(target);
        draw(target);
      }
  },
  { rootMargin: "400px" },
);
for (const plot of all(".plot")) watcher.observe(plot);
for (const button of all("button.log"))
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    const plot = button.closest("figure, section").querySelector(".plot");
    drawn.add(plot);
    draw(plot);
  });
for (const select of all("#by-metric, #by-key")) select.addEventListener("change", () => draw(document.getElementById("compared")));
const byKey = document.getElementById("by-key");
if (byKey) byKey.value = data.comparison.keys.find((key) => key !== "seed") ?? data.comparison.keys[0] ?? "";
dark.addEventListener("change", () => drawn.forEach(draw));
