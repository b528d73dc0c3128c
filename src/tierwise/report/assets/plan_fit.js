// Memory by tier against its capacity, tokens a second of each division, and one token from start to end.
const fit = DATA.fit;
const chosen = fit.policies ? fit.policies[0] : fit.answer || fit.nearest && fit.nearest[0];
const COLOURS = { weights: "var(--r-weight)", "KV cache": "var(--r-kv)", "recurrent state": "var(--r-state)", activations: "var(--r-act)", "runtime reserve": "var(--r-refetched)" };
function drawTiers() {
  const holder = document.getElementById("tiers-chart");
  holder.replaceChildren();
  if (!chosen) { holder.parentElement.hidden = true; return; }
  const rows = chosen.tiers, height = 20 + rows.length * 62;
  const [node, width] = canvas(holder, height, "Memory by tier, with the capacity of each");
  const left = 70;
  rows.forEach((t, i) => {
    const merged = {};
    for (const [k, v] of Object.entries(t.parts)) {
      const role = k.startsWith("weights") ? "weights" : k;
      merged[role] = (merged[role] || 0) + v;
    }
    const total = reduce(Object.values(merged), (v) => v), full = Math.max(total, t.capacity || 0) * 1.02;
    const y = 12 + i * 62;
    node.append(text(0, y + 21, t.node, { class: "soft" }));
    stack(node, left, y, (width - left - 10) * total / full, 30, total, Object.entries(merged).map(([k, v]) =>
      [v, COLOURS[k] || "var(--t3)", `${t.node}: ${k}`, [["size", bytes(v)]], [`${k} ${bytes(v)}`, bytes(v)]]));
    if (t.capacity) {
      const x = left + (width - left - 10) * t.capacity / full;
      node.append(svg("line", { class: "capacity", x1: x, x2: x, y1: y - 5, y2: y + 35 }));
      node.append(text(x - 4, y + 47, `has ${bytes(t.capacity)}`, { "text-anchor": "end" }));
    }
  });
  const roles = new Set(rows.flatMap((t) => Object.keys(t.parts).map((k) => k.startsWith("weights") ? "weights" : k)));
  legend(holder, [...roles].map((k) => [COLOURS[k] || "var(--t3)", k]));
}
function divided(x) {
  const parts = [["layers_on_host", "layers"], ["experts_on_host", "experts"], ["feed_forward_on_host", "ffn"], ["caches_on_host", "KV"]]
    .filter(([k]) => x[k]).map(([k, what]) => `${x[k]} ${what}`);
  if (x.read_from_disk) parts.push(`${percent(x.read_from_disk)} disk`);
  return `${x.weights} ${x.kv}, ${parts.join(", ") || "all on device"}`;
}
function drawSpeed() {
  const holder = document.getElementById("speed-chart");
  holder.replaceChildren();
  const rows = fit.policies
    ? fit.policies.map((p) => [`${p.weights}, ${whole(p.batch)} at once, attention on ${p.attends}`, p.tokens_per_s, true])
    : [...fit.candidates.map((x) => [divided(x), x.tokens_per_s, true]), ...fit.narrower.map((x) => [divided(x), x.tokens_per_s, false])];
  if (!rows.length) { holder.parentElement.hidden = true; return; }
  // Where names would take half of the width, each stands above its bar.
  const most = Math.max(...rows.map((r) => r[1])), named = Math.max(...rows.map((r) => widthOf(r[0]))) + 14;
  const above = named > holder.clientWidth * 0.5, each = above ? 44 : 26, left = above ? 0 : named;
  const [node, width] = canvas(holder, 14 + rows.length * each, "Tokens a second by division");
  rows.forEach(([name, speed, asked], i) => {
    const y = 6 + i * each + (above ? 18 : 0), w = (width - left - 60) * speed / most;
    node.append(text(0, above ? y - 5 : y + 14, name));
    const bar = svg("rect", { x: left, y, width: Math.max(w, 1), height: 18, rx: 2, fill: asked ? "var(--accent)" : "var(--t3)" });
    node.append(explain(bar, name, [["tokens/s", three(speed)], ["", asked ? "" : "fewer bits than asked for"]]));
    node.append(text(left + w + 6, y + 14, three(speed)));
  });
}
function drawTime() {
  const holder = document.getElementById("time-chart");
  holder.replaceChildren();
  const events = chosen && chosen.timeline || [];
  if (!events.length) { holder.parentElement.hidden = true; return; }
  const lanes = [...new Set(events.map((e) => e[0]))], end = Math.max(...events.map((e) => e[2] + e[3]));
  const [node, width] = canvas(holder, 34 + lanes.length * 40, "One token, lane by lane");
  const left = 70, x = (t) => left + (width - left - 10) * t / end;
  lanes.forEach((name, i) => node.append(text(0, 26 + i * 40, name, { class: "soft" })));
  for (const [lane, name, start, duration] of events) {
    const w = Math.max(x(start + duration) - x(start), 0.4);
    const bar = svg("rect", { x: x(start), y: 8 + lanes.indexOf(lane) * 40, width: w, height: 28,
      fill: lane === "copy" ? "var(--bad)" : lane === "host" ? "var(--t2)" : "var(--accent)" });
    node.append(explain(bar, name, [["on", lane], ["from", seconds(start)], ["takes", seconds(duration)]], false));
  }
  for (const part of width < 560 ? [0, 0.5, 1] : [0, 0.25, 0.5, 0.75, 1])
    node.append(text(x(part * end), 28 + lanes.length * 40, part ? seconds(part * end) : "0", { "text-anchor": { 0: "start", 1: "end" }[part] || "middle" }));
}
function draw() { drawTiers(); drawSpeed(); drawTime(); }
draw();
addEventListener("resize", draw);
addEventListener("beforeprint", draw);
addEventListener("afterprint", draw);
