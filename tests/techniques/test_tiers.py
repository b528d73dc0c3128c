"""Layers, experts and caches on the host: counted, computed there, bounded by what has to move."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tierwise import Batch, Scenario, evaluate
from tierwise.core.errors import TierwiseError
from tierwise.cost.energy import actions
from tierwise.program.placement import Placement
from tierwise.techniques.tiers import partial_offload, read_from_disk

ON = "rtx4090 + 64GB ddr5 + nvme-gen4"


def scenario(model: str = "llama-3.1-8b", on: str = ON, prompt: float = 2048.0) -> Scenario:
    s = Scenario(model, on, Batch(prompt, 64.0, 1.0), engine="llama.cpp")
    return s.with_plan(weights="q8_0")


def whole(s: Scenario) -> float:
    m = evaluate(s).memory
    return float(m.weight_bytes) + sum(float(x) for x in m.elsewhere.values())


def test_bytes_are_somewhere_and_only_once() -> None:
    plain = scenario()
    everything = float(evaluate(plain).memory.weight_bytes) + float(evaluate(plain).memory.kv)
    for layers in (0.0, 5.0, 32.0):
        m = evaluate(plain.apply(partial_offload(layers=layers))).memory
        there = float(m.weight_bytes) + float(m.kv) + float(m.elsewhere["host"])
        assert there == pytest.approx(everything, rel=1e-9)
    half = Placement().with_tensors("weights", {"host": 0.25, "nvme": 0.5})
    assert sum(half.share(n, "weights") for n in ("", "host", "nvme")) == pytest.approx(1.0)


def test_each_layer_on_the_host_makes_a_token_slower_and_the_device_emptier() -> None:
    found = [evaluate(scenario().apply(partial_offload(layers=n))) for n in (0.0, 4.0, 16.0, 32.0)]
    times, peaks = [float(r.tpot) for r in found], [float(r.memory.peak) for r in found]
    assert times == sorted(times) and times[0] < times[-1]
    assert peaks == sorted(peaks, reverse=True)


def test_a_token_takes_at_least_what_the_hosts_memory_needs() -> None:
    r = evaluate(scenario().apply(partial_offload(layers=20.0)))
    host = r.scenario.machine.host
    assert host is not None
    weights = float(r.memory.elsewhere["host"]) - float(r.memory.elsewhere_caches["host"])
    table = 128256 * 4096 * 34 / 32  # embeddings, of which a token reads one row
    assert float(r.tpot) >= (weights - table) / host.bandwidth


def test_memory_of_the_host_that_is_faster_makes_it_faster() -> None:
    slow = "rtx4090 + ryzen-9-7950x 64GB 2x ddr5-4800"
    fast = "rtx4090 + ryzen-9-7950x 64GB 4x ddr5-4800"
    times = [float(evaluate(scenario(on=on).apply(partial_offload(layers=16.0))).tpot) for on in (slow, fast)]
    assert times[1] < times[0]


def test_prompts_are_multiplied_on_the_device_and_their_weights_cross_the_link() -> None:
    r = evaluate(scenario().apply(partial_offload(feed_forward=32.0)))
    prefill, decode = r.phase("prefill"), r.phase("decode")
    on_host = [p.op.name for p in decode.ops if p.op.options.get("on") == "host"]
    assert "mlp.up" in on_host and "attn.core" not in on_host
    assert not [p for p in prefill.ops if p.op.options.get("on") == "host" and p.op.name.startswith("mlp.up")]
    moved = sum(float(p.segment.repeat * p.op.dims["bytes"]) for p in prefill.ops
                if p.op.kind == "copy" and p.op.options["from"] == "host")  # fmt: skip
    feed = float(r.memory.elsewhere["host"]) - 128256 * 4096 * 34 / 32
    assert moved >= feed * 0.999
    link = r.scenario.machine.device.link("host")
    assert link is not None
    assert float(prefill.pass_time) >= feed / link.bandwidth
    # Without it the host's processors multiply.
    never = evaluate(scenario().apply(partial_offload(feed_forward=32.0, upload=np.inf))).phase("prefill")
    assert [p for p in never.ops if p.op.options.get("on") == "host" and p.op.name.startswith("mlp.up")]


def test_a_fork_uploads_experts_only_where_each_has_rows_enough() -> None:
    s = scenario("qwen3-30b-a3b", prompt=256.0).with_plan(weights="q4_0")
    plain = evaluate(s.apply(partial_offload(experts=48.0))).phase("prefill")
    forked = evaluate(replace(s, engine="ik_llama.cpp").apply(partial_offload(experts=48.0))).phase("prefill")

    def hosted(phase: object) -> list[str]:
        return [p.op.name for p in phase.ops if p.op.options.get("on") == "host" and p.op.kind == "moe"]  # type: ignore[attr-defined]

    assert not hosted(plain)  # 256 tokens are more than 32
    assert hosted(forked)  # and fewer than 32 for each of 128 / 8


def test_activations_cross_once_between_layers_of_the_host_and_of_the_device() -> None:
    r = evaluate(scenario().apply(partial_offload(layers=10.0)))
    copies = [p for p in r.phase("decode").ops if p.op.kind == "copy" and "handed_to" in p.op.name]
    assert [p.op.name.rpartition("_")[2] for p in copies] == ["host", "device"]
    assert all(float(p.segment.repeat) == 1.0 for p in copies)


def test_sockets_beyond_the_first_help_only_engines_that_know_of_them() -> None:
    def rate(engine: str, sockets: str) -> float:
        on = f"rtx4090 + {sockets}xeon-6454s 8x ddr5-4800"
        s = replace(scenario("qwen3-30b-a3b", on), engine=engine).with_plan(weights="q4_0")
        return float(1.0 / evaluate(s.apply(partial_offload(experts=48.0))).tpot)

    assert rate("llama.cpp", "2x ") == pytest.approx(rate("llama.cpp", ""), rel=1e-9)
    assert rate("ktransformers", "2x ") > 1.2 * rate("ktransformers", "")


def test_stages_share_the_host_in_turns() -> None:
    one = scenario("qwen3-30b-a3b").apply(partial_offload(experts=48.0))
    two = Scenario("qwen3-30b-a3b", "2xrtx4090 + 64GB ddr5", Batch(2048.0, 64.0, 1.0), engine="llama.cpp")
    two = two.with_plan(weights="q8_0", tp=1, pp=2, dp=1).apply(partial_offload(experts=48.0))
    a, b = evaluate(one), evaluate(two)
    # One sequence passes the cards one after the other: the host serves it alone.
    assert float(b.tpot) == pytest.approx(float(a.tpot), rel=0.1)
    assert float(b.memory.peak) < float(a.memory.peak)


def test_a_disk_is_read_through_windows_of_the_page_cache() -> None:
    plain = scenario("llama-3.1-8b", "m3-max-64gb + nvme-gen4")
    r = evaluate(plain.apply(read_from_disk(1.0)))
    size = float(r.memory.elsewhere["nvme"])
    seconds = float(r.tpot) - float(evaluate(plain).tpot)
    # Slower than the disk gives, by its latency for every window; not slower than one window at a time.
    assert 1e9 < size / seconds < 7.45e9


def test_bad_counts_and_machines_are_refused() -> None:
    with pytest.raises(TierwiseError, match="layers"):
        scenario().apply(partial_offload(layers=33.0))
    with pytest.raises(TierwiseError, match="experts"):
        scenario().apply(partial_offload(experts=1.0))
    with pytest.raises(TierwiseError, match="host"):
        scenario(on="rtx4090").apply(partial_offload(layers=1.0))
    with pytest.raises(TierwiseError):
        scenario(on="m3-max-64gb").apply(read_from_disk(1.0))


def test_it_comes_back_from_its_canonical_form() -> None:
    s = scenario().apply(partial_offload(layers=3.0))
    assert Scenario.from_dict(s.to_dict()) == s


def test_what_the_host_computes_draws_its_power_and_not_the_cards() -> None:
    """The card idles meanwhile, so that its cap binds nothing; the processors draw no more than they are rated for, and
    their memory, which is no part of them, what its bytes take."""
    plain, away = (evaluate(scenario().apply(partial_offload(layers=n))) for n in (0.0, 32.0))
    # Of the whole model on the card, the host looks up embeddings.
    assert plain.energy_parts["processors"] < 0.01 * away.energy_parts["processors"]
    machine = away.scenario.machine
    host = machine.host.cpu  # type: ignore[union-attr]
    cpu, byte = host.power, actions(host).bytes[host.memory.name]
    working = sum(float(np.asarray(x.time * n)) for p in away.phases for x, n in
                  ((o, p.passes) for o in p.ops if o.op.options.get("on") == "host"))  # fmt: skip
    # All layers lie on the host, and a pass reads each once.
    read = sum(float(np.asarray(p.passes)) for p in away.phases) * float(away.memory.elsewhere["host"])
    assert 0.0 < away.energy_parts["processors"] <= (cpu.rated - cpu.idle) * working + read * byte
    busy = float(away.time) - working
    active = away.energy_parts["active"]
    assert active <= (machine.power.rated - machine.power.idle) * busy
    each = [away.energy_by_op(p) for p in away.phases]
    for name in ("processors", "active"):
        whole = sum(float(np.asarray(part.get(name, 0.0))) for rows, left in each for part in (*rows, left))
        assert whole == pytest.approx(float(np.asarray(away.energy_parts[name])))
    low = replace(machine, power_cap=machine.power.rated / 2.0)
    capped = evaluate(replace(scenario(), machine=low).apply(partial_offload(layers=32.0)))
    assert capped.tpot == pytest.approx(away.tpot)
