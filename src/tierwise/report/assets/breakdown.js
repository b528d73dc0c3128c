// Stacked bars: the batch by phase, a pass of each phase by op, by part of the model or by what limits it.
let breakdownBy = "op";
function drawBreakdown() {
  const holder = document.querySelector("#breakdown .chart");
  holder.replaceChildren();
  const rows = phases.length > 1 ? phases.length + 1 : 1;
  const [node, width] = canvas(holder, rows * 58 - 8, "Time by phase and op");
  let y = 0;
  const used = new Map();
  if (phases.length > 1) {
    const tones = ["var(--t1)", "var(--t2)", "var(--t3)"];
    rowTitle(node, width, y, "Whole batch", seconds(R.summary.time_s));
    stack(node, 0, y + 20, width, 26, R.summary.time_s, phases.map((p, i) => [p.time_s, tones[i % 3], p.name,
      [["time", seconds(p.time_s)], ["share", percent(p.time_s / R.summary.time_s)], ["passes", whole(p.passes)],
        ["a pass", seconds(p.pass_time_s)]], [`${p.name} ${seconds(p.time_s)}`, p.name]]));
    y += 58;
  }
  for (const p of phases) {
    const step = p.name === "decode" ? "One decode step" : `One ${p.name} pass`;
    rowTitle(node, width, y, step, seconds(p.pass_time_s) + (p.overlap ? ", parts overlap" : ""));
    const parts = partsOf(p);
    parts.forEach(([, colour, , , , name]) => used.set(name, colour));
    stack(node, 0, y + 20, width, 26, reduce(parts, (x) => x[0]), parts);
    y += 58;
  }
  legend(holder, [...used].map(([name, colour]) => [colour, name]));
}
function rowTitle(node, width, y, title, value) {
  node.append(text(0, y + 13, title, { "font-weight": 600 }), text(width, y + 13, value, { class: "soft", "text-anchor": "end" }));
}
function partsOf(p) {
  const total = reduce(p.rows, (o) => o.time_s) + p.host_s;
  if (breakdownBy === "op") {
    const host = [p.host_s, boundColour("host"), "between passes", [["time a pass", seconds(p.host_s)], ["bound by", "host"]],
      ["host"], "host"];
    return [...p.rows].sort((a, b) => b.time_s - a.time_s).map((o) =>
      [o.time_s, groupColour(o), opName(p, o), opRows(p, o), [`${o.name} ${percent(o.share)}`, o.name], groupName(o)])
      .concat(p.host_s ? [host] : []);
  }
  const sums = new Map();
  if (breakdownBy === "part") p.rows.concat(p.host_s ? [{ role: "host", time_s: p.host_s }] : []).forEach((o) => sums.set(o.role, (sums.get(o.role) || 0) + o.time_s));
  else Object.entries(p.seconds_by_bound).forEach(([name, t]) => sums.set(name, t));
  const colour = breakdownBy === "part" ? roleColour : boundColour;
  const name = breakdownBy === "part" ? partName : (n) => DATA.families[n] === "overhead" ? "overhead" : resourceName(n);
  const label = breakdownBy === "part" ? partName : resourceName;
  return [...sums].sort((a, b) => b[1] - a[1]).map(([key, t]) => [t, colour(key), label(key),
    [["time a pass", seconds(t)], ["share", percent(t / total)]], [`${label(key)} ${percent(t / total)}`, label(key)], name(key)]);
}
