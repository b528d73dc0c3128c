"""Bytes of caches on each pipeline stage's devices: what a sequence keeps, and what is there once for all of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tierwise.core.num import Num, is_zero
from tierwise.memory.stages import ByStage, layers, plus
from tierwise.models.step import Step
from tierwise.models.types import Layer
from tierwise.program.placement import Placement


@dataclass(frozen=True)
class Caches:
    """Bytes on a device of each stage.

    Attributes:
        kv, state: of one sequence: cache and recurrent state.
        once: kept once for all sequences (a shared prefix).
        chunk: what layers with a window hold of the chunk of a prompt in work, beside the window that every token of it
            looks back at. A step reads so many tokens of prompts in all, so it is there once.
    """

    kv: ByStage
    state: ByStage
    once: ByStage
    chunk: ByStage

    @property
    def each(self) -> ByStage:
        """Bytes that one sequence adds."""
        return plus(self.kv, self.state)

    @property
    def shared(self) -> ByStage:
        """Bytes that do not follow from how many sequences there are."""
        return plus(self.once, self.chunk)

    def scaled(self, factor: Num) -> Caches:
        """So many times as large."""
        return Caches(*([x * factor for x in values] for values in (self.kv, self.state, self.once, self.chunk)))

    def at_home(self, placement: Placement) -> Caches:
        """What of them lies in the device's own memory."""
        kv, state = placement.at_home("kv"), placement.at_home("state")
        scaled = ((self.kv, kv), (self.state, state), (self.once, kv), (self.chunk, kv))
        return Caches(*([x * share for x in values] for values, share in scaled))


def stage_caches(step: Step, rule: str, budget: Num) -> Caches:
    """Caches of a step's sequences at its context.

    Args:
        rule: by which layers are dealt to stages. ``budget``: tokens of prompts in the largest step.
    """
    reading = step.but(ahead=budget)
    total: list[ByStage] = [[0.0] * int(np.max(step.plan.pp)) for _ in range(4)]
    for stack in step.model.stacks:
        if stack.stream != "text" or not (stack.active or step.plan.mtp):
            continue
        for kind, counts in zip(stack.kinds, layers(stack, step.plan.pp, rule), strict=True):
            kv, state, once = _of_layer(kind, step)
            chunk = 0.0 if is_zero(budget) else _of_layer(kind, reading)[0] - kv
            each = (kv, state, once, chunk)
            total = [plus(x, [n * more for n in counts]) for x, more in zip(total, each, strict=True)]
    return Caches(*total)


def _of_layer(layer: Layer, step: Step) -> tuple[Num, Num, Num]:
    """(KV, fixed state, stored once) bytes of a layer."""
    kv: Num = 0.0
    state: Num = 0.0
    once: Num = 0.0
    for block in layer.blocks:
        for s in block.state(step):
            size = s.elements * s.format.bytes
            kv, state = (kv + size, state) if s.role == "kv" else (kv, state + size)
            once = once + s.once * s.format.bytes
    return kv, state, once
