"""What must be true of the mechanisms of these papers, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest

import tierwise as tw
from tierwise import techniques
from tierwise.cost import framework
from tierwise.papers.catalog import (
    comet_w4a4kv4,
    deepseek_v3_insights,
    deepspeed_inference,
    flashattention_2,
    skip_tklqt,
    xfastertransformer_cpu,
)


def test_a_latent_is_cached_once_for_all_heads() -> None:
    """61 layers of 512 + 64 numbers, 16 bits each; keys and values of 8 heads of 128 in 80 and 126 layers."""
    assert deepseek_v3_insights.cached("deepseek-v3") == pytest.approx(61 * 576 * 2 / 1e3)
    assert deepseek_v3_insights.cached("qwen2.5-72b") == pytest.approx(80 * 2 * 8 * 128 * 2 / 1e3)
    assert deepseek_v3_insights.cached("llama-3.1-405b") == pytest.approx(126 * 2 * 8 * 128 * 2 / 1e3)


def test_a_faster_gpu_waits_for_its_host_longer() -> None:
    small = [np.asarray(skip_tklqt.prefill("bert-base", m).time)[0] for m in (*skip_tklqt.LOOSE, skip_tklqt.CLOSE)]
    assert small == pytest.approx([small[0]] * 3)  # the host alone
    turns = [skip_tklqt.turning("bert-base", m) for m in (*skip_tklqt.LOOSE, skip_tklqt.CLOSE)]
    assert turns == sorted(turns) and turns[0] < turns[-1]


def test_attention_reaches_more_of_the_peak_at_length_and_in_wide_heads() -> None:
    for causal in (False, True):
        narrow, wide = (flashattention_2.utilization(head, causal) for head in (64.0, 128.0))
        assert list(wide) == sorted(wide)
        assert wide[-1] > narrow[-1]
        assert all(0.0 < x < 100.0 for x in (*narrow, *wide))


def test_sockets_share_the_weights_and_pay_for_the_network() -> None:
    one, two, eight = (xfastertransformer_cpu.step(n) for n in (1, 2, 8))
    assert one / two == pytest.approx(2.0, rel=0.02)
    assert 1.0 < two / eight < 4.0


def test_four_bits_hold_more_requests() -> None:
    base = tw.Scenario("llama-3-8b", "1xa100-sxm-80gb", tw.Batch(prompt=1024, output=512, batch="max"))
    plain, four = tw.evaluate(base), tw.evaluate(base.apply(*comet_w4a4kv4.COMET))
    assert four.batch > 3.5 * plain.batch
    assert comet_w4a4kv4.gain() > 1.0


def test_a_smaller_cache_leaves_the_host_in_the_way() -> None:
    loop = (techniques.eager("transformers"), techniques.unfuse_attention())
    base = tw.Scenario("vicuna-13b", "1xa100-sxm-40gb", tw.Batch(prompt=1024, output=512, batch=8)).apply(*loop)
    few = base.with_traffic(batch=1.0)
    full, once, twice = (
        tw.evaluate(s.apply(techniques.concatenate_cache(times), techniques.evict_kv(keep))).phase("decode")
        for s, times, keep in ((base, 1, 1.0), (few, 1, 0.2), (few, 2, 0.2))
    )
    assert full.bound_by != "launch" and once.bound_by == twice.bound_by == "launch"
    launch = base.resolved().machine.device.dispatch.eager + framework.load("transformers").host
    assert twice.pass_time - once.pass_time == pytest.approx(40 * 2 * launch)


def test_a_trillion_parameters_are_mostly_experts() -> None:
    big = deepspeed_inference.TRILLION
    assert big.parameters == pytest.approx(15 * 128 * 8 * 8192**2, rel=0.03)
    assert big.active_parameters < 0.03 * big.parameters
