// The pipeline as a Gantt chart: a row a stage, a bar an execution.
const runs = DATA.pipeline || [];
if (!runs.length) {
  document.getElementById("pipeline").hidden = true;
} else {
  const lanes = [...new Set(runs.map((r) => r.lane))];
  const row = 26, left = 70, top = 8;
  const [node, width] = canvas(document.getElementById("gantt"), top + row * lanes.length + 34, "Pipeline of a step");
  const end = Math.max(...runs.map((r) => r.end));
  const x = (t) => left + (width - left - 10) * t / end;
  lanes.forEach((lane, i) => node.append(text(0, top + row * i + 17, lane)));
  for (const r of runs) {
    const what = r.op.split(" ")[0];
    const kind = { forward: "forward", together: "together", weights: "weights", rest: "weights" }[what] || "backward";
    const bar = svg("rect", { class: kind, x: x(r.start), y: top + row * lanes.indexOf(r.lane) + 3, height: row - 6,
      width: Math.max(x(r.end) - x(r.start) - 0.6, 0.4) });
    node.append(explain(bar, `${r.op}, micro-batch ${r.turn}`, [["from", seconds(r.start)], ["takes", seconds(r.end - r.start)]], false));
  }
  for (let i = 0; i <= 4; i += 1) {
    node.append(text(x(end * i / 4), top + row * lanes.length + 20, seconds(end * i / 4), { "text-anchor": i === 4 ? "end" : "middle" }));
  }
}
