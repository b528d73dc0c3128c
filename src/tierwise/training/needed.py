"""What gradients of a network of convolutions need of its forward pass, layers trained as they stand.

A convolution's weights need what it reads, a norm what it normalised, a smooth activation (hard-swish, SiLU) what it
was applied to, one of straight pieces (ReLU, ReLU6) on which piece each element lay, a product of a map with a number
a channel the map. Each tensor is there once. Shifts need gradients alone, so that a norm of which only the shift is
trained, its statistics fixed, needs nothing (MobileTL, arXiv:2212.03246, section 3; arXiv:2007.11622, section 3.1).
"""

from __future__ import annotations

from collections.abc import Sequence

from tierwise.core.numerics import Format
from tierwise.memory.units import IMAGE, Unit, convolutions
from tierwise.program.types import Operand
from tierwise.training.tuned import SIGN


def needed(
    units: Sequence[Unit], tokens: float, form: Format, *, smooth: bool = False, scaled: Sequence[int] = (),
    shifts: bool = False, signs: bool = False,
) -> float:  # fmt: skip
    """Bytes for one image.

    Args:
        tokens: positions of the grid that the scales of convolutions refer to.
        smooth: activations are, rather than of straight pieces.
        scaled: numbers of units whose result is multiplied by numbers a channel that are made of it (squeeze and
            excitation, arXiv:1709.01507), behind the activation; the small maps that make them are left out.
        shifts: of norms that an activation follows only the shift is trained.
        signs: a smooth activation's gradient is taken for one of two values (MobileTL).
    """
    ops = convolutions(units, tokens, form)
    sizes: list[float] = []
    for unit, op in zip(units, ops, strict=True):
        sizes.append(_elements(op.writes[0]) if op is not None else sizes[unit.reads[0]])
    width, kept = float(form.bytes), dict[tuple[int, str], float]()
    for i, (unit, op) in enumerate(zip(units, ops, strict=True)):
        if unit.conv is None or op is None:
            continue
        for j in unit.reads:
            image = _elements(op.reads[0]) / len(unit.reads)
            kept[j, "result"] = (image if j == IMAGE else sizes[j]) * width
        if unit.conv.norm and not (shifts and unit.conv.activated):
            kept[i, "convolved"] = sizes[i] * width
        if unit.conv.activated:
            kept[i, "normalised"] = sizes[i] * (width if smooth and not signs else SIGN)
        if i in scaled:
            kept[i, "activated"] = sizes[i] * width
    return sum(kept.values())


def _elements(operand: Operand) -> float:
    return float(operand.elements)
