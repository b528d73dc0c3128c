"""Networks as units: what reads what, against a network whose memory is published and by hand."""

from __future__ import annotations

from tierwise.core.numerics import fmt
from tierwise.memory.patches import in_place, least_room
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


def test_sums_lie_over_a_shortcut_that_nothing_reads_again() -> None:
    # a widens the image fourfold, b makes it narrow again and is summed with what a read; in a second network c reads
    # that once more, so that it has to stay.
    def units(again: bool) -> tuple[Unit, ...]:
        out = (
            Unit(Conv("first", 3.0, 4.0, 1.0), (IMAGE,)), Unit(Conv("a", 4.0, 16.0, 1.0), (0,)),
            Unit(Conv("b", 16.0, 4.0, 1.0), (1,)), Unit(None, (0, 2)),
        )  # fmt: skip
        return (*out, Unit(Conv("c", 8.0 if again else 4.0, 4.0, 1.0), (0, 2) if again else (2,)))

    def room(again: bool, sums: bool) -> int:
        ops = operators(units(again), 16.0, fmt("int8"))
        return least_room(in_place(graph(ops, fmt("int8")), ops, sums))

    assert room(False, False) == (16 + 4 + 4) * 16 and room(False, True) == (16 + 4) * 16
    assert room(True, True) == (16 + 4 + 4) * 16


def test_mobilenet_in_patches_takes_what_is_published() -> None:
    # Figure 1 of MCUNetV2: 172 kB, what the widening at 28 x 28 reads and writes.
    units, stage = mcunetv2.network()
    assert in_patches(units, 49.0, fmt("int8"), stage, 4).peak == (32 + 192) * 28**2
