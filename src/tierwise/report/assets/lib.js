// What the charts of a result share: its phases, its colours, its words.
const R = DATA.result;
const phases = R.phases.map((p, i) => ({ ...p, rows: DATA.rows[i], timeline: DATA.timeline[i] }));
const longest = phases.indexOf([...phases].sort((a, b) => b.time_s - a.time_s)[0]);
const state = { phase: longest };
const listeners = [];
const painters = [];
function phaseToggles(holder) {
  if (phases.length < 2) return;
  painters.push(toggles(holder, "Phase", phases.map((p, i) => [i, p.name]), () => state.phase, (i) => {
    state.phase = i;
    listeners.forEach((f) => f());
    painters.forEach((f) => f());
  }));
}
const memoryTier = R.scenario.machine.tiers.find((t) => t.kind === "memory");
const KNOWN = ["attn", "mlp", "moe", "ssm", "norm", "embed", "head", "comm", "conv", "vision"];
const PARTS = { attn: "attention", mlp: "MLP", moe: "experts", ssm: "recurrence", norm: "norms", embed: "embedding",
  head: "output head", comm: "communication", conv: "convolution", vision: "vision" };
const partName = (role) => PARTS[role] || role;
const roleColour = (role) => `var(--c-${KNOWN.includes(role) ? role : "norm"})`;
const boundColour = (name) => `var(--b-${DATA.families[name] || "overhead"})`;
const resourceName = (name) => DATA.labels.resources[name] || name;
const several = (p) => new Set(p.rows.map((o) => o.layer)).size > 3;
const opName = (p, o) => several(p) ? o.layer + " / " + o.name : o.name;
// Ops are coloured by part of the model; where nearly all is one part (a CNN), by layer.
const oneKind = phases.every((p) => Math.max(...KNOWN.map((r) => reduce(p.rows.filter((o) => o.role === r), (o) => o.share))) > 0.95);
const layerNames = [...new Set(phases.flatMap((p) => p.rows.map((o) => o.layer)))];
const HUES = ["conv", "attn", "mlp", "head", "ssm", "embed", "moe", "vision", "comm", "norm"];
const groupName = (o) => oneKind ? o.layer : partName(o.role);
const groupColour = (o) => oneKind ? `var(--c-${HUES[layerNames.indexOf(o.layer) % HUES.length]})` : roleColour(o.role);
function opRows(p, o) {
  const out = [["time a pass", seconds(o.time_s)], ["share", percent(o.share)], ["runs", whole(o.count)],
    ["bound by", resourceName(o.bound_by)]];
  if (o.flops) out.push(["arithmetic", flop(o.flops) + (o.arithmetic ? " in " + o.arithmetic : "")]);
  for (const [tier, size] of Object.entries(o.bytes)) out.push(["through " + tier, bytes(size)]);
  if (o.intensity) out.push(["intensity", three(o.intensity) + " FLOP/B"]);
  return out;
}
