// What moves through which tier, how long each resource would need alone, and what fills the memory.
const ROLE_ORDER = ["weight", "table", "kv", "state", "act", "score", "refetched"];
const roleParts = (sizes, where) => ROLE_ORDER.filter((r) => sizes[r]).map((r) => [sizes[r], `var(--r-${r})`,
  DATA.labels.roles[r], [[where, bytes(sizes[r])]], [`${DATA.labels.roles[r]} ${bytes(sizes[r])}`, DATA.labels.roles[r]]]);
function drawTiers() {
  const p = phases[state.phase], one = p.name === "decode" ? "step" : "pass";
  const left = document.querySelector("#tiers .left"), right = document.querySelector("#tiers .right");
  left.replaceChildren(html("h3", {}, `Bytes of one ${p.name} ${one}, a device`));
  right.replaceChildren(html("h3", {}, `If each resource were the only limit`));
  const rows = [["operands, each once", p.operand_bytes]];
  for (const t of R.scenario.machine.tiers) if (p.bytes_by_role[t.name]) rows.push([`through ${t.name}`, p.bytes_by_role[t.name]]);
  for (const t of ["link", "network"]) if (p.bytes[t]) rows.push([`over the ${t}`, { act: p.bytes[t] }]);
  const sum = (sizes) => reduce(Object.values(sizes), (x) => x);
  const most = Math.max(...rows.map(([, sizes]) => sum(sizes)), 1);
  const [node, width] = canvas(left, rows.length * 50, "Bytes by tier");
  const used = new Set();
  rows.forEach(([name, sizes], i) => {
    Object.keys(sizes).forEach((r) => used.add(r));
    rowTitle(node, width, i * 50, name, bytes(sum(sizes)));
    node.append(svg("rect", { x: 0, y: i * 50 + 19, width, height: 20, rx: 3, fill: "var(--track)" }));
    const size = sum(sizes);
    if (size) stack(node, 0, i * 50 + 19, width * size / most, 20, size, roleParts(sizes, name));
  });
  legend(left, ROLE_ORDER.filter((r) => used.has(r)).map((r) => [`var(--r-${r})`, DATA.labels.roles[r]]));
  if (used.has("refetched")) left.append(html("p", { class: "note" }, "“Moved again” is what an op fetches more than once, such as an operand that many tiles share."));
  drawAlone(right, p, one);
}
function drawAlone(holder, p, one) {
  const rows = Object.entries(p.seconds_if_alone).filter(([, t]) => t > 1e-4 * p.pass_time_s).sort((a, b) => b[1] - a[1]);
  const [node, width] = canvas(holder, rows.length * 34 + 26, "Time by resource");
  const most = Math.max(p.pass_time_s, ...rows.map((r) => r[1]));
  rows.forEach(([name, t], i) => {
    const y = i * 34;
    rowTitle(node, width, y, resourceName(name), `${seconds(t)}, ${percent(t / p.pass_time_s)}`);
    node.append(svg("rect", { x: 0, y: y + 18, width, height: 8, rx: 3, fill: "var(--track)" }));
    node.append(explain(svg("rect", { x: 0, y: y + 18, width: Math.max(width * t / most, 1), height: 8, rx: 3, fill: boundColour(name) }),
      resourceName(name), [["alone", seconds(t)], ["of the " + one, percent(t / p.pass_time_s)]]));
  });
  const x = width * p.pass_time_s / most - 1, y = rows.length * 34;
  rows.forEach((_, i) => node.append(svg("path", { d: `M${x} ${i * 34 + 15}v14`, stroke: "var(--ink)", "stroke-width": 1.5 })));
  node.append(text(x + 1, y + 14, `│ the whole ${one}: ${seconds(p.pass_time_s)}`, { "text-anchor": "end", class: "soft" }));
  holder.append(html("p", { class: "note" }, "Time at the rates kernels reach. Within an op they work side by side, so the largest counts; kernel gaps and latency come on top."));
}
// Weights in shades of one blue, the largest the strongest.
// Darker, never lighter: white words stand on them.
const SHADES = [100, 84, 72, 62, 54, 48].map((x) => `color-mix(in srgb, var(--r-weight) ${x}%, #000)`);
const PART_COLOURS = { "KV cache": "var(--r-kv)", "recurrent state": "var(--r-state)", activations: "var(--r-act)", "runtime reserve": "var(--c-norm)" };
function drawMemory() {
  const holder = document.querySelector("#memory .chart"), m = R.memory;
  holder.replaceChildren();
  const [node, width] = canvas(holder, 62, "Memory by role");
  const total = Math.max(m.capacity, m.peak);
  const weights = Object.entries(m.parts).filter(([name]) => name.startsWith("weights")).sort((a, b) => b[1] - a[1]);
  const others = Object.entries(m.parts).filter(([name]) => !name.startsWith("weights"));
  const parts = [...weights, ...others].map(([name, size], i) => [size, i < weights.length ? SHADES[i % 6] : PART_COLOURS[name] || "var(--c-norm)",
    name, [["bytes", bytes(size)], ["of the memory", percent(size / m.capacity)]], [`${name} ${bytes(size)}`, name]]);
  node.append(svg("rect", { x: 0, y: 18, width: width * m.capacity / total, height: 34, rx: 4, fill: "var(--track)" }));
  stack(node, 0, 18, width * m.peak / total, 34, m.peak, parts);
  const edge = width * m.capacity / total;
  node.append(text(0, 11, `${bytes(m.peak)} of ${bytes(m.capacity)}, ${percent(m.peak / m.capacity)}`, { "font-weight": 600 }));
  if (m.free >= 0) {
    node.append(text(width, 11, `${bytes(m.free)} free`, { class: "soft", "text-anchor": "end" }));
  } else {
    node.append(svg("path", { d: `M${edge} 14V58`, stroke: "var(--bad)", "stroke-width": 2.5 }),
      text(width, 11, `${bytes(-m.free)} more than the device has`, { fill: "var(--bad)", style: "fill:var(--bad)", "text-anchor": "end", "font-weight": 600 }));
  }
  legend(holder, parts.map(([size, colour, name]) => [colour, name, bytes(size)]));
  if (m.per_sequence) holder.append(html("p", { class: "note" }, `Each request of this length holds ${bytes(m.per_sequence)} of cache and state.`));
}
