"""Energy by action: what the sum must obey on any device, the table against independent sources, recorded power."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.cost.test_matmul import gemm
from tests.recorded import SHARED

from tierwise.core.errors import UnknownName
from tierwise.cost import Target, efficiency, price
from tierwise.cost.energy import Actions, actions, by_dtype, energy, interval, stretch, sustained
from tierwise.cost.energy_table import memory_energy, operation_energy, process_of, sram_energy, table
from tierwise.machines import device, device_names, system
from tierwise.machines.schema import PASSIVE
from tierwise.machines.types import Device
from tierwise.measure import ops
from tierwise.measure.rows import attention, moe
from tierwise.program.types import Op

COMPUTING = [n for n in device_names() if device(n).kind not in PASSIVE]


def total(joules: Mapping[str, object]) -> object:
    return sum(joules.values(), 0.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", COMPUTING)
def test_a_sustained_product_draws_at_most_what_the_device_is_rated_for(name: str) -> None:
    d = device(name)
    a = actions(d, reached=0.8)
    for engine in d.engines:
        for dtype in engine.rates:
            rate, moved = sustained(d, engine, dtype, 0.8)
            # The table's energy of the memory is what the fit knows; a file's own may be a little above it.
            joules = energy({f"{engine.name}:{dtype}": rate}, moved, 1.0, a)
            outside = sum(memory_energy(t)[0] * moved.get(t.name, 0.0) for t in d.tiers if t.kind == "memory")
            slack = max(sum(joules.get(t.name, 0.0) for t in d.tiers if t.kind == "memory") - outside, 0.0)
            assert total(joules) <= d.power.rated * (1 + 1e-9) + slack
            assert total(joules) >= d.power.idle
    assert 0.0 < a.scale <= 1.0 and a.active >= 0.0


@pytest.mark.parametrize("name", COMPUTING)
def test_every_tier_engine_and_link_has_joules_and_a_source(name: str) -> None:
    d = device(name)
    a = actions(d)
    parts = [*(t.name for t in d.tiers), *(x.name for x in d.links)]
    assert all(0.0 < a.bytes[p] < 1e-7 and len(a.sources[p].split()) >= 3 for p in parts)
    for e in d.engines:
        assert set(a.flops[e.name]) == set(e.rates) and a.sources[e.name]
        assert all(0.0 < v < 1e-10 for v in a.flops[e.name].values())
    for t in d.tiers:
        assert math.isnan(t.energy) or a.bytes[t.name] == t.energy
    assert all(low <= 1.0 <= high for low, high in a.spread.values())


amounts = st.floats(0.0, 1e18)


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(["h100-sxm", "xeon-8480", "hbm-pim", "stm32f746", "apple-m1"]), amounts, amounts, amounts,
       st.floats(1e-9, 1e3), st.floats(1.0, 10.0))  # fmt: skip
def test_components_are_a_sum_that_grows_with_everything(
    name: str, flops: float, near: float, far: float, seconds: float, more: float
) -> None:
    d = device(name)
    a = actions(d)
    dtype = next(iter(d.engines[0].rates))

    def joules(f: float, n: float, m: float, s: float) -> dict[str, object]:
        return dict(energy({dtype: f}, {d.tiers[0].name: n, d.memory.name: n + m}, s, a, busy=0.5 * s))

    base = joules(flops, near, far, seconds)
    engine = next(e for e in a.flops if dtype in a.flops[e])
    by_hand: dict[str, float] = {"active": float(a.active) * 0.5 * seconds, "idle": float(a.idle) * seconds}
    for part, value in (
        (engine, flops * a.flops[engine][dtype]),
        (d.tiers[0].name, 0.0 if d.tiers[0] is d.memory else near * a.bytes[d.tiers[0].name]),
        (d.memory.name, (near + far) * a.bytes[d.memory.name]),
    ):
        by_hand[part] = by_hand.get(part, 0.0) + float(value)
    assert {k: float(v) for k, v in base.items() if k in by_hand} == pytest.approx(by_hand)  # type: ignore[arg-type]
    assert float(total(base)) == pytest.approx(sum(by_hand.values()))  # type: ignore[arg-type]
    for larger in (
        joules(flops * more, near, far, seconds),
        joules(flops, near * more, far, seconds),
        joules(flops, near, far * more, seconds),
        joules(flops, near, far, seconds * more),
    ):
        assert float(total(larger)) >= float(total(base)) * (1 - 1e-12)  # type: ignore[arg-type]
    low, high = interval(base, a)  # type: ignore[arg-type]
    assert low <= float(total(base)) * (1 + 1e-12) and float(total(base)) <= high * (1 + 1e-12)  # type: ignore[arg-type]


def with_memory(d: Device, factor: object) -> Device:
    tiers = tuple(replace(t, energy=t.energy * factor) if t.kind == "memory" else t for t in d.tiers)  # type: ignore[arg-type, type-var]
    return replace(d, tiers=tiers)


def test_a_memory_that_takes_a_hundred_times_the_energy_costs_it_until_the_cap_then_time() -> None:
    d = device("h100-sxm")
    moved, seconds = {"hbm": 3.35e12}, 1.0
    plain = energy({"bf16": 1e12}, moved, seconds, actions(d))
    for factor in (2.0, 100.0):
        a = actions(with_memory(d, factor))
        dear = energy({"bf16": 1e12}, moved, seconds, a)
        assert total(dear) - total(plain) == pytest.approx((factor - 1.0) * plain["hbm"])  # type: ignore[operator]
        assert {k: v for k, v in dear.items() if k != "hbm"} == {k: v for k, v in plain.items() if k != "hbm"}
        longer = stretch(dear, seconds, d.power.rated, d.power.idle)
        draw = (total(dear) - dear["idle"]) / longer + d.power.idle  # type: ignore[operator]
        assert draw <= d.power.rated * (1 + 1e-12)
        assert longer == seconds if factor == 2.0 else longer > 10.0


@given(st.floats(0.0, 1e4), st.floats(1e-6, 1e3), st.floats(50.0, 1e3), st.floats(0.0, 49.0))
def test_a_cap_stretches_time_just_until_it_holds(joules: float, seconds: float, cap: float, idle: float) -> None:
    longer = stretch(joules, seconds, cap, idle)
    assert longer >= seconds
    assert joules / longer + idle <= cap * (1 + 1e-9)
    assert longer == seconds or joules / longer + idle == pytest.approx(cap)
    assert stretch(joules, seconds, math.nan, idle) == seconds
    assert stretch(joules, seconds, cap * 1.5, idle) <= longer


def test_arrays_agree_with_scalars() -> None:
    d, many = device("h100-sxm"), np.array([0.5, 1.0, 4.0])
    tiers = tuple(replace(t, capacity=t.capacity * many, bandwidth=t.bandwidth * many) for t in d.tiers)
    engines = tuple(replace(e, rates={k: v * many for k, v in e.rates.items()}) for e in d.engines)
    power = replace(d.power, rated=d.power.rated * many)
    swept = replace(d, tiers=tiers, engines=engines, power=power, process=np.array([7.0, 5.0, 3.0]))  # type: ignore[arg-type]
    a = actions(swept, reached=0.8)
    got = energy({"bf16": 1e15 * many}, {"hbm": 1e12, "l2": 5e12 * many, "link": 1e10}, many, a)
    ends = interval(got, a)
    longer = stretch(got, many, swept.power.rated, a.idle)
    for i, f in enumerate(many):
        one = replace(
            d,
            tiers=tuple(replace(t, capacity=t.capacity * f, bandwidth=t.bandwidth * f) for t in d.tiers),
            engines=tuple(replace(e, rates={k: v * f for k, v in e.rates.items()}) for e in d.engines),
            power=replace(d.power, rated=d.power.rated * f),
            process=[7.0, 5.0, 3.0][i],
        )
        b = actions(one, reached=0.8)
        alone = energy({"bf16": 1e15 * f}, {"hbm": 1e12, "l2": 5e12 * f, "link": 1e10}, f, b)
        assert {k: float(np.broadcast_to(v, 3)[i]) for k, v in got.items()} == pytest.approx(alone)
        assert [float(np.broadcast_to(x, 3)[i]) for x in ends] == pytest.approx(list(interval(alone, b)))
        assert np.broadcast_to(longer, 3)[i] == pytest.approx(stretch(alone, f, one.power.rated, b.idle))


def test_narrower_formats_and_newer_processes_take_less_and_smaller_memories_too() -> None:
    for dtypes in (("fp64", "fp32", "tf32", "bf16", "fp8", "fp4"), ("int8", "int4", "int2")):
        joules = [operation_energy(d, 7.0)[0] for d in dtypes]
        assert joules == sorted(joules, reverse=True)
    for dtype in ("fp32", "bf16", "int8"):
        by_process = np.asarray(operation_energy(dtype, np.array([3.0, 7.0, 16.0, 45.0, 90.0]))[0])
        assert np.all(np.diff(by_process) > 0)
    sizes = np.geomspace(1e3, 1e9, 30)
    assert np.all(np.diff(np.asarray(sram_energy(sizes, 5.0)[0])) > 0)


def test_the_table_gives_back_what_its_sources_say() -> None:
    assert operation_energy("fp32", 45.0)[0] == pytest.approx((3.7 + 0.9) / 2 * 1e-12)
    assert operation_energy("fp16", 7.0)[0] == pytest.approx((0.34 + 0.38) / 2 * 1e-12)
    assert sram_energy(32768, 45.0)[0] == pytest.approx(20 / 8 * 1e-12)
    # Not in the table: the 4 MB VMEM of the TPU v4i model in accelforge, 0.249 pJ/bit.
    assert sram_energy(4 * 2**20, 7.0)[0] / 8 == pytest.approx(0.249e-12, rel=0.35)


def test_a_device_without_a_named_process_has_that_of_its_year_and_says_so() -> None:
    d = replace(device("h100-sxm"), process=math.nan)
    process, source = process_of(d)
    assert source.startswith("estimate") and process == table()["years"]["at"][2020]  # released in 2022
    stated, source = process_of(device("h100-sxm"))
    assert stated == 4.0 and "4N" in source


def test_a_power_that_nobody_measured_stays_unknown_and_actions_do_not() -> None:
    d = device("h100-sxm")
    a = actions(replace(d, power=replace(d.power, rated=math.nan, idle=math.nan)))
    joules = energy({"bf16": 1e12}, {"hbm": 1e9}, 1.0, a)
    assert math.isnan(float(joules["idle"])) and joules["active"] == 0.0
    assert joules["hbm"] == pytest.approx(1e9 * d.memory.energy)


def test_flops_go_to_the_engine_that_has_the_format() -> None:
    a = actions(device("v100-sxm-16gb"))  # a matrix engine for fp16 alone
    assert set(energy({"fp16": 1.0, "fp64": 1.0}, {}, 0.0, a)) == {"tensor", "cuda", "active", "idle"}
    assert set(energy({"fp8": 1.0}, {}, 0.0, a)) == {"tensor", "active", "idle"}  # computed in fp16
    assert set(energy({"cuda:fp16": 1.0}, {}, 0.0, a)) == {"cuda", "active", "idle"}
    for flops, moved in (({"fp3": 1.0}, {}), ({"npu:fp16": 1.0}, {}), ({}, {"hbm2": 1.0})):
        with pytest.raises(UnknownName):
            energy(flops, moved, 0.0, a)


def test_an_array_of_formats_costs_each_its_own() -> None:
    a, flops = actions(device("h100-sxm")), np.array([1e12, 2e12, 3e12])
    got = energy(by_dtype(flops, np.array(["bf16", "fp8", "bf16"])), {}, 0.0, a)["tensor"]
    assert np.asarray(got).tolist() == pytest.approx(
        [f * float(a.flops["tensor"][d]) for f, d in zip(flops, ("bf16", "fp8", "bf16"), strict=True)]
    )
    assert by_dtype(1e12, "bf16") == {"bf16": 1e12}


def test_writes_cost_what_a_tier_says_of_them() -> None:
    d = device("h100-sxm")
    dear = replace(d, tiers=tuple(replace(t, write_energy=3 * t.energy) for t in d.tiers))
    a: Actions = actions(dear)
    assert energy({}, {"hbm": 10.0}, 0.0, a, written={"hbm": 4.0})["hbm"] == pytest.approx(
        (6 + 3 * 4) * d.memory.energy
    )


@pytest.mark.parametrize("name", ["2xh100-sxm", "8xrtx-4090", "4xhbm-pim", "8xgroq-lpu", "2xxeon-8480", "8xmi300x"])
def test_what_prices_count_has_an_energy(name: str) -> None:
    s = system(name)
    a = actions(s.device)
    for made in (gemm(512, 4096, 4096), Op("collective", "sum", "comm", {"bytes": 1e6, "group": 2.0}, 0.0, (), (),
                                           "bf16", options={"collective": "all_reduce", "library": True})):  # fmt: skip
        cost = price(made, Target(s, efficiency(s.device)))
        joules = energy({str(made.arithmetic): cost.flops}, cost.bytes, cost.time, a)
        low, high = interval(joules, a)
        assert 0.0 < low <= float(total(joules)) <= high * (1 + 1e-12)  # type: ignore[arg-type]


@pytest.mark.parametrize("file", ["attention_prefill", "attention_decode", "moe"])
def test_recorded_power_lies_inside_the_interval_and_the_median_within_a_factor_of_two(file: str) -> None:
    """Watts of single operations on one device; nothing in the table was fitted to them."""
    path = SHARED / f"{file}.parquet"
    if not path.is_file():
        pytest.skip("no recorded measurements beside the checkout")
    pytest.importorskip("pyarrow")
    whole = ops.read(path)
    rows = np.flatnonzero(np.isfinite(np.asarray(whole["power"], dtype=float)))[::5]
    part = {c: v[rows] for c, v in whole.items()}
    made = moe.op(part) if file == "moe" else attention.op(part, file.removeprefix("attention_"))
    (name,) = set(part["system"].tolist())
    watts, seconds = np.asarray(part["power"], dtype=float), np.asarray(part["latency"], dtype=float) * 1e-3
    a = actions(ops.system(name).device)
    moved = sum(np.asarray(x.bytes) for x in (*made.reads, *made.writes))
    (dtype,) = set(np.ravel(made.arithmetic).tolist())
    joules = energy({str(dtype): made.flops}, {ops.system(name).device.memory.name: moved}, seconds, a)
    low, high = interval(joules, a)
    inside = (low / seconds <= watts) & (watts <= high / seconds)
    ratio = float(np.median(np.asarray(total(joules)) / seconds / watts))
    print(f"{file}: predicted over measured {ratio:.2f}, {np.mean(inside):.0%} inside the interval")
    assert np.mean(inside) >= 0.8
    assert 0.5 < ratio < 2.0
