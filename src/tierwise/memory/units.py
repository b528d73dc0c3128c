"""A network of convolutions as a graph: which reads what, for memory that depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from tierwise.core.numerics import Format
from tierwise.models.blocks.conv import Conv
from tierwise.models.family import stack
from tierwise.models.step import Step
from tierwise.models.types import Layer, Model
from tierwise.program.types import Op
from tierwise.scenario.types import Plan

IMAGE = -1


@dataclass(frozen=True)
class Unit:
    """A convolution and what it reads; without one, the sum of what it reads.

    Attributes:
        reads: numbers of units before it, joined along channels; :data:`IMAGE`.
    """

    conv: Conv | None
    reads: tuple[int, ...]


def network(units: Sequence[Unit], tokens: float, form: Format) -> Model:
    """The convolutions as a model; its stack counts positions of the grid that their scales refer to."""
    convs = tuple(u.conv for u in units if u.conv is not None)
    tower = stack("vision", [Layer("convolutions", convs)], stream="vision", tokens=tokens)
    return Model("convolutions", "convolutions", convs[-1].c_out, 0.0, (tower,), task="classify", formats={"*": form})


def convolutions(units: Sequence[Unit], tokens: float, form: Format) -> list[Op | None]:
    """The op of each unit for one image; None for a sum."""
    step = Step(network(units, tokens, form), Plan(activations=form), 1.0, tokens, 0.0, "vision")
    return [next(iter(u.conv.ops(step))) if u.conv is not None else None for u in units]


def operators(units: Sequence[Unit], tokens: float, form: Format) -> list[Op]:
    """The ops with tensors named for the unit that writes them, sums made by the convolution just before them."""
    at: dict[int, str] = {IMAGE: "image"}
    out: list[Op] = []
    for i, (unit, op) in enumerate(zip(units, convolutions(units, tokens, form), strict=True)):
        if op is None:
            last = out[-1]
            more = tuple(replace(last.writes[0], name=at[j]) for j in unit.reads if j != i - 1)
            out[-1] = replace(last, reads=(*last.reads, *more))
            at[i] = at[i - 1]
            continue
        at[i] = op.name
        mine, weights = (tuple(o for o in op.reads if (o.role == "act") is side) for side in (True, False))
        each = [replace(mine[0], name=at[j], elements=mine[0].elements / len(unit.reads)) for j in unit.reads]
        out.append(replace(op, reads=(*each, *weights), writes=(replace(op.writes[0], name=op.name),)))
    return out
