// Share within the targets over the rate of arrivals: a line a machine.
const curves = DATA.curves.filter((c) => c.points.length);
const COLOURS = ["attn", "mlp", "conv", "head", "ssm", "embed", "moe", "vision"].map((k) => `var(--c-${k})`);
function draw() {
  if (!curves.length) { document.getElementById("within").hidden = true; return; }
  const holder = document.getElementById("share");
  holder.replaceChildren();
  const height = 320, left = 52, bottom = 44, top = 14, right = 16;
  const [node, width] = canvas(holder, height, "Share of requests within both targets, by rate");
  const most = Math.max(...curves.flatMap((c) => c.points.map((p) => p.rate_per_s))) * 1.05;
  const x = (r) => left + (width - left - right) * r / most;
  const y = (s) => top + (height - top - bottom) * (1 - s);
  for (const s of [0, 0.25, 0.5, 0.75, 1]) {
    node.append(svg("line", { class: "rule", x1: left, x2: width - right, y1: y(s), y2: y(s) }));
    node.append(text(left - 6, y(s) + 4, percent(s), { "text-anchor": "end" }));
  }
  const wanted = DATA.targets.attainment;
  node.append(svg("line", { class: "wanted", x1: left, x2: width - right, y1: y(wanted), y2: y(wanted) }));
  const decade = 10 ** Math.floor(Math.log10(most / 4));
  const step = [1, 2, 5, 10].map((k) => k * decade).find((k) => most / k <= 8);
  for (let r = 0; r <= most; r += step) {
    node.append(text(x(r), height - bottom + 18, whole(r), { "text-anchor": "middle" }));
  }
  node.append(text((left + width - right) / 2, height - 6, "requests that arrive a second", { "text-anchor": "middle" }));
  curves.forEach((c, i) => {
    const colour = COLOURS[i % COLOURS.length];
    const points = c.points.map((p) => `${x(p.rate_per_s)},${y(p.good_share || 0)}`).join(" ");
    node.append(svg("polyline", { points, fill: "none", stroke: colour, "stroke-width": 2 }));
    for (const p of c.points) {
      const dot = svg("circle", { cx: x(p.rate_per_s), cy: y(p.good_share || 0), r: 5, stroke: colour, "stroke-width": 2,
        fill: p.holds ? colour : "var(--panel)" });
      node.append(explain(dot, `${c.machine}, ${three(p.rate_per_s)}/s`, [["within both", percent(p.good_share || 0)],
        ["goodput", three(p.goodput_per_s || 0) + "/s"], ["TTFT p99", seconds(p.ttft_p99_s)], ["TPOT p99", seconds(p.tpot_p99_s)]]));
    }
  });
  if (curves.length > 1) {
    legend(holder, curves.map((c, i) => [COLOURS[i % COLOURS.length], c.machine, c.capacity_per_s ? three(c.capacity_per_s) + "/s" : ""]));
  }
}
draw();
addEventListener("resize", draw);
addEventListener("beforeprint", draw);
addEventListener("afterprint", draw);
