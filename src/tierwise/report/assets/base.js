// Numbers to text, drawing, tooltips, toggles. Everything below reads DATA and never the network.
const DATA = JSON.parse(document.getElementById("data").textContent);
const NS = document.querySelector("svg").namespaceURI;
const reduce = (xs, f) => xs.reduce((a, x) => a + f(x), 0);

function scaled(x, unit) {
  const steps = ["", "k", "M", "G", "T", "P", "E"];
  let i = 0;
  while (Math.abs(x) >= 999.5 && i < steps.length - 1) { x /= 1000; i += 1; }
  const digits = Math.abs(x) >= 100 || (Number.isInteger(x) && i === 0) ? 0 : Math.abs(x) >= 10 ? 1 : 2;
  return (x.toFixed(digits) + " " + steps[i] + unit).trim();
}
const bytes = (x) => scaled(x, "B");
const flop = (x) => scaled(x, "FLOP");
function seconds(x) {
  if (x === null || !isFinite(x)) return "never";
  for (const [limit, factor, unit] of [[1e-6, 1e9, "ns"], [1e-3, 1e6, "µs"], [1, 1e3, "ms"], [120, 1, "s"],
    [7200, 1 / 60, "min"], [172800, 1 / 3600, "h"]]) {
    if (x < limit) {
      const v = x * factor;
      return v.toFixed(v >= 99.95 ? 0 : v >= 9.995 ? 1 : 2) + " " + unit;
    }
  }
  return (x / 86400).toFixed(1) + " d";
}
const percent = (x) => x >= 0.095 ? (100 * x).toFixed(0) + " %" : x >= 0.001 ? (100 * x).toFixed(1) + " %" : x > 0 ? "<0.1 %" : "0 %";
const whole = (x) => x.toLocaleString("en-US", { maximumFractionDigits: 1 });
const three = (x) => x >= 100 ? whole(Math.round(x)) : x >= 10 ? x.toFixed(1) : String(Number(x.toPrecision(2)));

function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(NS, name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  for (const c of children) node.append(c);
  return node;
}
function html(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [k, v] of Object.entries(attributes)) node.setAttribute(k, v);
  for (const c of children) node.append(c);
  return node;
}
const text = (x, y, words, attributes = {}) => svg("text", { x, y, ...attributes }, words);
function canvas(holder, height, label) {
  const width = Math.max(holder.clientWidth, 300);
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, role: "group", "aria-label": label });
  holder.append(node);
  return [node, width];
}
// The width a text of 12 px takes, near enough to decide whether it has room.
const ruler = document.createElement("canvas").getContext("2d");
function widthOf(words) {
  ruler.font = "12px system-ui, 'Segoe UI', Roboto, Arial, sans-serif";
  return ruler.measureText(words).width;
}

const tip = document.getElementById("tip");
function showTip(x, y, title, rows) {
  tip.replaceChildren(html("b", {}, title), ...rows.map(([k, v]) => html("div", {}, html("span", {}, k), html("span", {}, v))));
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = Math.max(8, y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18) + "px";
}
const hideTip = () => { tip.hidden = true; };
function explain(node, title, rows, focusable = true) {
  node.classList.add("hot");
  node.addEventListener("pointermove", (e) => showTip(e.clientX, e.clientY, title, rows));
  node.addEventListener("pointerleave", hideTip);
  if (focusable) {
    node.setAttribute("tabindex", "-1");
    node.setAttribute("role", "img");
    node.setAttribute("aria-label", [title, ...rows.map((r) => r.join(" "))].join(", "));
    node.addEventListener("focus", () => {
      if (!node.matches(":focus-visible")) return;
      const b = node.getBoundingClientRect();
      showTip(b.left + b.width / 2, b.bottom - 12, title, rows);
    });
    node.addEventListener("blur", hideTip);
  }
  return node;
}
addEventListener("keydown", (e) => { if (e.key === "Escape") hideTip(); });
// A chart is one stop of the Tab key; inside it the arrows go from mark to mark.
function oneStop() {
  for (const chart of document.querySelectorAll("svg")) {
    const marks = [...chart.querySelectorAll(".hot[tabindex]")];
    if (marks.length && !chart.hasAttribute("tabindex") && !marks.some((m) => m.getAttribute("tabindex") === "0")) marks[0].setAttribute("tabindex", "0");
  }
}
addEventListener("keydown", (e) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[e.key], mark = document.activeElement;
  if (!step || !mark || !mark.classList.contains("hot")) return;
  const marks = [...mark.ownerSVGElement.querySelectorAll(".hot[tabindex]")];
  const next = marks[marks.indexOf(mark) + step];
  if (!next) return;
  mark.setAttribute("tabindex", "-1");
  next.setAttribute("tabindex", "0");
  next.focus();
  e.preventDefault();
});
new MutationObserver(oneStop).observe(document.body, { childList: true, subtree: true });

// One of several: a group of toggles. Several of several: `many`.
function toggles(holder, label, options, chosen, onChange, many = false) {
  const group = html("div", { class: "group", role: "group", "aria-label": label });
  const paint = () => [...group.children].forEach((b, i) =>
    b.setAttribute("aria-pressed", String(many ? chosen().has(options[i][0]) : chosen() === options[i][0])));
  for (const [value, words] of options) {
    const button = html("button", { type: "button" }, words);
    button.addEventListener("click", () => { onChange(value); paint(); });
    group.append(button);
  }
  paint();
  holder.append(group);
  return paint;
}
function legend(holder, items) {
  holder.append(html("ul", { class: "legend" }, ...items.map(([colour, words, value]) =>
    html("li", {}, html("i", { style: "background:" + colour }), words, ...(value ? [" ", html("b", {}, value)] : [])))));
}
// A row of stacked parts: [value, colour, title, rows, words inside (the first that have room)].
function stack(node, x, y, width, height, total, parts) {
  let at = x;
  for (const [value, colour, title, rows, words] of parts) {
    const w = width * value / total;
    const rect = svg("rect", { x: at, y, width: Math.max(w - (w > 3 ? 1 : 0), 0.5), height, fill: colour, rx: w > 6 ? 2 : 0 });
    node.append(explain(rect, title, rows, w > 2));
    const fitting = [].concat(words || []).find((s) => widthOf(s) + 12 < w);
    if (fitting) node.append(text(at + 7, y + height / 2 + 4, fitting, { class: "in" }));
    at += w;
  }
}
