"""Steps that decode beside chunks of prompts, where ops do not run one after the other.

While a collective runs, attention can run beside it: what the rows of a step leave uncovered, its sequences cover,
whether they decode or are chunks of prompts. How much that is follows from the rows and from the seconds of all
sequences together. Decoding sequences and chunks cannot cover the same moment twice, so what each takes off a step of
its own does not add up.

Micro-batches that run beside each other share the engines and the memory too: how much is covered then also follows
from what attention draws on both. Decoding sequences come first, so that they cover first; chunks of prompts, which
draw otherwise, cover what is left.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.steps.cost import StepCost
from tierwise.steps.energy import works
from tierwise.steps.kinds import Names
from tierwise.steps.price import EngineOn, price_step
from tierwise.steps.priced import PricedOp, scaled
from tierwise.steps.state import StepState

Floats = NDArray[np.float64]

# Seconds of sequences at which steps are played, over those from which on more of them cover no more: close where the
# one turns into the other.
LEVELS = np.array([0.0, 0.0625, 0.125, 0.1875, 0.25, 0.5, 0.75, 0.875, 0.9375, 1.0, 1.0625, 1.125, 1.25, 1.5, 2.0, 3.0,
                   6.0, 16.0])  # fmt: skip
# Draws on the engines, and on the memory, at which steps are played of micro-batches that share them.
DRAWN = np.linspace(0.0, 1.0, 5)
# Columns of ``Reordered.covering`` before those of the levels, and of ``Reordered.work``.
SCALE, FIRST = 0, 1
JOULES, WORKING = 0, 1
# Cached tokens of the sequences whose ops stand for all: so many that they take as long say how their seconds divide
# among layers and resources.
_CONTEXTS = 2.0 ** np.arange(0.0, 21.0, 2.0)


@dataclass(frozen=True)
class Reordered:
    """What tables of steps need besides where ops do not run one after the other.

    Attributes:
        decode: of decoding sequences one op after the other, of the axes of the table of decode steps (a, b, 3):
            seconds, and of them those in which they keep the engines and the memory busy.
        heads: as of the tables of steps, of the parts that a step is divided into (max_seqs + 1, 6).
        alone: of a step that is one chunk and nothing else, of the axes of the table of chunks (a, b, 6).
        work: by tokens in the step (budget + 1, 2): joules to be taken off; seconds in which its rows work.
        rows: tokens in the step (n,) that ``covering`` is by. ``covering``: (n, 1 + draws² x levels): the scale of the
            seconds of its sequences, then seconds to be taken off by draw on the engines, on the memory, and level.
        draws: how many of either there are; 1 where micro-batches do not share a device.
        once: of launches that each kind of sequence brings, of which a step has those of one alone (3,): as ``decode``.
        active: watts of the devices that a step runs on while they work, beside what they draw all the time.
    """

    decode: Floats
    heads: Floats
    alone: Floats
    work: Floats
    rows: Floats
    covering: Floats
    draws: int
    once: Floats
    active: float


def work(on: EngineOn, rows: Floats, joules: Floats) -> Floats:
    """``work`` of :class:`Reordered` at so many rows of a rank (n,), of one device.

    Args:
        joules: what the table by tokens says of them (n,).
    """
    step = price_step(replace(on, graphs=0), StepState(rows))
    spent = np.asarray(step.spent(on.actions, on.kinds.tokens)) + 0.0 * rows
    mine = (p for p in step.on_device if (p.segment.name, p.op.name) in on.kinds.tokens and works(p.op))
    working = step.parts * sum((p.segment.repeat * p.cost.busy for p in mine), 0.0 * rows)
    return np.stack([joules - spent, np.asarray(working)], axis=-1)


def covering(on: EngineOn, rows: Floats, time: Floats, once: float) -> Floats:
    """``covering`` of :class:`Reordered` at so many rows of a rank (n,), of one device.

    Args:
        time: what the table by tokens says of them (n,). ``once``: seconds of :class:`Reordered`.
    """
    bare, k = replace(on, graphs=0), on.kinds
    step = price_step(bare, StepState.decoding(rows[:, None], _CONTEXTS))
    by_context = _seconds(step, k.decode)
    heads = _seconds(step, k.heads)[:, :1] + on.fixes.gap_sequence * rows[:, None]

    def off(seconds: Floats, draws: tuple[Floats, ...] = ()) -> Floats:
        context = np.stack([np.interp(s, x, _CONTEXTS) for s, x in zip(seconds, by_context, strict=True)])
        step = price_step(bare, StepState.decoding(rows[:, None], context))
        played = np.asarray(_with(step, k.decode, seconds / _seconds(step, k.decode), draws).device)
        return np.asarray(time[:, None] + heads + seconds - once - played)

    shared = on.parts > 1
    *draws, level = (x.ravel() for x in np.meshgrid(DRAWN, DRAWN, LEVELS, indexing="ij")) if shared else (LEVELS,)
    none = tuple(np.zeros(2) for _ in draws)
    most = 100.0 * np.max(by_context[:, -1:] + time[:, None])
    ends = off(np.array([[0.0, most]]) + 0.0 * time[:, None], none)
    # Where sequences cover nothing, any scale says so.
    scale = np.maximum(ends[:, 1] - ends[:, 0], 1e-3 * time)
    return np.concatenate([scale[:, None], off(scale[:, None] * level, tuple(draws))], axis=-1)


def _seconds(step: StepCost, names: Names) -> Floats:
    """Of some ops of a step, one after the other (n, 1)."""
    mine = (p.time for p in step.on_device if (p.segment.name, p.op.name) in names)
    return np.asarray(step.parts * sum(mine, 0.0) + 0.0 * np.asarray(step.state.decodes))


def _with(step: StepCost, names: Names, factor: Floats, draws: tuple[Floats, ...]) -> StepCost:
    """A step some of whose ops take so many times as long; attention among them draws so much on the engines and on
    the memory, where that is given."""
    memory = step.target.memory.name

    def changed(p: PricedOp) -> PricedOp:
        if (p.segment.name, p.op.name) not in names:
            return p
        cost = scaled(p.cost, factor)
        if draws and p.op.kind == "attention":
            x, y = draws
            busy = {"compute": x * cost.time, memory: y * cost.time}
            cost = replace(cost, overlapped=busy, serial={"latency": (1.0 - np.maximum(x, y)) * cost.time})
        return replace(p, cost=cost)

    out = replace(step)
    out.__dict__["on_device"] = tuple(changed(p) for p in step.on_device)
    return out
