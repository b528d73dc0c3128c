"""Two scenarios side by side: ratios that carry an interval."""

from __future__ import annotations

from dataclasses import dataclass

from tierwise.core.num import Num
from tierwise.evaluation import evaluate
from tierwise.result import Result
from tierwise.scenario.types import Scenario


@dataclass(frozen=True)
class Ratio:
    """``after / before`` of one quantity.

    Attributes:
        before, after: SI values. ``low``, ``high``: interval of the ratio; equal to it for counted quantities
            (bytes, batch), since both sides share their model's errors only where time is involved.
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

    def _timed(self, before: Num, after: Num) -> Ratio:
        """Errors of two runs on one machine go together; what is left is half the single spread each way."""
        low, high = self.base.interval
        spread = (high / low) ** 0.25
        ratio = after / before
        return Ratio(before, after, ratio / spread, ratio * spread)

    @property
    def throughput(self) -> Ratio:
        return self._timed(self.base.throughput, self.other.throughput)

    @property
    def time(self) -> Ratio:
        return self._timed(self.base.time, self.other.time)

    @property
    def ttft(self) -> Ratio:
        return self._timed(self.base.ttft, self.other.ttft)

    @property
    def tpot(self) -> Ratio:
        return self._timed(self.base.tpot, self.other.tpot)

    @property
    def energy(self) -> Ratio:
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


def compare(base: Scenario, other: Scenario) -> Comparison:
    """Evaluate both and relate them."""
    return Comparison(evaluate(base), evaluate(other))
