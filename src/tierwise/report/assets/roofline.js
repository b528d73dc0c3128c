// FLOP/s over FLOP per byte, both logarithmic: roofs of the device, dots of the ops.
const roof = { tier: memoryTier.name, shown: new Set(phases.map((_, i) => i)) };
const cacheTiers = () => R.scenario.machine.tiers.filter((t) => t.bandwidth && phases.some((p) => p.bytes[t.name]));
const radius = (d) => 3.5 + 20 * Math.sqrt(d.o.share);
function dotsOf() {
  const dots = [], hidden = [];
  let small = 0;
  phases.forEach((p, i) => {
    if (!roof.shown.has(i)) return;
    for (const o of p.rows) {
      const moved = o.bytes[roof.tier];
      if (o.share < 0.001) small += 1;
      else if (o.flops && moved && o.time_s) dots.push({ p, i, o, x: o.flops / moved, y: o.flops / o.time_s });
      else hidden.push({ p, o });
    }
  });
  return [dots.sort((a, b) => b.o.share - a.o.share), hidden, small];
}
function drawRoofline() {
  const holder = document.querySelector("#roofline .chart");
  holder.replaceChildren();
  const height = 470, left = 74, right = 16, top = 14, bottom = 46;
  const [node, width] = canvas(holder, height, "Roofline");
  const [dots, hidden, small] = dotsOf();
  const compute = new Map();
  phases.forEach((p, i) => { if (roof.shown.has(i)) Object.entries(p.roofs).forEach(([d, x]) => compute.set(d, x)); });
  const tiers = cacheTiers();
  const peak = Math.max(...compute.values(), 1);
  const ridge = peak / memoryTier.bandwidth;
  const lows = (f) => dots.length ? Math.min(...dots.map(f)) : f({ x: ridge / 100, y: peak / 1e4 });
  const x0 = Math.floor(Math.log10(Math.min(lows((d) => d.x), ridge / 30)) - 0.15);
  const x1 = Math.log10(Math.max(ridge * 12, ...dots.map((d) => d.x * 2.2)));
  const y0 = Math.floor(Math.log10(lows((d) => d.y)) - 0.1), y1 = Math.log10(peak) + 0.45;
  const w = width - left - right, h = height - top - bottom;
  const X = (v) => left + w * (Math.log10(v) - x0) / (x1 - x0), Y = (v) => top + h * (y1 - Math.log10(v)) / (y1 - y0);
  for (let k = Math.ceil(x0); k <= x1; k++) {
    node.append(svg("path", { d: `M${X(10 ** k)} ${top}V${top + h}`, stroke: "var(--grid)" }),
      text(X(10 ** k), top + h + 18, k < 0 ? String(10 ** k) : whole(10 ** k), { class: "soft", "text-anchor": "middle" }));
  }
  for (let k = Math.ceil(y0); k <= y1; k++) {
    node.append(svg("path", { d: `M${left} ${Y(10 ** k)}H${left + w}`, stroke: "var(--grid)" }),
      text(left - 8, Y(10 ** k) + 4, scaled(10 ** k, ""), { class: "soft", "text-anchor": "end" }));
  }
  node.append(text(left + w / 2, height - 6, `arithmetic intensity: FLOP per byte through ${roof.tier}`, { class: "soft", "text-anchor": "middle" }),
    svg("text", { class: "soft", "text-anchor": "middle", transform: `translate(13 ${top + h / 2}) rotate(-90)` }, "FLOP per second"));
  const boxes = [];
  tiers.forEach((t, i) => drawTierRoof(node, t, 0.1 + 0.18 * i, { X, Y, x0, x1, y0, y1, w, h, peak }));
  const fastest = Math.max(...tiers.map((t) => t.bandwidth));
  let lastY = Infinity, lastWidth = 0, shift = 0;
  for (const [dtype, rate] of [...compute].sort((a, b) => a[1] - b[1])) {
    const from = Math.max(left, X(rate / fastest));
    node.append(svg("path", { d: `M${from} ${Y(rate)}H${left + w}`, stroke: "var(--b-compute)", "stroke-width": 2 }));
    const words = `${dtype} ${scaled(rate, "FLOP/s")}`, y = Y(rate) - 6;
    shift = lastY - y > 14 ? 0 : shift + lastWidth + 16;
    let end = left + w - 2 - shift;
    const behind = () => dots.some((d) => { const r = radius(d) + 3; return Math.abs(Y(d.y) - y + 5) < r + 7 && X(d.x) + r > end - widthOf(words) && X(d.x) - r < end; });
    for (const first = end; behind() && end - widthOf(words) - 12 > left; end -= 12) if (first - end > w * 0.7) break;
    node.append(text(end, y, words, { "text-anchor": "end", class: "halo" }));
    boxes.push([end - widthOf(words), y - 12, widthOf(words) + 4, 15]);
    lastY = y;
    lastWidth = widthOf(words);
  }
  for (const d of dots) {
    const r = radius(d);
    const later = phases[d.i].name === "decode" && roof.shown.size > 1;
    node.append(explain(svg("circle", { cx: X(d.x), cy: Y(d.y), r, fill: groupColour(d.o), stroke: groupColour(d.o),
      "fill-opacity": later ? 0.25 : 0.8, "stroke-width": 1.6 }), `${opName(d.p, d.o)} (${d.p.name})`,
    [...opRows(d.p, d.o), ["reaches", scaled(d.y, "FLOP/s")]]));
  }
  labelDots(node, dots, boxes, X, Y, left, left + w);
  const roles = [...new Map(dots.map((d) => [groupName(d.o), groupColour(d.o)]))].map(([n, c]) => [c, n]);
  legend(holder, roles);
  const both = roof.shown.size > 1 && phases.some((p) => p.name === "decode") ? "Filled: prefill and encoders; hollow: decode. " : "";
  const share = hidden.map((d) => opName(d.p, d.o) + (roof.shown.size > 1 ? ` (${d.p.name})` : "")).filter((n, i, a) => a.indexOf(n) === i);
  const not = share.length ? `Not drawn because they do no arithmetic or move nothing through ${roof.tier}: ${share.slice(0, 9).join(", ")}${share.length > 9 ? ` and ${share.length - 9} more` : ""}.` : "";
  holder.append(html("p", { class: "note" }, both + not + (small ? ` Not drawn because they take under 0.1 % of the time: ${small} more.` : "")));
}
function drawTierRoof(node, t, at, g) {
  const chosen = t.name === roof.tier;
  const end = Math.min(Math.log10(g.peak / t.bandwidth), g.x1), start = Math.max(g.x0, g.y0 - Math.log10(t.bandwidth));
  if (start >= end) return;
  const p = (k) => [g.X(10 ** k), g.Y(t.bandwidth * 10 ** k)];
  const [xa, ya] = p(start), [xb, yb] = p(end);
  node.append(svg("path", { d: `M${xa} ${ya}L${xb} ${yb}`, stroke: chosen ? "var(--b-memory)" : "var(--soft)",
    "stroke-width": chosen ? 2.2 : 1.2, "stroke-dasharray": chosen ? "" : "5 4", "stroke-opacity": chosen ? 1 : 0.7 }));
  const slope = Math.atan2(yb - ya, xb - xa) * 180 / Math.PI;
  node.append(svg("text", { class: chosen ? "halo" : "soft halo", y: -7, transform: `translate(${xa + (xb - xa) * at} ${ya + (yb - ya) * at}) rotate(${slope})` },
    `${t.name} ${scaled(t.bandwidth, "B/s")}`));
}
// One label for dots on top of each other; none where there is no room beside the dots and other labels.
function labelDots(node, dots, boxes, X, Y, low, high) {
  const hits = (b) => boxes.some((c) => b[0] < c[0] + c[2] && c[0] < b[0] + b[2] && b[1] < c[1] + c[3] && c[1] < b[1] + b[3]);
  const clusters = [];
  for (const d of dots) {
    const x = X(d.x), y = Y(d.y), r = radius(d);
    boxes.push([x - r, y - r, 2 * r, 2 * r]);
    const near = clusters.find((c) => c.i === d.i && Math.hypot(c.x - x, c.y - y) < 12);
    if (near) near.names.push(d.o.name);
    else clusters.push({ x, y, r, i: d.i, share: d.o.share, names: [d.o.name] });
  }
  for (const { x, y, r, names, share } of clusters) {
    if (share < 0.01) continue;
    const different = [...new Set(names)];
    const words = different.slice(0, 3).join(", ") + (different.length > 3 ? ` + ${different.length - 3}` : "");
    const w = widthOf(words), f = r * 0.75;
    const places = [[x + r + 5, y + 4], [x - r - 5 - w, y + 4], [x - w / 2, y + r + 15], [x - w / 2, y - r - 6], [x + f + 5, y + f + 12],
      [x - f - w - 5, y + f + 12], [x + f + 5, y - f - 6], [x - f - w - 5, y - f - 6], [x - w + r, y + r + 15], [x - w + r, y + r + 32]];
    const free = places.find(([a, b]) => a > low && a + w < high && !hits([a, b - 11, w, 14]));
    if (!free) continue;
    boxes.push([free[0], free[1] - 11, w, 14]);
    node.append(text(free[0], free[1], words, { class: "halo", "pointer-events": "none" }));
  }
}
