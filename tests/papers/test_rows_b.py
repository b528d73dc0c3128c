"""What must be true of the mechanisms of papers on images, experts and recurrences, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest

import tierwise as tw
from tierwise.core.errors import BadField
from tierwise.core.num import ceil_div
from tierwise.memory.account import weight_bytes
from tierwise.models.blocks.memory_layer import MemoryLayer
from tierwise.models.types import Layer, Model, Stack
from tierwise.papers.catalog import (
    _lightning,
    chain_of_experts,
    ds_moe,
    mamba_shedder,
    moa_mixture_of_attention,
    sam_switch_mixture_routing,
    scalekv,
    twilight_top_p_attention,
    vig_gla,
    vision_mamba_vim,
    zipvl,
)
from tierwise.papers.catalog._infinity import PAST, drawing
from tierwise.techniques import (
    budget_kv_layers,
    concatenate_cache,
    drop_scans,
    evict_kv,
    prune_layers,
    quantize_roles,
    quantize_weights,
    sparse_attention,
)


def test_a_cache_holds_the_sum_of_its_layers_budgets() -> None:
    base = drawing(4, 16, 1.0)
    budgets = [100.0, 100.0, 700.0, PAST + 1000.0]
    kept = scalekv.cache(base.apply(budget_kv_layers(budgets))) / scalekv.cache(base)
    assert kept == pytest.approx((100 + 100 + 700 + PAST) / (4 * PAST))


def test_equal_layer_budgets_are_one_budget_for_all() -> None:
    base = tw.Scenario("llama-3-8b", "1xa100-sxm-80gb", tw.Batch(prompt=4096, output=64, batch=4))
    by_layer, by_plan = (base.apply(t) for t in (budget_kv_layers([512.0] * 32), evict_kv(budget=512.0)))
    assert tw.evaluate(by_layer).tpot == pytest.approx(tw.evaluate(by_plan).tpot)
    assert tw.evaluate(by_layer).memory.kv == pytest.approx(tw.evaluate(by_plan).memory.kv)
    # The prompt itself is still attended to in full.
    assert tw.evaluate(by_layer).ttft == pytest.approx(tw.evaluate(base).ttft)


def test_budgets_must_match_the_depth() -> None:
    with pytest.raises(BadField, match="one for each of the 4 layers"):
        drawing(4, 16, 1.0).apply(budget_kv_layers([1.0, 2.0]))


def test_the_last_scales_keys_cost_twice_their_values() -> None:
    model = drawing(1, 16, 1.0)
    half = model.with_plan(activations="bf16")
    assert scalekv.cache(half) == pytest.approx(2 * 16 * 128 * PAST * 6.0)


def test_a_concatenated_cache_moves_three_times_the_bytes() -> None:
    base = tw.Scenario("llama-2-7b", "1xa100-sxm-80gb", tw.Batch(prompt=8192, output=2, batch=4))
    plain, copied = (tw.evaluate(s).phase("decode").reads("kv") for s in (base, base.apply(concatenate_cache())))
    new = plain / 8193
    assert copied - new == pytest.approx(3.0 * (plain - new))
    ratio = tw.compare(base, base.apply(concatenate_cache()))
    # Copying nothing is still a launch for each layer.
    assert ratio.tpot.value > 1.5 and ratio.ttft.value == pytest.approx(1.0, rel=1e-3)


def test_thinner_spans_help_most_where_the_cache_is_copied() -> None:
    for row in moa_mixture_of_attention.ROWS:
        assert moa_mixture_of_attention.over_eager(row) > 2.0 * moa_mixture_of_attention.over_vllm(row)


def test_a_selectors_scan_bounds_what_sparse_attention_gains() -> None:
    base = tw.Scenario("llama-3-8b", "1xa100-sxm-80gb", tw.Batch(prompt=30_000, output=2, batch=64))
    few, scanned = (
        twilight_top_p_attention.core(tw.evaluate(base.apply(t)).phase("decode"))[0]
        for t in (sparse_attention(budget=100.0), sparse_attention(budget=100.0, selector_bits=2.0))
    )
    dense = twilight_top_p_attention.core(tw.evaluate(base).phase("decode"))[0]
    assert few / dense == pytest.approx(100 / 30_000)
    # Two bits of every 32 that a key and a value element have together.
    assert (scanned - few) / dense == pytest.approx(2 / 32)


def test_activations_grow_with_the_square_of_tokens_only_where_scores_are_kept() -> None:
    def growth(run: object) -> float:
        small, big = (tw.evaluate(run(s)).memory.activations for s in (1024, 2048))  # type: ignore[operator]
        return float(np.log2(big / small))

    # Twice the side is four times the tokens: exponent 4 of the side for scores, 2 for a scan.
    assert growth(vision_mamba_vim.deit) == pytest.approx(4.0, abs=0.1)
    assert growth(vision_mamba_vim.vim) == pytest.approx(2.0, abs=0.01)


def test_both_directions_of_a_scan_are_alive_at_the_gate() -> None:
    result = tw.evaluate(vision_mamba_vim.vim(1024))
    tokens, inner = 64**2 + 1, 384
    assert result.memory.activations > vision_mamba_vim.BATCH * tokens * inner * 4.0 * (2 + 2 + 1)


def test_the_authors_counter_misses_a_matrix_product() -> None:
    full, seen = (vig_gla.flops("vig-small", 224, s) for s in (False, True))
    tokens, width, inner, layers = 14**2, 384, 1024, 12
    assert full - seen == pytest.approx(layers * 2 * tokens * width * inner)


def test_a_linear_kernels_time_follows_tokens_and_softmaxs_their_square() -> None:
    def doubled(block: object) -> float:
        return float(_lightning.core(block, 65536).cost.time / _lightning.core(block, 32768).cost.time)  # type: ignore[arg-type]

    assert doubled(_lightning.linear()) == pytest.approx(2.0, rel=0.02)
    assert doubled(_lightning.softmax()) == pytest.approx(4.0, rel=0.02)


def test_kernel_memory_is_queries_keys_values_and_output() -> None:
    op = _lightning.core(_lightning.linear(), 512, batch=4).op
    assert op.bytes_of("act") == 4 * (4 * 32 * 512 * 128) * 2


def test_a_second_pass_costs_arithmetic_but_only_a_routers_memory() -> None:
    once, twice = (chain_of_experts.model(4, 64.0, 4.0, n) for n in (1, 2))
    assert twice.parameters - once.parameters == 4 * 63 * 1024
    runs = [tw.evaluate(tw.Scenario(m, "1xh100-sxm", tw.Batch(prompt=512, output=1))) for m in (once, twice)]
    work = [sum(o.op.flops for o in r.phase("prefill").ops if o.op.kind == "moe") for r in runs]
    assert work[1] == 2 * work[0]


def test_tokens_held_to_one_rank_send_one_copy() -> None:
    sam, free = sam_switch_mixture_routing.mixture(4.0, 1.0), sam_switch_mixture_routing.mixture(4.0)
    one = sam_switch_mixture_routing.exchanged(sam_switch_mixture_routing.mixture(1.0))
    assert sam_switch_mixture_routing.exchanged(sam) == pytest.approx(one)
    ranks = sam_switch_mixture_routing.DEVICES
    copies = ranks * (1.0 - (1.0 - 1.0 / ranks) ** 4)
    assert sam_switch_mixture_routing.exchanged(free) == pytest.approx(copies * one)


def test_scans_go_and_projections_stay() -> None:
    base = tw.Scenario("mamba2-2.7b", "1xa100-sxm-80gb", tw.Batch(prompt=2048, output=8, batch=2))
    bare = base.apply(drop_scans(64))
    assert bare.resolved().model.parameters == base.resolved().model.parameters
    assert not [o for o in tw.evaluate(bare).phase("prefill").ops if o.op.kind == "scan"]
    assert tw.evaluate(bare).memory.state < 0.1 * tw.evaluate(base).memory.state
    fewer = [tw.evaluate(s).ttft for s in (base, *(base.apply(drop_scans(n)) for n in (16, 64)))]
    assert fewer[0] > fewer[1] > fewer[2]
    assert tw.evaluate(base.apply(prune_layers(16))).ttft < fewer[1]


def test_a_memory_layers_reads_follow_tokens_not_slots() -> None:
    def decode(side: float, batch: float) -> tuple[float, float, float]:
        layer = MemoryLayer(1024.0, side, 128.0, 256.0, 16.0, heads=2.0)
        model = Model("memory", "memory", 1024.0, 0.0, (Stack("decoder", (Layer("memory", (layer,)),), (0,)),))
        run = tw.evaluate(tw.Scenario(model, "1xa100-sxm-80gb", tw.Batch(prompt=8, output=2, batch=batch)))
        graph = run.phase("decode").program
        scores = next(op for _, op in graph.walk() if op.name == "memory.scores")
        return float(run.memory.weights["embed"]), float(graph.bytes_of("table")), float(scores.flops)

    (small, read, work), (large, again, more) = decode(1024.0, 4.0), decode(2048.0, 4.0)
    assert small == 1024**2 * 256 * 2 and large == 4 * small
    assert read == pytest.approx(4 * 2 * 16 * 256 * 2, rel=1e-3) and again == pytest.approx(read, rel=1e-3)
    assert more == 2 * work
    assert decode(1024.0, 8.0)[1] == pytest.approx(2 * read, rel=1e-3)
    # Never more than all slots.
    assert decode(16.0, 4096.0)[1] <= 16**2 * 256 * 2


def test_a_sliver_of_a_whole_counts_as_one() -> None:
    assert ceil_div(512.0, 1e12) == 1.0 and ceil_div(7.0, 1.0 - 1e-14) == 7.0 and ceil_div(0.0, 3.0) == 0.0
    assert ceil_div(2.0**33, 2.0) == 2.0**32


def test_a_mixture_that_runs_few_experts_multiplies_by_few_parameters() -> None:
    dense, sparse = ds_moe.model("6B"), ds_moe.model("6B", 4.0)
    # Same weights but for the routers, 36 layers of 4096 × 32.
    assert float(sparse.parameters - dense.parameters) == pytest.approx(36 * 4096 * 32)
    assert float(ds_moe.model("6B", 32.0).active_parameters) == pytest.approx(float(sparse.parameters))
    # Memory sets how many requests run: twice the weights leave room for fewer.
    assert ds_moe.served("ds-moe", "h100-sxm") > ds_moe.served("deepseek-moe-16b", "h100-sxm")


def test_a_cache_of_mixed_bits_lies_between_its_parts() -> None:
    whole, none = zipvl.compression(1.0), zipvl.compression(0.0)
    assert (whole, none) == pytest.approx((4.0, 8.0))
    assert 1.0 / zipvl.compression(0.5) == pytest.approx((1.0 / whole + 1.0 / none) / 2.0)
    # Arithmetic among a share of the tokens falls with its square.
    assert zipvl.saved(0.5) == pytest.approx(75.0, abs=0.1)


def test_the_format_of_a_named_role_outlives_the_plans() -> None:
    base = tw.Scenario("mixtral-8x7b", "1xh200-sxm")
    first = base.apply(quantize_roles("fp8", "attn"), quantize_weights("int4"))
    last = base.apply(quantize_weights("int4"), quantize_roles("fp8", "attn"))
    sizes = [weight_bytes(r.model, r.plan) for r in (s.resolved() for s in (base, first, last))]
    for coded in sizes[1:]:
        assert float(coded["attn"]) == pytest.approx(float(sizes[0]["attn"]) / 2.0)
        assert float(coded["expert"]) < float(sizes[0]["expert"]) / 3.0


def test_removing_equal_blocks_gains_alike_in_every_phase() -> None:
    prefill, decode = mamba_shedder._blocks(14)
    # Per cent faster: never more than by the blocks that are gone.
    assert 20.0 < prefill < 100.0 * (64 / 50 - 1) and 20.0 < decode < 100.0 * (64 / 50 - 1)
    assert mamba_shedder._scans(24) > mamba_shedder._scans(16)
