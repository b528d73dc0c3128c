"""Plans that make a model fit: monotone in the machine, and no slower than what they leave out."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.evaluation import evaluate
from tierwise.machines import system
from tierwise.machines.types import System
from tierwise.models.load import load_model
from tierwise.search.fit import FitAnswer, plan_fit, scenario_of
from tierwise.search.fit_batch import policies
from tierwise.search.fit_help import helps
from tierwise.search.fit_question import FitQuestion

CARD = "rtx-3050 + 64GB ddr5 + nvme-gen4"


def ask(model: str = "llama-3.1-8b", on: str | System = CARD, **changed: object) -> FitAnswer:
    machine = system(on) if isinstance(on, str) else on
    q = FitQuestion(load_model(model), machine, model, machine.name, 4096.0, 512.0, 1.0, 4.0, "latency", "llama.cpp",
                 weights=("q4_k_m",), kv=("fp16",))  # fmt: skip
    return plan_fit(replace(q, **changed))  # type: ignore[arg-type]


def with_memory(name: str, capacity: float) -> System:
    one = system(name)
    tiers = tuple(replace(t, capacity=capacity) if t.kind == "memory" else t for t in one.device.tiers)
    return one.with_device(tiers=tiers)


def test_all_on_the_device_when_it_fits() -> None:
    best = ask(on="rtx4090 + 64GB ddr5").best
    assert best is not None and best.choice.whole


def test_more_memory_on_the_device_is_never_slower() -> None:
    found = [ask("qwen2.5-14b", with_memory(CARD, size)).best for size in (4e9, 8e9, 12e9, 20e9)]
    rates = [c.rate for c in found if c is not None]
    assert len(rates) == 4 and rates == sorted(rates) and rates[0] < rates[-1]


def test_a_faster_host_is_never_slower() -> None:
    found = [ask("qwen2.5-14b", f"rtx-3050 + ryzen-9-7950x 64GB {n}x ddr5-4800").best for n in (2, 4)]
    assert found[0] is not None and found[1] is not None
    assert found[1].rate > found[0].rate


def test_the_least_that_must_go_goes() -> None:
    a = ask("qwen2.5-14b")
    c = next(c for c in a.candidates if c.choice.feed_forward)
    assert bool(c.result.fits)
    one_less = replace(c.choice, feed_forward=c.choice.feed_forward - 1)
    r = evaluate(scenario_of(a.question, one_less))
    assert float(r.memory.peak) > r.memory.capacity


def test_experts_go_before_layers() -> None:
    best = ask("qwen3-30b-a3b").best
    assert best is not None
    assert best.choice.experts and not best.choice.layers
    # Attention stays on the device, experts are computed by the host.
    on_host = {p.op.kind for p in best.result.phase("decode").ops if p.op.options.get("on") == "host"}
    assert "moe" in on_host and "attention" not in on_host


def test_what_the_host_cannot_hold_is_read_from_disk_again_and_again() -> None:
    small = ask("qwen2.5-14b", with_memory("rtx-3050 + 8GB ddr5 + nvme-gen4", 3e9)).best
    large = ask("qwen2.5-14b", with_memory("rtx-3050 + 64GB ddr5 + nvme-gen4", 3e9)).best
    assert small is not None and large is not None
    # A cyclic sweep larger than the cache finds nothing in it.
    assert small.choice.missed == 1.0 and small.choice.disk == "nvme" and large.choice.missed == 0.0
    read = float(small.result.memory.elsewhere["nvme"])
    assert float(small.result.tpot) >= read / 7.45e9
    assert small.rate < large.rate / 3.0
    assert ask("qwen2.5-14b", with_memory("rtx-3050 + 8GB ddr5", 3e9)).best is None


def test_what_does_not_fit_says_what_would_help() -> None:
    a = ask("mixtral-8x22b", "m3-max-64gb", weights=("q4_k_m", "iq2_xs"))
    assert a.best is None and a.missed and a.narrower
    assert {h.what for h in helps(a)} >= {"bits", "disk"}


def test_helps_are_worth_it() -> None:
    a = ask("qwen2.5-14b")
    assert a.best is not None
    found = helps(a)
    assert {"card", "bandwidth"} & {h.what for h in found}
    assert all(h.rate > a.best.rate for h in found)


def test_fewer_bits_than_asked_for_are_told_apart() -> None:
    a = ask("llama-3.1-8b", weights=("q8_0", "q4_k_m", "q2_k"), min_bits=5.0)
    assert {c.choice.weights for c in a.candidates} == {"q8_0"}
    assert [c.choice.weights for c in a.narrower] == ["q4_k_m", "q2_k"]


def test_a_model_that_generates_nothing_is_refused() -> None:
    with pytest.raises(TierwiseError):
        ask("resnet-50")


def test_batches_stream_and_more_at_once_make_more_tokens() -> None:
    machine = system("t4 + xeon-6248 208GB ddr4-2666 + nvme-gen3")
    q = FitQuestion(load_model("opt-6.7b"), machine, "opt-6.7b", machine.name, 544.0, 32.0, None, 4.0, "throughput",
                 "kernels", weights=("fp16",))  # fmt: skip
    many = policies(q)[0]
    one = policies(replace(q, batch=1.0))[0]
    assert many.batch > 1.0 and many.throughput > one.throughput
    assert bool(many.result.fits)
    assert sum(many.weight_shares.values()) == pytest.approx(1.0)
    assert sum(many.cache_shares.values()) == pytest.approx(1.0)
    moved = many.weight_shares["host"] * float(many.result.memory.weight_bytes) / max(many.weight_shares[""], 1e-9)
    link = machine.device.link("host")
    assert link is not None
    assert float(many.result.phase("decode").pass_time) >= moved / link.bandwidth * 0.999
    with pytest.raises(TierwiseError, match="host"):
        policies(replace(q, machine=system("m3-max-64gb"), on="m3-max-64gb"))
