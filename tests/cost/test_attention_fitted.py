"""Fitted attention: what must hold whatever the coefficients, and the recorded measurements they came from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests import recorded

from tierwise.cost import Target, efficiency, price
from tierwise.machines import system
from tierwise.measure.rows import attention
from tierwise.program.types import Op

DEVICES = ["a100-sxm-80gb", "h100-sxm", "l40s", "b200-sxm"]


def on(name: str, engine: str = "", warm: bool = False) -> Target:
    s = system(name)
    return Target(s, efficiency(s.device, engine), weight_copies=1.0 if warm else 0.0)


def op(phase: str, batch: object, q: object, past: object, heads: object = 32, kv_heads: object = 8,
       width: object = 128, window: object = 0) -> Op:  # fmt: skip
    columns = {"batch_size": batch, "isl": q, "step": past, "num_heads": heads, "num_key_value_heads": kv_heads,
               "head_dim": width, "window_size": window}  # fmt: skip
    arrays = dict(zip(columns, np.broadcast_arrays(*columns.values()), strict=True))
    shape = arrays["isl"].shape
    return attention.op({**arrays, "kv_cache_dtype": np.full(shape, "bfloat16")}, phase)


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(DEVICES), st.sampled_from(["", "vllm", "trtllm", "sglang"]), st.integers(1, 256),
       st.integers(1, 16384))  # fmt: skip
def test_decode_is_never_faster_than_its_cache_through_the_memory(
    name: str, engine: str, batch: int, context: int
) -> None:
    target = on(name, engine)
    made = op("decode", batch, 1, context)
    assert np.all(price(made, target).time >= made.bytes_of("kv") / target.memory.bandwidth)


@pytest.mark.parametrize("name", DEVICES)
@pytest.mark.parametrize("engine", ["", "vllm", "trtllm", "sglang"])
def test_drafts_of_a_sequence_are_verified_with_one_reading_of_its_cache(name: str, engine: str) -> None:
    one, queries = op("decode", 32, 1, 8192), np.arange(1.0, 9.0)
    target = on(name, engine)
    cost = price(replace(one, dims={**one.dims, "q": queries}, flops=one.flops * queries), target)
    times = np.asarray(cost.time)
    assert np.all(np.diff(times) >= 0.0) and times[0] == pytest.approx(np.asarray(price(one, target).time))
    # 4.3 GB of cache; eight queries of four heads are 32 rows, less than one tile of any kernel.
    assert times[-1] < 1.35 * times[0]
    # Many heads of a group are more rows than a tile has, and their arithmetic is what it is.
    many = op("decode", 32, 1, 8192, heads=128, kv_heads=1)
    many = replace(many, dims={**many.dims, "q": queries}, flops=many.flops * queries)
    assert np.all(np.asarray(price(many, target).time) >= many.flops / target.rate("bf16")[0])


@settings(max_examples=30, deadline=None)
@given(st.sampled_from(DEVICES), st.integers(1, 64), st.integers(1, 16384))
def test_prefill_is_never_faster_than_its_arithmetic(name: str, batch: int, q: int) -> None:
    target = on(name)
    made = op("prefill", batch, q, 0)
    assert np.all(price(made, target).time >= made.flops / target.rate("bf16")[0])


@pytest.mark.parametrize("name", DEVICES)
def test_longer_contexts_and_larger_batches_never_cost_less(name: str) -> None:
    sizes = 2 ** np.arange(0, 16)
    for made in (op("decode", 8, 1, sizes), op("decode", sizes[:9], 1, 1024), op("prefill", 1, sizes, 0)):
        times = np.asarray(price(made, on(name, "vllm")).time)
        assert np.all(times[1:] >= times[:-1] * 0.9), times


def test_a_window_never_costs_more_than_the_whole_context() -> None:
    q = np.array([1024, 8192, 32768])
    whole, narrow = (price(op("prefill", 1, q, 0, window=w), on("h100-sxm", "trtllm")).time for w in (0, 1024))
    assert np.all(narrow <= whole * 1.001)
    assert narrow[-1] < 0.2 * whole[-1]


def test_a_cache_read_again_and_again_is_warm_only_in_a_loop() -> None:
    made = op("decode", 32, 1, 128)
    assert np.all(price(made, on("h100-sxm", warm=True)).time < price(made, on("h100-sxm")).time)


def test_chunks_with_cached_tokens_sum_to_the_whole() -> None:
    whole = price(op("prefill", 1, 16384, 0), on("h100-sxm")).time
    cut = sum(float(np.ravel(price(op("prefill", 1, 2048, past), on("h100-sxm")).time)[0])
              for past in range(0, 16384, 2048))  # fmt: skip
    assert cut == pytest.approx(float(np.ravel(whole)[0]), rel=0.5)


def test_arrays_agree_with_scalars() -> None:
    batch, context = np.array([1, 16, 256]), np.array([1, 700, 9000])
    many = price(op("decode", batch, 1, context), on("b200-sxm")).time
    for i in range(3):
        one = price(op("decode", int(batch[i]), 1, int(context[i])), on("b200-sxm")).time
        assert many[i] == pytest.approx(float(np.ravel(one)[0]), rel=1e-12)


@pytest.mark.parametrize("file,most", [("attention_prefill", 0.08), ("attention_decode", 0.08), ("mla_prefill", 0.08),
                                       ("mla_decode", 0.08)])  # fmt: skip
def test_recorded_measurements_are_met(file: str, most: float) -> None:
    found = recorded.accuracy(file, step=7)
    assert found.median <= most
    assert 0.75 <= found.coverage <= 0.87


def test_a_device_without_its_own_measurements_says_transferred() -> None:
    made = op("decode", 8, 1, 2048)
    assert price(made, on("h200-sxm")).basis == "transferred"
    assert price(made, on("h100-sxm")).basis == "calibrated"
    assert price(made, replace(on("h100-sxm"), efficiency=replace(on("h100-sxm").efficiency, fits={}))).basis != (
        "calibrated"
    )


def test_the_cache_is_written_by_an_op_of_its_own_in_a_program_and_by_this_one_in_a_recording() -> None:
    made, found = op("prefill", 1, 4096, 0), on("h100-sxm", "vllm")
    (fit,) = (f for k, f in found.efficiency.fits.items() if k == ("attention_prefill", "bf16", "vllm"))
    assert fit.values["write"] > 0.0
    without = replace(fit, values={**fit.values, "write": 0.0})
    bare = replace(found.efficiency, fits={("attention_prefill", "bf16", "vllm"): without})
    for copies in (0.0, 1.0):
        program = replace(found, weight_copies=copies)
        longer = price(made, program).time - price(made, replace(program, efficiency=bare)).time
        assert np.all(longer > 0.0) if copies else np.all(longer == 0.0)
