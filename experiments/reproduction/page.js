"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
const MET = "#0072b2", MISSED = "#d55e00", POWER = "#f0a202", INK = "#22262b", OFF = "#a7adb6", RECEIVER = "#7b4ea3";
const TOLERANCE = 1e-4;
const PANELS = 3;
const CONFIG = { displaylogo: false, responsive: true };

const element = (id) => document.getElementById(id);
// Plotly reads tags in the texts that it draws.
const label = (name) => name.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
const point = (key) => DATA.points.find((one) => one.key === key);

function fill(select, options, chosen) {
  select.replaceChildren(...options.map(([value, text]) => new Option(text, value, false, value === chosen)));
}

function table(node, headings, rows) {
  const line = (cells, tag) => {
    const row = document.createElement("tr");
    for (const cell of cells) {
      const item = document.createElement(tag);
      if (typeof cell === "object") { item.textContent = cell.text; item.className = cell.kind; } else item.textContent = cell;
      row.append(item);
    }
    return row;
  };
  node.replaceChildren(line(headings, "th"), ...rows.map((cells) => line(cells, "td")));
}

function showTable() {
  const here = point(element("table-point").value);
  element("table-counts").textContent = here.counted;
  table(element("table"), DATA.headings, here.cells);
  element("table-reasons").textContent = here.reasons;
  element("claims").replaceChildren(...here.claims.map((text) => {
    const item = document.createElement("li");
    item.textContent = text;
    return item;
  }));
}

function showCurves() {
  const quantity = element("quantity").value, preset = element("preset").value, axis = element("along").value;
  const along = DATA.sweeps.find((one) => one.preset === preset && one.axis === axis);
  const traces = [];
  for (const curve of along ? along.curves : []) {
    const color = DATA.colors[curve.policy];
    const values = curve[quantity];
    traces.push({
      x: [...curve.x, ...[...curve.x].reverse()], y: [...values.map((v) => v.high ?? v.value), ...values.map((v) => v.low ?? v.value).reverse()],
      mode: "lines", fill: "toself", fillcolor: color + "22", line: { width: 0 }, hoverinfo: "skip", showlegend: false, legendgroup: curve.policy, type: "scatter",
    });
    traces.push({
      x: curve.x, y: values.map((v) => v.value), name: label(curve.policy), legendgroup: curve.policy, type: "scatter", mode: "lines+markers",
      line: { color, dash: curve.serves ? "solid" : "dash" }, marker: { size: 8, symbol: curve.serves ? "circle" : "circle-open", color },
      text: values.map((v, i) => `${v.value.toFixed(3)} [${(v.low ?? v.value).toFixed(3)}, ${(v.high ?? v.value).toFixed(3)}]<br>` +
        `${curve.drops[i]} drops, ${(100 * curve.feasible[i]).toFixed(0)} % feasible`),
      hovertemplate: "%{text}<extra>%{fullData.name}</extra>",
    });
  }
  Plotly.react(element("curves"), traces, {
    height: 460, margin: { t: 20 }, legend: { orientation: "v" },
    xaxis: { title: { text: along ? along.label : "" }, tickvals: along ? along.ticks : [] },
    yaxis: { title: { text: quantity === "power" ? "total power, W" : "active APs" }, type: quantity === "power" ? "log" : "linear", rangemode: "tozero" },
  }, CONFIG);
}

function showTimes() {
  const traces = DATA.times.map((curve) => ({
    x: curve.x, y: curve.median, name: label(curve.policy), type: "scatter", mode: "lines+markers", line: { color: DATA.colors[curve.policy] },
    error_y: { type: "data", symmetric: false, array: curve.up, arrayminus: curve.down },
    hovertemplate: "M = %{x}: %{y:.3g} s<extra>%{fullData.name}</extra>",
  }));
  Plotly.react(element("times"), traces, {
    height: 420, margin: { t: 20 }, xaxis: { type: "log", title: { text: DATA.times_label } },
    yaxis: { type: "log", title: { text: "CPU time a decision, s (bars: fastest and slowest drop)" } },
  }, CONFIG);
}

function eigen(a, b, c) {
  const mean = (a + b) / 2, spread = Math.hypot((a - b) / 2, c);
  return { large: mean + spread, small: mean - spread, angle: 0.5 * Math.atan2(2 * c, a - b) };
}

function nice(number) {
  const decade = 10 ** Math.floor(Math.log10(number));
  return decade * Math.max(...[1, 2, 5].filter((step) => step * decade <= number * (1 + 1e-9)));
}

function margins(here, made) {
  return made.sinr_db.map((value) => value - here.config.sinr_threshold_db);
}

const met = (margin) => margin >= 10 * Math.log10(1 - TOLERANCE);
const watts = (value) => value >= 0.01 || value === 0 ? `${value.toFixed(3)} W` : `${(1000 * value).toPrecision(3)} mW`;
const located = (value) => value === null ? "not located" : `${value.toPrecision(4)} m²`;

function drawMap(node, here, drop, made) {
  const radius = here.config.area_diameter_m / 2;
  const on = new Map(made.active.map((m, i) => [m, made.ap_power_w[i]]));
  const off = drop.ap.map((_, m) => m).filter((m) => !on.has(m));
  const margin = margins(here, made);
  const scale = nice((0.12 * radius) / Math.sqrt(2 * here.config.crlb_threshold_m2));
  const longest = 0.32 * radius;
  const points = (name, xy, marker, text) => ({
    x: xy.map((p) => p[0]), y: xy.map((p) => p[1]), type: "scatter", mode: "markers", name, marker, text, hovertemplate: "%{text}<extra></extra>",
  });
  const traces = [
    points("AP off", off.map((m) => drop.ap[m]), { symbol: "triangle-up-open", size: 8, color: OFF }, off.map((m) => `AP ${m}: off`)),
    points("AP on", made.active.map((m) => drop.ap[m]), {
      symbol: "triangle-up", color: POWER, line: { color: INK, width: 1 },
      size: made.active.map((m) => 9 + 12 * Math.sqrt(Math.min(on.get(m) / here.config.max_ap_power_w, 1))),
    }, made.active.map((m) => `AP ${m}: ${watts(on.get(m))}`)),
    points("receiver", drop.sr, { symbol: "diamond", size: 10, color: RECEIVER }, drop.sr.map((_, t) => `receiver ${t}`)),
    points("user", drop.ue, {
      symbol: margin.map((value) => met(value) ? "circle" : "x"), size: 11, color: margin.map((value) => met(value) ? MET : MISSED), line: { color: INK, width: 1 },
    }, margin.map((value, k) => `user ${k}: SINR ${made.sinr_db[k].toFixed(2)} dB, margin ${value.toFixed(2)} dB`)),
  ];
  drop.target.forEach((centre, s) => {
    const { large, small, angle } = eigen(...made.fisher[s]);
    const holds = made.crlb_m2[s] !== null && made.crlb_m2[s] <= here.config.crlb_threshold_m2 * (1 + TOLERANCE);
    const semi = [small, large].map((value) => 2 * scale / Math.sqrt(Math.max(value, 1e-30)));
    const cut = semi[0] > longest;
    const [long, short] = semi.map((value) => Math.min(value, longest));
    const x = [], y = [];
    for (let i = 0; i <= 64; i++) {
      const turn = (2 * Math.PI * i) / 64, along = long * Math.cos(turn), across = short * Math.sin(turn);
      x.push(centre[0] - along * Math.sin(angle) + across * Math.cos(angle));
      y.push(centre[1] + along * Math.cos(angle) + across * Math.sin(angle));
    }
    const color = holds ? MET : MISSED;
    traces.push({ x, y, type: "scatter", mode: "lines", name: `2σ ellipse ×${scale}`, line: { color, dash: cut ? "dash" : "solid" }, fill: "toself", fillcolor: color + "22", hoverinfo: "skip" });
    traces.push(points("target", [centre], { symbol: "star", size: 14, color }, [`target ${s}: CRLB ${located(made.crlb_m2[s])}`]));
  });
  Plotly.react(node, traces, {
    height: 380, margin: { l: 5, r: 5, t: 5, b: 5 }, showlegend: true, legend: { orientation: "h", font: { size: 10 } },
    xaxis: { range: [-1.05 * radius, 1.05 * radius], visible: false, constrain: "domain" },
    yaxis: { range: [-1.05 * radius, 1.05 * radius], visible: false, scaleanchor: "x", constrain: "domain" },
    shapes: [{ type: "circle", x0: -radius, x1: radius, y0: -radius, y1: radius, line: { color: "#b4bac2" }, fillcolor: "#f6f7f9", layer: "below" }],
  }, CONFIG);
}

function facts(here, made) {
  const worst = Math.min(...margins(here, made));
  const crlb = made.crlb_m2.includes(null) ? null : Math.max(...made.crlb_m2);
  return [
    ["APs on", String(made.active.length)],
    ["total power", `${made.total_power_w.toFixed(3)} W`],
    ["radiated", watts(made.transmit_power_w)],
    ["worst SINR margin", `${worst.toFixed(2)} dB`],
    ["CRLB", located(crlb)],
    ["requirements", made.feasible ? { text: "all met", kind: "met" } : { text: "missed", kind: "missed" }],
  ];
}

const chosen = () => {
  const here = point(element("map-point").value);
  return { here, drop: here.drops.find((one) => String(one.seed) === element("map-drop").value) };
};

function showDrop() {
  const { here, drop } = chosen();
  if (!drop) return;
  const names = Object.keys(drop.decisions);
  for (let i = 0; i < PANELS; i++) {
    const select = element(`policy-${i}`);
    const preferred = select.dataset.wanted ?? DATA.panels[i];
    const name = names.includes(preferred) ? preferred : names[Math.min(i, names.length - 1)];
    fill(select, names.map((one) => [one, one]), name);
    showPanel(i);
  }
  table(element("drop-table"), ["policy", ...facts(here, drop.decisions[names[0]]).map(([name]) => name)],
    names.map((name) => [name, ...facts(here, drop.decisions[name]).map(([, value]) => value)]));
}

function showPanel(i) {
  const { here, drop } = chosen();
  const made = drop.decisions[element(`policy-${i}`).value];
  drawMap(element(`map-${i}`), here, drop, made);
  element(`facts-${i}`).replaceChildren(...facts(here, made).flatMap(([name, value]) => {
    const term = document.createElement("dt"), detail = document.createElement("dd");
    term.textContent = name;
    detail.textContent = typeof value === "object" ? value.text : value;
    if (typeof value === "object") detail.className = value.kind;
    return [term, detail];
  }));
}

function showPoint() {
  const here = point(element("map-point").value);
  fill(element("map-drop"), here.drops.map((drop) => [String(drop.seed), String(drop.seed)]), String(here.drops[0].seed));
  showDrop();
}

function turn(step) {
  const select = element("map-drop");
  select.selectedIndex = (select.selectedIndex + step + select.length) % select.length;
  showDrop();
}

function start() {
  element("made").textContent = DATA.made;
  const keys = DATA.points.map((one) => [one.key, one.title]);
  fill(element("table-point"), keys, keys[0][0]);
  const mapped = DATA.points.filter((one) => one.drops.length > 0).map((one) => [one.key, one.title]);
  fill(element("map-point"), mapped, mapped.length ? mapped[0][0] : "");
  fill(element("quantity"), [["power", "total power"], ["active", "active APs"]], "power");
  fill(element("preset"), DATA.presets.map((name) => [name, name]), DATA.presets[0]);
  fill(element("along"), [["K", "users K"], ["M", "access points M"]], "K");
  table(element("printed"), DATA.printed.headings, DATA.printed.cells);
  element("printed-reasons").textContent = DATA.printed.reasons;
  for (let i = 0; i < PANELS; i++) {
    const panel = document.createElement("figure");
    panel.innerHTML = `<select id="policy-${i}" aria-label="policy of map ${i + 1}"></select><div id="map-${i}" class="plot"></div><dl id="facts-${i}"></dl>`;
    element("maps").append(panel);
    element(`policy-${i}`).addEventListener("change", (event) => { event.target.dataset.wanted = event.target.value; showPanel(i); });
  }
  element("table-point").addEventListener("change", showTable);
  for (const id of ["quantity", "preset", "along"]) element(id).addEventListener("change", showCurves);
  element("map-point").addEventListener("change", showPoint);
  element("map-drop").addEventListener("change", showDrop);
  element("previous").addEventListener("click", () => turn(-1));
  element("next").addEventListener("click", () => turn(1));
  showTable();
  showCurves();
  showTimes();
  if (mapped.length) showPoint();
  document.body.dataset.ready = "yes";
}

start();
