"""Decoding rows beside a chunk: what reads, tiles and measured calls of the same kernel bound."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tierwise.cost import Target, efficiency, flash
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Replicas, Settings
from tierwise.serving.pricing import step_prices
from tierwise.serving.steps import StepPrices
from tierwise.steps.mixed import rows_in_tiles

MEASURED = Path(__file__).parents[3] / "shared" / "data" / "ops" / "attention_decode.parquet"


def prices(model: str, machine: str) -> StepPrices:
    return step_prices(load_model(model), Replicas(system(machine), Plan(), settings=Settings(max_len=16384)))


def times(p: StepPrices, seqs: int, context: int) -> tuple[float, float]:
    assert p.decode_mixed is not None
    i, j = int(np.argmin(np.abs(p.decode_seqs - seqs))), int(np.argmin(np.abs(p.decode_context - context)))
    return float(p.decode[i, j, 0]), float(p.decode_mixed[i, j, 0])


@pytest.mark.parametrize("machine", ["1xa100-80gb", "1xl40s", "1xrtx-pro-6000"])
def test_beyond_the_cache_every_head_reads_its_own(machine: str) -> None:
    p = prices("llama-3.1-8b", machine)
    # 256 sequences of 8192 tokens and 512 B: 1 GB for one KV head; groups are of 4.
    alone, beside = times(p, 256, 8192)
    assert 3.5 * alone < beside < 4.4 * alone
    # Reads of 4 x 32 KiB a token and layer cannot be faster than the memory.
    bandwidth = next(t.bandwidth for t in system(machine).device.tiers if t.kind == "memory")
    assert beside > 256 * 8192 * 4 * 131072 / bandwidth


def test_within_the_cache_arithmetic_of_whole_tiles_decides() -> None:
    alone, beside = times(prices("llama-3.1-8b", "1xrtx-pro-6000"), 64, 512)
    # 64 rows in each of 32 layers and 32 heads, 512 keys: 17 MB for one KV head, 128 MiB of cache.
    floor = 32 * 64 * 32 * 64 * 512 * 4 * 128 / 504e12
    assert max(floor, alone) < beside < 3.0 * alone


def test_more_rows_and_longer_ones_take_longer_beside_a_chunk() -> None:
    p = prices("llama-3.1-8b", "1xa100-80gb")
    mixed = p.decode_mixed
    assert mixed is not None and np.all(np.isfinite(mixed))
    time = mixed[1:, 1:, 0]
    # Where a kernel begins to cut the cache further a little more may take a little less; twice as much never does.
    doubled = time[:, np.isin(p.decode_context[1:], 2.0 ** np.arange(32))]
    assert np.all(np.diff(doubled, axis=1) >= -1e-5)
    # Fewer tiles than units: a part-filled wave counts a little, so twice the tiles may take a few percent less.
    assert np.all(np.diff(time, axis=0) >= -0.05 * time[:-1])
    # No resource is busier for longer than the step gets longer.
    more = mixed - p.decode
    assert np.all(more >= -1e-12) and np.all(more[..., 1:] <= more[..., :1] + 1e-9)


def test_kernels_that_tell_rows_from_chunks_take_what_they_take() -> None:
    latent = prices("deepseek-v2-lite", "1xa100-80gb")
    assert latent.decode_mixed is not None and np.array_equal(latent.decode_mixed, latent.decode)
    apart = prices("llama-3.1-8b", "1xh100-sxm")
    assert apart.decode_mixed is not None and np.array_equal(apart.decode_mixed, apart.decode)


@pytest.mark.parametrize(("name", "machine", "most"), [("a100_sxm", "a100-sxm-80gb", 0.08), ("l40s", "l40s", 0.13)])
def test_measured_calls_of_the_same_kernel(name: str, machine: str, most: float) -> None:
    """Groups of one and windows not yet full are never packed, so these calls are rows in tiles of their own."""
    pq = pytest.importorskip("pyarrow.parquet")
    if not MEASURED.exists():
        pytest.skip("no measurements at ../shared/data/ops")
    keep = [("system", "=", name), ("engine", "=", "vllm"), ("head_dim", "=", 128), ("kv_cache_dtype", "=", "bfloat16")]
    device = system(machine).device
    on = Target(system(machine), efficiency(device, "vllm"))
    rate, engine = on.rate("bf16")
    assert device.cache is not None
    vector = on.rate("fp32", "vector")[0]
    chip = flash.Chip(rate, vector, float(engine.units), on.memory.bandwidth, device.cache.bandwidth,
                      on.cache_capacity, vector)  # fmt: skip
    decode, prefill = (on.efficiency.fit(f"attention_{x}", "bf16") for x in ("decode", "prefill"))
    assert decode is not None and prefill is not None
    scratch = next(t.capacity for t in device.tiers if t.kind == "scratchpad")
    errors = []
    for x in pq.read_table(MEASURED, filters=keep).to_pylist():
        batch, heads, kv, context = x["batch_size"], x["num_heads"], x["num_key_value_heads"], x["isl"] + x["step"]
        whole = not x["window_size"] and heads == kv
        unpacked = whole if name == "a100_sxm" else bool(x["window_size"]) and context <= x["window_size"]
        if unpacked and "flash_attn" in x["kernel_source"] and batch * heads * context > 1e5:
            said, _, _ = rows_in_tiles(
                chip, decode.values, prefill.values, 64, scratch, batch, heads, kv, context, 128.0
            )
            errors.append(abs(float(said) / (x["latency"] * 1e-3) - 1.0))
    assert len(errors) > 50 and np.median(errors) < most
