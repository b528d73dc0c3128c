"""The best layout to train a model on so many devices: the whole legal space as arrays.

Degrees, micro-batch, interleaving, recomputation, sharding and sequence parallelism are varied together. What a
micro-batch costs depends on a few of them only and is priced once for each combination of these; the rest is
arithmetic on arrays. Layouts that do not fit in memory are dropped before times are ranked, and the fastest ones are
played event by event.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField
from tierwise.core.num import Num
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.search.train_tricks import Trick, tricks
from tierwise.training.layout import RECOMPUTE, Layout, divisors, legal, pipelines
from tierwise.training.pipeline import Played, played, span
from tierwise.training.recipe import TrainingFramework
from tierwise.training.step import TrainStep, composed, train_step
from tierwise.training.work import BodyRun, ModelWork, decoder, work_of

Array = NDArray[np.float64]
Whole = NDArray[np.int64]

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
        wide: also what the framework's coefficients do not tell apart, and what it cannot run: collectives of tensor
            parallelism beside products, gradients averaged after the backward pass, a divided vocabulary, every
            schedule.
    """

    fixed: Mapping[str, float]
    most_micro_batch: float = 64.0
    wide: bool = False


@dataclass(frozen=True)
class Candidate:
    """A layout of the answer: its step, how far playing it differs from the sum that ranked it, and the pipeline."""

    step: TrainStep
    played: float
    run: Played

    @property
    def seconds(self) -> float:
        """Of a step, with the pipeline as played."""
        return float(np.asarray(self.step.time + (self.played - 1.0) * span(self.step.layout, self.step.stages)))

    @property
    def peak(self) -> float:
        """Bytes on the fullest device."""
        return float(np.asarray(self.step.memory.peak))


@dataclass(frozen=True)
class TrainPlan:
    """Layouts, the best first: the fastest, or those that need least memory.

    Attributes:
        candidates: the best that fit, of different degrees.
        legal, fitting: how many layouts were legal, and how many of them fit.
        unlimited: the fastest legal layout, whether it fits or not.
        tricks: what one change of the fastest layout would give, the largest gain first.
        tightest: the legal layout that needs least memory, when none fits.
        seconds: that the search took; ``ranked``: of them, until all layouts were priced and ranked.
    """

    candidates: tuple[Candidate, ...]
    legal: int
    fitting: int
    unlimited: TrainStep | None
    tricks: tuple[Trick, ...]
    tightest: TrainStep | None
    seconds: float
    ranked: float


def plan_training(
    model: Model,
    system: System,
    how: TrainingFramework,
    devices: float,
    global_batch: float,
    seq: float,
    space: Space,
    confirm: bool = True,
    objective: str = "time",
) -> TrainPlan:
    """The best layouts that fit.

    Args:
        objective: ``time``, the fastest; ``memory``, those whose fullest device holds least, the faster of equals.
        confirm: play the fastest ones; without, there are no candidates, and what is told is how many layouts fit.

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
    best: list[tuple[tuple[float, float], Layout]] = []
    tight: tuple[float, Layout] | None = None
    free: tuple[float, Layout] | None = None
    works = _Works(model, system, how)
    for some in _space(devices, global_batch, seq, text.depth, experts, system.per_node, space, how):
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
        times = np.broadcast_to(step.time, ok.sum())
        quickest = int(np.argmin(times))
        if free is None or times[quickest] < free[0]:
            free = float(times[quickest]), x.at(quickest)
        if fits.any():
            keys = (times, peak) if objective == "time" else (peak, times)
            best += [((float(keys[0][i]), float(keys[1][i])), x.at(int(i))) for i in _first(keys, fits, x)]
    if tight is None:
        raise BadField(
            "layout",
            "devices",
            devices,
            "a number that tp x pp x dp x cp can make up for "
            f"{heads:.0f} heads, {text.depth} layers and a global batch of {global_batch:.0f}",
        )
    ranked = time.perf_counter() - began
    steps = [train_step(model, system, x, how) for x in _different(best) if confirm]
    runs: dict[tuple[float, ...], Played] = {}
    known = (_played_once(s, runs) for s in steps)
    candidates = tuple(sorted(known, key=lambda c: (c.peak, c.seconds) if objective == "memory" else (c.seconds,)))
    least_step = None if fitting else train_step(model, system, tight[1], how)
    unlimited = train_step(model, system, free[1], how) if free is not None and confirm else None
    more = tricks(model, system, candidates[0].step, candidates[0].seconds) if candidates else ()
    return TrainPlan(candidates, found, fitting, unlimited, more, least_step, time.perf_counter() - began, ranked)


class _Works:
    """What micro-batches cost, priced once for each combination of what decides it."""

    def __init__(self, model: Model, system: System, how: TrainingFramework) -> None:
        self.model, self.system, self.how = model, system, how

    def of(self, x: Layout) -> ModelWork:
        shape = np.shape(x.tp)
        keys = np.stack([np.broadcast_to(getattr(x, name), shape) for name in _PRICED])
        unique, back = np.unique(keys, axis=1, return_inverse=True)
        one = replace(x.at(0), dp=1.0, pp=1.0, **{n: unique[i] for i, n in enumerate(_PRICED)})
        # Experts are shared by data-parallel ranks: as many as their degree asks for.
        one = replace(one, dp=np.maximum(unique[2] / unique[0], 1.0))
        work = work_of(self.model, self.system, one, self.how)
        return _picked(work, np.asarray(back).reshape(-1), unique.shape[1])


def _picked(work: ModelWork, at: NDArray[np.int64], n: int) -> ModelWork:
    def pick(x: Num) -> Num:
        return np.broadcast_to(x, n)[at]

    def piece(p: BodyRun) -> BodyRun:
        values = {f.name: getattr(p, f.name) for f in fields(p)}
        for name, value in values.items():
            if isinstance(value, Mapping):
                values[name] = {k: pick(v) for k, v in value.items()}
            else:
                values[name] = tuple(map(pick, value)) if isinstance(value, tuple) else pick(value)
        return BodyRun(**values)

    return ModelWork(
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
    how: TrainingFramework,
) -> Iterator[Layout]:
    """Every layout that could be, in chunks."""
    fixed = space.fixed
    names = pipelines()

    def choices(name: str, values: Sequence[float]) -> list[float]:
        return [fixed[name]] if name in fixed else list(values)

    def wide(name: str, usual: float) -> list[float]:
        return choices(name, [1.0, 0.0] if space.wide else [usual])

    able = names if space.wide else [n for n in names if n in how.schedules]
    fields_ = (*_OUTER, *_INNER)
    waiting: list[Array] = []
    size = 0
    for degrees in _degrees(devices, depth, seq, experts, per_node, choices):
        tp, pp, cp, dp, _ = degrees
        # With stages, gradients and parameters would be divided anew for every micro-batch; one rank divides nothing.
        most = 0.0 if dp * cp == 1 else 1.0 if pp > 1 else 3.0
        zero = [z for z in (0.0, 1.0, 2.0, 3.0) if z <= min(how.most_zero, most)]
        piped = pp > 1
        beside = wide("asynchronous", 0.0) if tp > 1 else choices("asynchronous", [0.0])
        shared = choices("sequence_parallel", [1.0, 0.0] if tp > 1 else [0.0])
        # Choices that allow each other: what runs beside products is divided along the sequence, …
        inner = _product(
            [(s, a) for s in shared for a in beside if a <= s],
            [(v, m, k) for k in choices("schedule", [float(names.index(n)) for n in able] if piped else [0.0])
             for v in choices("interleave", [1.0] if not piped or k else _parts(depth, pp))
             for m in choices("micro_batch", [m for m in _divisors(batch / dp) if m <= space.most_micro_batch])
             # … and only whole groups of micro-batches go through several parts.
             if v == 1.0 or batch / (dp * m) % pp == 0.0],
            [(z,) for z in choices("zero", zero)],
            [(r,) for r in choices("recompute", [float(i) for i in range(len(RECOMPUTE))])],
            [(o,) for o in wide("overlap", 1.0)],
            [(d,) for d in (wide("vocabulary", 0.0) if piped else choices("vocabulary", [0.0]))],
        )  # fmt: skip
        for ends in _uneven(depth, pp, fixed):
            outer = np.broadcast_to(np.asarray((*degrees, *ends))[:, None], (len(_OUTER), inner.shape[1]))
            waiting.append(np.concatenate([outer, inner]))
            size += inner.shape[1]
            if size >= CHUNK:
                yield _layouts(np.concatenate(waiting, axis=1), fields_, batch, seq, fixed)
                waiting, size = [], 0
    if waiting:
        yield _layouts(np.concatenate(waiting, axis=1), fields_, batch, seq, fixed)


def _product(*axes: Sequence[tuple[float, ...]]) -> Array:
    """Every combination of one of each, a column each; what an axis gives together stays together."""
    if not all(axes):
        return np.zeros((len(_INNER), 0))
    index = np.meshgrid(*(np.arange(len(a)) for a in axes), indexing="ij")
    tables = [np.asarray(a, dtype=np.float64).reshape(len(a), -1) for a in axes]
    return np.concatenate([t[i.reshape(-1)].T for t, i in zip(tables, index, strict=True) if t.size])


def _parts(depth: int, pp: float) -> list[float]:
    """Into how many parts the layers of a stage can be divided, where embedding or head may count as one of them."""
    found = {v for more in (0, 1, 2) for v in _divisors((depth + more) / pp)}
    return sorted(found or {1.0})


_OUTER = ("tp", "pp", "cp", "dp", "ep", "first", "last")
_INNER = ("sequence_parallel", "asynchronous", "interleave", "micro_batch", "schedule", "zero", "recompute", "overlap",
          "vocabulary")  # fmt: skip


def _layouts(rows: Array, names: Sequence[str], batch: float, seq: float, fixed: Mapping[str, float]) -> Layout:
    n = rows.shape[1]
    given = {k: np.full(n, v) for k, v in fixed.items() if k not in names}
    varied: dict[str, Array] = {**given, **dict(zip(names, rows, strict=True))}
    return Layout(**varied, global_batch=np.full(n, batch), seq=np.full(n, seq))


def _degrees(
    devices: float, depth: int, seq: float, experts: float, per_node: float,
    choices: Callable[[str, Sequence[float]], list[float]],
) -> Iterator[tuple[float, float, float, float, float]]:  # fmt: skip
    """Tensor, pipeline, context, data and expert parallel degrees that use all devices."""
    given = choices("dp", [0.0])[0]
    cps = choices("cp", [c for c in (1.0, 2.0, 4.0, 8.0, 16.0) if c == 1.0 or seq / c >= 4096.0])
    for tp in choices("tp", [t for t in _divisors(devices) if t <= per_node]):
        for pp in choices("pp", [p for p in _divisors(devices / tp) if p <= depth]):
            for cp in cps:
                dp = devices / (tp * pp * cp)
                if dp < 1 or dp != int(dp) or given not in (0.0, dp):
                    continue
                ranks = dp * cp * tp
                for ep in choices("ep", [1.0] if not experts else _divisors(experts)):
                    if ranks % ep == 0 and (ep == 1.0 or (experts and experts % ep == 0)):
                        yield tp, pp, cp, dp, ep


def _uneven(depth: int, pp: float, fixed: Mapping[str, float]) -> list[tuple[float, float]]:
    """Layers of the first and the last stage to try: as many as on others (0), or one less for the embedding and the
    head, where these take the place of a layer."""
    if "first" in fixed or "last" in fixed:
        return [(fixed.get("first", 0.0), fixed.get("last", 0.0))]
    out = [(0.0, 0.0)] if depth % pp == 0 else []
    if pp > 1 and depth % pp == pp - 1:
        out.append((0.0, (depth + 1.0) / pp - 1.0))
    if pp > 2 and depth % pp == pp - 2:
        out.append(((depth + 2.0) / pp - 1.0, (depth + 2.0) / pp - 1.0))
    return [x for x in out if x == (0.0, 0.0) or x[1] >= 1.0]


def _divisors(n: float) -> list[float]:
    """Divisors of a whole number; none of anything else."""
    return list(map(float, divisors(int(n)))) if n == int(n) else []


# What makes layouts different enough to be told apart in an answer.
_TOLD = ("tp", "pp", "cp", "ep", "zero")


def _first(keys: tuple[Array, Array], fits: NDArray[np.bool_], x: Layout) -> Whole:
    """The best of each combination of degrees, of those combinations that are best: by the first key, then by the
    second."""
    able = np.flatnonzero(fits)
    order_ = able[np.lexsort([key[able] for key in keys[::-1]])][: 1 << 10]
    told = np.stack([np.broadcast_to(getattr(x, name), fits.shape)[order_] for name in _TOLD])
    _, first = np.unique(told, axis=1, return_index=True)
    return np.asarray(order_[np.sort(first)[:FINALISTS]])


def _different(found: list[tuple[tuple[float, float], Layout]]) -> list[Layout]:
    """The best of each combination of degrees."""
    out: dict[tuple[float, ...], Layout] = {}
    for _, x in sorted(found, key=lambda pair: pair[0]):
        out.setdefault(tuple(float(np.asarray(getattr(x, name))) for name in _TOLD), x)
        if len(out) == FINALISTS:
            break
    return list(out.values())


def _played_once(step: TrainStep, runs: dict[tuple[float, ...], Played]) -> Candidate:
    """A candidate; layouts whose stages take exactly as long share one pipeline."""
    p, x = step.stages.passes, step.layout
    key = tuple(float(np.asarray(v)) for v in (x.schedule, p.stages, p.micro_batches, p.parts, p.hidden, *p.totals,
                                               *p.forward, *p.weights))  # fmt: skip
    if key not in runs:
        runs[key] = confirmed(step)[1]
    run = runs[key]
    return Candidate(step, float(np.asarray(run.timeline.time / span(x, step.stages))), run)


def confirmed(step: TrainStep, events: bool = False) -> tuple[float, Played]:
    """(seconds of the pipeline as played over those of the sum, the pipeline)."""
    run = played(step.layout, step.stages, events)
    return float(np.asarray(run.timeline.time / span(step.layout, step.stages))), run
