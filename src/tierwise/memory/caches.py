"""Bytes of caches on each pipeline stage's devices: what a sequence keeps, and what is there once for all of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tierwise.core.num import Num, is_zero, maximum
from tierwise.memory.stages import ByStage, layers, plus
from tierwise.models.step import Step
from tierwise.models.types import Layer

# Tokens beyond any window.
FAR = 2.0**40


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


def stage_caches(
    step: Step, rule: str, budget: Num, share: float | None = None, node: str | None = None
) -> Caches:  # fmt: skip
    """Caches of a step's sequences at its context.

    Args:
        rule: by which layers are dealt to stages. ``budget``: tokens of prompts in the largest step.
        share: of the tokens of layers without a window that those with one have a pool for (beside such layers); None
            where they hold their window and the chunk in work.
        node: whose part of them by the plan's placement (``""``: the device's main memory); None for all.
    """
    reading, whole = step.but(ahead=budget), step.but(ahead=FAR)
    pooled = share is not None and {False, True} <= {_windowed(k, step) for k in _cached(step)}
    total: list[ByStage] = [[0.0] * int(np.max(step.plan.pp)) for _ in range(4)]
    for stack in step.model.stacks:
        if stack.stream != "text" or not (stack.active or step.plan.mtp):
            continue
        for kind, counts in zip(stack.kinds, layers(stack, step.plan.pp, rule), strict=True):
            kv, state, once = _of_layer(kind, step)
            chunk = 0.0 if is_zero(budget) or pooled else _of_layer(kind, reading)[0] - kv
            if pooled and share is not None and _windowed(kind, step):
                kv = maximum(kv, share * _of_layer(kind, whole)[0])
            if node is not None:
                there = step.plan.placement.of(kind.name)
                part, held = there.share(node, "kv"), there.share(node, "state")
                kv, state, once, chunk = kv * part, state * held, once * part, chunk * part
            each = (kv, state, once, chunk)
            total = [plus(x, [n * more for n in counts]) for x, more in zip(total, each, strict=True)]
    return Caches(*total)


def _cached(step: Step) -> Iterator[Layer]:
    """Layers of text whose caches grow, at least to their window."""
    for stack in step.model.stacks:
        if stack.stream == "text" and (stack.active or step.plan.mtp):
            yield from (kind for kind, _ in stack.runs() if not is_zero(_of_layer(kind, step.but(past=FAR))[0]))


def _windowed(layer: Layer, step: Step) -> bool:
    """Whether a layer's cache stops growing."""
    far = step.but(past=FAR)
    return bool(np.all(np.asarray(_of_layer(layer, far)[0]) < _of_layer(layer, far.but(ahead=FAR))[0]))


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
