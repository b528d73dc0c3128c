// Every op of one pass in time: all of it, one layer, or whatever is dragged over.
const view = {};
const spanOf = (p) => Math.max(...p.timeline.rows.map((r) => r[3] + r[4]), 1e-12);
function layerSpans(p) {
  const out = p.timeline.layers.map(() => [Infinity, 0]);
  for (const [, layer, , start, duration] of p.timeline.rows) {
    out[layer][0] = Math.min(out[layer][0], start);
    out[layer][1] = Math.max(out[layer][1], start + duration);
  }
  return out;
}
function rangeOf(p) {
  if (!view[p.name]) view[p.name] = oneLayer(p);
  return view[p.name];
}
// A layer from the middle: neither the first nor the last is typical.
function oneLayer(p) {
  const spans = layerSpans(p), [a, b] = spans[Math.floor(spans.length / 2)];
  return [a, b];
}
function setRange(p, a, b) {
  const end = spanOf(p), size = Math.min(Math.max(b - a, end / 5000), end);
  const from = Math.min(Math.max(a, 0), end - size);
  view[p.name] = [from, from + size];
  drawTimeline();
}
function zoom(p, factor) {
  const [a, b] = rangeOf(p), middle = (a + b) / 2, half = (b - a) / 2 * factor;
  setRange(p, middle - half, middle + half);
}
function drawTimeline() {
  const holder = document.querySelector("#timeline .chart"), p = phases[state.phase];
  const focused = holder.contains(document.activeElement);
  holder.replaceChildren();
  const lanes = p.timeline.lanes, several = lanes.length > 1, left = several ? 62 : 0;
  const height = 26 + lanes.length * 40 + 56;
  const [node, width] = canvas(holder, height, `Timeline of one ${p.name} pass`);
  node.setAttribute("tabindex", "0");
  const [a, b] = rangeOf(p), w = width - left, end = spanOf(p), X = (t) => left + w * (t - a) / (b - a);
  const clip = svg("clipPath", { id: "lane" }, svg("rect", { x: left, y: 0, width: w, height }));
  const body = svg("g", { "clip-path": "url(#lane)" });
  node.append(clip, body);
  layerSpans(p).forEach(([s, e], i) => {
    if (e < a || s > b) return;
    const from = Math.max(X(s), left), to = Math.min(X(e), left + w), name = p.timeline.layers[i];
    body.append(svg("rect", { x: from, y: 0, width: Math.max(to - from, 0.5), height: 20, fill: i % 2 ? "var(--track)" : "var(--grid)" }));
    if (widthOf(name) + 8 < to - from) body.append(text((from + to) / 2, 14, name, { "text-anchor": "middle", class: "soft" }));
  });
  lanes.forEach((name, i) => { if (several) node.append(text(0, 48 + i * 40, name, { class: "soft" })); });
  for (const [place, layer, lane, start, duration] of p.timeline.rows) {
    if (start + duration < a || start > b) continue;
    const o = p.ops[place], x = X(start), right = X(start + duration), y = 26 + lane * 40;
    const rect = svg("rect", { x, y, width: Math.max(right - x - (right - x > 3 ? 0.8 : 0), 0.4), height: 34, fill: groupColour(o), rx: right - x > 8 ? 2 : 0 });
    body.append(explain(rect, `${p.timeline.layers[layer]}: ${o.name}`, [["starts at", seconds(start)], ["takes", seconds(duration)], ["bound by", resourceName(o.bound_by)]], false));
    const from = Math.max(x, left), room = Math.min(right, left + w) - from;
    if (widthOf(o.name) + 10 < room) body.append(text(from + 6, y + 21, o.name, { class: "in" }));
  }
  drawTimeAxis(node, left, w, 26 + lanes.length * 40 + 4, a, b);
  drawOverview(node, p, left, w, height - 14, end, a, b);
  dragToZoom(node, p, left, w, a, b);
  node.addEventListener("dblclick", () => setRange(p, 0, end));
  node.addEventListener("keydown", (e) => {
    const step = (b - a) / 4;
    const act = { ArrowLeft: () => setRange(p, a - step, b - step), ArrowRight: () => setRange(p, a + step, b + step),
      "+": () => zoom(p, 0.5), "=": () => zoom(p, 0.5), "-": () => zoom(p, 2), 0: () => setRange(p, 0, end) }[e.key];
    if (act) { e.preventDefault(); act(); }
  });
  legend(holder, [...new Map(p.ops.map((o) => [groupName(o), groupColour(o)]))].map(([n, c]) => [c, n]));
  if (focused) node.focus();
}
function drawTimeAxis(node, left, w, y, a, b) {
  const rough = (b - a) / 7, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((k) => k * power).find((s) => s >= rough);
  for (let t = Math.ceil(a / step) * step; t <= b; t += step) {
    const x = left + w * (t - a) / (b - a), words = t < step / 2 ? "0" : seconds(t);
    node.append(svg("path", { d: `M${x} ${y - 4}v5`, stroke: "var(--soft)" }));
    const half = widthOf(words) / 2;
    node.append(text(Math.min(Math.max(x, left + half), left + w - half), y + 14, words, { class: "soft", "text-anchor": "middle" }));
  }
}
function drawOverview(node, p, left, w, y, end, a, b) {
  layerSpans(p).forEach(([s, e], i) => node.append(svg("rect", { x: left + w * s / end, y, width: Math.max(w * (e - s) / end, 0.4), height: 8, fill: i % 2 ? "var(--line)" : "var(--track)" })));
  node.append(svg("rect", { x: left + w * a / end, y: y - 2, width: Math.max(w * (b - a) / end, 3), height: 12, rx: 2, fill: "var(--accent)", "fill-opacity": 0.55 }));
  const catcher = svg("rect", { x: left, y: y - 5, width: w, height: 18, fill: "transparent", style: "cursor:pointer" });
  catcher.addEventListener("pointerdown", (e) => {
    e.stopPropagation();
    const box = catcher.getBoundingClientRect(), t = end * (e.clientX - box.left) / box.width;
    setRange(p, t - (b - a) / 2, t + (b - a) / 2);
  });
  node.append(catcher);
}
function dragToZoom(node, p, left, w, a, b) {
  const at = (e) => {
    const box = node.getBoundingClientRect(), scale = node.viewBox.baseVal.width / box.width;
    return a + (b - a) * Math.min(Math.max(((e.clientX - box.left) * scale - left) / w, 0), 1);
  };
  node.addEventListener("pointerdown", (down) => {
    const from = at(down);
    const mark = svg("rect", { y: 0, height: 106, fill: "var(--accent)", "fill-opacity": 0.2, "pointer-events": "none" });
    node.append(mark);
    const move = (e) => {
      const to = at(e), s = Math.min(from, to), t = Math.max(from, to);
      mark.setAttribute("x", left + w * (s - a) / (b - a));
      mark.setAttribute("width", w * (t - s) / (b - a));
    };
    const up = (e) => {
      removeEventListener("pointermove", move);
      removeEventListener("pointerup", up);
      mark.remove();
      const to = at(e);
      if (Math.abs(to - from) > (b - a) * 0.01) setRange(p, Math.min(from, to), Math.max(from, to));
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", up);
  });
}
