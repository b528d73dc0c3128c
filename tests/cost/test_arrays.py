"""One array evaluation gives what the scalar evaluations give: choices and machine numbers as well as sizes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import numpy as np
import pytest

import tierwise as tw
from tierwise.cost import Target, efficiency, price
from tierwise.machines import system
from tierwise.machines.types import Device, System
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.program.types import Op

FACTORS = (1.0, 2.0)


def ops(model: str, **plan: object) -> Iterator[Op]:
    """The ops of a decode step and of a chunk of prefill."""
    found = tw.load_model(model)
    for phase, new, past in (("decode", 1.0, 2048.0), ("prefill", 512.0, 1024.0)):
        graph = lower(Step(found, tw.Plan(**plan), 4.0, new, past, phase))  # type: ignore[arg-type]
        for _, op in graph.walk():
            yield op


def tiers(device: Device, kind: str, field: str, by: object) -> Device:
    return replace(device, tiers=tuple(
        replace(t, **{field: getattr(t, field) * by}) if t.kind == kind else t for t in device.tiers))  # fmt: skip


def faster(rates: Mapping[str, float], by: object) -> dict[str, float]:
    return {k: v * by for k, v in rates.items()}  # type: ignore[operator]


SWEEPS: dict[str, Callable[[Device, object], Device]] = {
    "bandwidth": lambda d, by: tiers(d, "memory", "bandwidth", by),
    "write bandwidth": lambda d, by: tiers(d, "memory", "write_bandwidth", by),
    "cache bandwidth": lambda d, by: tiers(d, "cache", "bandwidth", by),
    "cache": lambda d, by: tiers(d, "cache", "capacity", by),
    "units": lambda d, by: replace(d, engines=tuple(replace(e, units=e.units * by) for e in d.engines)),
    "rates": lambda d, by: replace(d, engines=tuple(replace(e, rates=faster(e.rates, by)) for e in d.engines)),
}


@pytest.mark.parametrize("sweep", list(SWEEPS))
@pytest.mark.parametrize("name,model", [("a100-80gb", "llama-2-7b"), ("h100-sxm", "mixtral-8x7b"),
                                        ("hbm-pim", "llama-2-7b")])  # fmt: skip
def test_machine_numbers_may_be_arrays(sweep: str, name: str, model: str) -> None:
    plain = system(name)

    def target(by: object) -> Target:
        return Target(replace(plain, device=SWEEPS[sweep](plain.device, by)), efficiency(plain.device))

    many, each = target(np.array(FACTORS)), [target(f) for f in FACTORS]
    for op in ops(model):
        time = np.broadcast_to(np.asarray(price(op, many).time), (len(FACTORS),))
        assert time == pytest.approx([float(price(op, one).time) for one in each], rel=1e-12), op.name


def test_coefficients_carry_to_a_swept_clock(machine: Callable[..., System]) -> None:
    device = machine("h200-sxm").device

    def at(by: object) -> Device:
        return replace(device, engines=tuple(replace(e, clock=e.clock * by) for e in device.engines))

    many, each = efficiency(at(np.array(FACTORS))), [efficiency(at(f)) for f in FACTORS]
    for key, fit in many.fits.items():
        for name, value in fit.values.items():
            found = np.broadcast_to(np.asarray(value), (len(FACTORS),))
            assert found == pytest.approx([e.fits[key].values[name] for e in each], rel=1e-12), (key, name)


@pytest.mark.parametrize("name", ["h100-sxm", "8xh100-sxm", "mi300x"])
def test_graphs_may_be_an_array(name: str) -> None:
    found = system(name)
    both = Target(found, efficiency(found.device), graphs=np.array([True, False]))  # type: ignore[arg-type]
    for op in ops("mixtral-8x7b", tp=float(found.count)):
        each = [price(op, replace(both, graphs=x)) for x in (True, False)]
        assert price(op, both).time == pytest.approx([float(c.time) for c in each], rel=1e-12), op.name


@pytest.mark.parametrize("name", ["h100-sxm", "mi300x"])
def test_fused_attention_may_be_an_array(name: str) -> None:
    found = system(name)
    on = Target(found, efficiency(found.device))
    cores = [op for op in ops("llama-2-7b") if op.kind == "attention"]
    assert len(cores) == 2
    for op in cores:
        both = price(replace(op, options={**op.options, "flash": np.array([True, False])}), on)
        each = [price(replace(op, options={**op.options, "flash": x}), on) for x in (True, False)]
        assert both.time == pytest.approx([float(c.time) for c in each], rel=1e-12)
        assert both.bytes["hbm"] == pytest.approx([float(c.bytes["hbm"]) for c in each], rel=1e-12)
        assert both.basis == "datasheet"  # of the two the less sure


def test_bits_of_the_cache_may_be_an_array() -> None:
    on = Target(system("h100-sxm"), efficiency(system("h100-sxm").device))
    names = ("bf16", "fp8", "int4-g32")
    forms = [tw.KV(key=tw.fmt(x), value=tw.fmt(x)) for x in (np.array(names), *names)]
    many, *each = (list(ops("llama-2-7b", kv=kv)) for kv in forms)
    for op, *alone in zip(many, *each, strict=True):
        time = np.broadcast_to(np.asarray(price(op, on).time), (len(names),))
        assert time == pytest.approx([float(price(x, on).time) for x in alone], rel=1e-12), op.name
