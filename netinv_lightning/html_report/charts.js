// Charts as SVG, drawn when the page opens, so that a printed page has them, too. Colours come from
// page.css, so a change of the colour scheme needs no script.

const HEIGHT = 300;
const COLOURS = 10;
const svg = (name, attributes, parent) => {
  const node = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  parent?.append(node);
  return node;
};

// Four digits at most; very large and small numbers with an exponent.
function digits(value) {
  if (value === 0) return "0";
  const size = Math.abs(value);
  const text = size >= 1e5 || size < 1e-3 ? value.toExponential(3) : String(Number(value.toPrecision(4)));
  return text.replace(/\.?0+e/, "e").replace("e+", "e");
}

// Round positions in [low, high]: about five, or the decades (and 2 and 5 of few decades).
function ticks(low, high, log, most = 5) {
  if (log) {
    const decades = Math.log10(high / low);
    const within = [];
    const every = Math.max(1, Math.ceil(decades / 6));
    for (let power = Math.floor(Math.log10(low)); power <= Math.ceil(Math.log10(high)); power += every)
      for (const factor of decades < 2 ? [1, 2, 5] : [1]) within.push(factor * 10 ** power);
    return within.filter((value) => value >= low * 0.999 && value <= high * 1.001);
  }
  const raw = (high - low) / most;
  const unit = 10 ** Math.floor(Math.log10(raw));
  const step = unit * [1, 2, 5, 10].find((factor) => factor * unit >= raw * 0.999);
  const found = [];
  for (let index = Math.ceil(low / step - 1e-9); index * step <= high + step * 1e-9; index += 1) found.push(index * step);
  return found.map((value) => Number(value.toPrecision(12)));
}

// The extent of values, never empty; a little wider than the values unless it is a log axis.
function extent(values, log) {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (low > high) return log ? [0.1, 1] : [0, 1];
  if (log) return low === high ? [low / 2, high * 2] : [low * (low / high) ** 0.04, high * (high / low) ** 0.04];
  const room = low === high ? Math.abs(low) * 0.1 || 1 : 0.04 * (high - low);
  return [low - room, high + room];
}

function text(parent, words, x, y, anchor, more = {}) {
  svg("text", { x, y, "text-anchor": anchor, ...more }, parent).textContent = words;
}

// A chart: `series` of points {x, y, note}, drawn as a line or as marks, with means {x, y, spread};
// `places` are the names of x = 0, 1, ..., or null if x is a number.
function drawChart(plot, { series, xTitle, places, log, joined }) {
  const width = Math.max(plot.clientWidth, 240);
  const shown = series.map((one) => ({ ...one, points: one.points.filter((point) => !log || point.y > 0) }));
  const points = shown.flatMap((one) => one.points);
  const bars = shown.flatMap((one) => one.means ?? []).flatMap(({ y, spread }) => [y - spread, y + spread]);
  const [low, high] = extent([...points.map((point) => point.y), ...bars.filter((value) => !log || value > 0)], log);
  const [left, right] = places ? [-0.5, places.length - 0.5] : extent(points.map((point) => point.x), false);
  const yTicks = ticks(low, high, log);
  const margin = { left: 14 + 7 * Math.max(...yTicks.map((value) => digits(value).length), 1), right: 12, top: 8 };
  const turned = places !== null && Math.max(...places.map((name) => name.length)) * 7 > (width - margin.left) / places.length;
  margin.bottom = turned ? 30 + Math.min(110, 5 * Math.max(...places.map((name) => name.length))) : 44;
  const height = HEIGHT - 44 + margin.bottom;
  const x = (value) => margin.left + ((value - left) / (right - left)) * (width - margin.left - margin.right);
  const scaled = (value) => (log ? Math.log(Math.max(value, low) / low) / Math.log(high / low) : (value - low) / (high - low));
  const y = (value) => height - margin.bottom - scaled(value) * (height - margin.bottom - margin.top);

  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, "aria-hidden": "true" });
  const floor = height - margin.bottom;
  for (const value of yTicks) {
    svg("line", { class: "grid", x1: margin.left, x2: width - margin.right, y1: y(value), y2: y(value) }, picture);
    text(picture, digits(value), margin.left - 6, y(value) + 4, "end");
  }
  const whole = points.every((point) => Number.isInteger(point.x)); // steps, epochs
  const round = ticks(left, right, false, Math.min(6, width / 90)).filter((value) => !whole || Number.isInteger(value));
  const xTicks = places ? places.map((_, index) => index) : round;
  const spacing = Math.max(1, Math.ceil(xTicks.length / (width / 16)));
  for (const value of places ? xTicks.filter((index) => index % spacing === 0) : xTicks) {
    svg("line", { class: "tick", x1: x(value), x2: x(value), y1: floor, y2: floor + 4 }, picture);
    const words = places ? short(places[value]) : digits(value);
    if (turned) text(picture, words, 0, 0, "end", { transform: `translate(${x(value) + 4} ${floor + 14}) rotate(-40)` });
    else text(picture, words, x(value), floor + 17, "middle");
  }
  svg("line", { class: "axis", x1: margin.left, x2: width - margin.right, y1: floor, y2: floor }, picture);
  text(picture, xTitle, (margin.left + width - margin.right) / 2, height - 6, "middle", { class: "title" });

  shown.forEach((one, index) => {
    const group = svg("g", { class: `series colour${index % COLOURS}`, "data-name": one.name }, picture);
    if (joined && one.points.length > 1) {
      const path = one.points.map((point, at) => `${at ? "L" : "M"}${x(point.x).toFixed(1)} ${y(point.y).toFixed(1)}`);
      svg("path", { class: `line dash${Math.floor(index / 4) % 3}`, d: path.join("") }, group);
    }
    if (!joined || one.points.length < 30)
      for (const point of one.points) svg("circle", { class: "mark", cx: x(point.x), cy: y(point.y), r: joined ? 2.5 : 4.5 }, group);
    for (const mean of one.means ?? []) {
      const at = x(mean.x);
      svg("line", { class: "mean", x1: at - 11, x2: at + 11, y1: y(mean.y), y2: y(mean.y) }, group);
      svg("line", { class: "spread", x1: at, x2: at, y1: y(mean.y - mean.spread), y2: y(mean.y + mean.spread) }, group);
    }
  });
  const cursor = svg("line", { class: "cursor", x1: 0, x2: 0, y1: margin.top, y2: floor, visibility: "hidden" }, picture);

  const legend = document.createElement("ul");
  legend.className = "legend";
  shown.forEach((one, index) => {
    const item = document.createElement("li");
    const sample = svg("svg", { viewBox: "0 0 26 10", "aria-hidden": "true", class: `colour${index % COLOURS}` }, item);
    if (joined) svg("line", { class: `line dash${Math.floor(index / 4) % 3}`, x1: 0, x2: 26, y1: 5, y2: 5 }, sample);
    else svg("circle", { class: "mark", cx: 13, cy: 5, r: 4.5 }, sample);
    item.append(one.name);
    legend.append(item);
  });
  const readout = document.createElement("output");
  readout.hidden = true;
  plot.replaceChildren(picture, readout, legend);
  readAt(plot, { picture, cursor, readout, width, x, y }, shown, joined);
}

const short = (name) => (name.length > 24 ? `${name.slice(0, 23)}…` : name);

// Values under the pointer, or at the position that the arrow keys move: of all curves at a step, or
// of the nearest point.
function readAt(plot, { picture, cursor, readout, width, x, y }, series, joined) {
  const places = joined
    ? [...new Set(series.flatMap((one) => one.points.map((point) => point.x)))].sort((a, b) => a - b)
    : series.flatMap((one) => one.points).sort((a, b) => a.x - b.x || a.y - b.y);
  if (!places.length) return;
  let current = -1;
  const hide = () => {
    readout.hidden = true;
    cursor.setAttribute("visibility", "hidden");
  };
  const showAt = (index) => {
    current = index;
    const place = places[index];
    const at = x(joined ? place : place.x);
    const lines = joined
      ? [`step ${place}`, ...series.flatMap((one) => one.points.filter((point) => point.x === place).map((point) => `${one.name} ${digits(point.y)}`))]
      : [digits(place.y), place.note];
    readout.textContent = lines.join("\n");
    readout.hidden = false;
    readout.style.left = at > width / 2 ? "auto" : `${at + 12}px`;
    readout.style.right = at > width / 2 ? `${width - at + 12}px` : "auto";
    for (const end of ["x1", "x2"]) cursor.setAttribute(end, at);
    cursor.setAttribute("visibility", "visible");
  };
  picture.addEventListener("pointermove", (event) => {
    const box = picture.getBoundingClientRect();
    const [px, py] = [event.clientX - box.left, event.clientY - box.top];
    const away = (place) => (joined ? Math.abs(x(place) - px) : Math.hypot(x(place.x) - px, y(place.y) - py));
    const distances = places.map(away);
    showAt(distances.indexOf(Math.min(...distances)));
  });
  picture.addEventListener("pointerleave", hide);
  plot.onblur = hide;
  plot.onkeydown = (event) => {
    const by = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity }[event.key];
    if (by !== undefined) {
      event.preventDefault();
      showAt(Math.min(Math.max((current < 0 && by > 0 ? -1 : current) + by, 0), places.length - 1));
    } else if (event.key === "Escape") hide();
  };
}

const chosen = (plot) => plot.closest("section, figure").querySelector("button.log")?.getAttribute("aria-pressed") === "true";

function drawCurves(plot) {
  const chart = data.charts[Number(plot.dataset.chart)];
  const series = chart.curves.map(({ label, x, y }) => ({ name: label, points: x.map((step, index) => ({ x: step, y: y[index] })) }));
  drawChart(plot, { series, xTitle: "step", places: null, log: chosen(plot), joined: true });
}

const mean = (values) => values.reduce((sum, value) => sum + value, 0) / values.length;
const spread = (values) =>
  values.length < 2 ? 0 : Math.sqrt(values.reduce((sum, value) => sum + (value - mean(values)) ** 2, 0) / (values.length - 1));
const inOrder = (a, b) => a.localeCompare(b, "en", { numeric: true });

// One point per run, by the chosen key; another key with few values gives the colours.
function drawComparison(plot) {
  const metric = document.getElementById("by-metric").value;
  const key = document.getElementById("by-key").value;
  const runs = data.comparison.runs.filter((run) => metric in run.metrics);
  const few = (other) => new Set(runs.map((run) => run.keys[other])).size <= 8;
  const colour = data.comparison.keys.find((other) => other !== key && other !== "seed" && few(other)) ?? "";
  const place = (run) => (key ? (run.keys[key] ?? "(default)") : run.name);
  const numeric = key !== "" && runs.every((run) => NUMBER.test(place(run)));
  const places = numeric ? null : [...new Set(runs.map(place))].sort(inOrder);
  const x = (run) => (numeric ? Number(place(run)) : places.indexOf(place(run)));
  const groups = Map.groupBy(runs, (run) => (colour && key ? `${colour}=${run.keys[colour] ?? "(default)"}` : metric));
  const series = [...groups].sort(([one], [other]) => inOrder(one, other)).map(([name, members]) => {
    const repeated = [...Map.groupBy(members, x)].map(([at, same]) => [at, same.map((run) => run.metrics[metric])]);
    return {
      name,
      points: members.map((run) => ({
        x: x(run),
        y: run.metrics[metric],
        note: [run.name, ...Object.entries(run.keys).map((pair) => pair.join("="))].join(", "),
      })),
      means: repeated.every(([, values]) => values.length < 2)
        ? []
        : repeated.map(([at, values]) => ({ x: at, y: mean(values), spread: spread(values) })),
    };
  });
  drawChart(plot, { series, xTitle: key || "run", places, log: chosen(plot), joined: false });
}

const draw = (plot) => (plot.id === "compared" ? drawComparison(plot) : drawCurves(plot));
const byKey = document.getElementById("by-key");
if (byKey) byKey.value = data.comparison.keys.find((key) => key !== "seed") ?? data.comparison.keys[0] ?? "";
const widths = new Map();
const resized = new ResizeObserver((entries) => {
  for (const { target } of entries)
    if (widths.get(target) !== target.clientWidth) {
      widths.set(target, target.clientWidth);
      draw(target);
    }
});
for (const plot of all(".plot")) {
  widths.set(plot, plot.clientWidth);
  draw(plot);
  resized.observe(plot);
}
for (const button of all("button.log"))
  button.addEventListener("click", () => {
    button.setAttribute("aria-pressed", String(button.getAttribute("aria-pressed") !== "true"));
    draw(button.closest("figure, section").querySelector(".plot"));
  });
for (const select of all("#by-metric, #by-key")) select.addEventListener("change", () => draw(document.getElementById("compared")));
