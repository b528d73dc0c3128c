"""Fitted GEMM prices: what the coefficients must not break, and what they rest on."""

from dataclasses import replace

import numpy as np
import pytest
from tests.cost.test_matmul import gemm

from tierwise.core.numerics import fmt
from tierwise.cost import Target, efficiency, price
from tierwise.machines import system

MEASURED = ("a100-80gb", "h100-sxm", "l40s", "b200-sxm")


def on(name: str, engine: str = "", **changes: object) -> Target:
    s = system(name)
    return replace(Target(s, efficiency(s.device, engine)), **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", MEASURED)
def test_a_measured_device_is_calibrated_and_its_interval_is_narrower_than_the_generic_one(name: str) -> None:
    cost = price(gemm(512, 4096, 4096), on(name))
    assert cost.basis == "calibrated"
    low, high = cost.interval
    assert 0.7 < low < 1 < high < 1.4


@pytest.mark.parametrize(
    ("name", "basis"),
    [("h200-sxm", "transferred"), ("gb200", "transferred"), ("rtx-4090", "transferred"),
     ("mi300x", "datasheet"), ("xeon-8480", "datasheet"), ("tpu-v5e", "datasheet")],
)  # fmt: skip
def test_what_a_price_rests_on(name: str, basis: str) -> None:
    assert price(gemm(512, 4096, 4096), on(name)).basis == basis


def test_transferred_intervals_are_wider_than_calibrated_ones() -> None:
    (low, high), (lower, higher) = (price(gemm(64, 4096, 4096), on(n)).interval for n in ("h100-sxm", "h200-sxm"))
    assert lower < low and higher > high


def test_an_unknown_engine_is_a_typical_one_and_a_kernel_of_an_engine_falls_back_to_the_engine() -> None:
    op = gemm(300, 4096, 4096)
    typical, stranger = price(op, on("h100-sxm")).time, price(op, on("h100-sxm", "nobody")).time
    assert typical == stranger
    assert price(op, on("h100-sxm", "vllm:new_kernel")).time == price(op, on("h100-sxm", "vllm")).time


def test_engines_differ_but_not_by_much() -> None:
    times = [price(gemm(2048, 8192, 8192), on("h100-sxm", e)).time for e in ("vllm", "sglang", "trtllm")]
    assert 1.0 < max(times) / min(times) < 1.3


@pytest.mark.parametrize("name", MEASURED)
def test_a_loop_over_small_weights_finds_them_in_the_cache_and_over_large_ones_does_not(name: str) -> None:
    op, big = gemm(8, 1024, 2048), gemm(8, 16384, 16384)
    assert price(op, on(name, weight_copies=6.0)).time < price(op, on(name)).time
    memory = on(name).memory.name
    looped, alone = (price(big, on(name, weight_copies=c)).overlapped[memory] for c in (6.0, 0.0))
    assert looped == pytest.approx(alone, rel=1e-3)


def test_a_long_run_of_arithmetic_loses_clock_and_a_short_loop_does_not() -> None:
    op = gemm(512, 4096, 4096)
    looped, among_others = (price(op, on("h100-sxm", weight_copies=c)).serial["throttle"] for c in (6.0, 0.0))
    assert looped < 0.1 * among_others
    assert price(gemm(1, 4096, 4096), on("h100-sxm")).serial["throttle"] < 0.02 * price(op, on("h100-sxm")).time


@pytest.mark.parametrize("name", MEASURED)
def test_skinny_products_approach_the_bandwidth_and_square_ones_the_arithmetic(name: str) -> None:
    target = on(name)
    skinny, square = gemm(1, 65536, 16384), gemm(8192, 8192, 8192)
    bandwidth = 2.0 * 65536 * 16384 / price(skinny, target).time
    assert 0.65 < bandwidth / target.memory.bandwidth < 1.0
    assert 0.5 < square.flops / price(square, target).time / target.rate("bf16")[0] < 1.0


def test_a_kernel_launched_by_the_host_takes_at_least_that_long() -> None:
    op = gemm(16, 2048, 2048, "fp8-block", "fp8")
    graph, eager = (price(op, on("h100-sxm", "vllm", graphs=g)) for g in (True, False))
    assert eager.time > graph.time
    assert eager.bound_by == "launch"
    large = gemm(8192, 16384, 16384, "fp8-block", "fp8")
    assert price(large, on("h100-sxm", "vllm", graphs=False)).bound_by == "compute"


def test_narrow_arithmetic_pays_for_quantizing_activations_and_still_wins_when_large() -> None:
    target = on("h100-sxm")
    small = [price(gemm(16, 256, 256, w, w), target).time for w in ("bf16", "fp8")]
    large = [price(gemm(8192, 8192, 8192, w, w), target).time for w in ("bf16", "fp8")]
    assert small[1] > small[0]
    assert large[1] < 0.8 * large[0]


def test_a_device_without_the_arithmetic_borrows_the_nearest_class() -> None:
    cost = price(gemm(16, 8192, 8192, "fp8", "fp8"), on("a100-80gb"))
    wide = price(gemm(16, 8192, 8192), on("a100-80gb"))
    assert np.isfinite(cost.time) and cost.overlapped["hbm"] < 0.8 * wide.overlapped["hbm"]


def test_an_array_of_formats_gives_the_price_of_each() -> None:
    target, names = on("b200-sxm"), np.array(["bf16", "fp8", "nvfp4"])
    arithmetic = np.array(["bf16", "fp8", "fp4"])
    base = gemm(np.full(3, 512.0), np.full(3, 4096.0), np.full(3, 4096.0))
    weights = replace(base.reads[1], format=fmt(names))
    many = price(replace(base, reads=(base.reads[0], weights), arithmetic=arithmetic), target)
    for i, (w, a) in enumerate(zip(names, arithmetic, strict=True)):
        one = price(gemm(512, 4096, 4096, str(w), str(a)), target)
        assert many.time[i] == pytest.approx(one.time, rel=1e-12)
        assert np.broadcast_to(many.interval[1], 3)[i] == pytest.approx(one.interval[1])


def test_parts_add_up_to_the_time() -> None:
    cost = price(gemm(512, 4096, 4096, "fp8", "fp8"), on("h100-sxm", "sglang"))
    assert set(cost.overlapped) == {"compute", "hbm", "l2"}
    assert set(cost.serial) == {"dispatch", "overlap", "split", "throttle", "quantize"}
    assert cost.time == pytest.approx(cost.busy + sum(cost.serial.values()), rel=1e-12)
    assert all(v >= -1e-15 for v in cost.serial.values())


@pytest.mark.parametrize("name", MEASURED)
@pytest.mark.parametrize("formats", [("bf16", "bf16"), ("fp8", "fp8"), ("int4-g128", "bf16")])
def test_never_faster_than_the_datasheet_and_rarely_cheaper_for_more_work(name: str, formats: tuple[str, str]) -> None:
    """Kernels that cut K, or go by the rows, may do a little better with more work; it must stay rare and small."""
    target, random = on(name), np.random.default_rng(0)
    m, n, k = (np.floor(2.0 ** random.uniform(0.0, 16.0, 2000)) for _ in range(3))
    op = gemm(m, n, k, *formats)
    time = np.asarray(price(op, target).time)
    assert np.all(time > op.flops / np.asarray(target.rate(formats[1])[0]))
    assert np.all(time > op.reads[1].bytes / target.memory.bandwidth)
    for bigger in ((2 * m, n, k), (m, 2 * n, k), (m, n, 2 * k)):
        ratio = np.asarray(price(gemm(*bigger, *formats), target).time) / time
        assert np.mean(ratio < 1.0) < 0.01
        assert ratio.min() > 0.8
