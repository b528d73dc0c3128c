"""The simulator has the last word: the best of the steady state are played until the best holds there too."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.search.answer import Answer, Choice
from tierwise.search.confirm import Simulated, played, simulated
from tierwise.search.constants import CONSTANTS
from tierwise.search.correction import UNKNOWN, Correction, correction
from tierwise.search.deploy import deployment
from tierwise.search.judge import feasible, misses, on_front, score
from tierwise.search.points import Points
from tierwise.serving.step_times import Array

# Runs at least and at most, requests played in all between these, and more runs for a runner-up of another layout.
FEWEST, RUNS, REQUESTS, MORE = (int(CONSTANTS[f"runs.{name}"]) for name in ("fewest", "most", "requests", "more"))
# Of the runs, those kept for what is surest to hold while nothing does; and rows of the front in each of two rounds.
SAFE, SHOWN = int(CONSTANTS["runs.safe"]), int(CONSTANTS["runs.shown"])
# What a run must promise, what is too far off to be tried, and what a queue that builds up looks like.
GAIN, DOUBT = CONSTANTS["runs.gain"], CONSTANTS["doubt.factor"]
QUEUE, SHORT, LEAST = CONSTANTS["queue.factor"], CONSTANTS["queue.short"], CONSTANTS["queue.least"]

Play = Callable[[int], Simulated]


@dataclass
class _Search:
    """Runs so far, and which rows they rule out: (n,) whether each holds (1), cannot hold (-1), or is open (0)."""

    answer: Answer
    play: Play
    state: NDArray[np.int8]
    runs: dict[int, Simulated] = field(default_factory=dict)
    factors: dict[int, tuple[float, ...]] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return self.answer.question.demand.kind == "open"

    @property
    def spent(self) -> int:
        """Requests played so far."""
        return sum(self.length(row) for row in self.runs)

    def length(self, row: int) -> int:
        """Requests that a run of a row plays."""
        return played(self.answer.question, float(self.answer.points.flight[row]))

    @property
    def load(self) -> Array:
        """Requests in flight in one unit (n,): of one kind, what has more of them is harder."""
        return self.answer.points.flight / self.answer.points.units

    def correction(self) -> Correction:
        p = self.answer.points
        return correction(p, list(self.factors), list(self.factors.values()), self.answer.variants)

    def corrected(self) -> Points:
        """All rows as simulation says so far."""
        return self.correction().apply(self.answer.points, self.answer.question)

    def known(self) -> Points:
        """All rows as corrected, those that were played as they were seen; inf where they fell behind."""
        p, s = self.corrected(), self.answer.question.targets.statistic
        ttft, tpot, rate = p.ttft.copy(), p.tpot.copy(), p.rate.copy()
        for row, run in self.runs.items():
            ttft[row] = run.ttft[s] if run.keeps_up and not run.rejected else np.inf
            tpot[row] = max(run.tpot[s], 1e-9)
            rate[row] = rate[row] if self.open else run.rate
        return replace(p, ttft=ttft, tpot=tpot, rate=rate)

    def run(self, row: int) -> None:
        """Play one. What loads the same engines more than one that does not hold does not hold either."""
        q, p = self.answer.question, self.answer.points
        found = self.runs[row] = self.play(row)
        holds = found.meets(q, (float(p.slow_ttft[row]), float(p.slow_tpot[row])))
        self.state[row] = 1 if holds else -1
        if not holds:
            heavier = (p.variant == p.variant[row]) & (self.load >= self.load[row])
            self.state[heavier & (self.state == 0)] = -1
        s = q.targets.statistic
        waits = found.ttft[s] / p.ttft[row]
        # Those that wait are not decoding: how fast the few others were says nothing of any other load.
        starved = waits >= QUEUE and (found.rate < SHORT * p.rate[row] or found.tpot[s] < SHORT * p.tpot[row])
        if not starved and (holds or (found.keeps_up and waits < QUEUE)):
            # How long requests wait for each other where that is too long says little of where they hardly do.
            learned = waits if found.ttft[s] <= q.targets.ttft else UNKNOWN
            times = (max(found.tpot[s], 1e-9) / p.tpot[row], found.rate / p.rate[row])
            self.factors[row] = (learned, *times, UNKNOWN)
        elif not self.open:
            # What is held beyond what it serves only waits.
            able = found.rate / p.limit[row]
            self.factors[row] = (UNKNOWN, UNKNOWN, UNKNOWN, float(min(able, 1.0)) if able > 0 else UNKNOWN)
        elif holds:
            self.factors[row] = (UNKNOWN,) * 4
        else:
            able = min(found.rate, p.rate[row]) / max(p.capacity[row], 1e-12)
            self.factors[row] = (UNKNOWN, UNKNOWN, UNKNOWN, float(np.clip(able, LEAST, 1.0)))

    def between(self, row: int) -> int:
        """The row, or where requests waited too long in its kind one less loaded: a step back, then two, then four,
        then by halves between what fails and what holds. Such runs teach no times that would say how far to go back."""
        p, load = self.answer.points, self.load
        same = p.variant == p.variant[row]
        failed = [r for r in self.runs if same[r] and self.state[r] == -1 and not np.isfinite(self.factors[r][0])]
        if not failed:
            return row
        held = max((load[r] for r in self.runs if same[r] and self.state[r] == 1), default=-np.inf)
        rows = np.flatnonzero(same & (self.state == 0) & (load > held) & (load < load[failed].min()))
        if not len(rows):
            return row
        rows = rows[np.argsort(-load[rows], kind="stable")]
        back = len(rows) // 2 if np.isfinite(held) else 2 ** (len(failed) - 1) - 1
        return int(rows[min(back, len(rows) - 1)])

    def values(self, p: Points) -> Array:
        """The objective of every row, simulated where it is known; inf for what is ruled out."""
        out = np.where(self.state >= 0, score(self.answer.question, p), np.inf)
        for row, run in self.runs.items():
            out[row] = value(self.answer, row, run) if self.state[row] == 1 else np.inf
        return out


def finalists(answer: Answer, play: Play | None = None, tell: Callable[[str, int, int], None] | None = None) -> Answer:
    """The answer with its best deployments simulated, and the best of those that hold as its choice.

    First what promises most is played, its result correcting what is promised of its kind, until nothing that should
    hold promises more than the best that does. Runs that are left go to what promises more but should just not hold.

    Args:
        play: what plays one row; by default the simulator, on the question's traffic.
        tell: called before each run with what is done, the run's number, and how many there may be.
    """

    def simulator(row: int) -> Simulated:
        if tell is not None:
            tell("simulating finalists", len(search.runs), 0)
        made = deployment(answer.question, answer.families, answer.points, row)
        return simulated(answer.question, made, float(answer.points.flight[row]))

    search = _Search(answer, play or simulator, np.zeros(len(answer.points), np.int8))
    kinds = layout(answer.points)
    runs = _affordable(answer)
    leading = _leading(answer.points, answer.score)
    interrupted = False
    try:
        _played(search, kinds, leading, runs)
    except KeyboardInterrupt:
        interrupted = True
        search.runs = {row: run for row, run in search.runs.items() if search.state[row]}
        if not search.runs:
            return replace(answer, interrupted=True)
    best = _fastest(search) if any(search.state[r] == 1 for r in search.runs) else -1
    second = _other(search, best, kinds) if best >= 0 else -1
    choices = tuple(Choice(row, run) for row, run in search.runs.items())
    values, corrected = search.values(search.corrected()), search.known()
    answer = replace(
        answer, finalists=choices, correction=search.correction(), corrected=corrected,
        feasible=np.isfinite(values) & (feasible(answer.question, corrected) | (search.state == 1)),
        score=np.where(np.isfinite(values), values, score(answer.question, corrected)), interrupted=interrupted,
    )  # fmt: skip
    if best < 0:
        nearest = min(choices, key=lambda c: _missed(answer, c), default=answer.best)
        return replace(answer, met=False, best=nearest, feasible=np.zeros(len(values), dtype=bool))
    runner_up = Choice(second, search.runs[second]) if second >= 0 else None
    return replace(answer, met=True, best=Choice(best, search.runs[best]), runner_up=runner_up)


def _played(search: _Search, kinds: Array, leading: NDArray[np.bool_], runs: int) -> None:
    """The runs, one after the other: the best, the best of other layouts, the front, and less load on what leads."""
    best = _best(search, leading, runs)
    if best < 0:
        return
    others = leading & ~(kinds == kinds[best]).all(axis=1)
    _best(search, others, len(search.runs) + MORE, doubts=False)
    _best(search, (kinds == kinds[best]).all(axis=1), len(search.runs) + MORE, doubts=False)
    # Whether to part prefill from decode is what everyone asks: the best of the other mode is played too.
    two = search.answer.points.prefills > 0
    _best(search, leading & (two != two[best]), len(search.runs) + MORE, doubts=False)
    _front(search)
    second = _other(search, _fastest(search), kinds)
    for row in (_fastest(search), second):
        _reduce_concurrency(search, row)


def _fastest(search: _Search) -> int:
    """The best of what holds; where a load is free, of the same with fewer in flight the one that answers fastest,
    while that costs no more than a run can tell."""
    held = [r for r in search.runs if search.state[r] == 1]
    found = {r: float(f"{value(search.answer, r, search.runs[r]):.9g}") for r in held}
    best = min(held, key=lambda r: (found[r], search.runs[r].tpot["mean"]))
    return _least_loaded(search, best)


def _least_loaded(search: _Search, row: int) -> int:
    """Of the same deployment's loads that held and are as good, within what a run can tell, the least."""
    if search.answer.question.demand.kind != "free":
        return row
    p, found = search.answer.points, value(search.answer, row, search.runs[row])
    same = [r for r in search.runs if search.state[r] == 1 and p.variant[r] == p.variant[row]]
    near = [r for r in same if value(search.answer, r, search.runs[r]) <= found * (1.0 + GAIN)]
    return min(near, key=lambda r: p.flight[r])


def _reduce_concurrency(search: _Search, row: int) -> None:
    """Where a queue builds up in front of what holds, play it with fewer in flight: who waits is not served. First as
    many as are served, then by halves down to where the steady state serves as much, the least that is as good."""
    if row < 0 or search.answer.question.demand.kind != "free":
        return
    q, p = search.answer.question, search.answer.points
    for turn in range(MORE):
        row = _least_loaded(search, row)
        run = search.runs[row]
        if run.ttft["mean"] < QUEUE * p.ttft[row]:
            return
        same = (p.variant == p.variant[row]) & (p.flight < p.flight[row])
        few = max((p.flight[r] for r in search.runs if same[r]), default=0.0)
        served = run.rate * (p.ttft[row] + q.demand.output * run.tpot["mean"])
        rows = np.flatnonzero(same & (p.rate >= run.rate) & (p.flight > few))
        if not len(rows) or search.spent > 2 * REQUESTS:
            return
        rows = rows[np.argsort(p.flight[rows])]
        first = min(int(np.searchsorted(p.flight[rows], served)), len(rows) - 1)
        search.run(int(rows[len(rows) // 2 if turn else first]))


def _front(search: _Search) -> None:
    """Play what should lie on the front, evenly spread along it, twice: the second time it may lie elsewhere. Not what
    would play more requests than all runs together should."""
    for _ in range(2):
        rows = on_front(search.answer.question, search.known())
        places = np.linspace(0, len(rows) - 1, min(SHOWN, len(rows))).astype(int)
        for row in (int(r) for r in rows[places]):
            if row not in search.runs and search.spent + search.length(row) <= REQUESTS:
                search.run(row)


def _other(search: _Search, best: int, kinds: Array) -> int:
    """The best that held of another layout, else of the same degrees in another ratio; -1 for none."""
    p = search.answer.points
    rows = [r for r in search.runs if search.state[r] == 1 and p.variant[r] != p.variant[best]]
    others = [r for r in rows if not np.array_equal(kinds[r], kinds[best])]
    found = min(others or rows, key=lambda r: value(search.answer, r, search.runs[r]), default=-1)
    return found if found < 0 else _least_loaded(search, found)


def _affordable(answer: Answer) -> int:
    """How many runs the traffic's length allows."""
    row = answer.best.row if answer.best is not None else 0
    n = played(answer.question, float(answer.points.flight[row]))
    return int(np.clip(REQUESTS / n, FEWEST, RUNS))


def _best(search: _Search, among: NDArray[np.bool_], runs: int, doubts: bool = True) -> int:
    """The best row that holds in simulation, -1 for none within so many runs."""
    q = search.answer.question
    while True:
        p = search.corrected()
        values = np.where(among, search.values(p), np.inf)
        held = min((r for r in search.runs if among[r] and search.state[r] == 1), key=lambda r: values[r], default=-1)
        limit = values[held] * (1.0 - GAIN) if held >= 0 else np.inf
        values[list(search.runs)] = np.inf
        values[values >= limit] = np.inf
        far = np.where(np.isfinite(values), misses(q, p), np.inf)
        if doubts and held < 0 and len(search.runs) >= runs - SAFE:
            # Before nothing is said to hold, what is furthest within the targets is played, whatever it costs.
            row = int(np.argmin(far))
            if len(search.runs) >= runs or not np.isfinite(far[row]):
                return held
            search.run(row)
            continue
        if len(search.runs) >= runs:
            return held
        should = np.where(feasible(q, p), values, np.inf)
        if np.isfinite(should).any():
            least = should.min()
            row = int(np.argmin(np.where(should <= least * (1.0 + 1e-9), p.surely.tpot, np.inf)))
            search.run(search.between(row))
            continue
        # While nothing holds at all, the nearest are played whatever they miss, a few of them.
        known = held >= 0 or len(search.runs) >= FEWEST
        if known:
            far[far > DOUBT] = np.inf
        row = _doubtful(values, far, limit, len(search.runs))
        if not np.isfinite(far[row]) or (known and not doubts):
            return held
        search.run(row)


def _doubtful(values: Array, far: Array, limit: float, turn: int) -> int:
    """Of rows that should just not hold, the one nearest to holding; by turns among all of them and among those that
    would improve on the best by half of what is possible, so that a wrong doubt is found out in few runs."""
    row = int(np.argmin(far))
    open_ = np.isfinite(far)
    if turn % 2 and np.isfinite(limit) and open_.any():
        halfway = np.sqrt(values[open_].min() * limit)
        much = np.where(values <= halfway, far, np.inf)
        row = int(np.argmin(much)) if np.isfinite(much).any() else row
    return row


def _leading(points: Points, score: Array) -> NDArray[np.bool_]:
    """Rows with the token budget that suits their engines best; the steady state hardly tells budgets apart, so the
    others are played for the best layout only."""
    kinds = np.column_stack([layout(points), points.prefills / points.units, points.decodes / points.units])
    _, kind = np.unique(kinds, axis=0, return_inverse=True)
    order = np.lexsort((points.latency(1.0), score))
    _, first = np.unique(kind[order], return_index=True)
    return np.asarray(points.tokens == points.tokens[order[first]][kind])


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
