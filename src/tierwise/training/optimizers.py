"""What optimizers keep beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tierwise.core.errors import BadField, UnknownName
from tierwise.core.num import Num, maximum, minimum
from tierwise.core.units import whole
from tierwise.models.types import Weight

# Bytes of state a parameter, the master copy of the weights apart.
OPTIMIZERS: Mapping[str, float] = {
    "adamw": 8.0,  # Two moments in fp32 (arXiv:1711.05101).
    "adamw-8bit": 2.0 + 2.0 * 4.0 / 256.0,  # Two moments in 8 bits, an fp32 scale for 256 of them (arXiv:2110.02861).
    "adamw-bf16": 4.0,  # Two moments in the format of 16-bit weights, as PyTorch makes them beside such weights.
    "adafactor": 0.0,  # A row and a column of second moments a matrix: left out (arXiv:1804.04235).
    "lion": 4.0,  # One moment (arXiv:2302.06675).
    "muon": 4.0,  # One moment (kellerjordan.github.io/posts/muon).
    "cosmos": 4.0,  # One moment (arXiv:2502.17410).
    # What was left out, in 4 bits, and a hundredth of ten gradients, with a value and a position of 16 bits each
    # (arXiv:2405.15593; IST-DASLab/ISTA-DASLab-Optimizers, micro_adam.py).
    "microadam": 0.5 + 10 * 0.01 * 4.0,
    "frugal": 0.0,  # Two moments of a share of each layer's matrices (arXiv:2411.07837).
    "galore": 0.0,  # Moments of projected gradients alone (arXiv:2403.03507).
    "galore-bf16": 0.0,
    "grass": 0.0,  # The same, of gradients that are made as chosen rows alone (arXiv:2406.17660).
    "grass-bf16": 0.0,
    "spam": 0.0,  # Two moments of a random share of each layer's matrices (arXiv:2501.06842).
    "spam-bf16": 0.0,
    "sgd-momentum": 4.0,
    "sgd": 0.0,
}


@dataclass(frozen=True)
class Shaped:
    """Bytes of state beside :data:`OPTIMIZERS`'s that depend on what a parameter belongs to.

    Attributes:
        others: of a parameter that is in no matrix of a layer (embedding, head, norms).
        long, short: for a rank and each row of a layer's matrix along its longer and its shorter side.
        square: for a rank times a rank of a layer's matrix.
        share: of a parameter of a layer's matrix, times the share that has states (given in place of a rank).
        each: of every parameter of a layer's matrix, whatever the share.
        early: gradients of a layer's matrix are made projected, and never whole.
    """

    others: float = 0.0
    long: float = 0.0
    short: float = 0.0
    square: float = 0.0
    share: float = 0.0
    each: float = 0.0
    early: bool = False

    @property
    def ranked(self) -> bool:
        return self.long + self.short + self.square + self.share > 0.0


# Those that treat a layer's matrices otherwise than the rest, which has AdamW's two moments; in 16 bits as AdamW's.
SHAPED: Mapping[str, Shaped] = {
    "muon": Shaped(others=4.0),
    # A basis of the leading subspace, second moments in it, and their small matrix, in fp32 (arXiv:2502.17410).
    "cosmos": Shaped(others=4.0, long=4.0, short=4.0, square=4.0),
    # Two moments along the longer side and the projection of the shorter one, in fp32 (arXiv:2403.03507, table 1).
    "galore": Shaped(others=8.0, long=8.0, short=4.0),
    "galore-bf16": Shaped(others=4.0, long=4.0, short=2.0),
    # Which rows were chosen, a number and a scale each, is left out.
    "grass": Shaped(others=8.0, long=8.0, early=True),
    "grass-bf16": Shaped(others=4.0, long=4.0, early=True),
    "frugal": Shaped(others=8.0, share=8.0),
    # A byte says of each parameter whether it has moments (authors' galore_torch/SPAM.py).
    "spam": Shaped(others=8.0, share=8.0, each=1.0),
    "spam-bf16": Shaped(others=4.0, share=4.0, each=1.0),
}


def asked_for(text: str) -> tuple[str, float]:
    """(name, rank or share) of an optimizer as it is asked for: ``muon``, ``galore:r=128``, ``frugal:density=0.25``.

    Raises:
        UnknownName, BadField: no such optimizer, or a rank that it cannot have or lacks.
    """
    name, _, rest = text.partition(":")
    if name not in OPTIMIZERS:
        raise UnknownName("optimizer", name, OPTIMIZERS)
    if name not in SHAPED or not SHAPED[name].ranked:
        if rest:
            raise BadField("--optimizer", name, rest, "nothing after it")
        return name, 0.0
    key, _, value = rest.partition("=")
    if SHAPED[name].share > 0:
        try:
            share = float(value)
        except ValueError:
            share = -1.0
        if key != "density" or not 0 <= share <= 1:
            raise BadField("--optimizer", name, rest or None, f"the share with states: {name}:density=0.25")
        return name, share
    if key not in ("r", "rank") or not whole(value):
        raise BadField("--optimizer", name, rest or None, "r=RANK, a whole number of at least 1, as in galore:r=128")
    return name, float(value)


def shaped(w: Weight, local: Num, optimizer: str, rank: Num) -> Num:
    """Bytes of state of one weight of a layer that :data:`SHAPED` counts.

    Args:
        local: its parameters on a device.
        rank: of the optimizer's projections, or the share of a matrix that has states.
    """
    how = SHAPED.get(optimizer)
    if how is None:
        return 0.0 * local
    if w.shape is None:
        return how.others * local
    if how.share > 0:
        return (how.share * rank + how.each) * local
    long, short = maximum(*w.shape), minimum(*w.shape)
    r = minimum(rank, short)
    return local / (long * short) * r * (how.long * long + how.short * short + how.square * r)


def spared(w: Weight, local: Num, optimizer: str, rank: Num) -> Num:
    """Elements of one weight's gradient that are never made, on a device with ``local`` of its parameters."""
    how = SHAPED.get(optimizer)
    if how is None or not how.early or w.shape is None:
        return 0.0 * local
    return local * (1.0 - minimum(rank / minimum(*w.shape), 1.0))
