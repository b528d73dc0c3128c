"""GEMM prices: never faster than the machine, waves where tiles run out, traffic that operands demand."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.numerics import fmt
from tierwise.cost import Target, efficiency, price
from tierwise.machines import system
from tierwise.program.types import Op, Operand

BF16 = fmt("bf16")


def gemm(m: object, n: object, k: object, weights: str = "bf16", arithmetic: str = "bf16") -> Op:
    m, n, k = (np.asarray(x, dtype=float) if np.ndim(x) else float(x) for x in (m, n, k))  # type: ignore[arg-type]
    reads = (Operand("x", "act", m * k, BF16), Operand("w", "weight", n * k, fmt(weights)))
    return Op("matmul", "gemm", "mlp", {"m": m, "n": n, "k": k}, 2.0 * m * n * k, reads,
              (Operand("y", "act", m * n, BF16),), arithmetic)  # fmt: skip


def on(name: str = "h100-sxm") -> Target:
    s = system(name)
    return Target(s, efficiency(s.device))


def plain(name: str = "h100-sxm") -> Target:
    """Priced from the datasheet's fractions, whatever was measured."""
    target = on(name)
    return replace(target, efficiency=replace(target.efficiency, fits={}))


sizes = st.integers(1, 20000)


@settings(max_examples=60, deadline=None)
@given(sizes, sizes, sizes, st.sampled_from(["h100-sxm", "a100-80gb", "xeon-8480", "rtx-4090", "v100-sxm-32gb"]))
def test_never_faster_than_the_datasheet(m: int, n: int, k: int, name: str) -> None:
    target = on(name)
    cost = price(gemm(m, n, k), target)
    rate, _ = target.rate("bf16")
    assert cost.time >= 2.0 * m * n * k / rate
    assert cost.time >= 2.0 * n * k / target.memory.bandwidth
    assert cost.time == pytest.approx(cost.busy + sum(cost.serial.values()))


@settings(max_examples=40, deadline=None)
@given(sizes, sizes, sizes)
def test_twice_the_work_never_takes_less(m: int, n: int, k: int) -> None:
    target = plain()
    base = price(gemm(m, n, k), target).time
    for bigger in (gemm(2 * m, n, k), gemm(m, 2 * n, k), gemm(m, n, 2 * k)):
        assert price(bigger, target).time >= base * (1 - 1e-12)


def test_a_part_filled_last_wave_costs_a_whole_one() -> None:
    target = plain()
    _, engine = target.rate("bf16")
    only = replace(target.device.engines[0], tiles=((128, 128),))
    machine = replace(target.system, device=replace(target.device, engines=(only, *target.device.engines[1:])))
    target = replace(target, system=machine)
    full = price(gemm(128 * engine.units, 128, 8192), target).overlapped["compute"]
    spill = price(gemm(128 * (engine.units + 1), 128, 8192), target).overlapped["compute"]
    assert spill == pytest.approx(2 * full, rel=1e-9)


def test_small_batches_are_bound_by_weights_and_large_ones_by_arithmetic() -> None:
    one, many = price(gemm(1, 8192, 8192), on()), price(gemm(8192, 8192, 8192), on())
    assert one.bound_by == "hbm"
    assert many.overlapped["compute"] > many.overlapped["hbm"]


def test_weight_bits_set_the_time_of_a_memory_bound_gemm() -> None:
    wide, narrow = (price(gemm(1, 16384, 16384, w), plain()).overlapped["hbm"] for w in ("bf16", "int4-g128"))
    assert wide / narrow == pytest.approx(16 / (4 + 20 / 128), rel=0.01)
    # Measured kernels pay a first trip to memory besides, and whoever wrote them reaches their own share of it.
    wide, narrow = (price(gemm(1, 65536, 65536, w), on()).overlapped["hbm"] for w in ("bf16", "int4-g128"))
    assert wide / narrow == pytest.approx(16 / (4 + 20 / 128), rel=0.1)


def test_weights_that_live_in_the_cache_are_not_fetched() -> None:
    target = replace(plain(), resident=1.0)
    assert price(gemm(1, 1024, 1024), target).bytes["hbm"] == 0.0
    assert price(gemm(1, 1024, 1024), replace(on(), resident=1.0)).bytes["hbm"] < 1.0


def test_a_device_without_the_dtype_uses_a_wider_one() -> None:
    a100, h100 = on("a100-80gb"), on("h100-sxm")
    assert a100.rate("fp8")[0] == a100.rate("bf16")[0]
    assert h100.rate("fp8")[0] == pytest.approx(2 * h100.rate("bf16")[0], rel=0.01)


def test_arrays_and_scalars_agree() -> None:
    target = on()
    m, n = np.array([1.0, 64.0, 4096.0])[:, None], np.array([512.0, 28672.0])
    many = price(gemm(m, n, 4096.0), target)
    for i, x in enumerate(m[:, 0]):
        for j, y in enumerate(n):
            one = price(gemm(float(x), float(y), 4096.0), target)
            assert many.time[i, j] == pytest.approx(one.time, rel=1e-12)
            assert many.bound_by[i, j] == one.bound_by
