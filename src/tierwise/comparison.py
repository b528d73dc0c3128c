"""Two scenarios side by side: ratios that carry an interval.

What a price gets wrong it gets wrong for every op of a class alike (one kind of op in one set of number formats): the
error is one factor per class, the same in both runs where device family, engine and framework are. So a ratio
``R = Σ f_k B_k / Σ f_k A_k``, whose ``A_k`` and ``B_k`` are seconds of class ``k`` before and after, depends on the
errors ``f_k`` only as far as the class has another *share* of the time in each: to first order ``log R`` moves by
``(b_k - a_k) log f_k`` with ``a_k = A_k / Σ A``. Classes err each for themselves, so these add up in squares. Runs of
the same mix have a ratio without an interval, however wrong each may be alone; runs on other devices or engines share
no error, and their own intervals add up in squares.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, maximum, minimum, scalar, where
from tierwise.evaluation import evaluate
from tierwise.program.types import Op
from tierwise.result import Phase, Result
from tierwise.scenario.types import Scenario


@dataclass(frozen=True)
class Ratio:
    """``after / before`` of one quantity.

    Attributes:
        before, after: SI values.
        low, high: 80 % of measured ratios are expected between; the ratio itself for what is counted and not priced
            (bytes, batch).
    """

    before: Num
    after: Num
    low: Num
    high: Num

    @property
    def value(self) -> Num:
        return self.after / self.before

    def __float__(self) -> float:
        return float(self.value)


def _counted(before: Num, after: Num) -> Ratio:
    return Ratio(before, after, after / before, after / before)


@dataclass(frozen=True)
class MemoryRatios:
    """Ratios of memory: ``peak``, ``weights``, ``kv`` (per sequence)."""

    peak: Ratio
    weights: Ratio
    kv: Ratio


@dataclass(frozen=True)
class Comparison:
    """A baseline, a change, and the ratios between them (change over baseline)."""

    base: Result
    other: Result

    def _timed(self, before: Num, after: Num, phases: Callable[[Phase], bool] = lambda p: True) -> Ratio:
        """A ratio of times; ``phases``: those that the times are of."""
        low, high = spread(self.base, self.other, phases)
        ratio = after / before
        return Ratio(before, after, ratio * low, ratio * high)

    @property
    def throughput(self) -> Ratio:
        time = self._timed(1.0, 1.0)
        ratio = Ratio(self.base.throughput, self.other.throughput, 0.0, 0.0)
        return replace(ratio, low=ratio.value / time.high, high=ratio.value / time.low)

    @property
    def time(self) -> Ratio:
        return self._timed(self.base.time, self.other.time)

    @property
    def ttft(self) -> Ratio:
        return self._timed(self.base.ttft, self.other.ttft, lambda p: p.name != "decode")

    @property
    def tpot(self) -> Ratio:
        return self._timed(self.base.tpot, self.other.tpot, lambda p: p.name == "decode")

    @property
    def energy(self) -> Ratio:
        """The interval is that of the time, which the energy follows."""
        return self._timed(self.base.energy, self.other.energy)

    @property
    def batch(self) -> Ratio:
        return _counted(self.base.batch, self.other.batch)

    @property
    def memory(self) -> MemoryRatios:
        a, b = self.base.memory, self.other.memory
        return MemoryRatios(
            _counted(a.peak, b.peak),
            _counted(a.weight_bytes, b.weight_bytes),
            _counted(a.per_sequence, b.per_sequence),
        )

    def __repr__(self) -> str:
        from tierwise.report import notebook

        return notebook.text(self)

    def _repr_html_(self) -> str:
        from tierwise.report import notebook

        return notebook.html(self)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that ``tierwise compare --json`` writes (``docs/json.md``)."""
        from tierwise.report.comparison import as_dict

        names = [f"{r.scenario.model.name} on {r.scenario.machine.name}" for r in (self.base, self.other)]
        return as_dict([self], names)


def compare(base: Scenario, other: Scenario) -> Comparison:
    """Evaluate both and relate them."""
    return Comparison(evaluate(base), evaluate(other))


def spread(base: Result, other: Result, phases: Callable[[Phase], bool] = lambda p: True) -> tuple[Num, Num]:
    """Factors on the ratio of two times that 80 % of measured ratios lie between: at most 1, and at least 1."""
    before, after = _classes(base, phases), _classes(other, phases)
    # By source of error: how far it moves the log of the ratio, and the logs of its own 80 % ends.
    sources: list[tuple[Num, Num, Num]] = []
    if _shares_errors(base, other):
        for name in dict.fromkeys([*before, *after]):
            shares = [x[name].share if name in x else 0.0 for x in (before, after)]
            found = [x[name] for x in (before, after) if name in x]
            low, high = (sum((getattr(c, end) for c in found), 0.0) / len(found) for end in ("low", "high"))
            sources.append((shares[1] - shares[0], low, high))
    else:
        for sign, classes in ((-1.0, before), (1.0, after)):
            low, high = (sum((c.share * getattr(c, end) for c in classes.values()), 0.0) for end in ("low", "high"))
            sources.append((sign, low, high))
    down = sum((minimum(moved * low, moved * high) ** 2 for moved, low, high in sources), 0.0)
    up = sum((maximum(moved * low, moved * high) ** 2 for moved, low, high in sources), 0.0)
    return scalar(np.exp(-np.sqrt(down))), scalar(np.exp(np.sqrt(up)))


@dataclass(frozen=True)
class _Class:
    """A class of ops in a run: its share of the summed time of all ops; logs of the 80 % ends of its error."""

    share: Num
    low: Num
    high: Num


def _classes(result: Result, phases: Callable[[Phase], bool]) -> dict[str, _Class]:
    """The classes of ops in some phases. An error's ends hold 1 between them, where the headline number is."""
    sums: dict[str, list[Num]] = {}
    for p in filter(phases, result.phases):
        for x in p.ops:
            time = x.time * p.passes * p.fill
            ends = (minimum(x.cost.interval[0], 1.0), maximum(x.cost.interval[1], 1.0))
            found = (time, *(time * np.log(end) for end in ends))
            names = _class_names(x.op)
            for name in np.unique(names):
                mine = [where(names == name, part, 0.0) for part in found]
                sums[str(name)] = [a + b for a, b in zip(sums.get(str(name), [0.0] * 3), mine, strict=True)]
    total = maximum(sum((s[0] for s in sums.values()), 0.0), 1e-300)
    return {k: _Class(t / total, *(end / maximum(t, 1e-300) for end in ends)) for k, (t, *ends) in sums.items()}


def _class_names(op: Op) -> NDArray[np.str_]:
    """The class that an op's price has coefficients of its own for: its kind, arithmetic and formats of what it reads.

    An array of names where formats are arrays.
    """
    stored = [x.format.name for x in op.reads if x.role in ("weight", "kv", "state")]
    parts = [op.kind, op.arithmetic, *stored]
    out = np.asarray(parts[0], dtype=np.str_)
    for part in parts[1:]:
        out = np.char.add(np.char.add(out, " "), np.asarray(part, dtype=np.str_))
    return out


def _shares_errors(a: Result, b: Result) -> bool:
    """Whether prices of the two runs rest on the same coefficients: of one device family, engine and framework."""
    first, second = ((r.scenario.machine.device.family, r.scenario.engine, r.scenario.plan.framework) for r in (a, b))
    return first == second
