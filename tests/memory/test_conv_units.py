"""Networks as units: what reads what, against a network whose memory is published and by hand."""

from __future__ import annotations

from tierwise.core.numerics import fmt
from tierwise.memory.tensors import graph
from tierwise.memory.units import IMAGE, Unit, network, operators
from tierwise.models.blocks.conv import Conv
from tierwise.papers.base import in_patches, in_turn
from tierwise.papers.catalog import mcunetv2


def test_tensors_are_named_for_their_writers() -> None:
    units = (
        Unit(Conv("a", 3.0, 4.0, 1.0), (IMAGE,)), Unit(Conv("b", 4.0, 4.0, 1.0), (0,)), Unit(None, (0, 1)),
        Unit(Conv("c", 8.0, 2.0, 1.0), (0, 2)),
    )  # fmt: skip
    g = graph(operators(units, 16.0, fmt("int8")))
    assert g.names == ("image", "a", "b", "c")
    assert g.size == (3 * 16, 4 * 16, 4 * 16, 2 * 16)
    # The sum is made as b is written; c reads what a and b wrote, as one.
    assert [task.reads for task in g.tasks] == [(0,), (1,), (1, 2)]
    assert float(network(units, 16.0, fmt("int8")).parameters) == 12 + 16 + 16


def test_mobilenet_takes_what_is_published() -> None:
    # Input and result of the widening at 112 x 112: 16 and 96 channels.
    units, stage = mcunetv2.network()
    assert in_turn(units, 49.0, fmt("int8")) == (16 + 96) * 112**2
    # Of these, 3.4 million weights less the classifier's 1.28.
    assert 2.1e6 < float(network(units, 49.0, fmt("int8")).parameters) < 2.3e6
    peaks = [in_patches(units, 49.0, fmt("int8"), stage, grid).patch_peak for grid in (1, 2, 4)]
    assert peaks == sorted(peaks, reverse=True)
