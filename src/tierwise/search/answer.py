"""What a serving plan answers: the choice, what it rests on, what was beside it, and why the others are not it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tierwise.search.confirm import Simulated
from tierwise.search.correction import Correction
from tierwise.search.family import Family
from tierwise.search.nearest import Need
from tierwise.search.points import Points
from tierwise.search.question import Question
from tierwise.serving.coefficients import calibration, features
from tierwise.serving.step_times import Array, has_experts


@dataclass(frozen=True)
class Choice:
    """One deployment: its row among the points, what the simulator showed (None: not run), and how much longer
    (relative) its steps take event by event than in the array form they were priced in."""

    row: int
    simulated: Simulated | None = None
    events: float = 0.0


@dataclass(frozen=True)
class Alternative:
    """Something a reader would have tried.

    Attributes:
        name: of the alternative, for people; ``row``: the best deployment of its kind, -1 where none can run at all.
        verdict: ``chosen``, ``meets`` (but at ``worse`` times the objective), ``misses`` (a target, the nearest it
            comes), ``load`` (it takes less than what arrives), ``memory`` (its weights do not fit).
        worse: objective over that of the answer; nan where it does not meet the targets.
    """

    name: str
    row: int
    verdict: str
    worse: float = float("nan")


@dataclass(frozen=True)
class Rival:
    """The next device, and how much of the answer's advantage over it is that its times are not known as well.

    Attributes:
        device: by name; ``row``: its deployment.
        surely, face: its objective over the answer's, with the times at the confidence asked for (inf where it does not
            hold there) and with the expected ones.
    """

    device: str
    row: int
    surely: float
    face: float

    @property
    def uncertainty(self) -> float:
        """Share of the advantage that goes when both are taken at face value, 0 to 1 (1: all of it, and the rival is
        the better then)."""
        if self.face <= 1.0 or not np.isfinite(self.surely):
            return 1.0 if self.face <= 1.0 else float("nan")
        return float(np.clip(1.0 - np.log(self.face) / max(np.log(self.surely), 1e-12), 0.0, 1.0))


@dataclass(frozen=True)
class QuestionChange:
    """The question changed a little.

    Attributes:
        name: what changed; ``holds``: whether the answer still meets the targets, at the confidence asked for;
            ``expected``: whether it should at face value; ``ttft``, ``tpot``: its own times then (nan where it cannot
            keep up); ``best``: the cheapest that would then, a row of ``points`` of its own
            (-1: none); ``reloaded``: the same deployment under another load, beside which no other was looked for.
    """

    name: str
    holds: bool
    expected: bool
    ttft: float
    tpot: float
    points: Points
    best: int
    reloaded: bool = False


@dataclass(frozen=True)
class Answer:
    """The whole answer.

    Attributes:
        points: every deployment that was priced; ``feasible`` (n,): which meet targets and budget as predicted.
        score: (n,) of the objective, smaller is better.
        best: the answer, None where nothing fits in memory at all; ``met``: whether it meets the targets, else it is
            the nearest to them.
        runner_up: best of another layout; ``finalists``: all that were simulated.
        front: rows on the Pareto front of cost against speed per user, among those that meet the TTFT target; only
            simulated ones, as they were seen, where any was.
        binding: what keeps the answer from being better, see :func:`tierwise.search.why.binding`.
        most: points of their own and a row: the most requests per second within the targets, where the asked load
            cannot be met. ``needs``: what it would take, where no machine holds the model.
        correction, corrected: what simulation says of all points, of the simulated ones what it showed (None: nothing
            was simulated); ``feasible`` and ``score`` then are of the corrected ones.
        rival: the best on another device, None where there is one device.
        variants: of units that there are curves of; ``priced``: configurations whose steady state was computed;
            ``seconds``: of ``pricing`` and ``simulation``.
        interrupted: the user stopped the simulation of finalists; what was simulated by then counts.
    """

    question: Question
    families: tuple[Family, ...]
    points: Points
    feasible: NDArray[np.bool_]
    score: Array
    best: Choice | None
    met: bool
    runner_up: Choice | None = None
    finalists: tuple[Choice, ...] = ()
    front: NDArray[np.intp] = field(default_factory=lambda: np.zeros(0, np.intp))
    binding: tuple[str, float] = ("", float("nan"))
    alternatives: tuple[Alternative, ...] = ()
    changes: tuple[QuestionChange, ...] = ()
    most: tuple[Points, int] | None = None
    needs: tuple[Need, ...] = ()
    correction: Correction | None = None
    corrected: Points | None = None
    rival: Rival | None = None
    variants: int = 0
    priced: int = 0
    seconds: dict[str, float] = field(default_factory=dict)
    interrupted: bool = False

    @property
    def known(self) -> Points:
        """The points as far as they are known: corrected where finalists were simulated."""
        return self.points if self.corrected is None else self.corrected

    def basis(self, row: int) -> str:
        """What the predicted times of a row rest on."""
        return self.families[int(self.points.family[row])].basis(bool(self.points.prefills[row] > 0))

    def interval(self, row: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """(low, high) of TTFT and of TPOT that 80 % of measurements should lie between, seconds."""
        low_high = []
        for name, value in (("ttft", self.points.ttft[row]), ("tpot", self.points.tpot[row])):
            low, high = self.factors(name, np.asarray([row]))
            low_high.append((float(low[0]) * float(value), float(high[0]) * float(value)))
        return low_high[0], low_high[1]

    def factors(self, quantity: str, rows: NDArray[np.intp]) -> tuple[Array, Array]:
        """Factors on ``ttft`` or ``tpot`` of rows of one basis that 80 % of measurements should lie between."""
        p, family = self.points, self.families[int(self.points.family[rows[0]])]
        model = family.model
        known = features([family.key], [model.name], has_experts(model), p.draft[rows] > 0, p.dp[rows] > 1)
        return calibration().interval(self.basis(int(rows[0])), quantity, known)
