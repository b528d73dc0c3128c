"""Layers that are told apart from their like, such as those that another node holds and computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tierwise.models.facts import facts_of
from tierwise.models.types import Layer, Model, Stack
from tierwise.program.placement import MARK


def decoder(model: Model) -> Stack | None:
    """The stack that decodes, whose layers are counted from 0; None where there is none."""
    return next((s for s in model.stacks if s.stream == "text" and s.active), None)


def marked(model: Model, marks: Mapping[int, str]) -> Model:
    """The model whose layers of these numbers (in the stack that decodes) have a mark at the end of their names.

    A mark replaces one that the layer had. Layers keep their blocks: only where a placement puts them differs
    (:class:`tierwise.program.placement.Placement`).
    """
    stack = decoder(model)
    if stack is None or not marks:
        return model
    kinds: list[Layer] = []
    place: dict[tuple[str, str], int] = {}
    pattern = []
    for number, index in enumerate(stack.pattern):
        kind = stack.kinds[index]
        base, _, old = kind.name.partition(MARK)
        mark = marks.get(number, old)
        if (base, mark) not in place:
            place[base, mark] = len(kinds)
            kinds.append(replace(kind, name=f"{base}{MARK}{mark}" if mark else base))
        pattern.append(place[base, mark])
    changed = replace(stack, kinds=tuple(kinds), pattern=tuple(pattern))
    return replace(model, stacks=tuple(changed if s is stack else s for s in model.stacks))


def experts_of(stack: Stack) -> list[int]:
    """Layers that have routed experts, by number."""
    routed = [any(facts_of(b).experts is not None for b in k.blocks) for k in stack.kinds]
    return [i for i, kind in enumerate(stack.pattern) if routed[kind]]


def spread(numbers: list[int], depth: int, stages: int, count: int) -> list[int]:
    """The first ``count`` of some layers, of a pipeline as many as can be of each stage."""
    if stages <= 1:
        return numbers[:count]
    stage = [min(i * stages // depth, stages - 1) for i in range(depth)]
    queues = [[n for n in numbers if stage[n] == s] for s in range(stages)]
    out: list[int] = []
    while len(out) < count and any(queues):
        out += [q.pop(0) for q in queues if q][: count - len(out)]
    return sorted(out)
