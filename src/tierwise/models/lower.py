"""From a model and a step to the program of one device: no prices, no schedule."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from tierwise.core.num import Num
from tierwise.models.blocks.common import collective
from tierwise.models.lora import lora_ops
from tierwise.models.step import Step
from tierwise.models.types import Block, Model, Stack
from tierwise.program.placement import placed
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.types import Op

_STREAMS = {"prefill": ("text",), "decode": ("text",), "encode": ("encode",), "vision": ("vision",),
            "audio": ("audio",)}  # fmt: skip


def lower(step: Step) -> Program:
    """The program of one pass over the stacks that run in ``step.phase``, on one device.

    Pipeline parallelism appears as the hand-overs between stages: the program is that of a whole pass over all layers.

    Returns:
        Bodies of the blocks around the layers, and for each stack a repeat of its distinct layers in their pattern.
    """
    items: list[Body | Repeat] = []
    for stack in running(step.model, step.phase, step.plan.mtp):
        prefix = "" if len(step.model.stacks) == 1 or stack.stream == "text" else stack.name + "."
        before = tuple(op for b in stack.before for op in b.ops(step))
        if before:
            items.append(Body(prefix + "input", before))
        kinds = tuple(
            Body(prefix + k.name, tuple(_named(op for b in k.blocks for op in _work(step, b)))) for k in stack.kinds
        )
        items.append(Repeat(prefix + "layers", kinds, stack.pattern, carries={"x": 1, "y": 1}))
        after = tuple(op for b in stack.after for op in b.ops(step))
        if after:
            items.append(Body(prefix + "output", after))
    handover = _handover(step)
    if handover and items:
        items.append(Repeat("stages", (Body("pipeline", tuple(handover)),), count=step.plan.pp - 1.0))
    return placed(Program(tuple(items)), step.plan.placement)


def _work(step: Step, block: Block) -> Iterator[Op]:
    """The ops of a block, and of what adapters add to it."""
    yield from block.ops(step)
    yield from lora_ops(step, block)


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
