"""Steps that decode beside chunks of prompts, where ops do not run one after the other.

While a collective runs, attention can run beside it: what the rows of a step leave uncovered, its sequences cover,
whether they decode or are chunks of prompts. How much that is follows from the rows and from the seconds of all
sequences together. Decoding sequences and chunks cannot cover the same moment twice, so what each takes off a step of
its own does not add up.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.steps.cost import StepCost
from tierwise.steps.kinds import Names
from tierwise.steps.price import EngineOn, price_step
from tierwise.steps.priced import scaled
from tierwise.steps.state import StepState

Floats = NDArray[np.float64]

# Seconds of sequences at which steps are played, over those from which on more of them cover no more: close where the
# one turns into the other.
LEVELS = np.array([0.0, 0.25, 0.5, 0.75, 0.875, 0.9375, 1.0, 1.0625, 1.125, 1.25, 1.5, 2.0, 3.0, 6.0, 16.0])
# Columns of ``Reordered.covering`` before those of the levels.
SCALE, JOULES, WORKING, FIRST = 0, 1, 2, 3
# Cached tokens of the sequences whose ops stand for all: so many that they take as long say how their seconds divide
# among layers and resources.
_CONTEXTS = 2.0 ** np.arange(0.0, 21.0, 2.0)


@dataclass(frozen=True)
class Reordered:
    """What tables of steps need besides where ops do not run one after the other.

    Attributes:
        decode: seconds of decoding sequences one op after the other, of the axes of the table of decode steps (a, b).
        alone: of a step that is one chunk and nothing else, of the axes of the table of chunks (a, b, 5).
        covering: by tokens in the step (budget + 1, 3 + levels): the scale of the seconds of its sequences; joules to
            be taken off; seconds in which its rows work; then seconds to be taken off at each of ``LEVELS``.
        once: seconds of launches that each kind of sequence brings, of which a step has those of one alone.
        active: watts of the devices that a step runs on while they work, beside what they draw all the time.
    """

    decode: Floats
    alone: Floats
    covering: Floats
    once: float
    active: float


def covering(on: EngineOn, rows: Floats, time: Floats, joules: Floats, once: float) -> Floats:
    """The table of :class:`Reordered` at so many rows of a rank (n,), of one device.

    Args:
        time, joules: what the table by tokens says of them (n,).
        once: see :class:`Reordered`.
    """
    bare, k = replace(on, graphs=0), on.kinds
    step = price_step(bare, StepState.decoding(rows[:, None], _CONTEXTS))
    by_context, heads = _seconds(step, k.decode), _seconds(step, k.heads)[:, :1]

    def off(seconds: Floats) -> Floats:
        context = np.stack([np.interp(s, x, _CONTEXTS) for s, x in zip(seconds, by_context, strict=True)])
        step = price_step(bare, StepState.decoding(rows[:, None], context))
        played = np.asarray(_with(step, k.decode, seconds / _seconds(step, k.decode)).device)
        return np.asarray(time[:, None] + heads + seconds - once - played)

    most = 100.0 * np.max(by_context[:, -1:] + time[:, None])
    ends = off(np.array([[0.0, most]]) + 0.0 * time[:, None])
    # Where sequences cover nothing, any scale says so.
    scale = np.maximum(ends[:, 1] - ends[:, 0], 1e-3 * time)
    spent = np.asarray(step.spent(on.actions, k.tokens)) + 0.0 * heads
    work = step.parts * sum((p.segment.repeat * p.cost.busy for p in step.on_device
                             if (p.segment.name, p.op.name) in k.tokens and p.op.kind != "copy"), 0.0)  # fmt: skip
    columns = (scale[:, None], joules[:, None] - spent, work + 0.0 * heads, off(scale[:, None] * LEVELS))
    return np.concatenate(columns, axis=-1)


def _seconds(step: StepCost, names: Names) -> Floats:
    """Of some ops of a step, one after the other (n, 1)."""
    mine = (p.time for p in step.on_device if (p.segment.name, p.op.name) in names)
    return np.asarray(step.parts * sum(mine, 0.0) + 0.0 * np.asarray(step.state.decodes))


def _with(step: StepCost, names: Names, factor: Floats) -> StepCost:
    """A step some of whose ops take so many times as long."""
    out = replace(step)
    out.__dict__["on_device"] = tuple(
        replace(p, cost=scaled(p.cost, factor)) if (p.segment.name, p.op.name) in names else p for p in step.on_device
    )
    return out
