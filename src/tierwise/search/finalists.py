"""The simulator has the last word: the best of the steady state are played until the best holds there too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.search.answer import Answer, Choice
from tierwise.search.confirm import Simulated, simulated
from tierwise.search.correction import Correction, correction
from tierwise.search.deploy import deployment
from tierwise.search.judge import feasible, misses, score
from tierwise.search.points import Points
from tierwise.serving.work import Array

# Runs at most for the answer, and more for a runner-up of another layout.
RUNS, MORE = 14, 4
# A deployment must promise to be so much better than the best confirmed one to be worth a run.
GAIN = 0.005

Play = Callable[[int], Simulated]


@dataclass
class _Search:
    """Runs so far, and which rows they rule out: (n,) whether each holds (1), cannot hold (-1), or is open (0)."""

    answer: Answer
    play: Play
    state: NDArray[np.int8]
    runs: dict[int, Simulated] = field(default_factory=dict)
    factors: dict[int, tuple[float, float, float]] = field(default_factory=dict)

    def correction(self) -> Correction:
        return correction(self.answer.points, list(self.factors), list(self.factors.values()), self.answer.variants)

    def run(self, row: int) -> bool:
        """Play one; whether it holds. Neither does what asks more of the same engines than one that does not."""
        q, p = self.answer.question, self.answer.points
        found = self.runs[row] = self.play(row)
        holds = found.meets(q)
        self.state[row] = 1 if holds else -1
        if not holds and q.objective != "latency":
            same = (p.variant == p.variant[row]) & (self.answer.score <= self.answer.score[row])
            self.state[same & (self.state == 0)] = -1
        if found.keeps_up and found.rate > 0:
            s = q.targets.statistic
            # A queue that has begun to grow says little of what waiting is like before it does.
            self.factors[row] = (found.ttft[s] / p.ttft[row], max(found.tpot[s], 1e-9) / p.tpot[row],
                                 found.rate / p.rate[row])  # fmt: skip
        return holds

    def values(self) -> Array:
        """The objective of every row as corrected so far, inf where it does not hold; simulated where it is known."""
        q = self.answer.question
        p = self.correction().apply(self.answer.points, q.demand.kind == "open")
        out = np.where(feasible(q, p) & (self.state >= 0), score(q, p), np.inf)
        for row, run in self.runs.items():
            out[row] = value(self.answer, row, run) if self.state[row] == 1 else np.inf
        return out


def finalists(answer: Answer, play: Play | None = None) -> Answer:
    """The answer with its best deployments simulated, and the best of those that hold as its choice.

    Best first: what promises most is played next, its result corrects what is promised of its kind, and the search
    ends when nothing promises more than the best that holds.

    Args:
        play: what plays one row; by default the simulator, on the question's traffic.
    """

    def simulator(row: int) -> Simulated:
        made = deployment(answer.question, answer.families, answer.points, row)
        return simulated(answer.question, made, float(answer.points.flight[row]))

    search = _Search(answer, play or simulator, np.zeros(len(answer.points), np.int8))
    kinds = layout(answer.points)
    best = _best(search, np.ones(len(answer.points), dtype=bool), RUNS)
    second = -1
    if best >= 0:
        second = _best(search, ~(kinds == kinds[best]).all(axis=1), len(search.runs) + MORE)
    choices = tuple(Choice(row, run) for row, run in search.runs.items())
    fixed = search.correction()
    corrected = fixed.apply(answer.points, answer.question.demand.kind == "open")
    values = search.values()
    answer = replace(
        answer, finalists=choices, correction=fixed, corrected=corrected, feasible=np.isfinite(values),
        score=np.where(np.isfinite(values), values, score(answer.question, corrected)),
    )  # fmt: skip
    if best < 0:
        nearest = min(choices, key=lambda c: _missed(answer, c), default=answer.best)
        return replace(answer, met=False, best=nearest)
    runner_up = Choice(second, search.runs[second]) if second >= 0 else None
    return replace(answer, met=True, best=Choice(best, search.runs[best]), runner_up=runner_up)


def _best(search: _Search, among: NDArray[np.bool_], runs: int) -> int:
    """The best row that holds in simulation, -1 for none within so many runs."""
    latency = search.answer.points.latency(search.answer.question.demand.output)
    while True:
        values = np.where(among, search.values(), np.inf)
        known = [r for r in search.runs if among[r] and search.state[r] == 1]
        held = min(known, key=lambda r: values[r], default=-1)
        limit = values[held] * (1.0 - GAIN) if held >= 0 else np.inf
        values[list(search.runs)] = np.inf
        promising = values < limit
        if len(search.runs) >= runs:
            return held
        if not promising.any():
            if held >= 0 or len(search.runs) >= min(runs, MORE):
                return held
            row = _nearest(search, among)
            if row < 0:
                return -1
        else:
            least = values.min()
            row = int(np.argmin(np.where(values <= least * (1.0 + 1e-9), latency, np.inf)))
        search.run(row)


def _nearest(search: _Search, among: NDArray[np.bool_]) -> int:
    """Where nothing should hold: the row that comes nearest to the targets, -1 when all were tried."""
    q = search.answer.question
    p = search.correction().apply(search.answer.points, q.demand.kind == "open")
    far = np.where(among & (search.state >= 0), misses(q, p), np.inf)
    far[list(search.runs)] = np.inf
    return int(np.argmin(far)) if np.isfinite(far).any() else -1


def layout(points: Points) -> Array:
    """Rows of what makes a kind of deployment different for people: machine, mode, degrees (n, k)."""
    names = ("family", "tp", "pp", "dp", "ep", "p_tp", "p_pp", "p_dp", "p_ep", "draft")
    return np.stack([getattr(points, n) for n in names], axis=1)


def value(answer: Answer, row: int, run: Simulated) -> float:
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
