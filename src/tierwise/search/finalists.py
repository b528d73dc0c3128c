"""The best few of the steady state, put through the simulator; the answer is the best that holds there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from tierwise.search.answer import Answer, Choice
from tierwise.search.confirm import Simulated, simulated
from tierwise.search.deploy import deployment
from tierwise.search.judge import misses, order, score
from tierwise.search.points import Points

# Kinds of deployment that are simulated, steps along each kind, and runs in all.
KINDS, STEPS, RUNS = 6, 4, 24


def finalists(answer: Answer) -> Answer:
    """The answer with its best deployments simulated, and the best of those that hold as its choice.

    A kind of deployment (one layout) is entered where the steady state puts its best; from there it is walked towards
    better ones while they hold, and back while they do not. No kind is walked below the best already confirmed.
    """
    tried: dict[int, Simulated] = {}
    best: tuple[float, int] | None = None

    def play(row: int) -> Simulated:
        if row not in tried:
            made = deployment(answer.question, answer.families, answer.points, row)
            tried[row] = simulated(answer.question, made, float(answer.points.flight[row]))
        return tried[row]

    for start in _starts(answer):
        if len(tried) >= RUNS:
            break
        for row, value in _walk(answer, start, play, best[0] if best else float("inf")):
            if best is None or value < best[0]:
                best = (value, row)
    choices = tuple(Choice(row, run) for row, run in tried.items())
    if best is None:
        # Nothing that was tried holds: the nearest of them, as simulated.
        if not choices:
            return answer
        nearest = min(choices, key=lambda c: _missed(answer, c))
        return replace(answer, met=False, best=nearest, finalists=choices)
    chosen = Choice(best[1], tried[best[1]])
    return replace(answer, best=chosen, met=True, finalists=choices, runner_up=_second(answer, chosen, choices))


def layout(points: Points) -> np.ndarray:  # type: ignore[type-arg]
    """Rows of what makes a kind of deployment different for people: machine, mode, degrees (n, k)."""
    names = ("family", "tp", "pp", "dp", "ep", "p_tp", "p_pp", "p_dp", "p_ep", "draft")
    return np.stack([getattr(points, n) for n in names], axis=1)


def _starts(answer: Answer) -> list[int]:
    """Rows to start from: the best of each of the best layouts, both modes among them."""
    p, q = answer.points, answer.question
    ranked = order(q, p)
    ranked = ranked[answer.feasible[ranked]] if answer.feasible.any() else np.argsort(misses(q, p), kind="stable")
    _, first = np.unique(layout(p.take(ranked)), axis=0, return_index=True)
    rows = ranked[np.sort(first)]
    two = p.prefills[rows] > 0
    chosen = list(rows[:KINDS])
    for mode in (True, False):
        some = rows[two == mode]
        if len(some) and some[0] not in chosen:
            chosen[-1] = some[0]
    return [int(r) for r in chosen]


def _walk(answer: Answer, start: int, play, limit: float) -> Iterator[tuple[float, int]]:  # type: ignore[no-untyped-def]
    """(score, row) of every deployment of a kind that holds in simulation, from ``start`` on."""
    p, q = answer.points, answer.question
    rows = np.flatnonzero(p.variant == p.variant[start])
    rows = rows[np.lexsort((p.units[rows], -answer.score[rows]))]
    at = int(np.flatnonzero(rows == start)[0])
    held = play(start).meets(q)
    step = 1 if held else -1
    for _ in range(STEPS):
        row = int(rows[at])
        run = play(row)
        if run.meets(q):
            yield _value(answer, row, run), row
            if not held:
                return
        elif held:
            return
        at += step
        if not 0 <= at < len(rows) or (step < 0 and answer.score[rows[at]] >= limit):
            return


def _value(answer: Answer, row: int, run: Simulated) -> float:
    """The objective, with what the simulation showed of it."""
    q, one = answer.question, answer.points.take(np.asarray([row]))
    if q.objective == "latency":
        return run.ttft["mean"] + (q.demand.output - 1.0) * run.tpot["mean"]
    return float(score(q, one, np.asarray([run.rate]))[0])


def _missed(answer: Answer, choice: Choice) -> float:
    assert choice.simulated is not None
    t, run = answer.question.targets, choice.simulated
    worst = max(run.ttft[t.statistic] / t.ttft, run.tpot[t.statistic] / t.tpot)
    return worst if run.keeps_up else worst + 1e6


def _second(answer: Answer, best: Choice, choices: tuple[Choice, ...]) -> Choice | None:
    """The best of another layout among those that hold."""
    kinds = layout(answer.points)
    others = [c for c in choices if c.simulated is not None and c.simulated.meets(answer.question)
              and not np.array_equal(kinds[c.row], kinds[best.row])]  # fmt: skip
    return min(others, key=lambda c: _value(answer, c.row, c.simulated), default=None)  # type: ignore[arg-type]
