"""What must be true of papers that train, whatever the numbers, and of how a paper begins a training step."""

from __future__ import annotations

import pytest

from tierwise.machines.load import system
from tierwise.models.load import load_model
from tierwise.papers.base import Layout, passed_on, trained, training_rate
from tierwise.papers.catalog import (
    burstattention,
    compact_activations,
    cosmos_optimizer,
    internevo_buff,
    megatron_lm_ptd_p,
    oneflow,
    pytorch_fsdp,
    scmoe_shortcut_expert_parallelism,
    sequence_parallelism_rsa,
    sgd_sai,
    spqr,
    vocabulary_parallelism,
    zo2,
)
from tierwise.papers.mutations import mutations
from tierwise.training import framework, train_step

LAYOUT = Layout(tp=2.0, dp=4.0, global_batch=32.0, seq=2048.0)


def test_a_papers_step_is_the_engines_with_the_formats_the_paper_keeps() -> None:
    ours = trained("gpt2-xl", "8xa100-sxm-80gb", LAYOUT, "megatron")
    plain = train_step(load_model("gpt2-xl"), system("8xa100-sxm-80gb"), LAYOUT, framework("megatron"))
    assert ours.parts == plain.parts and ours.memory.parts == plain.memory.parts
    other = trained("gpt2-xl", "8xa100-sxm-80gb", LAYOUT, "megatron", optimizer="sgd-momentum")
    # A master copy and one moment for a master copy and two.
    both, one = (s.memory.parts["optimizer states"] for s in (ours, other))
    assert one / both == pytest.approx(8.0 / 12.0)
    assert other.memory.parts["parameters"] == ours.memory.parts["parameters"]


def test_a_rate_is_the_authors_count_over_our_time_and_all_devices() -> None:
    step = trained("gpt2-xl", "8xa100-sxm-80gb", LAYOUT, "megatron")
    assert training_rate(step, step.flops) / step.peak == pytest.approx(step.mfu)
    assert training_rate(step, 16.0 * step.time) == pytest.approx(2.0)


def test_a_host_twice_as_slow_reaches_a_step_whose_recipe_a_paper_changed() -> None:
    (slow,) = (w for w in mutations() if w.name == "host x2")
    small = Layout(dp=8.0, global_batch=8.0, seq=64.0)
    before = trained("opt-125m", "8xa100-sxm-80gb", small, "megatron", optimizer="sgd")
    with slow.applied():
        after = trained("opt-125m", "8xa100-sxm-80gb", small, "megatron", optimizer="sgd")
    assert float(after.time) > 1.5 * float(before.time)
    assert after.memory.parts == before.memory.parts
    assert after.how.launch == 2.0 * before.how.launch


def test_interleaving_gains_less_the_more_micro_batches_there_are_and_never_more_than_the_bubble() -> None:
    gains = [megatron_lm_ptd_p.gain(b) for b in megatron_lm_ptd_p.BATCHES]
    assert gains == sorted(gains, reverse=True)
    for batch, gain in zip(megatron_lm_ptd_p.BATCHES, gains, strict=True):
        bubble = (batch + 11.0) / (batch + 11.0 / megatron_lm_ptd_p.INTERLEAVED)
        assert gain < 100.0 * (bubble - 1.0)


def test_every_row_of_table_1_uses_all_its_devices_and_fits_them() -> None:
    for row in megatron_lm_ptd_p.ROWS:
        step = megatron_lm_ptd_p.step(row)
        assert float(step.layout.devices) == row.gpus
        assert bool(step.memory.fits), row.name
        assert 0.0 < float(step.mfu) < megatron_lm_ptd_p.rate(row) * 1e12 / megatron_lm_ptd_p.PEAK  # recomputed


def test_a_larger_vocabulary_slows_and_fills_the_ends_of_a_pipeline() -> None:
    at = [(8, 2048.0, v) for v in vocabulary_parallelism.VOCABULARIES]
    rates = [vocabulary_parallelism.utilization("baseline", *x) for x in at]
    sizes = [vocabulary_parallelism.peak("baseline", *x) for x in at]
    assert rates == sorted(rates, reverse=True) and sizes == sorted(sizes)
    # Weights, gradients, a master copy and two moments of each new row of one of the two tables.
    assert (sizes[3] - sizes[2]) * 2.0**30 == pytest.approx(128e3 * 3072 * (2 + 4 + 12), rel=0.1)


def test_more_devices_to_shard_over_leave_each_less() -> None:
    peaks = [float(s.memory.peak) for s in pytorch_fsdp.steps(1.0)]
    assert peaks == sorted(peaks, reverse=True)
    assert all(bool(s.memory.fits) for s in pytorch_fsdp.steps(2.0))


def test_what_an_optimizer_keeps_is_its_bytes_of_every_parameter() -> None:
    for model in ("gpt2-xl", "llama-2-7b"):
        count = float(load_model(model).parameters)
        assert sgd_sai.states(model, "adamw") * sgd_sai.GiB == pytest.approx(8.0 * count, rel=1e-3)


def test_where_the_host_sets_the_pace_smaller_weights_are_no_faster() -> None:
    assert spqr.rate("llama-7b", spqr.FRESH, True) == pytest.approx(spqr.rate("llama-7b", spqr.FRESH))
    assert spqr.rate("llama-33b", spqr.FRESH, True) > spqr.rate("llama-33b", spqr.FRESH)


def test_a_ring_shares_bidirectional_scores_and_a_longer_ring_holds_more() -> None:
    base = sequence_parallelism_rsa.BASE
    sizes = [sequence_parallelism_rsa.batch(base, Layout(cp=float(n))) for n in (1, 4, 16, 64)]
    assert sizes == sorted(sizes) and sizes[0] > 0.0
    # One device alone and a ring of one are the same; tensor parallelism divides less.
    assert sequence_parallelism_rsa.batch(base, Layout(tp=4.0)) < sizes[1]
    one, two = (sequence_parallelism_rsa.step(base, Layout(cp=n), seq=512.0) for n in (1.0, 2.0))
    assert float(two.memory.kept) == pytest.approx(float(one.memory.kept) / 2.0)


def test_a_ring_that_queries_take_back_sends_less_than_tensor_parallelism() -> None:
    ring, tensor = (passed_on(burstattention.step(x)) for x in (True, False))
    # Five widths of a sequence and a few numbers for each head, in place of eight.
    assert 5.0 / 8.0 < ring / tensor < 6.0 / 8.0


def test_thinner_inputs_leave_more_memory_the_thinner_they_are() -> None:
    peaks = [compact_activations.small(share) for share in (1.0, 0.5, 0.25, 0.125)]
    assert peaks == sorted(peaks, reverse=True) and peaks[-1] > 0.5 * peaks[0]


def test_zo2_holds_fewer_layers_the_more_there_are() -> None:
    here, away = (zo2.used("opt-30b", x) for x in (zo2.HERE, zo2.AWAY))
    assert away < here / 4.0
    assert zo2.used("opt-13b", zo2.AWAY) < away < zo2.used("opt-66b", zo2.AWAY)


def test_cosmos_keeps_between_muon_and_adam() -> None:
    kept = [cosmos_optimizer.states(name) for name in ("muon", "cosmos", "adamw")]
    assert kept == sorted(kept)


def test_exchanges_take_a_larger_share_over_a_slower_link() -> None:
    scmoe = scmoe_shortcut_expert_parallelism
    small = (scmoe.mixture(scmoe.GPT2_MEDIUM), 2048.0, 8.0)
    fast, slow = (scmoe.share(m, *small) for m in ("8xa800-sxm", "8xa30"))
    assert 0.0 < fast < slow < 100.0


def test_a_gpus_rate_falls_with_their_number_and_the_share_of_the_step_that_is_computed() -> None:
    rates = [internevo_buff.rate(internevo_buff.Run(n, 2.0, 4.0, 1, 8.0, False, 0.0)) for n in internevo_buff.GPUS]
    assert rates == sorted(rates, reverse=True)
    few = internevo_buff.rate(internevo_buff.Run(1024, 2.0, 1.0, 1, 8.0, False, 0.0))
    assert few < rates[-1]


def test_one_port_a_server_slows_whatever_crosses_it() -> None:
    alone, *_ = (r for r in oneflow.RUNS if (r.dp, r.width) == (1, 1536.0))
    apart = [r for r in oneflow.RUNS if r.width == 1536.0 and r.tp == r.pp == 1 and r.dp in (8, 16, 32)]
    rates = [oneflow.rate(r) for r in (alone, *apart)]
    assert rates == sorted(rates, reverse=True)


def test_a_divided_loss_moves_more_of_each_logit_than_a_whole_one() -> None:
    whole, divided = vocabulary_parallelism.LOSS, vocabulary_parallelism.LOSS_DIVIDED
    assert all(more > less for more, less in zip(divided, whole, strict=True))
