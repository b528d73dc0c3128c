"""What must be true of the mechanisms of papers on caches, weights and attention, whatever the numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tierwise import Batch, Scenario, evaluate, techniques
from tierwise.core.num import num
from tierwise.papers.catalog import (
    block_transformer,
    cskv,
    csr_kv_sparse_representation,
    kinetics,
    kivi,
    ladder_residual,
    llm_viewer,
    long_context_peak_performance,
    marlin,
    matmul_free_lm,
    matryoshkakv,
    qmoe,
    relayattention,
    spqr,
    xquant,
)
from tierwise.techniques.codes import _dictionary_bits


def kv_bytes(*changes: object) -> float:
    scenario = Scenario("llama-2-7b", "a100-sxm-80gb", Batch(prompt=1024, output=2, batch=4)).apply(*changes)  # type: ignore[arg-type]
    return float(evaluate(scenario).phase("decode").reads("kv"))


def test_half_the_bits_are_half_the_cache() -> None:
    eight, four = (kv_bytes(techniques.quantize_kv(format=f"{b}bit")) for b in (8, 4))
    assert eight == pytest.approx(2.0 * four)
    assert kv_bytes() == pytest.approx(2.0 * eight)


def test_a_shorter_window_and_fewer_bits_leave_room_for_more() -> None:
    plain, short, long = (float(evaluate(s).batch) for s in (kivi.BASE, kivi.kivi(32), kivi.kivi(128)))
    assert plain < long < short
    # Never more than the whole cache at its stored width would allow.
    assert short / plain <= 16.0 / 3.0 + 0.01


def test_four_bit_weights_never_gain_more_than_their_bytes() -> None:
    gains = np.asarray(marlin.layer_speedup(marlin.BATCHES))
    # Kernels of both widths were fitted apart, so each has its own share of the bandwidth, equal to a percent.
    assert np.all(gains <= 16.0 / 4.125 * 1.01)
    # The gain only fades as arithmetic takes over (a change of tile may give a percent back).
    assert np.all(np.diff(gains) <= 0.01 * gains[:-1])
    assert gains[-1] < 0.6 * gains[0]


@pytest.mark.parametrize("zeros", [0.5, 0.8, 0.885, 0.95, 0.999])
def test_a_dictionary_code_stays_above_the_entropy_and_near_it(zeros: float) -> None:
    part = (zeros, (1 - zeros) / 2, (1 - zeros) / 2)
    entropy = -sum(p * math.log2(p) for p in part)
    floor = max(entropy, 16 / 28)  # a word names at most 28 weights with 16 bits
    assert floor <= _dictionary_bits(zeros, 2**16, 28, 10**9) < 1.2 * floor


def test_a_larger_dictionary_codes_shorter() -> None:
    small, large = (_dictionary_bits(0.885, n, 28, 4096) for n in (2**8, 2**16))
    assert large < small


def test_only_experts_are_compressed() -> None:
    before, after = (evaluate(s).memory.weights for s in (qmoe.PLAIN, qmoe.PLAIN.apply(qmoe.COMPRESS)))
    assert after["expert"] < before["expert"] / 16
    assert all(after[role] == before[role] for role in before if role != "expert")


def test_outliers_cost_thirty_two_bits_each() -> None:
    few, many = (
        float(evaluate(spqr.base("rtx-4090").apply(techniques.quantize_with_outliers(3, r))).memory.weights["mlp"])
        for r in (0.0, 0.01)
    )
    elements = 60 * 3 * 6656 * 17920
    assert (many - few) * 8 / elements == pytest.approx(0.32)
    assert few * 8 / elements == pytest.approx(3 + 6 / 16 + 64 / 256)


def test_inputs_replace_two_tensors_only_with_multi_head_attention() -> None:
    assert xquant.saving() == pytest.approx(2.0)
    grouped = Scenario("llama-3-8b", "a100-sxm-80gb", Batch(prompt=1024, output=2, batch=1))
    plain, remat = (evaluate(s).memory.per_sequence for s in (grouped, grouped.apply(techniques.rematerialize_kv())))
    assert remat == pytest.approx(2.0 * plain)  # 4096 of input against twice 1024 of keys and values


def test_recomputing_keys_and_values_costs_arithmetic() -> None:
    plain, remat = (
        evaluate(s).phase("decode").flops for s in (xquant.BASE, xquant.BASE.apply(techniques.rematerialize_kv()))
    )
    assert remat > 2.0 * plain


def test_a_window_is_kept_whole_beside_the_shrunk_cache() -> None:
    context = 16384 + 2 - 1
    without = cskv.reduction(techniques.low_rank_kv(rank=0.2))
    assert without == pytest.approx(80.0)
    assert without - cskv.reduction(cskv.SHRINK) == pytest.approx(100.0 * 32 / context)


def test_stored_rank_is_stored_bytes() -> None:
    ranks = num(np.linspace(0.125, 1.0, 8))
    saved = [matryoshkakv.reduction(float(r)) for r in np.asarray(ranks)]
    assert saved == pytest.approx(list(100.0 * (1.0 - np.asarray(ranks))))


def test_the_dictionary_fades_with_the_context() -> None:
    def share(prompt: float) -> float:
        base = csr_kv_sparse_representation.BASE.with_traffic(prompt=prompt)
        after = evaluate(base.apply(techniques.sparse_code_kv(4, atoms=csr_kv_sparse_representation.ATOMS))).memory
        return float((after.kv + after.weights["kv_dictionary"]) / evaluate(base).memory.kv)

    assert share(1000.0) > share(10000.0) > share(100000.0) > 1.0 / 16.0
    assert share(1e7) == pytest.approx(1.0 / 16.0, rel=0.01)


def test_a_recurrence_has_no_cache_that_grows() -> None:
    model = matmul_free_lm.build(2048.0, 24, 5632.0)
    short, long = (evaluate(Scenario(model, "h100-sxm", Batch(prompt=p, output=2, batch=1))).memory for p in (64, 8192))
    assert long.kv == short.kv == 0.0
    assert long.state == short.state > 0.0


def test_a_relayed_prompt_is_read_once_whatever_the_batch() -> None:
    one, many = (
        float(relayattention.cache_traffic(1024.0, True, n) - relayattention.cache_traffic(0.0, True, n))
        for n in (1.0, 64.0)
    )
    assert one == pytest.approx(many)
    # Each request's own tokens are still its own.
    assert float(relayattention.cache_traffic(0.0, True, 64.0)) == pytest.approx(
        64.0 * float(relayattention.cache_traffic(0.0, True, 1.0))
    )


def test_hiding_communication_never_gains_more_than_the_communication() -> None:
    for batch in (1.0, 64.0):
        base = ladder_residual.dense(batch)
        result = evaluate(base)
        # All of a collective's time: on the link, and the dispatch before it.
        comm = sum(float(p.time * phase.passes) for phase in result.phases for p in phase.ops
                   if p.op.kind == "collective")  # fmt: skip
        ceiling = 100.0 * (1.0 / (1.0 - comm / float(result.time)) - 1.0)
        assert 0.0 < ladder_residual.gain(batch) <= ceiling * 1.001
        # The library's hops cost more than a serving engine's own kernels, so there is more to hide.
        own = base.with_plan(library=False)
        assert float(evaluate(own).time) < float(result.time)


def test_blocks_save_positions_and_steps() -> None:
    # Equal cache widths (24 x 1024 and 12 x 2048), so what is left is the square of the block's length.
    assert block_transformer.cache_reads() == pytest.approx(16.0, rel=0.01)


def test_a_roofline_is_a_bound() -> None:
    real = Scenario("yi-34b-200k", "a100-sxm-80gb", Batch(prompt=4096, output=250, batch=1))
    ideal = evaluate(real.apply(techniques.roofline()))
    assert ideal.time < evaluate(real).time
    weights = float(ideal.memory.weight_bytes - ideal.memory.weights["embed"])
    assert float(ideal.tpot) == pytest.approx((weights + float(ideal.memory.kv)) / 2.039e12, rel=1e-3)
    assert long_context_peak_performance.users(4096.0) > 10.0 * long_context_peak_performance.users(50000.0)


def test_unfused_attention_writes_its_scores() -> None:
    scores = 32 * 2048.0**2 * 2
    fused = evaluate(llm_viewer.SCENARIO.with_plan(flash=True))
    core = next(p for p in fused.phase("prefill").ops if p.op.name == "attn.core")
    memory = fused.scenario.machine.device.memory.name
    assert llm_viewer.moved("prefill", "attn.core") - float(core.cost.bytes[memory]) == pytest.approx(4 * scores)


def test_attention_grows_with_the_square_and_parameters_do_not() -> None:
    attention, parameters = kinetics.costs("qwen3-8b", num([4096.0, 8192.0]))
    assert np.asarray(attention)[1] / np.asarray(attention)[0] == pytest.approx(4.0, rel=0.01)
    assert np.asarray(parameters)[1] / np.asarray(parameters)[0] == pytest.approx(2.0, rel=0.01)


def test_a_whole_output_head_on_every_device_is_read_in_full_and_gathers_nothing() -> None:
    split = Scenario("llama-3-70b", "8xh100-sxm", Batch(prompt=64, output=2, batch=1)).with_plan(tp=8)
    whole = ladder_residual.dense(1.0)
    heads = []
    for scenario in (split, whole):
        ops = {p.op.name: p.op for p in evaluate(scenario).phase("decode").ops}
        heads.append((float(ops["head"].bytes_of("weight")), "head.all_gather" in ops))
    assert heads[1][0] == pytest.approx(8.0 * heads[0][0])
    assert [gathers for _, gathers in heads] == [True, False]
