"""Attention prices: cache traffic when decoding, quadratic work in prefill, scores in memory when unfused."""

from dataclasses import replace

import pytest

import tierwise as tw
from tierwise.models.types import Model
from tierwise.result import PricedOp, Result


def core(result: Result, phase: str) -> PricedOp:
    return next(p for p in result.phase(phase).ops if p.op.name == "attn.core")


def run(model: Model, machine: str = "h100-sxm", plan: tw.Plan | None = None, **traffic: float) -> Result:
    return tw.evaluate(tw.Scenario(model, machine, tw.Batch(**traffic), plan or tw.Plan(chunk=1e9)))


def test_decode_reads_the_whole_cache_once(dense: Model) -> None:
    r = run(dense, prompt=4096, output=2, batch=64)
    expected = 64 * 4096 * 2 * 4 * 64 * 2  # sequences × tokens × (K, V) × KV heads × width × bytes
    assert core(r, "decode").op.bytes_of("kv") == pytest.approx(expected)
    assert core(r, "decode").cost.bound_by == "hbm"


def test_causal_prefill_does_half_the_square(dense: Model) -> None:
    r = run(dense, prompt=4096, output=1)
    square = 2 * 16 * (64 + 64) * 4096**2
    assert core(r, "prefill").op.flops == pytest.approx(square / 2, rel=1e-3)


def test_unfused_attention_moves_its_scores_four_times(dense: Model) -> None:
    fused = core(run(dense, prompt=8192, output=1), "prefill").cost
    plan = tw.Plan(chunk=1e9, flash=False)
    unfused = core(run(dense, plan=plan, prompt=8192, output=1), "prefill").cost
    scores = 16 * 8192**2 * 2
    assert unfused.bytes["hbm"] - fused.bytes["hbm"] == pytest.approx(4 * scores, rel=1e-6)
    assert unfused.time > 2 * fused.time


def test_a_window_bounds_what_is_read(dense: Model) -> None:
    def narrow(block: object) -> object:
        return replace(block, window=1024.0) if type(block).__name__ == "Attention" else block  # type: ignore[type-var]

    windowed = dense.map_blocks(narrow)  # type: ignore[arg-type]
    short, long = (run(windowed, prompt=p, output=2, batch=8) for p in (1024, 65536))
    assert core(short, "decode").op.bytes_of("kv") == pytest.approx(core(long, "decode").op.bytes_of("kv"))
    # The chunk in work is counted once beside what sequences keep, and is shorter where the prompt is.
    assert short.memory.kv - short.memory.chunk == pytest.approx(long.memory.kv - long.memory.chunk)


def test_chunked_prefill_does_the_same_arithmetic(dense: Model) -> None:
    whole = run(dense, prompt=16384, output=1).phase("prefill")
    cut = run(dense, plan=tw.Plan(chunk=2048.0), prompt=16384, output=1).phase("prefill")
    assert cut.passes == 8
    head = 2 * 1024 * 32000.0  # only the last chunk needs logits, which the mean pass spreads out
    assert cut.flops * cut.passes == pytest.approx(whole.flops, rel=1e-6, abs=8 * head)
