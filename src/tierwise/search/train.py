"""The best layout to train a model on so many devices: the whole legal space as arrays.

Degrees, micro-batch, interleaving, recomputation, sharding and sequence parallelism are varied together. What a
micro-batch costs depends on a few of them only and is priced once for each combination of these; the rest is
arithmetic on arrays. Layouts that do not fit in memory are dropped before times are ranked, and the fastest ones are
played event by event.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField
from tierwise.core.num import Num, num
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.schedule import order
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand, Order, Timeline
from tierwise.training.layout import RECOMPUTE, Layout, divisors, legal
from tierwise.training.recipe import Framework
from tierwise.training.step import TrainStep, composed, train_step
from tierwise.training.work import Piece, Work, decoder, work_of

# Layouts of one evaluation: rows that stay in a cache.
CHUNK = 1 << 14
FINALISTS = 5
# What decides what a micro-batch costs on a device.
_PRICED = ("tp", "cp", "ep", "micro_batch", "sequence_parallel")


@dataclass(frozen=True)
class Space:
    """What may be varied; an empty field means whatever is legal.

    Attributes:
        fixed: fields of :class:`Layout` that are given.
        most_micro_batch: sequences of a micro-batch at most.
    """

    fixed: Mapping[str, float]
    most_micro_batch: float = 64.0


@dataclass(frozen=True)
class Candidate:
    """A layout of the answer: its step, and how far playing it differs from the sum that ranked it."""

    step: TrainStep
    played: float


@dataclass(frozen=True)
class TrainPlan:
    """Layouts by time, the fastest first.

    Attributes:
        candidates: the fastest that fit, of different degrees.
        legal, fitting: how many layouts were legal, and how many of them fit.
        tightest: the legal layout that needs least memory, when none fits.
        seconds: that the search took.
    """

    candidates: tuple[Candidate, ...]
    legal: int
    fitting: int
    tightest: TrainStep | None
    seconds: float


def plan_training(
    model: Model, system: System, how: Framework, devices: float, global_batch: float, seq: float, space: Space
) -> TrainPlan:
    """The fastest layouts that fit.

    Raises:
        BadField: no layout is legal: with what is in the way.
    """
    began = time.perf_counter()
    text = decoder(model)
    heads = min(
        (float(np.asarray(b.facts().heads)) for k in text.kinds for b in k.blocks if b.facts().heads), default=1.0
    )
    experts = max((float(np.asarray(b.facts().experts or 0.0)) for k in text.kinds for b in k.blocks), default=0.0)
    found = 0
    fitting = 0
    best: list[tuple[float, Layout]] = []
    tight: tuple[float, Layout] | None = None
    works = _Works(model, system, how)
    for some in _space(devices, global_batch, seq, text.depth, experts, system.per_node, space, how.most_zero):
        ok = legal(some, float(text.depth), heads, system.per_node)
        if not ok.any():
            continue
        x = some.at(ok)
        found += int(ok.sum())
        step = composed(model, system, x, how, works.of(x))
        peak = np.broadcast_to(step.memory.peak, ok.sum())
        fits = peak <= step.memory.capacity
        fitting += int(fits.sum())
        least = int(np.argmin(peak))
        if tight is None or peak[least] < tight[0]:
            tight = float(peak[least]), x.at(least)
        if fits.any():
            seconds = np.where(fits, np.broadcast_to(step.time, ok.sum()), np.inf)
            for i in np.argsort(seconds, kind="stable")[: 4 * FINALISTS]:
                if np.isfinite(seconds[i]):
                    best.append((float(seconds[i]), x.at(int(i))))
    if tight is None:
        raise BadField(
            "layout",
            "devices",
            devices,
            "a number that tp x pp x dp x cp can make up for "
            f"{heads:.0f} heads, {text.depth} layers and a global batch of {global_batch:.0f}",
        )
    steps = [train_step(model, system, x, how) for x in _different(best)]
    candidates = tuple(Candidate(s, confirmed(s)) for s in steps)
    least_step = None if candidates else train_step(model, system, tight[1], how)
    return TrainPlan(candidates, found, fitting, least_step, time.perf_counter() - began)


class _Works:
    """What micro-batches cost, priced once for each combination of what decides it."""

    def __init__(self, model: Model, system: System, how: Framework) -> None:
        self.model, self.system, self.how = model, system, how

    def of(self, x: Layout) -> Work:
        shape = np.shape(x.tp)
        keys = np.stack([np.broadcast_to(getattr(x, name), shape) for name in _PRICED])
        unique, back = np.unique(keys, axis=1, return_inverse=True)
        one = replace(x.at(0), dp=1.0, pp=1.0, **{n: unique[i] for i, n in enumerate(_PRICED)})
        # Experts are shared by data-parallel ranks: as many as their degree asks for.
        one = replace(one, dp=np.maximum(unique[2] / unique[0], 1.0))
        work = work_of(self.model, self.system, one, self.how)
        return _picked(work, np.asarray(back).reshape(-1), unique.shape[1])


def _picked(work: Work, at: NDArray[np.int64], n: int) -> Work:
    def pick(x: Num) -> Num:
        return np.broadcast_to(x, n)[at]

    def piece(p: Piece) -> Piece:
        values = {f.name: getattr(p, f.name) for f in fields(p)}
        for name, value in values.items():
            if isinstance(value, Mapping):
                values[name] = {k: pick(v) for k, v in value.items()}
            else:
                values[name] = tuple(map(pick, value)) if isinstance(value, tuple) else pick(value)
        return Piece(**values)

    return Work(
        {k: piece(p) for k, p in work.ends.items()}, tuple((piece(p), c) for p, c in work.layers), pick(work.logits)
    )


def _space(
    devices: float,
    batch: float,
    seq: float,
    depth: int,
    experts: float,
    per_node: float,
    space: Space,
    most_zero: float = 3.0,
) -> Iterator[Layout]:
    """Every layout that could be, in chunks."""
    fixed = space.fixed
    # With stages, gradients and parameters would be divided anew for every micro-batch.
    sharded = [z for z in (0.0, 1.0, 2.0, 3.0) if z <= most_zero]

    def choices(name: str, values: Sequence[float]) -> list[float]:
        return [fixed[name]] if name in fixed else list(values)

    tps = choices("tp", [t for t in _divisors(devices) if t <= per_node])
    cps = choices("cp", [c for c in (1.0, 2.0, 4.0, 8.0, 16.0) if c == 1.0 or seq / c >= 4096.0])
    rows = [
        (tp, pp, cp, dp, ep, v, mb, sp, zero, again)
        for tp in tps
        for pp in choices("pp", [p for p in _divisors(devices / tp) if p <= depth])
        for cp in cps
        for dp in [devices / (tp * pp * cp)]
        if dp >= 1 and dp == int(dp) and fixed.get("dp", dp) == dp
        for ep in choices("ep", [1.0] if not experts else [e for e in _divisors(experts) if e <= dp * cp * tp])
        for v in choices("interleave", [1.0] if pp == 1 else _divisors(depth / pp))
        for mb in choices("micro_batch", [m for m in _divisors(batch / dp) if m <= space.most_micro_batch])
        for sp in choices("sequence_parallel", [1.0] if tp > 1 else [0.0])
        for zero in choices("zero", sharded[:2] if pp > 1 else sharded)
        for again in choices("recompute", [float(i) for i in range(len(RECOMPUTE))])
    ]
    for i in range(0, len(rows), CHUNK):
        a = np.asarray(rows[i : i + CHUNK]).T
        yield Layout(
            tp=a[0],
            pp=a[1],
            cp=a[2],
            dp=a[3],
            ep=a[4],
            interleave=a[5],
            micro_batch=a[6],
            sequence_parallel=a[7],
            zero=a[8],
            recompute=a[9],
            global_batch=np.full(a.shape[1], batch),
            seq=np.full(a.shape[1], seq),
        )


def _divisors(n: float) -> list[float]:
    """Divisors of a whole number; none of anything else."""
    return list(map(float, divisors(int(n)))) if n == int(n) else []


def _different(found: list[tuple[float, Layout]]) -> list[Layout]:
    """The fastest of each combination of degrees."""
    out: dict[tuple[float, ...], Layout] = {}
    for _, x in sorted(found, key=lambda pair: pair[0]):
        key = tuple(float(np.asarray(v)) for v in (x.tp, x.pp, x.cp, x.ep, x.zero))
        out.setdefault(key, x)
        if len(out) == FINALISTS:
            break
    return list(out.values())


def played(step: TrainStep, events: bool = False) -> tuple[Order, Timeline]:
    """The pipeline of a scalar step, event by event: what each stage issues, and when it is done."""
    x = step.layout
    stages, chunks, count = int(float(np.asarray(x.pp))), int(float(np.asarray(x.interleave))), num(x.micro_batches)
    if stages == 1:
        made = order("gpipe", None, stages=1, micro_batches=count)
    elif chunks == 1:
        made = order("one_f_one_b", None, stages=stages, micro_batches=count)
    else:
        made = order("interleaved", None, stages=stages, micro_batches=count, chunks=chunks)
    demands = []
    for name in made.ops:
        kind, place = name.split(" ")
        parts = [int(p) for p in place.split(".")]
        stage, part = parts[-1], parts[0] if len(parts) > 1 else 0
        middle = step.stage["middle"][kind == "backward"] / chunks
        ends: Num = 0.0
        if stage == 0 and part == 0:
            ends = step.stage["first"][kind == "backward"] - step.stage["middle"][kind == "backward"]
        if stage == stages - 1 and part == chunks - 1 and stages > 1:
            ends = step.stage["last"][kind == "backward"] - step.stage["middle"][kind == "backward"]
        demands.append(Demand(float(np.asarray(middle + ends))))
    return made, play(made, demands, events=events, exposed=False)


def confirmed(step: TrainStep) -> float:
    """Seconds of the pipeline as played over those of the sum."""
    inside = step.time - step.parts["hand-overs"] - step.parts["gradients on the wire"] - step.parts["update"]
    return float(np.asarray(played(step)[1].time / inside))
