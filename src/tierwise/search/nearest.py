"""What it takes to run a model that fits none of the machines asked about."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tierwise.core.numerics import fmt
from tierwise.machines import several
from tierwise.search.engines import WIDEST, engines, stored
from tierwise.search.family import Family
from tierwise.search.question import Question

# Formats of weights that serving engines store on every GPU, from the widest to the narrowest.
NARROWER = ("fp8", "int4")


@dataclass(frozen=True)
class Need:
    """The least that holds a model.

    Attributes:
        device: for people; ``devices``: how many of them; ``weights``: in which format, "" for the checkpoint's own.
        room: the weights fit as asked, but nothing beside them: a request's KV, or a step of so many tokens.
    """

    device: str
    devices: int
    weights: str = ""
    room: bool = False


def needs(question: Question, families: tuple[Family, ...]) -> tuple[Need, ...]:
    """For each kind of machine, how many of it hold the weights, and which narrower format the ones asked about do.

    Divisions of other lengths and budgets are not looked at: where weights fit and still nothing runs, that is said.
    """
    out: list[Need] = []
    for family in families:
        if family.first or family.weights is not None or not family.own or family.engine != families[0].engine:
            continue
        title, memory = family.system.device.title, question.freedom.memory
        if len(engines(family.model, family.system, memory)[0].tp):
            out.append(Need(title, family.most, room=True))
            continue
        for name in NARROWER:
            model = stored(family.model, fmt(name))
            if len(engines(model, family.system, memory)[0].tp):
                out.append(Need(title, family.most, name))
                break
        out += [Need(title, n) for n in [_enough(family, memory)] if n]
    return tuple(out)


def _enough(family: Family, memory: float) -> int:
    """Devices of that kind whose memory holds the weights, 0 where no widest engine does."""
    for i in range(1, int(np.log2(WIDEST)) + 1):
        more = several(family.system, 2**i)
        if more.count > family.system.count and len(engines(family.model, more, memory)[0].tp):
            return more.count
    return 0
