// Cost (across, logarithmic) against tokens per second and user (up): the cloud, the front, the finalists, the answer.
const plan = DATA.plan, cloud = DATA.cloud;
const price = (e) => e.cost, speed = (e) => e.user_tokens_per_s;
const money = (x) => cloud.unit.startsWith("$") ? "$" + (x >= 100 ? whole(Math.round(x)) : x.toFixed(2)) : three(x);
function name(e) {
  const one = (g) => g.count + "×" + ["tp", "pp", "dp", "ep"].filter((n) => g[n] > 1 || (n === "tp" && g.pp * g.dp * g.ep === 1)).map((n) => n.toUpperCase() + g[n]).join("");
  const how = e.prefill ? one(e.prefill) + " + " + one(e.decode) : one(e.engines);
  return plan.question.machines.length > 1 ? how + ", " + e.device.replace(/^(NVIDIA|AMD|Intel) /, "") : how;
}
function rows(e) {
  const out = [["devices", whole(e.devices) + " × " + e.device], [cloud.unit, money(price(e))], ["tokens/s a user", three(speed(e))],
    ["TTFT", seconds(e.ttft_s)], ["TPOT", seconds(e.tpot_s)], ["requests/s", three(e.requests_per_s)]];
  if (e.simulated) out.push(["simulated TTFT", seconds(e.simulated.ttft_s.mean)], ["simulated TPOT", seconds(e.simulated.tpot_s.mean)]);
  return out;
}
function draw() {
  const holder = document.getElementById("chart");
  holder.replaceChildren();
  const all = [...cloud.dots.map((d) => [d[0], d[1]]), ...plan.front.map((e) => [price(e), speed(e)])].filter((p) => p[0] > 0 && p[1] > 0);
  if (!all.length) { holder.remove(); return; }
  const height = 380, left = 54, right = 18, top = 30, bottom = 46;
  const [node, width] = canvas(holder, height, "Cost against tokens per second and user");
  const xs = all.map((p) => p[0]), most = Math.max(...all.map((p) => p[1])) * 1.05;
  const low = Math.min(...xs) / 1.08, high = Math.max(...xs) * 1.08;
  const x = (v) => left + (width - left - right) * Math.log(v / low) / Math.log(high / low);
  const y = (v) => height - bottom - (height - top - bottom) * v / most;
  const wide = Math.log10(high / low) > 1.2;
  let last = -1e9;
  for (let k = Math.floor(Math.log10(low)); k <= Math.ceil(Math.log10(high)); k += 1) {
    for (const m of wide ? [1, 2, 5] : [1, 1.5, 2, 3, 4, 5, 7]) {
      const v = m * 10 ** k;
      if (v < low || v > high || x(v) - last < 44) continue;
      last = x(v);
      node.append(svg("line", { x1: x(v), x2: x(v), y1: top, y2: height - bottom, stroke: "var(--grid)" }));
      node.append(text(x(v), height - bottom + 18, v >= 1 ? whole(v) : String(v), { "text-anchor": "middle" }));
    }
  }
  const step = [1, 2, 5, 10, 20, 25, 50, 100, 200, 500, 1000].find((s) => most / s <= 7) || 2000;
  for (let v = 0; v <= most; v += step) {
    node.append(svg("line", { x1: left, x2: width - right, y1: y(v), y2: y(v), stroke: "var(--grid)" }));
    node.append(text(left - 8, y(v) + 4, whole(v), { "text-anchor": "end" }));
  }
  node.append(text(width - right, height - 8, cloud.unit, { "text-anchor": "end" }));
  node.append(text(0, 12, "tokens/s a user"));
  if (cloud.target && cloud.target < most) {
    node.append(svg("line", { x1: left, x2: width - right, y1: y(cloud.target), y2: y(cloud.target), class: "target" }));
    node.append(text(width - right, y(cloud.target) - 5, "TPOT target", { "text-anchor": "end", fill: "var(--bad)" }));
  }
  for (const d of cloud.dots) node.append(svg("circle", { cx: x(d[0]), cy: y(d[1]), r: 2.2, class: "dot" + (d[2] ? " two" : "") + (cloud.target && d[1] < cloud.target ? " missed" : "") }));
  const front = plan.front;
  node.append(svg("path", { class: "line", d: front.map((e, i) => (i ? "L" : "M") + x(price(e)).toFixed(1) + " " + y(speed(e)).toFixed(1)).join("") }));
  for (const e of front) node.append(explain(svg("circle", { cx: x(price(e)), cy: y(speed(e)), r: 4, class: "mark" }), name(e), rows(e)));
  const named = front.map((e) => [[x(price(e)), y(speed(e))], name(e), false]);
  if (!plan.finalists.length && plan.answer) named.unshift([[x(price(plan.answer)), y(speed(plan.answer))], name(plan.answer), true]);
  if (named.length && named[0][2]) node.append(svg("circle", { cx: named[0][0][0], cy: named[0][0][1], r: 7, class: "answer" }));
  for (const e of plan.finalists) {
    const s = e.simulated, paid = plan.question.load === "free" && s.requests_per_s ? price(e) * e.requests_per_s / s.requests_per_s : price(e);
    if (!s.tpot_s.mean || paid < low || paid > high) continue;
    const best = plan.answer && name(e) === name(plan.answer) && e.in_flight === plan.answer.in_flight && e.max_num_batched_tokens === plan.answer.max_num_batched_tokens;
    const at = [x(paid), y(1 / s.tpot_s[plan.question.statistic])], arm = 4;
    const dot = best ? svg("circle", { cx: at[0], cy: at[1], r: 7, class: "answer" })
      : s.meets ? svg("circle", { cx: at[0], cy: at[1], r: 3.5, class: s.surely ? "tried" : "tried unsure" })
        : svg("path", { d: `M${at[0] - arm} ${at[1] - arm}l${2 * arm} ${2 * arm}m0 ${-2 * arm}l${-2 * arm} ${2 * arm}`, class: "failed" });
    node.append(explain(dot, (best ? "The answer: " : s.surely ? "Simulated, met: " : s.meets ? "Simulated, met but not surely: " : "Simulated, missed: ") + name(e), rows(e)));
    if (best) named.unshift([at, name(e), true]); else named.push([at, name(e), false]);
  }
  // A dot has its name where there is room for it: above, below or beside, off every other name.
  const taken = named.map(([[a, b]]) => [a - 5, b - 5, a + 5, b + 5]);
  for (const [[px, py], words, bold] of named) {
    const w = widthOf(words) * (bold ? 1.08 : 1);
    const spots = [[px - w / 2, py - 12], [px - w / 2, py + 21], [px + 10, py + 4], [px - w - 10, py + 4]];
    const free = spots.find(([a, b]) => a >= left && a + w <= width - right + 10 && b > top && b < height - bottom
      && !taken.some((t) => a < t[2] + 4 && a + w > t[0] - 4 && b - 11 < t[3] && b + 3 > t[1]));
    if (!free || taken.some((t) => t[4] === words)) continue;
    taken.push([free[0], free[1] - 11, free[0] + w, free[1] + 3, words]);
    node.append(text(free[0], free[1], words, { class: "halo", ...(bold ? { "font-weight": 700 } : {}) }));
  }
  const met = plan.finalists.some((e) => e.simulated), key = [["var(--t2)", "aggregated"]];
  if (cloud.dots.some((d) => d[2])) key.push(["var(--t3)", "disaggregated"]);
  if (cloud.target && cloud.dots.some((d) => d[1] < cloud.target)) key.push(["var(--bad)", "slower than the TPOT target"]);
  key.push(["var(--accent)", "front and answer"]);
  if (met) key.push(["var(--ink)", "simulated: ● met the targets, ○ not surely, × missed them"]);
  legend(holder, key);
}
draw();
addEventListener("resize", draw);
addEventListener("beforeprint", draw);
addEventListener("afterprint", draw);
