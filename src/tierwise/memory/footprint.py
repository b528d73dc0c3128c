"""What is in memory on one device, by role, and how much fits."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, ceil_div, maximum, scalar
from tierwise.machines.types import System
from tierwise.models.blocks.ends import Head
from tierwise.models.lower import state_bytes
from tierwise.models.step import LINEAR_ROLES, Step
from tierwise.models.types import Block, Model, Stack, Weight
from tierwise.program.program import Program
from tierwise.program.types import Op, Operand
from tierwise.scenario.types import Plan


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest device.

    Attributes:
        weights: by role.
        kv: KV cache of all sequences at their longest. ``state``: recurrent state.
        activations: peak of live activations over prefill and decode.
        reserve: what the runtime keeps.
        capacity: what the device has.
        per_sequence: KV and state bytes one sequence adds at its longest.
    """

    weights: Mapping[str, Num]
    kv: Num
    state: Num
    activations: Num
    reserve: Num
    capacity: float
    per_sequence: Num

    @property
    def parts(self) -> dict[str, Num]:
        """Everything by role, in bytes."""
        weights = {f"weights: {role}": size for role, size in self.weights.items()}
        return {**weights, "KV cache": self.kv, "recurrent state": self.state, "activations": self.activations,
                "runtime reserve": self.reserve}  # fmt: skip

    @property
    def weight_bytes(self) -> Num:
        return sum(self.weights.values(), 0.0)

    @property
    def peak(self) -> Num:
        """Bytes in use at the worst moment."""
        return self.weight_bytes + self.kv + self.state + self.activations + self.reserve

    @property
    def fits(self) -> bool | NDArray[np.bool_]:
        """Whether it all fits; an array of answers for an array of configurations."""
        answer = np.asarray(self.peak) <= self.capacity
        return answer if answer.ndim else bool(answer)


def weight_bytes(model: Model, plan: Plan) -> dict[str, Num]:
    """Bytes of weights on one device, by role: the fullest pipeline stage, formats and sharding applied."""
    step = Step(model, plan, 1.0, 1.0, 0.0, "decode")
    out: dict[str, Num] = {}
    for stack in model.stacks:
        if not stack.active and not plan.mtp:
            continue
        stages = plan.pp if stack.stream == "text" else 1.0
        depth = float(max(stack.depth, 1))
        held = ceil_div(depth, stages) / depth
        for kind, n in stack.runs():
            for w in kind.weights():
                _add(out, w.role, held * (n / kind.copies) * _local(step, w))
        for role, size in _ends(step, stack).items():
            _add(out, role, size)
    return out


def _ends(step: Step, stack: Stack) -> dict[str, Num]:
    """Weights before and after the layers: the first stage holds one end, the last the other."""

    def total(blocks: tuple[Block, ...]) -> dict[str, Num]:
        out: dict[str, Num] = {}
        for block in blocks:
            for w in block.weights():
                _add(out, w.role, _local(step, w))
            if isinstance(block, Head) and block.tied and not np.all(np.asarray(step.plan.pp) <= 1):
                # A tied head on another stage than the embedding needs its own copy.
                _add(out, "head", block.rows * block.width * step.weight("head").bytes / step.plan.tp)
        return out

    first, last = total(stack.before), total(stack.after)
    one = np.asarray(step.plan.pp) <= 1
    sizes = [sum(x.values(), 0.0) for x in (first, last)]
    out: dict[str, Num] = {}
    for x, mine, other in ((first, sizes[0], sizes[1]), (last, sizes[1], sizes[0])):
        keep = np.where(one | (np.asarray(mine) >= np.asarray(other)), 1.0, 0.0)
        for role, size in x.items():
            _add(out, role, scalar(size * keep))
    return out


def _local(step: Step, w: Weight) -> Num:
    """Bytes of a weight on one device."""
    plan = step.plan
    if w.split == "tp":
        pieces = w.elements / w.grain if not np.all(np.asarray(w.grain) == 0) else None
        elements = w.elements / plan.tp if pieces is None else ceil_div(pieces, plan.tp) * w.grain
    elif w.split == "ep":
        local = ceil_div(w.elements / w.grain, plan.ep) * w.grain
        elements = local / maximum(plan.tp / plan.ep, 1.0)
    else:
        elements = w.elements
    density = step.density(w.role) if w.role in LINEAR_ROLES else 1.0
    return elements * density * step.weight(w.role).bytes


def _add(out: dict[str, Num], role: str, size: Num) -> None:
    out[role] = out.get(role, 0.0) + size


def live_activations(graph: Program) -> Num:
    """Peak bytes of activations alive at once, over the ops of a pass.

    A tensor lives from the op that writes it to the last op of its layer that reads it; the residual stream
    lives throughout. Score matrices of unfused attention live inside their op.
    """
    peak: Num = 0.0
    for segment in graph.segments:
        last: dict[str, int] = {}
        for i, op in enumerate(segment.ops):
            for o in (*op.reads, *op.writes):
                if o.role == "act":
                    last[o.name] = i
        alive: dict[str, Operand] = {}
        for i, op in enumerate(segment.ops):
            for o in (*op.reads, *op.writes):
                if o.role == "act":
                    known = alive.get(o.name)
                    if known is None or not _bigger(known, o):
                        alive[o.name] = o
            now = sum((o.bytes for o in alive.values()), 0.0) + _scores(op)
            if i == 0 and "x" not in alive and op.writes:
                now = now + op.writes[0].bytes
            peak = maximum(peak, now)
            alive = {name: o for name, o in alive.items() if last[name] > i or name == "x"}
    return peak


def _bigger(a: Operand, b: Operand) -> bool:
    return bool(np.all(np.asarray(a.bytes) >= np.asarray(b.bytes)))


def _scores(op: Op) -> Num:
    """The score matrix and its softmax, when attention writes them to memory."""
    dims = op.dims
    if op.options.get("flash", True) or "columns" not in dims:
        return 0.0
    element = op.writes[0].format.bytes
    return 2.0 * dims["batch"] * dims["heads"] * dims["q"] * dims["columns"] * element


def footprint(
    model: Model, system: System, plan: Plan, weights: Mapping[str, Num], steps: list[tuple[Step, Program]], final: Step
) -> Memory:
    """Memory of the fullest device.

    Args:
        weights: from :func:`weight_bytes`.
        steps: the passes that run, with their graphs.
        final: the last decode step, when caches are longest.
    """
    device = system.device
    held: Num = 1.0
    text = [s for s in model.stacks if s.stream == "text"]
    if text and text[0].depth:
        held = ceil_div(float(text[0].depth), plan.pp) / float(text[0].depth)
    kv, state, once = (x * held for x in state_bytes(final))
    # Every micro-batch of a pipeline keeps its cache on every stage.
    sequences = final.seqs * plan.pp
    live: Num = 0.0
    for _, graph in steps:
        live = maximum(live, live_activations(graph))
    return Memory(
        weights=weights,
        kv=kv * sequences + once,
        state=state * sequences,
        activations=live,
        reserve=device.reserve + plan.reserve * device.memory.capacity,
        capacity=device.memory.capacity,
        per_sequence=kv + state,
    )
