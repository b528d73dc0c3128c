"""An eager framework: more kernels, more traffic, and a host that sets the pace of small steps only."""

from __future__ import annotations

import numpy as np
import pytest

import tierwise as tw
from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.core.numerics import fmt
from tierwise.cost import framework
from tierwise.program.placement import Placement
from tierwise.scenario.types import KV
from tierwise.techniques import all_logits, concatenate_cache, eager, expand_heads


def run(batch: object = 1.0, prompt: float = 128.0, *techniques: object, machine: str = "a100") -> tw.Result:
    base = tw.Scenario("llama-2-7b", machine, tw.Batch(prompt=prompt, output=3, batch=batch))  # type: ignore[arg-type]
    return tw.evaluate(base.apply(*techniques))  # type: ignore[arg-type]


def test_a_small_step_takes_as_long_as_the_host_needs_to_launch_its_kernels() -> None:
    f = framework.load("transformers")
    step = run(1.0, 128.0, eager("transformers")).phase("decode")
    # Two norms, seven products, rotation, fused attention, activation and product, each in its kernels.
    layer = 2 * f.kernels["norm.rms"] + 7 + f.kernels["rope_cache"] + 1 + f.kernels["act.gated"]
    ends = f.kernels["embedding"] + f.kernels["norm.rms"] + 1 + f.kernels["sample"]
    launch = run().scenario.machine.device.dispatch.eager + f.host
    assert step.pass_time == pytest.approx((32 * layer + ends) * launch)
    assert step.bound_by == "launch"


def test_a_published_eager_decode_that_the_memory_bounds() -> None:
    """Qwen-2.5-7B, 2048 tokens, on an L4: 62.3 ms (arXiv:2605.30571), none of which the host time was taken from."""
    base = tw.Scenario("qwen2.5-7b", "l4", tw.Batch(prompt=2048, output=3, batch=1))
    assert tw.evaluate(base.apply(eager("transformers"))).tpot == pytest.approx(62.3e-3, rel=0.1)


def test_large_steps_hide_the_host_and_pay_for_the_traffic() -> None:
    plain, slow = run(256.0, 1024.0), run(256.0, 1024.0, eager("transformers"))
    one, many = slow.phase("prefill"), plain.phase("prefill")
    assert one.bounds["launch"] == 0.0 and one.passes == 1.0
    assert slow.ttft > plain.ttft
    assert one.flops == pytest.approx(many.flops * many.passes)
    assert slow.phase("decode").reads("kv") == pytest.approx(plain.phase("decode").reads("kv"))


def test_a_framework_never_makes_the_ops_of_a_pass_faster() -> None:
    """The ops: a serving engine's scheduler waits between its steps, which a framework without one does not."""
    batch = np.asarray([1.0, 8.0, 64.0, 512.0])
    plain, slow = (run(batch, 512.0, *t) for t in ((), (eager("transformers"),)))
    served = plain.phase("decode")
    assert np.all(slow.phase("decode").pass_time >= served.pass_time - served.bounds["host"])
    one = run(64.0, 512.0, eager("transformers"))
    assert np.asarray(slow.phase("decode").pass_time)[2] == pytest.approx(one.phase("decode").pass_time)


def test_launches_cost_no_power_of_the_device() -> None:
    plain, slow = run(), run(1.0, 128.0, eager())
    assert slow.phase("decode").busy == pytest.approx(plain.phase("decode").busy)


def test_sixteen_bit_concatenation_takes_twice_its_bytes() -> None:
    def copy(r: tw.Result) -> float:
        ops = [p for p in r.phase("decode").ops if p.op.name == "attn.cache_copy"]
        return float(sum(sum(p.cost.bytes.values()) for p in ops))

    fused, lines = (run(64.0, 4096.0, concatenate_cache(), *t) for t in ((), (eager("transformers"),)))
    assert copy(lines) == pytest.approx(2 * copy(fused))


def test_expanded_heads_are_read_whole_written_and_read_again() -> None:
    base = tw.Scenario("llama-3.1-8b", "a100", tw.Batch(prompt=4096.0, output=3, batch=16.0))
    grouped, wide = (tw.evaluate(base.apply(*t)).phase("decode") for t in ((), (expand_heads(),)))
    # Four query heads to each: one read, four written, four read, where one was read.
    assert wide.reads("kv") == pytest.approx(9 * grouped.reads("kv"), rel=0.01)
    assert wide.flops == pytest.approx(grouped.flops)
    with pytest.raises(TierwiseError, match="keys and values of its own"):
        tw.Scenario("llama-2-7b", "a100", tw.Batch(prompt=64.0, output=3)).apply(expand_heads())


def test_logits_of_every_token_take_memory_and_arithmetic() -> None:
    base = tw.Scenario("llama-3.1-8b", "a100", tw.Batch(prompt=1024.0, output=3, batch=4.0))
    last, every = tw.evaluate(base), tw.evaluate(base.apply(all_logits()))
    head = next(p.op for p in every.phase("prefill").ops if p.op.name == "head")
    assert head.dims["m"] == 4 * 1024
    assert every.phase("prefill").flops - last.phase("prefill").flops == pytest.approx(2 * 4096 * 128256 * 4 * 1023)
    assert every.memory.peak > last.memory.peak
    assert every.tpot == pytest.approx(last.tpot)


def test_an_unknown_framework_is_refused() -> None:
    with pytest.raises(UnknownName, match="transformers"):
        eager("transformer")


def decoding(machine: str, weights: str = "fp16", kv: str = "fp16", where: str = "") -> tw.Result:
    """72 sequences of OPT-6.7B under FlexGen's own code."""
    form = fmt(kv)
    place = Placement() if not where else Placement().with_tensors("kv", {"host": 1.0}).with_ops(where, "host")
    plan = tw.Plan(weights=fmt(weights), kv=KV(form, form), flash=False, framework="flexgen", placement=place)
    return tw.evaluate(tw.Scenario("opt-6.7b", machine, tw.Batch(512.0, 2.0, 72.0), plan, engine="kernels"))


def preparing(r: tw.Result, kind: str, phase: str = "decode") -> float:
    return float(sum(np.max(p.cost.serial.get("preparing", 0.0)) for p in r.phase(phase).ops if p.op.kind == kind))


def test_formats_without_kernels_are_expanded_before_every_product() -> None:
    """Thirteen bytes of memory for each weight (the source's operations), and 16 bits read instead of 4."""
    narrow, wide = decoding("t4", "int4-g64"), decoding("t4")
    one = next(p for p in narrow.phase("decode").ops if p.op.kind == "matmul")
    weights = sum(o.elements for o in one.op.reads if o.role == "weight")
    on = narrow.scenario.machine.device.memory
    assert one.cost.bytes[on.name] >= (13.0 + 2.0) * weights
    assert one.cost.serial["preparing"] >= 13.0 * weights / on.bandwidth
    assert narrow.phase("decode").pass_time > wide.phase("decode").pass_time
    # A prompt's keys and values were just made: they are packed, not expanded.
    packed = decoding("t4", "fp16", "int4-g64")
    assert preparing(packed, "attention") > preparing(packed, "attention", "prefill") == 0.0


def test_caches_are_laid_out_for_a_step_and_widened_on_the_host() -> None:
    """Four bytes more for each key and value on the device, 24 on the host, beside the two that are read."""
    for where, more in (("", 4.0), ("attention.decode", 24.0)):
        r = decoding("t4 + xeon-6248 208GB ddr4-2666", where=where)
        one = next(p for p in r.phase("decode").ops if p.op.kind == "attention")
        kept = sum(o.elements for o in one.op.reads if o.role == "kv")
        assert max(one.cost.bytes.values()) == pytest.approx((2.0 + more) * kept, rel=0.05)
        # Attention of prompts stays on the device.
        assert all(not p.op.options.get("on") for p in r.phase("prefill").ops)
