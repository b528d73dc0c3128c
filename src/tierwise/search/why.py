"""Why the answer is the answer: what binds, what else there was, what a change would do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tierwise.search.answer import Alternative, Answer, QuestionChange, Rival
from tierwise.search.curves import Curves
from tierwise.search.engines import engines
from tierwise.search.judge import feasible, misses, order, score
from tierwise.search.points import evaluated
from tierwise.search.question import Question

Mask = NDArray[np.bool_]


def binding(answer: Answer) -> tuple[str, float]:
    """(``ttft``, ``tpot``, ``memory``, ``queue``, ``load``, ``budget``, ``devices`` or ``targets``; the value there).

    Found from the next better deployment of the same kind: the target it would miss and by what it would miss it.
    Without one, the KV cache has no more room (``memory``), what has it only waits (``queue``), or one unit is the
    least (``load``).
    """
    assert answer.best is not None
    q, p, row = answer.question, answer.known, answer.best.row
    if not answer.met:
        sure = p.surely
        ratios = {"ttft": sure.ttft[row] / q.targets.ttft, "tpot": sure.tpot[row] / q.targets.tpot,
                  "budget": p.rent[row] / q.budget}  # fmt: skip
        name = max(ratios, key=lambda n: ratios[n])
        return name, float(ratios[name])
    same = p.variant == p.variant[row]
    better = same & (answer.score < answer.score[row] * (1.0 - 1e-9))
    if not better.any():
        return _beyond(answer)
    rows = np.flatnonzero(better)
    played = {c.row: c.simulated for c in answer.finalists if better[c.row] and c.simulated is not None}
    if played:
        run = played[max(played, key=lambda r: answer.score[r])]
        s, t = q.targets.statistic, q.targets
        worst = max(("ttft", run.ttft[s], t.ttft), ("tpot", run.tpot[s], t.tpot), key=lambda x: x[1] / x[2])
        if worst[1] > worst[2]:
            return worst[0], float(worst[1])
    nearest = rows[np.argmax(answer.score[rows])]
    sure = p.surely
    over = {"ttft": sure.ttft[nearest] / q.targets.ttft, "tpot": sure.tpot[nearest] / q.targets.tpot,
            "budget": p.rent[nearest] / q.budget}  # fmt: skip
    name = max(over, key=lambda n: over[n])
    if over[name] <= 1.0:
        # A little better by what is known, and within every target: no more than a run can tell.
        return ("queue" if q.demand.kind == "free" else "rate"), float("nan")
    value = {"ttft": sure.ttft[nearest], "tpot": sure.tpot[nearest], "budget": p.rent[nearest]}[name]
    return name, float(value)


def _beyond(answer: Answer) -> tuple[str, float]:
    """The target that the nearest better deployment of any other kind would miss."""
    assert answer.best is not None
    q, p, row = answer.question, answer.known, answer.best.row
    if q.objective == "latency":
        return "devices", float("nan")
    rows = np.flatnonzero(answer.score < answer.score[row] * (1.0 - 1e-9))
    if not len(rows):
        more = (p.variant == p.variant[row]) & (p.flight > p.flight[row])
        if q.demand.kind != "free":
            return ("load" if p.rent[row] <= _least_rent(answer) * (1.0 + 1e-9) else "rate"), float("nan")
        return ("queue" if more.any() else "memory"), float("nan")
    near = int(rows[np.argmin(misses(q, p.take(rows)))])
    sure = p.surely
    over = {"ttft": sure.ttft[near] / q.targets.ttft, "tpot": sure.tpot[near] / q.targets.tpot}
    name = max(over, key=lambda n: over[n])
    if over[name] <= 1.0:
        return "rate", float("nan")
    return name, float({"ttft": sure.ttft, "tpot": sure.tpot}[name][near])


def _least_rent(answer: Answer) -> float:
    """Dollars a second (devices, where prices are unknown) of the smallest engine that holds the model at all."""
    out = [np.inf]
    for family in (f for f in answer.families if f.first is None):
        found, _ = engines(family.model, family.affordable, answer.question.freedom.memory)
        if len(found.tp):
            least = float(np.min(found.devices))
            out.append(float(family.system.rent(least)) if np.isfinite(family.rent) else least)
    return float(min(out))


def rival(answer: Answer) -> Rival | None:
    """The best that holds on another device, at the confidence asked for and at face value; None without another."""
    if answer.best is None or not answer.met:
        return None
    q, p, row = answer.question, answer.known, answer.best.row
    devices = np.asarray([f.device for f in answer.families])[p.family.astype(int)]
    plain = np.ones(len(p))
    face = replace(p, slow_ttft=plain, slow_tpot=plain)
    able = feasible(q, face) & (devices != devices[row])
    if not able.any():
        return None
    values, at_face = answer.score, score(q, face)
    own = float(np.min(np.where(feasible(q, face) & (devices == devices[row]), at_face, np.inf)))
    sure = answer.feasible & able
    best = int(np.argmin(np.where(sure, values, np.inf))) if sure.any() else -1
    tempting = int(np.argmin(np.where(able, at_face, np.inf)))
    # The one that looks best, where it looks better than the answer and is not because it is not known well enough.
    found = tempting if best < 0 or at_face[tempting] < own * (1.0 - 1e-9) else best
    same = sure & (devices == devices[found])
    surely = float(np.min(np.where(same, values, np.inf)) / values[row])
    looks = float(np.min(np.where(able & (devices == devices[found]), at_face, np.inf)) / own)
    return Rival(str(devices[found]), found, surely, looks)


def alternatives(answer: Answer) -> tuple[Alternative, ...]:
    """What a reader would have tried instead: each tensor-parallel degree, the other mode, other machines."""
    p = answer.points
    groups: list[tuple[str, Mask]] = []
    agg = p.prefills == 0
    plain = agg & (p.pp == 1) & (p.dp == 1)
    for tp in np.unique(p.tp[plain & (p.ep == 1)]):
        groups.append((f"TP={tp:g}", plain & (p.ep == 1) & (p.tp == tp)))
    groups += [
        ("expert parallel", plain & (p.ep > 1)),
        ("attention data parallel", agg & (p.dp > 1)),
        ("pipeline parallel", agg & (p.pp > 1)),
        ("aggregated", agg),
        ("disaggregated", ~agg),
        ("speculative decoding", p.draft > 0),
    ]
    groups += _families(answer)
    out = [_best_of(answer, name, mask) for name, mask in groups if mask.any()]
    return tuple(out + _too_large(answer))


def _families(answer: Answer) -> list[tuple[str, Mask]]:
    """Rows by machine, engine and format, where there are several."""
    named: dict[str, list[int]] = {}
    machines = {f.system.name for f in answer.families}
    engines_ = {f.engine for f in answer.families}
    for i, f in enumerate(answer.families):
        names = [f.title] if len(machines) > 1 else []
        names += [f.engine] if len(engines_) > 1 else []
        names += [] if f.own else [f"KV cache in {f.kv}"]
        names += [] if f.weights is None else [f"weights in {f.weights}"]
        for name in names:
            named.setdefault(name, []).append(i)
    return [(name, np.isin(answer.points.family, members)) for name, members in named.items()]


def _best_of(answer: Answer, name: str, mask: Mask) -> Alternative:
    rows = np.flatnonzero(mask)
    some = answer.known.take(rows)
    ok = answer.feasible[rows]
    best = answer.best
    if not ok.any() and answer.most is not None and answer.points is answer.most[0]:
        free = replace(answer.question, demand=replace(answer.question.demand, rate=np.nan), objective="throughput")
        able = feasible(free, some)
        ranked = order(free, some)
        row = next((i for i in ranked if able[i]), int(np.argmin(misses(free, some))))
        return Alternative(name, int(rows[row]), "chosen" if mask[answer.most[1]] else "load")
    if not ok.any():
        return Alternative(name, int(rows[np.argmin(misses(answer.question, some))]), "misses")
    row = int(rows[next(i for i in order(answer.question, some) if ok[i])])
    if best is not None and mask[best.row]:
        return Alternative(name, best.row, "chosen", 1.0)
    worse = answer.score[row] / answer.score[best.row] if best is not None and answer.met else float("nan")
    return Alternative(name, row, "meets", float(worse))


def _too_large(answer: Answer) -> list[Alternative]:
    """Machines and degrees whose memory does not hold the weights."""
    out = []
    seen = set()
    for family in (f for f in answer.families if f.first is None):
        kinds, not_ = engines(family.model, family.system, answer.question.freedom.memory)
        name = family.system.device.title
        several = len({f.system.device.name for f in answer.families}) > 1
        if several and not len(kinds.tp) and name not in seen:
            out.append(Alternative(name, -1, "memory"))
        if not several:
            plain = (not_.pp == 1) & (not_.dp == 1) & (not_.ep == 1)
            out += [Alternative(f"TP={t:g}", -1, "memory") for t in not_.tp[plain] if f"TP={t:g}" not in seen]
            seen |= {f"TP={t:g}" for t in not_.tp[plain]}
        seen.add(name)
    return out


def changes(
    answer: Answer,
    curves: Sequence[Sequence[Curves]],
    uncached: tuple[Question, Sequence[Sequence[Curves]]] | None = None,
) -> tuple[QuestionChange, ...]:
    """The load 20 % lower and higher, no prefix cache, and all times at either end of the prediction interval.

    Args:
        uncached: the question and its curves where no prompt's tokens are found in a cache; None where none are anyway.
    """
    assert answer.best is not None
    q = answer.question
    out = []
    if q.demand.kind != "free":
        name = "rate" if q.demand.kind == "open" else "concurrency"
        for factor in (0.8, 1.2):
            demand = replace(q.demand, **{name: getattr(q.demand, name) * factor})
            out.append(_changed(answer, curves, replace(q, demand=demand), f"{name} {factor - 1.0:+.0%}"))
    else:
        out += [_crowded(answer, factor) for factor in (0.8, 1.2)]
    if uncached is not None:
        out.append(_changed(answer, uncached[1], uncached[0], "no prefix cache"))
    for end, name in ((0, "fast end of the interval"), (1, "slow end of the interval")):
        out.append(_at_end(answer, end, name))
    return tuple(out)


def _crowded(answer: Answer, factor: float) -> QuestionChange:
    """So many times the requests in flight on the same deployment."""
    assert answer.best is not None
    p, row = answer.known, answer.best.row
    same = np.flatnonzero((p.variant == p.variant[row]) & (p.units == p.units[row]))
    mine = int(same[np.argmin(np.abs(p.flight[same] - factor * p.flight[row]))])
    one = p.take(np.asarray([mine]))
    holds, expected = (bool(feasible(answer.question, one, slower)[0]) for slower in (None, (1.0, 1.0)))
    name, ttft, tpot = f"{factor - 1.0:+.0%} in flight", float(p.ttft[mine]), float(p.tpot[mine])
    return QuestionChange(name, holds, expected, ttft, tpot, p, row, reloaded=True)


def _changed(answer: Answer, curves: Sequence[Sequence[Curves]], q: Question, name: str) -> QuestionChange:
    assert answer.best is not None
    p, row = evaluated(q, curves), answer.best.row
    if answer.correction is not None:
        p = answer.correction.apply(p, q)
    same = np.flatnonzero((p.variant == answer.points.variant[row]) & (p.units == answer.points.units[row]))
    ok = feasible(q, p)
    best = int(next((i for i in order(q, p) if ok[i]), -1))
    if not len(same):
        return QuestionChange(name, False, False, float("nan"), float("nan"), p, best)
    mine = int(same[0])
    expected = bool(feasible(q, p, (1.0, 1.0))[mine])
    return QuestionChange(name, bool(ok[mine]), expected, float(p.ttft[mine]), float(p.tpot[mine]), p, best)


def _at_end(answer: Answer, end: int, name: str) -> QuestionChange:
    """All times multiplied by the low or high factor of what each rests on."""
    assert answer.best is not None
    p, row = answer.known, answer.best.row
    factors = np.ones((2, len(p)))
    kinds = np.stack([p.family, p.prefills > 0])
    for family, two in np.unique(kinds, axis=1).T:
        mask = (p.family == family) & ((p.prefills > 0) == two)
        rows = np.flatnonzero(mask)
        factors[:, rows] = np.stack([answer.factors(name, rows)[end] for name in ("ttft", "tpot")])
    ok = feasible(answer.question, p, (factors[0], factors[1]))
    best = int(next((i for i in order(answer.question, p) if ok[i]), -1))
    return QuestionChange(name, bool(ok[row]), bool(ok[row]), float(p.ttft[row] * factors[0][row]),
                          float(p.tpot[row] * factors[1][row]), p, best)  # fmt: skip
