"""Demands: shares of capacities between 0 and 1, and no op faster than the datasheet's peaks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.numerics import fmt, multiply_in
from tierwise.cost import PROVIDERS, Target, efficiency, price
from tierwise.machines import device_names, system
from tierwise.machines.types import System
from tierwise.program.types import Op, Operand
from tierwise.schedule.demand import demand, group

HALF = fmt("bf16")
sizes = st.floats(0.0, 14.0).map(lambda x: float(round(2.0**x)))


@cache
def computing() -> list[str]:
    return [n for n in device_names() if (d := system(n).device).engines and any(t.kind == "memory" for t in d.tiers)]


@cache
def target(name: str, engine: str) -> Target:
    found = system(name)
    return Target(found, efficiency(found.device, engine))


@st.composite
def matmuls(draw: st.DrawFn) -> Op:
    m, n, k = (draw(sizes) for _ in range(3))
    weight = fmt(draw(st.sampled_from(["bf16", "fp8", "int8", "int4-g128", "fp8-block", "nvfp4"])))
    reads = (Operand("a", "act", m * k, HALF), Operand("w", "weight", n * k, weight))
    return Op("matmul", "x", "mlp", {"m": m, "n": n, "k": k}, 2 * m * n * k, reads, (Operand("c", "act", m * n, HALF),),
              multiply_in(weight, HALF), options={"structured": draw(st.booleans())})  # fmt: skip


@st.composite
def attentions(draw: st.DrawFn) -> Op:
    batch, tokens, group = draw(sizes), draw(sizes), draw(st.sampled_from([1.0, 4.0, 8.0]))
    kv_heads, width = draw(st.sampled_from([1.0, 4.0, 8.0])), draw(st.sampled_from([64.0, 128.0, 256.0]))
    phase = draw(st.sampled_from(["prefill", "decode"]))
    new = 1.0 if phase == "decode" else tokens
    seen = tokens if phase == "decode" else (tokens + 1.0) / 2.0
    heads, cached = group * kv_heads, fmt(draw(st.sampled_from(["bf16", "fp8"])))
    past = tokens if phase == "decode" else 0.0
    reads = (
        Operand("q", "act", batch * new * heads * width, HALF),
        Operand("k", "kv", batch * past * kv_heads * width, cached),
        Operand("v", "kv", batch * past * kv_heads * width, cached),
    )
    dims = {"batch": batch, "heads": heads, "kv_heads": kv_heads, "q": new, "kv": seen, "head_dim": width,
            "v_dim": width, "columns": tokens, "window": float("inf")}  # fmt: skip
    return Op("attention", "core", "attn", dims, 4.0 * batch * heads * width * new * seen, reads,
              (Operand("o", "act", batch * new * heads * width, HALF),), "bf16",
              options={"phase": phase, "flash": draw(st.booleans())})  # fmt: skip


@st.composite
def experts(draw: st.DrawFn) -> Op:
    count = draw(st.sampled_from([8.0, 64.0, 256.0]))
    tokens, hidden, inner = draw(sizes), draw(st.sampled_from([1024.0, 4096.0])), draw(st.sampled_from([512.0, 2048.0]))
    touched = min(count, tokens)
    weight = fmt(draw(st.sampled_from(["bf16", "fp8", "fp8-block", "int4-g128", "mxfp4"])))
    weights = touched * 3 * hidden * inner
    return Op("moe", "experts", "moe",
              {"tokens": tokens, "touched": touched, "experts": count, "hidden": hidden, "inner": inner, "up": 2.0},
              6.0 * tokens * hidden * inner,
              (Operand("x", "act", tokens * hidden, HALF), Operand("w", "weight", weights, weight)),
              (Operand("y", "act", tokens * hidden, HALF),), multiply_in(weight, HALF))  # fmt: skip


@st.composite
def elementwises(draw: st.DrawFn) -> Op:
    n = draw(sizes) * draw(sizes)
    role = draw(st.sampled_from(["act", "kv", "state"]))
    return Op("elementwise", "x", "attn", {"elements": n}, 6.0 * n, (Operand("a", role, n, HALF),),
              (Operand("b", role, n, HALF),), "fp32")  # fmt: skip


any_op = st.one_of(matmuls(), attentions(), experts(), elementwises())


@settings(max_examples=400, deadline=None)
@given(any_op, st.data())
def test_no_share_exceeds_one_and_no_op_beats_the_peaks(op: Op, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(computing()))
    on = target(name, data.draw(st.sampled_from(["", "vllm", "sglang", "trtllm"])))
    found, cost = demand(op, on), price(op, on)
    duration = float(found.duration)
    assert duration > 0 and np.isfinite(duration)
    for share in found.draws.values():
        assert 0.0 <= share <= 1.0
    rate, engine = on.rate(op.arithmetic)
    peak = rate * (engine.sparse if op.options.get("structured") else 1.0)
    assert cost.flops / (peak * duration) <= 1.0 + 1e-9  # MFU
    moved = cost.bytes.get(on.memory.name, 0.0)
    if cost.basis != "measured":
        assert moved / (on.memory.bandwidth * duration) <= 1.0 + 1e-9  # MBU


def test_a_memory_bound_op_leaves_the_engines_free(machine: Callable[..., System]) -> None:
    on = Target(machine("h100-sxm"), efficiency(machine("h100-sxm").device))
    m, n, k = 1.0, 16384.0, 16384.0
    op = Op("matmul", "x", "mlp", {"m": m, "n": n, "k": k}, 2 * m * n * k,
            (Operand("a", "act", m * k, HALF), Operand("w", "weight", n * k, HALF)), (Operand("c", "act", n, HALF),),
            "bf16")  # fmt: skip
    found = demand(op, on)
    assert found.draws["hbm"] > 0.8 and found.draws["compute"] < 0.5
    assert group(op, on) == "hopper/matmul/typical"
    assert found.basis == "calibrated"


def test_a_collective_draws_on_both_directions_of_its_link(machine: Callable[..., System]) -> None:
    found = machine("8xh100-sxm")
    on = Target(found, efficiency(found.device))
    buffer = Operand("x", "act", 1e8, HALF)
    op = Op("collective", "sum", "comm", {"bytes": buffer.bytes, "group": 8.0, "stride": 1.0}, 0.0, (buffer,), (),
            "fp32", options={"collective": "all_reduce"})  # fmt: skip
    got = demand(op, on)
    assert set(got.draws) == {"link.out", "link.in"}
    assert {k for k, v in got.bytes.items() if v > 0} == set(got.draws)
    assert got.bytes["link.out"] == got.bytes["link.in"] == pytest.approx(2 * 7 / 8 * 2e8)
    assert group(op, on) == "hopper/collective.all_reduce/typical"


def test_cards_that_talk_over_their_slots_share_them_with_copies_from_the_host(machine: Callable[..., System]) -> None:
    found = machine("2xl40s")
    on = Target(found, efficiency(found.device))
    buffer = Operand("x", "act", 1e6, HALF)
    op = Op("collective", "sum", "comm", {"bytes": buffer.bytes, "group": 2.0, "stride": 1.0}, 0.0, (buffer,), (),
            "fp32", options={"collective": "all_reduce"})  # fmt: skip
    copy = Op("copy", "fetch", "copy", {"bytes": 1e6}, 0.0, (), (), "", options={"from": "host", "to": ""})
    assert "host.in" in demand(op, on).draws and "host.in" in demand(copy, on).draws


def test_providers_are_tried_in_order_of_trust() -> None:
    names = [name for name, _ in PROVIDERS]
    assert names.index("measured") < names.index("fitted") < names.index("bounds") == len(names) - 1
