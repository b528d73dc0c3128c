"""Fitted experts: bounds, monotony, how recorded distributions load a rank, and the recorded measurements."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from tests import recorded

from tierwise.cost import Target, efficiency, price
from tierwise.cost.experts import tile_rows
from tierwise.machines import system
from tierwise.measure.rows import moe
from tierwise.program.types import Op


def on(name: str, engine: str = "") -> Target:
    s = system(name)
    return Target(s, efficiency(s.device, engine))


def op(tokens: object, dtype: str = "bfloat16", ep: int = 1) -> Op:
    count = np.atleast_1d(np.asarray(tokens))
    columns = {"num_tokens": count, "hidden_size": 4096, "inter_size": 1536, "topk": 8, "num_experts": 128,
               "moe_tp_size": 1, "moe_ep_size": ep}  # fmt: skip
    rows = {c: np.broadcast_to(v, count.shape) for c, v in columns.items()}
    return moe.op({**rows, "distribution": np.full(count.shape, "balanced"),
                   "moe_dtype": np.full(count.shape, dtype)})  # fmt: skip


@pytest.mark.parametrize("name", ["a100-sxm-80gb", "h100-sxm", "l40s", "b200-sxm"])
def test_experts_are_never_faster_than_their_weights_or_their_arithmetic(name: str) -> None:
    target, made = on(name), op(2 ** np.arange(0, 15))
    time = price(made, target).time
    assert np.all(time >= made.bytes_of("weight") / target.memory.bandwidth)
    assert np.all(time >= made.flops / target.rate("bf16")[0])
    assert np.all(np.diff(time) >= -0.1 * time[:-1])


def test_narrower_weights_are_read_faster_when_few_tokens_come() -> None:
    wide, narrow = (price(op(16, d), on("b200-sxm", "trtllm")).time for d in ("bfloat16", "nvfp4"))
    assert narrow[0] < 0.6 * wide[0]


def test_a_balanced_load_is_every_token_once_per_choice() -> None:
    rows, touched, *_ = moe.load(1024, 8, 128, 4, "balanced")
    assert rows == pytest.approx(1024 * 8 / 4) and touched == 32


def test_a_power_law_loads_its_worst_rank_more_but_not_beyond_all() -> None:
    even = moe.load(1024, 8, 128, 8, "balanced")[0]
    worst = moe.load(1024, 8, 128, 8, "power_law_1.2")[0]
    assert even < worst < 1024 * 8
    assert moe.load(2, 8, 256, 8, "power_law_1.2")[1] < 16


@pytest.mark.parametrize("name", ["b200-sxm", "h100-sxm", "l40s", "rtx-pro-6000-server"])
def test_one_scale_a_tensor_is_no_work_so_coefficients_of_sixteen_bits_do_for_eight(name: str) -> None:
    """TensorRT-LLM's CUTLASS experts, where both formats were recorded."""
    target = on(name, "trtllm")
    fits = target.efficiency.fits
    eight = op(2 ** np.arange(2, 15, 2), "fp8")
    own, wide = (
        price(eight, replace(target, efficiency=replace(target.efficiency, fits={("moe", "*", "*"): fits[k]}))).time
        for k in (("moe", "fp8", "trtllm"), ("moe", "bf16", "trtllm"))
    )
    assert np.median(np.abs(np.log(wide / own))) < np.log(1.2)


def test_tiles_go_by_tokens_as_the_version_of_an_engine_has_it() -> None:
    tokens = np.asarray([1.0, 32.0, 33.0, 96.0, 97.0, 512.0, 513.0])
    by = [tile_rows({"by_tokens": b, "tile": 64.0}, 8.0 * tokens, 64.0, tokens, 128.0) for b in (1.0, 2.0, 3.0)]
    assert by[0].tolist() == [16, 16, 16, 64, 64, 64, 64]  # 64 tokens
    assert by[1].tolist() == [16, 16, 16, 16, 16, 64, 64]  # as many as there are experts
    assert by[2].tolist() == [16, 16, 32, 32, 64, 64, 128]


def test_recorded_measurements_are_met() -> None:
    found = recorded.accuracy("moe", step=9)
    assert found.median <= 0.10
    assert 0.75 <= found.coverage <= 0.87
