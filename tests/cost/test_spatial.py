"""Mappings on an array with three memory levels, against hand counts and against executing the loops one by one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import fmt
from tierwise.cost import Target, efficiency, price
from tierwise.cost.mapping import Mapping
from tierwise.cost.spatial import Spatial, laid_out, mapper, spatial
from tierwise.machines import system
from tierwise.machines.types import Engine, Tier
from tierwise.program.types import Op, Operand

BYTE = fmt("int8")


@dataclass(frozen=True)
class Nest:
    """Loops of DRAM, buffer and registers, and those unrolled over the array."""

    loops: tuple[Any, ...]
    spatial: tuple[Any, ...] = ()

    @property
    def mapping(self) -> Mapping:
        return laid_out(("dram", "buffer", "registers")[: len(self.loops)], self.loops, self.spatial)


def counted(op: Op, on: Target, nest: Nest | Mapping) -> Spatial:
    return spatial(op, on, nest.mapping if isinstance(nest, Nest) else nest)


def array(units: int = 16, buffer: float = 1e4, register: float = 100.0, rate: float = 1e9) -> Target:
    """A PE array: DRAM at 1 GB/s, a shared buffer at 10, registers of ``register`` bytes an element at 1000 GB/s."""
    plain = system("hbm-pim")
    tiers = (
        Tier("registers", "scratchpad", register * units, 1e12, 1e12, 0.0, 1e-13, "a test"),
        Tier("buffer", "scratchpad", buffer, 1e10, 1e10, 0.0, 1e-12, "a test"),
        Tier("dram", "memory", 1e12, 1e9, 1e9, 0.0, 1e-10, "a test"),
    )
    engine = Engine("array", "matrix", {"int8": 2.0 * rate * units}, units, (), 1.0, "a test")
    device = replace(plain.device, tiers=tiers, engines=(engine,))
    return Target(replace(plain, device=device), efficiency(device))


def matmul(m: float, n: float, k: float) -> Op:
    return Op("matmul", "x", "mlp", {"m": m, "n": n, "k": k}, 2 * m * n * k,
              (Operand("a", "act", m * k, BYTE), Operand("w", "weight", n * k, BYTE)),
              (Operand("c", "act", m * n, BYTE),), "int8")  # fmt: skip


def conv(batch: float, side: float, c_in: float, c_out: float, window: float, stride: float = 1.0) -> Op:
    dims = {"batch": batch, "out_h": side, "out_w": side, "c_in": c_in, "c_out": c_out, "kh": window, "kw": window,
            "groups": 1.0, "stride": stride}  # fmt: skip
    outputs, taps = batch * side**2 * c_out, c_in * window**2
    inputs = batch * c_in * ((side - 1) * stride + window) ** 2
    return Op("conv", "x", "conv", dims, 2 * outputs * taps,
              (Operand("a", "act", inputs, BYTE), Operand("w", "weight", taps * c_out, BYTE)),
              (Operand("c", "act", outputs, BYTE),), "int8")  # fmt: skip


def test_weights_that_stay_in_the_array() -> None:
    """16 × 8 × 4 on 4 × 4 elements, k and n unrolled, weights held while 16 rows stream past, n in two halves.

    Each weight (32) enters the array once; each input (64) is read from the buffer once for each half of n and
    arrives at 4 columns; sums of 4 leave as one, 16 × 8 results, never to return.
    """
    mapping = Nest(((), (("n", 2.0), ("m", 16.0)), ()), (("k", 4.0), ("n", 4.0)))
    found = counted(matmul(16, 8, 4), array(), mapping)
    assert found.reads["dram"] == 64 + 32 and found.writes["dram"] == 128
    assert found.reads["buffer"] == 32 + 2 * 64 + 128
    assert found.writes["buffer"] == 64 + 32 + 128
    assert found.macs == 512
    # Into the registers: weights, inputs (four copies), and a sum a multiply-add; out of them operands and sums.
    assert found.writes["registers"] == 32 + 2 * 64 * 4 + 512
    assert found.reads["registers"] == 3 * 512 + 512
    assert found.cost.overlapped["compute"] == pytest.approx(32 / 1e9)
    assert found.utilization == pytest.approx(1.0)


def test_results_that_stay_are_written_once_and_others_come_back() -> None:
    """4 × 4 × 8 in DRAM loops over 1-element tiles: k innermost writes each of 16 results once; k outermost writes them
    8 times and reads them back 7."""
    stay = Nest(((("m", 4.0), ("n", 4.0), ("k", 8.0)), (), ()))
    leave = Nest(((("k", 8.0), ("m", 4.0), ("n", 4.0)), (), ()))
    first, second = (counted(matmul(4, 4, 8), array(1), x) for x in (stay, leave))
    assert first.writes["dram"] == 16 and first.reads["dram"] == 128 + 128
    # With m inside k and n innermost, an input stays for all n.
    assert second.writes["dram"] == 16 * 8 and second.reads["dram"] == 32 + 128 + 16 * 7


def test_a_window_slides_over_an_image_in_a_buffer() -> None:
    """A 3 × 3 convolution of one channel to two, 4 × 4 outputs, all in the buffer: 6 × 6 inputs come from DRAM once."""
    whole = tuple((d, n) for d, n in (("c_out", 2.0), ("out_h", 4.0), ("out_w", 4.0), ("kh", 3.0), ("kw", 3.0)))
    found = counted(conv(1, 4, 1, 2, 3), array(1), Nest(((), whole, ())))
    assert found.reads["dram"] == 36 + 18 and found.writes["dram"] == 32
    # One element at a time: results stay in the register through the window.
    assert found.writes["buffer"] == 36 + 18 + 32
    assert found.reads["buffer"] == 288 + 288 + 32
    halves = Nest(((("out_h", 2.0),), tuple((d, n / 2 if d == "out_h" else n) for d, n in whole), ()))
    # Two tiles of 2 × 4 outputs need 4 × 6 inputs each: the halo comes twice. Weights stay.
    assert counted(conv(1, 4, 1, 2, 3), array(1), halves).reads["dram"] == 2 * 24 + 18


MATMUL = {"first": ("m", "k"), "second": ("k", "n"), "out": ("m", "n")}


def executed(mapping: Nest, boundary: int) -> dict[str, tuple[int, int]]:
    """(elements brought or left at every change of tile, those of results that had been there before) by tensor."""
    outer = [x for loops in mapping.loops[: boundary + 1] for x in loops]
    inner = [x for loops in mapping.loops[boundary + 1 :] for x in loops] + list(mapping.spatial)

    def turns(loops: list[tuple[str, Any]]) -> list[dict[str, int]]:
        out = []
        for index in product(*(range(int(n)) for _, n in loops)):
            at = dict.fromkeys("mnk", 0)
            for (d, n), i in zip(loops, index, strict=True):
                at[d] = at[d] * int(n) + i
            out.append(at)
        return out

    inside = turns(inner)
    size = {d: max(x[d] for x in inside) + 1 for d in "mnk"}
    moved = {}
    for tensor, dims in MATMUL.items():
        total = back = 0
        here: set[tuple[int, ...]] = set()
        seen: set[tuple[int, ...]] = set()
        for at in turns(outer):
            tile = {tuple(at[d] * size[d] + x[d] for d in dims) for x in inside}
            if tile != here:
                total += len(tile)
                back += len(tile & seen)
                here, seen = tile, seen | tile
        moved[tensor] = (total, back)
    return moved


@st.composite
def mappings(draw: st.DrawFn) -> Nest:
    trips = st.sampled_from([1.0, 1.0, 2.0, 3.0])
    loops = tuple(tuple((d, draw(trips)) for d in draw(st.permutations("mnk"))) for _ in range(3))
    unrolled = draw(st.permutations("mnk"))[:2]
    return Nest(loops, tuple((d, draw(st.sampled_from([1.0, 2.0]))) for d in unrolled))


def sizes(mapping: Nest) -> tuple[float, float, float]:
    every = [x for loops in mapping.loops for x in loops] + list(mapping.spatial)
    m, n, k = (float(np.prod([t for d, t in every if d == x])) for x in "mnk")
    return m, n, k


@settings(max_examples=40, deadline=None)
@given(mappings())
def test_counts_are_those_of_executing_the_loops(mapping: Nest) -> None:
    m, n, k = sizes(mapping)
    found = counted(matmul(m, n, k), array(), mapping)
    outside, middle = executed(mapping, 0), executed(mapping, 1)

    def down(counts: dict[str, tuple[int, int]]) -> int:
        return counts["first"][0] + counts["second"][0] + counts["out"][1]

    assert found.reads["dram"] == down(outside)
    assert found.writes["dram"] == outside["out"][0]
    assert found.writes["buffer"] == down(outside) + middle["out"][0]
    assert found.reads["buffer"] == outside["out"][0] + down(middle)
    assert found.macs == m * n * k


@settings(max_examples=40, deadline=None)
@given(mappings(), mappings())
def test_n_mappings_of_one_order_are_n_answers(first: Nest, other: Nest) -> None:
    trips = dict(other.spatial)
    second = Nest(
        tuple(tuple((d, dict(b)[d]) for d, _ in a) for a, b in zip(first.loops, other.loops, strict=True)),
        tuple((d, trips.get(d, 1.0)) for d, _ in first.spatial),
    )
    both = Nest(
        tuple(tuple((d, np.array([x, y])) for (d, x), (_, y) in zip(a, b, strict=True))
              for a, b in zip(first.loops, second.loops, strict=True)),
        tuple((d, np.array([x, y])) for (d, x), (_, y) in zip(first.spatial, second.spatial, strict=True)),
    )  # fmt: skip
    op, on = matmul(16, 16, 16), array()
    many = counted(op, on, both)
    for i, one in enumerate((counted(op, on, first), counted(op, on, second))):
        for name in many.reads:
            assert np.ravel(many.reads[name])[i] == one.reads[name]
            assert np.ravel(many.writes[name])[i] == one.writes[name]
        assert np.ravel(many.fits)[i] == one.fits


def test_tiles_that_do_not_fit_have_no_price() -> None:
    mapping = Nest(((), (("m", 16.0), ("n", 8.0), ("k", 4.0)), ()))
    op = matmul(16, 8, 4)
    for buffer, fits in ((448.0, True), (447.0, False)):  # twice 64 + 32 + 128 bytes
        on = replace(array(buffer=buffer), mapping=lambda _: mapping.mapping)
        assert bool(counted(op, on, mapping).fits) is fits
        assert np.isfinite(price(op, on).time) == fits


def test_an_op_without_a_mapping_is_priced_by_bounds() -> None:
    op = matmul(64, 64, 64)
    assert price(op, replace(array(), mapping=lambda _: None)) == price(op, array())


@pytest.mark.parametrize("op", [matmul(256, 256, 256), conv(1, 28, 32, 64, 3)])
def test_the_mapper_finds_near_its_floor_and_never_below(op: Op) -> None:
    on = array(units=64, buffer=1e5, register=256.0)
    mapping, floor = mapper(op, on, lambda s: s.cost.time, deadline=1.0)
    found = counted(op, on, mapping)
    assert bool(found.fits)
    assert floor <= found.cost.time <= 3.0 * floor
    assert float(found.macs) * 2 >= op.flops


def test_what_has_no_mapping_says_so() -> None:
    norm = Op("norm", "norm", "norm", {}, 0.0, (), (), "fp32")
    with pytest.raises(TierwiseError, match="no mapping of a norm"):
        counted(norm, array(), Nest(((), (), ())))
    with pytest.raises(TierwiseError, match="has 3 \\(dram, buffer, registers\\)"):
        counted(matmul(4, 4, 4), array(), Nest(((), ())))
