"""Two scenarios side by side: ratios that carry an interval.

What a price gets wrong it gets wrong for every op of a class alike: errors are one factor per class of ops, the same in
both runs where device family, engine and framework are. So each class is moved to its ends in both runs at once, and
what that does to the ratio is put together as for one run (:mod:`tierwise.core.intervals`). A class with the same share
of the time in both moves nothing: it cancels. Runs on other devices or engines share no error, and their own intervals
are combined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from tierwise.core.intervals import Change, Interval, factors
from tierwise.core.num import Num, num
from tierwise.evaluation import evaluate
from tierwise.result import Phase, Result, changes
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
        return _over(self.after, self.before)

    def __float__(self) -> float:
        return float(self.value)


def _over(after: Num, before: Num) -> Num:
    """The ratio; infinite over nothing (what does not fit makes nothing), nan of two nothings."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return num(np.divide(after, before))


def _counted(before: Num, after: Num) -> Ratio:
    return Ratio(before, after, _over(after, before), _over(after, before))


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
        ratio = _over(after, before)
        return Ratio(before, after, ratio * low, ratio * high)

    @property
    def throughput(self) -> Ratio:
        """Tokens (requests) per second of the whole system."""
        time = self._timed(1.0, 1.0)
        ratio = Ratio(self.base.throughput, self.other.throughput, 0.0, 0.0)
        return replace(ratio, low=ratio.value / time.high, high=ratio.value / time.low)

    @property
    def time(self) -> Ratio:
        """Seconds of the whole batch."""
        return self._timed(self.base.time, self.other.time)

    @property
    def ttft(self) -> Ratio:
        """Seconds to the first token, all that comes before decode."""
        return self._timed(self.base.ttft, self.other.ttft, lambda p: p.name != "decode")

    @property
    def tpot(self) -> Ratio:
        """Seconds between tokens of a request."""
        return self._timed(self.base.tpot, self.other.tpot, lambda p: p.name == "decode")

    @property
    def energy(self) -> Ratio:
        """The interval is that of the time, which the energy follows."""
        return self._timed(self.base.energy, self.other.energy)

    @property
    def batch(self) -> Ratio:
        """Requests at once, which are counted."""
        return _counted(self.base.batch, self.other.batch)

    @property
    def memory(self) -> MemoryRatios:
        """Bytes on the fullest device, which are counted."""
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
        from tierwise.report import notebook

        return notebook.as_dict(self)


def compare(base: Scenario, other: Scenario) -> Comparison:
    """Evaluate both and relate them."""
    return Comparison(evaluate(base), evaluate(other))


def spread(base: Result, other: Result, phases: Callable[[Phase], bool] = lambda p: True) -> Interval:
    """Factors on the ratio of two times that 80 % of measured ratios lie between: at most 1, and at least 1."""
    before, after = (changes([p for p in r.phases if phases(p)]) for r in (base, other))
    return spread_of(before, after, _shares_errors(base, other))


def spread_of(before: Mapping[str, Change], after: Mapping[str, Change], shared: bool) -> Interval:
    """As :func:`spread`, of what each error does to the logarithm of either time.

    Args:
        shared: whether errors of one name are the same in both, so that they cancel.
    """
    if not shared:
        return factors([*((-low, -high) for low, high in before.values()), *after.values()])
    none: Change = (0.0, 0.0)
    pairs = ((before.get(x, none), after.get(x, none)) for x in {**before, **after})
    return factors((b[0] - a[0], b[1] - a[1]) for a, b in pairs)


def _shares_errors(a: Result, b: Result) -> bool:
    """Whether prices of the two runs rest on the same coefficients: of one device family, engine and framework."""
    first, second = ((r.scenario.machine.device.family, r.scenario.engine, r.scenario.plan.framework) for r in (a, b))
    return first == second
