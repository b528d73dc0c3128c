// Buffers as rectangles over time (to the right) and addresses (up).
const placed = DATA.placed || [];
function draw() {
  if (!placed.length) { document.getElementById("packing").hidden = true; return; }
  const holder = document.getElementById("arena"), height = 420, left = 74, bottom = 30;
  holder.replaceChildren();
  const [node, width] = canvas(holder, height, "Buffers over time and addresses");
  // Moments at which buffers come or go are drawn at equal distances: some lives are a millionth of others.
  const moments = [...new Set(placed.flatMap((b) => [b.lower, b.upper]))].sort((a, b) => a - b);
  const at = new Map(moments.map((m, i) => [m, i]));
  const top = Math.max(DATA.capacity || 0, DATA.height);
  const x = (m) => left + (width - left - 8) * at.get(m) / (moments.length - 1);
  const y = (a) => 10 + (height - bottom - 10) * (1 - a / top);
  for (const b of placed) {
    const bar = svg("rect", { x: x(b.lower), y: y(b.offset + b.size), width: Math.max(x(b.upper) - x(b.lower), 0.5),
      height: Math.max(y(b.offset) - y(b.offset + b.size), 0.5) });
    if (b.spill) bar.setAttribute("class", "spill");
    const by = DATA.moments ? [["from operator", DATA.moments[b.lower].operator]] : [];
    const moved = b.spill ? [["spilled", b.spill]] : [];
    node.append(explain(bar, `buffer ${b.id}`, [["lives", `${whole(b.lower)} to ${whole(b.upper)}`], ["size", bytes(b.size)], ["offset", whole(b.offset)], ...by, ...moved], false));
  }
  node.append(svg("line", { class: "limit", x1: left, x2: width - 8, y1: y(top), y2: y(top) }));
  for (const a of [0, top / 2, top]) node.append(text(left - 6, y(a) + 4, bytes(a), { "text-anchor": "end" }));
  node.append(text(left, height - 8, `${whole(moments[0])} to ${whole(moments[moments.length - 1])}, ${moments.length} moments`));
}
draw();
addEventListener("resize", draw);
addEventListener("beforeprint", draw);
addEventListener("afterprint", draw);
