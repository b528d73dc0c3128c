"""Memory of tuning a convolutional network, or some of its layers, on the small device that runs it.

One image goes forward and back at a time, operators in a fixed order, memory planned before: nothing lies there before
it is written or after it is last read. Tuning a weight keeps the operand of its convolution until the way back, tuning
a share of its inputs that share; biases need gradients alone, and an activation function the sign of each element. The
way back ends at the first layer that is tuned (arXiv:2206.15472, section 3; arXiv:2212.03246, section 3).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from tierwise.core.num import maximum
from tierwise.core.numerics import Format, fmt
from tierwise.memory.units import IMAGE, Unit, convolutions
from tierwise.program.types import Op

# What the sign of an activation takes, in bytes (masks of TinyEngine, arXiv:2206.15472, section 3.3).
SIGN = 1.0 / 8.0


@dataclass(frozen=True)
class Tuning:
    """What is tuned: the share of the input channels of units' weights, and biases from one unit on.

    Attributes:
        weights: by number of unit; biases of these are tuned with them.
        biases: from which unit on; None for no others.
    """

    weights: Mapping[int, float]
    biases: int | None = None

    @property
    def first(self) -> int:
        """The unit at which the way back ends."""
        least = min(self.weights, default=None) if self.weights else None
        return min(x for x in (least, self.biases) if x is not None)


@dataclass(frozen=True)
class TunedMemory:
    """Bytes of tuning.

    Attributes:
        weights: of the whole network. ``tuned``: those of them that change.
        gradients: of weights, where all are held until the update; 0 where each is applied as it comes.
        forward, peak: of activations and their gradients at most, on the way forward and altogether.
    """

    weights: float
    tuned: float
    gradients: float
    forward: float
    peak: float


def whole(units: Sequence[Unit]) -> Tuning:
    """All weights of a network."""
    return Tuning({i: 1.0 for i, u in enumerate(units) if u.conv is not None})


def tuned(
    units: Sequence[Unit], tokens: float, tuning: Tuning, form: Format, gradient: Format | None = None,
    held: bool = False,
) -> TunedMemory:  # fmt: skip
    """What tuning takes for one image.

    Args:
        tokens: positions of the grid that the scales of convolutions refer to.
        form: of weights and activations. ``gradient``: of gradients and biases, fp32 unless given (int8 networks have
            biases of 32 bits).
        held: gradients of weights are held until all are there.
    """
    wide = gradient or fmt("fp32")
    ops = convolutions(units, tokens, form)
    outputs: list[float] = []
    for unit, op in zip(units, ops, strict=True):
        outputs.append(_moved(op, "writes") if op is not None else outputs[unit.reads[0]])
    readers: list[list[int]] = [[] for _ in units]
    for i, unit in enumerate(units):
        for j in unit.reads:
            if j != IMAGE:
                readers[j].append(i)
    lives, changed = _lives(units, ops, outputs, readers, tuning, form, wide, held)
    moments = [0.0] * (2 * len(units) + 1)
    for size, begin, end in lives:
        moments[begin] += size
        moments[end + 1] -= size
    for before, after in pairwise(range(len(moments))):
        moments[after] += moments[before]
    every = [_weights(u) for u in units]
    matrices, biases = (sum(part) for part in zip(*every, strict=True))
    new, shifted = (sum(part) for part in zip(*changed, strict=True))
    return TunedMemory(
        float(matrices * form.bytes + biases * wide.bytes), float(new * form.bytes + shifted * wide.bytes),
        float((new + shifted) * wide.bytes) if held else 0.0, max(moments[: len(units)]), max(moments),
    )  # fmt: skip


def _lives(
    units: Sequence[Unit], ops: Sequence[Op | None], outputs: Sequence[float], readers: Sequence[Sequence[int]],
    tuning: Tuning, form: Format, wide: Format, held: bool,
) -> tuple[list[tuple[float, int, int]], list[tuple[float, float]]]:  # fmt: skip
    """((bytes, first moment, last) of everything that lies there; by unit, elements of weights and biases that
    change)."""
    n = len(units)
    back = [2 * n - 1 - i for i in range(n)]
    lives: list[tuple[float, int, int]] = []
    changed: list[tuple[float, float]] = []
    for i, (unit, op) in enumerate(zip(units, ops, strict=True)):
        lives.append((float(outputs[i] * form.bytes), i, max(readers[i], default=i)))
        if i >= tuning.first:
            if unit.conv is not None and unit.conv.activated:
                lives.append((float(outputs[i] * SIGN), i, back[i]))
            # Its own gradient lies there from the first of its readers' ways back to its own.
            lives.append((float(outputs[i] * wide.bytes), back[max(readers[i], default=i)], back[i]))
        share = tuning.weights.get(i, 0.0) if op is not None else 0.0
        weights, biases = _weights(unit)
        biased = share > 0.0 or (tuning.biases is not None and i >= tuning.biases)
        changed.append((share * weights, biases if biased else 0.0))
        if share and op is not None:
            lives.append((float(share * _moved(op, "reads") * form.bytes), i + 1, back[i]))
        if not held:
            lives.append((float(sum(changed[-1]) * wide.bytes), back[i], back[i]))
    return lives, changed


def _weights(unit: Unit) -> tuple[float, float]:
    """(elements of a unit's weights, of its biases)."""
    if unit.conv is None:
        return 0.0, 0.0
    by_name = {w.name: float(w.elements) for w in unit.conv.weights()}
    return by_name[unit.conv.name], by_name.get(unit.conv.name + ".bias", 0.0)


def _moved(op: Op, side: str) -> float:
    """Elements of activations that an op reads or writes."""
    return sum(float(maximum(o.elements, 0.0)) for o in getattr(op, side) if o.role == "act")
