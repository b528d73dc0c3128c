"""From a model and a step to the op graph of one device: no prices, no schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tierwise.core.num import Num
from tierwise.models.blocks.common import collective
from tierwise.models.step import Step
from tierwise.models.types import Model, Stack
from tierwise.program.types import Graph, Op, Segment

_STREAMS = {"prefill": ("text",), "decode": ("text",), "encode": ("encode",), "vision": ("vision",),
            "audio": ("audio",)}  # fmt: skip


def lower(step: Step) -> Graph:
    """The ops of one pass over the stacks that run in ``step.phase``, on one device.

    Pipeline parallelism does not appear here: the graph is that of a whole pass over all layers.

    Returns:
        A graph whose segments are the distinct layers (with their number of executions) and the blocks
        around them; ``order`` is the order of execution.
    """
    segments: list[Segment] = []
    order: list[int] = []
    for stack in running(step.model, step.phase, step.plan.mtp):
        base = len(segments)
        prefix = "" if len(step.model.stacks) == 1 or stack.stream == "text" else stack.name + "."
        before = tuple(op for b in stack.before for op in b.ops(step))
        if before:
            segments.append(Segment(prefix + "input", 1.0, before))
            order.append(len(segments) - 1)
        base = len(segments)
        for kind, n in stack.runs():
            ops = tuple(_named(op for b in kind.blocks for op in b.ops(step)))
            segments.append(Segment(prefix + kind.name, n, ops))
        used = sorted(set(stack.pattern))
        order += [base + used.index(i) for i in stack.pattern]
        after = tuple(op for b in stack.after for op in b.ops(step))
        if after:
            segments.append(Segment(prefix + "output", 1.0, after))
            order.append(len(segments) - 1)
    handover = _handover(step)
    if handover and order:
        segments.append(Segment("pipeline", step.plan.pp - 1.0, tuple(handover)))
        order.append(len(segments) - 1)
    return Graph(tuple(segments), tuple(order))


def _handover(step: Step) -> list[Op]:
    """What a pipeline stage sends the next: the residual stream, divided over the tensor-parallel group."""
    size = step.tokens * step.model.hidden / step.plan.tp
    stride = step.plan.tp * step.plan.dp
    return collective(step, "pipeline.send", "send", size, step.plan.pp, "x", stride=stride)


def running(model: Model, phase: str, mtp: bool = False) -> Iterator[Stack]:
    """The stacks that run in a phase."""
    for stack in model.stacks:
        if stack.stream in _STREAMS[phase] and (stack.active or mtp):
            yield stack


def _named(ops: Iterator[Op]) -> Iterator[Op]:
    """Ops with unique names inside their layer, so that dependencies can point at them."""
    seen: dict[str, int] = {}
    for op in ops:
        n = seen.get(op.name, 0)
        seen[op.name] = n + 1
        yield op if n == 0 else replace(op, name=f"{op.name}#{n + 1}")


def state_bytes(step: Step) -> tuple[Num, Num, Num]:
    """(KV bytes per sequence, fixed state bytes per sequence, bytes stored once a batch), all layers, one device."""
    kv: Num = 0.0
    state: Num = 0.0
    once: Num = 0.0
    for stack in step.model.stacks:
        if stack.stream != "text" or not (stack.active or step.plan.mtp):
            continue
        for kind, n in stack.runs():
            for block in kind.blocks:
                for s in block.state(step):
                    if s.role == "kv":
                        kv = kv + n * s.elements * s.format.bytes
                    else:
                        state = state + n * s.elements * s.format.bytes
                    once = once + n * s.once * s.format.bytes
    return kv, state, once
