// The pipeline as a Gantt chart: a row a stage, a bar an execution, drawn as pixels since there may be tens of thousands.
const run = DATA.pipeline;
const KINDS = { forward: ["--t2", "forward"], together: ["--c-embed", "forward and backward of two micro-batches"],
  weights: ["--b-memory", "gradients of weights", 0.45], rest: ["--b-memory", "gradients of weights", 0.45] };
const BACKWARD = ["--b-memory", "backward"];
const kindOf = (row) => KINDS[run.ops[row[1]].split(" ")[0]] || BACKWARD;
if (!run || !run.rows.length) {
  document.getElementById("pipeline").hidden = true;
} else {
  const holder = document.getElementById("gantt"), area = html("canvas", { role: "img", "aria-label": spoken() });
  const selected = html("div", { class: "selected", hidden: "" });
  holder.append(area, selected);
  const ROW = 24, LEFT = 70, RIGHT = 10, TOP = 4, pen = area.getContext("2d");
  const height = TOP + ROW * run.lanes.length + 26, end = run.rows.reduce((most, r) => Math.max(most, r[3] + r[4]), 0);
  // The part at either end in which the pipeline fills or drains: until the first stage works backwards, and as long again.
  const turned = run.rows.reduce((least, r) => r[0] === 0 && kindOf(r) !== KINDS.forward ? Math.min(least, r[3]) : least, end);
  const filling = Math.min(end, Math.max(2 * turned, end / 100));
  const PARTS = { all: [0, end], first: [0, filling], last: [end - filling, end] };
  let range = PARTS.all, width = 0, part = "all";
  const X = (t) => LEFT + (width - LEFT - RIGHT) * (t - range[0]) / (range[1] - range[0]);
  const T = (x) => range[0] + (range[1] - range[0]) * (x - LEFT) / (width - LEFT - RIGHT);
  function draw() {
    const colours = getComputedStyle(document.documentElement), scale = devicePixelRatio || 1;
    const colour = (name) => colours.getPropertyValue(name);
    width = Math.max(holder.clientWidth, 300);
    area.width = width * scale; area.height = height * scale; area.style.height = `${height}px`;
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.font = "12px system-ui, 'Segoe UI', Roboto, Arial, sans-serif";
    pen.textBaseline = "middle";
    for (const row of run.rows) {
      const from = Math.max(X(row[3]), LEFT), to = Math.min(X(row[3] + row[4]), width - RIGHT);
      if (to <= from) continue;
      const [name, , faint] = kindOf(row), y = TOP + ROW * row[0] + 2;
      pen.globalAlpha = faint || 1;
      pen.fillStyle = colour(name);
      pen.fillRect(from, y, Math.max(to - from - (to - from > 3 ? 1 : 0), 0.3), ROW - 4);
      pen.globalAlpha = 1;
      const words = String(row[2] + 1);
      if (pen.measureText(words).width + 6 < to - from && !faint) { pen.fillStyle = "#fff"; pen.textAlign = "center"; pen.fillText(words, (from + to) / 2, y + ROW / 2 - 1); }
    }
    pen.fillStyle = colour("--ink");
    pen.textAlign = "left";
    run.lanes.forEach((lane, i) => pen.fillText(lane, 0, TOP + ROW * i + ROW / 2));
    pen.fillStyle = colour("--soft");
    const steps = width < 560 ? 2 : 4;
    for (let i = 0; i <= steps; i += 1) {
      pen.textAlign = { 0: "left", [steps]: "right" }[i] || "center";
      const t = range[0] + (range[1] - range[0]) * i / steps;
      pen.fillText(t ? seconds(t) : "0", X(t), height - 10);
    }
  }
  const at = (e) => { const box = area.getBoundingClientRect(); return [e.clientX - box.left, e.clientY - box.top]; };
  function told(e) {
    const [x, y] = at(e), lane = Math.floor((y - TOP) / ROW), t = T(x);
    const row = run.rows.find((r) => r[0] === lane && r[3] <= t && t < r[3] + r[4]);
    if (!row) return hideTip();
    return showTip(e.clientX, e.clientY, `${run.lanes[lane]}: ${run.ops[row[1]]}, micro-batch ${row[2] + 1}`, [["from", seconds(row[3])], ["takes", seconds(row[4])]]);
  }
  let from = null;
  const paint = toggles(document.querySelector("#pipeline .controls"), "Part of the step", [["all", "whole step"], ["first", "beginning"], ["last", "end"]], () => part,
    (chosen) => { part = chosen; range = PARTS[chosen]; draw(); });
  function show(chosen, next) { part = chosen; range = next; paint(); draw(); }
  area.addEventListener("pointerdown", (e) => { [from] = at(e); });
  area.addEventListener("pointermove", (e) => {
    if (from === null) return told(e);
    const [x] = at(e), a = Math.max(Math.min(from, x), LEFT);
    selected.hidden = Math.abs(x - from) < 4;
    Object.assign(selected.style, { left: `${a}px`, width: `${Math.abs(x - from)}px`, top: `${TOP}px`, height: `${ROW * run.lanes.length}px` });
    return hideTip();
  });
  area.addEventListener("pointerleave", () => { from = null; selected.hidden = true; hideTip(); });
  area.addEventListener("pointerup", (e) => {
    const [x] = at(e), a = T(Math.max(Math.min(from ?? x, x), LEFT)), b = T(Math.min(Math.max(from ?? x, x), width - RIGHT));
    if (from !== null && Math.abs(x - from) >= 4 && b > a) show("", [a, b]);
    from = null; selected.hidden = true;
  });
  area.addEventListener("dblclick", () => show("all", PARTS.all));
  const used = [...new Map(run.rows.map((r) => kindOf(r)).map((k) => [k[1], k])).values()];
  legend(holder, used.map(([name, words, faint]) => [faint ? `color-mix(in srgb, var(${name}) ${100 * faint}%, transparent)` : `var(${name})`, words]));
  addEventListener("resize", draw);
  addEventListener("beforeprint", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  draw();
}
function spoken() {
  return `The pipeline: ${run.lanes.length} stages, ${run.rows.length} executions. The tables below say what it takes.`;
}
