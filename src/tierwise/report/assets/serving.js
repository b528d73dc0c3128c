// Time series and distributions of a simulation.
const S = DATA.series, C = DATA.cdf, P = DATA.peaks;
const trimmed = (words) => words.replace(/(\.\d*?)0+(?= |$)/, "$1").replace(/\.(?= |$)/, "");
const rate = (x) => x >= 1000 ? scaled(x, "") : x >= 100 ? x.toFixed(0) : x >= 10 ? x.toFixed(1) : String(Number(x.toPrecision(3)));
const clock = (x) => x === 0 ? "0 s" : trimmed(seconds(x));
const STEPS = [30, 60, 120, 300, 600, 900, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
function niceStep(rough) {
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough * 0.999);
}
const timeStep = (span, n) => span > 120 ? STEPS.find((s) => s >= span / n) || niceStep(span / n) : niceStep(span / n);
function timeTick(t, span) {
  if (t === 0) return "0";
  const [factor, unit] = span > 172800 ? [86400, "d"] : span > 7200 ? [3600, "h"] : span > 120 ? [60, "min"] : span > 1 ? [1, "s"] : [1e-3, "ms"];
  return `${Number((t / factor).toPrecision(6))} ${unit}`;
}
const LEFT = 46, RIGHT = 8, TOP = 8, HEIGHT = 150, AXIS = 20;

// A frame with a grid: [svg, body, x of the left edge, width and height of the plot].
function frame(holder, title, remark, label) {
  const panel = html("div", { class: "panel", tabindex: "0", role: "group", "aria-label": label });
  panel.append(html("h3", {}, title, html("span", {}, remark)));
  holder.append(panel);
  const width = Math.max(panel.clientWidth, 220), height = TOP + HEIGHT + AXIS;
  const node = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height, "aria-hidden": "true" });
  panel.append(node);
  return [panel, node, width - LEFT - RIGHT];
}
function gridLine(node, w, y, words) {
  node.append(svg("path", { d: `M${LEFT} ${y}h${w}`, stroke: "var(--grid)" }),
    text(LEFT - 6, y + 4, words, { class: "soft", "text-anchor": "end" }));
}
function tickLabel(node, w, x, words) {
  const half = widthOf(words) / 2;
  node.append(svg("path", { d: `M${x} ${TOP + HEIGHT}v4`, stroke: "var(--soft)" }),
    text(Math.min(Math.max(x, LEFT + half), LEFT + w + RIGHT - half), TOP + HEIGHT + 17, words, { class: "soft", "text-anchor": "middle" }));
}
// Follows the pointer, or the arrow keys, from point to point.
function follow(panel, node, w, xs, tell) {
  const mark = svg("path", { stroke: "var(--soft)", "stroke-dasharray": "3 3", visibility: "hidden" });
  const catcher = svg("rect", { x: LEFT, y: TOP, width: w, height: HEIGHT, fill: "transparent" });
  node.append(mark, catcher);
  let at = Math.floor(xs.length / 2);
  const show = (i, px, py) => {
    at = Math.min(Math.max(i, 0), xs.length - 1);
    mark.setAttribute("d", `M${xs[at]} ${TOP}v${HEIGHT}`);
    mark.setAttribute("visibility", "visible");
    const box = node.getBoundingClientRect(), scale = box.width / node.viewBox.baseVal.width;
    showTip(px === undefined ? box.left + xs[at] * scale : px, py === undefined ? box.top + TOP + HEIGHT / 2 : py, ...tell(at));
  };
  const hide = () => { mark.setAttribute("visibility", "hidden"); hideTip(); };
  catcher.addEventListener("pointermove", (e) => {
    const box = node.getBoundingClientRect(), x = (e.clientX - box.left) * node.viewBox.baseVal.width / box.width;
    let low = 0, high = xs.length - 1;
    while (high - low > 1) { const mid = (low + high) >> 1; if (xs[mid] < x) low = mid; else high = mid; }
    show(Math.abs(xs[low] - x) < Math.abs(xs[high] - x) ? low : high, e.clientX, e.clientY);
  });
  catcher.addEventListener("pointerleave", hide);
  panel.addEventListener("keydown", (e) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, PageUp: -20, PageDown: 20 }[e.key];
    if (step) { e.preventDefault(); show(at + step); }
  });
  panel.addEventListener("blur", hide);
}
function path(points) {
  return points.map(([x, y], i) => `${i ? "L" : "M"}${x.toFixed(1)} ${y.toFixed(1)}`).join("");
}

// lines: [name, values, colour]; full: the top of a share, else 0 for the largest value's; highestOf: said above.
function overTime(holder, title, lines, format, full, highestOf) {
  const known = lines.filter(([, v]) => v.some((x) => x > 0));
  if (!known.length) return;
  const peak = Math.max(...known.flatMap(([, v]) => v.map((x) => x || 0))), end = S.time[S.time.length - 1];
  const highest = known.length === 1 && highestOf !== undefined ? `at most ${format(highestOf)}` : "";
  const [panel, node, w] = frame(holder, title, highest,
    `${title} over time: ` + known.map(([name, v]) => `${name} at most ${format(Math.max(...v.map((x) => x || 0)))}`).join(", "));
  const step = full ? full / 4 : niceStep(peak / 3), top = full || Math.ceil(peak / step * 0.9999) * step;
  const X = (t) => LEFT + w * t / end, Y = (v) => TOP + HEIGHT * (1 - v / top);
  for (let v = 0; v <= top * 1.0001; v += step) gridLine(node, w, Y(v), trimmed(format(Number(v.toPrecision(6)))));
  const apart = timeStep(end, w / 62);
  for (let t = 0; t <= end * 1.0001; t += apart) tickLabel(node, w, X(t), timeTick(t, end));
  const width = S.time.length > 1 ? S.time[1] - S.time[0] : end;
  const xs = S.time.map((t, i) => X((t + (i ? S.time[i - 1] : t - width)) / 2));
  known.forEach(([, v, colour], k) => {
    const points = v.map((x, i) => [xs[i], Y(x || 0)]);
    if (k === 0) node.append(svg("path", { d: `${path(points)}L${xs[xs.length - 1]} ${Y(0)}L${xs[0]} ${Y(0)}Z`, fill: colour, "fill-opacity": 0.13 }));
    node.append(svg("path", { d: path(points), fill: "none", stroke: colour, "stroke-width": 1.6, "stroke-linejoin": "round" }));
  });
  const arrivals = DATA.traffic.closed_loop ? null : DATA.load.last_arrival;
  if (arrivals && arrivals < end * 0.98) {
    node.append(svg("path", { d: `M${X(arrivals)} ${TOP}v${HEIGHT}`, stroke: "var(--soft)", "stroke-dasharray": "2 3" }));
    const right = X(arrivals) + 5 + widthOf("last arrival") < LEFT + w;
    node.append(text(X(arrivals) + (right ? 5 : -5), TOP + 11, "last arrival", { class: "soft halo", "text-anchor": right ? "start" : "end" }));
  }
  follow(panel, node, w, xs, (i) => [`at ${clock(S.time[i])}`, known.map(([name, v]) => [name, v[i] === null ? "–" : format(v[i])])]);
  if (known.length > 1) legend(panel, known.map(([name, , colour]) => [colour, name]));
}
function drawSeries() {
  const holder = document.querySelector("#series .panels");
  holder.replaceChildren();
  if (S.time.length < 2) { document.querySelector("#series").hidden = true; return; }
  overTime(holder, "Requests a second", [["arriving", S.arriving, "var(--t2)"], ["finishing", S.finishing, "var(--c-conv)"]], rate);
  overTime(holder, "Requests running", [["running", S.running, "var(--accent)"]], rate, 0, P.running);
  overTime(holder, "Requests waiting", [["waiting", S.waiting, "var(--b-link)"]], rate, 0, P.waiting);
  overTime(holder, "Tokens a second", [["of prompts", S.prompt_tokens, "var(--c-embed)"], ["generated", S.output_tokens, "var(--c-conv)"]], rate);
  overTime(holder, "KV memory", [["in use", S.kv, "var(--r-kv)"], ["of it without a token", S.fragmentation, "var(--r-refetched)"]], percent, 1);
  overTime(holder, "Share of time busy", [["memory", S.memory, "var(--b-memory)"], ["compute", S.compute, "var(--b-compute)"],
    ["link", S.link, "var(--b-link)"]], percent, 1);
  if (new Set(S.replicas).size > 1) overTime(holder, "Replicas up", [["up", S.replicas, "var(--t2)"]], rate);
}

// Shares as heights: evenly, or by nines so that the tail can be seen.
const scale = { tail: false };
const NINES = 4, height = (p) => scale.tail ? Math.min(-Math.log10(Math.max(1 - p, 1e-9)) / NINES, 1) : p;
const SHARES = () => scale.tail ? [0, 0.9, 0.99, 0.999, 0.9999] : [0, 0.25, 0.5, 0.75, 1];
const nines = (p) => `${Number((100 * p).toPrecision(6))} %`;
function distribution(holder, title, lines, target) {
  const known = lines.filter(([key]) => C[key]);
  if (!known.length) return;
  const main = C[known[0][0]], at = (values, p) => values[C.share.findIndex((s) => s >= p - 1e-9)];
  const [panel, node, w] = frame(holder, title, `p99 ${clock(at(main, 0.99))}`,
    `${title}: median ${clock(at(main, 0.5))}, 99 % within ${clock(at(main, 0.99))}` + (target ? `, target ${clock(target)}` : ""));
  const positive = known.flatMap(([key], k) => C[key].filter((x, i) => x > 0 && C.share[i] >= 0.01 && (!k || C.share[i] < 0.9995)));
  let low = Math.min(...positive, target || Infinity), high = Math.max(...positive, target || 0);
  if (!positive.length) { low = 1e-3; high = 1; }
  // Little spread is shown as little: never less than a factor of two across.
  const widen = Math.max(1.05, Math.sqrt(2 * low / high));
  low /= widen; high *= widen;
  const X = (t) => LEFT + w * Math.log(Math.min(Math.max(t, low), high) / low) / Math.log(high / low), Y = (p) => TOP + HEIGHT * (1 - height(p));
  SHARES().forEach((p) => gridLine(node, w, Y(p), nines(p)));
  const decades = Math.log10(high / low), marks = decades > 2.5 ? [1] : decades > 1.2 ? [1, 3] : [1, 1.5, 2, 3, 4, 5, 7];
  let free = -Infinity;
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e += 1) {
    for (const k of marks) {
      const t = k * 10 ** e, words = clock(t), half = widthOf(words) / 2, x = X(t);
      if (t < low || t > high || x - half < free) continue;
      tickLabel(node, w, x, words);
      free = Math.min(Math.max(x, LEFT + half), LEFT + w + RIGHT - half) + half + 8;
    }
  }
  for (const [key, , colour] of [...known].reverse()) {
    const points = C[key].map((t, i) => [X(t), Y(C.share[i])]);
    node.append(svg("path", { d: path(points), fill: "none", stroke: colour, "stroke-width": key === known[0][0] ? 2.2 : 1.4, "stroke-linejoin": "round" }));
  }
  for (const p of [0.5, 0.9, 0.99]) node.append(svg("circle", { cx: X(at(main, p)), cy: Y(p), r: 3.2, fill: known[0][2] }));
  if (target) {
    const met = C.share[main.filter((t) => t <= target).length - 1] || 0, x = X(target), good = at(main, 0.99) <= target;
    const colour = good ? "var(--c-conv)" : "var(--bad)", words = `target ${clock(target)}`;
    const right = x + 5 + widthOf(words) < LEFT + w;
    node.append(svg("path", { d: `M${x} ${TOP}v${HEIGHT}`, stroke: colour, "stroke-width": 1.5, "stroke-dasharray": "5 3" }),
      text(x + (right ? 5 : -5), TOP + HEIGHT - 6, words, { class: "halo", style: `fill:${colour}`, "text-anchor": right ? "start" : "end", "data-met": met }));
  }
  follow(panel, node, w, main.map(X), (i) => [`${nines(C.share[i])} within`, known.map(([key, name]) => [name, clock(C[key][i])])]);
  if (known.length > 1) legend(panel, known.map(([, name, colour]) => [colour, name]));
}
function drawCdf() {
  const holder = document.querySelector("#cdf .panels"), t = DATA.targets;
  holder.replaceChildren();
  if (!C.ttft_s) { document.querySelector("#cdf").hidden = true; return; }
  distribution(holder, "TTFT", [["ttft_s", "to the first token", "var(--accent)"], ["queueing_s", "of it queueing", "var(--b-link)"]], t.ttft_s);
  distribution(holder, "TPOT", [["tpot_s", "of a request", "var(--r-kv)"], ["itl_s", "any two tokens (ITL)", "var(--c-norm)"]], t.tpot_s);
  distribution(holder, "Latency", [["latency_s", "to the last token", "var(--c-conv)"]], null);
}
function drawAll() { hideTip(); drawSeries(); drawCdf(); }
toggles(document.querySelector("#cdf .controls"), "Scale of the shares", [[false, "all"], [true, "the slowest"]], () => scale.tail,
  (x) => { scale.tail = x; drawCdf(); });
drawAll();
let waiting = 0;
addEventListener("resize", () => { cancelAnimationFrame(waiting); waiting = requestAnimationFrame(drawAll); });
addEventListener("beforeprint", drawAll);
addEventListener("afterprint", drawAll);
