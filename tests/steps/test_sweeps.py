"""A sweep says of each configuration what is said of it alone: sizes, choices, formats, numbers of a machine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tierwise as tw
from tierwise import techniques as T
from tierwise.machines.types import System

Change = Callable[[tw.Scenario, Any], tw.Scenario]


def tiers(kind: str, *fields: str) -> Change:
    """Numbers of the tiers of a kind, multiplied."""

    def change(s: tw.Scenario, x: Any) -> tw.Scenario:
        system = tw.load_system(s.machine) if isinstance(s.machine, str) else s.machine
        assert isinstance(system, System)
        made = tuple(
            replace(t, **{f: getattr(t, f) * x for f in fields}) if t.kind == kind else t for t in system.device.tiers
        )
        return replace(s, machine=system.with_device(tiers=made))

    return change


def engines(field: str) -> Change:
    """Units or rates of all engines, multiplied."""

    def change(s: tw.Scenario, x: Any) -> tw.Scenario:
        system = tw.load_system(s.machine) if isinstance(s.machine, str) else s.machine
        assert isinstance(system, System)
        more = {"units": lambda e: replace(e, units=e.units * x),
                "rates": lambda e: replace(e, rates={k: v * x for k, v in e.rates.items()})}[field]  # fmt: skip
        return replace(s, machine=system.with_device(engines=tuple(map(more, system.device.engines))))

    return change


def plan(field: str) -> Change:
    return lambda s, x: s.with_plan(**{field: x})


def traffic(field: str) -> Change:
    return lambda s, x: s.with_traffic(**{field: x})


AXES: dict[str, tuple[Change, list[Any]]] = {
    "flash": (plan("flash"), [True, False]),
    "graphs": (plan("graphs"), [True, False]),
    "overlap": (plan("overlap"), [True, False]),
    "library": (plan("library"), [True, False]),
    "weights": (plan("weights"), ["bf16", "fp8"]),
    "tp": (plan("tp"), [1.0, 2.0, 4.0]),
    "pp": (plan("pp"), [1.0, 2.0]),
    "reserve": (plan("reserve"), [0.0, 0.1, 0.3]),
    "imbalance": (plan("imbalance"), [1.0, 1.3, 2.0]),
    "chunk": (plan("chunk"), [512.0, 2048.0, 8192.0]),
    "kv bits": (lambda s, x: s.apply(T.quantize_kv(bits=x)), [2.0, 4.0, 8.0]),
    "prompt": (traffic("prompt"), [1.0, 700.0, 5000.0]),
    "output": (traffic("output"), [1.0, 2.0, 300.0]),
    "batch": (traffic("batch"), [1.0, 7.0, 64.0, 400.0]),
    "memory bandwidth": (tiers("memory", "bandwidth", "write_bandwidth"), [0.5, 1.0, 3.0]),
    "write bandwidth": (tiers("memory", "write_bandwidth"), [0.1, 0.5, 1.0]),
    "memory capacity": (tiers("memory", "capacity"), [0.3, 1.0, 2.0]),
    "cache capacity": (tiers("cache", "capacity"), [0.1, 1.0, 30.0]),
    "units": (engines("units"), [0.5, 1.0, 2.0]),
    "rates": (engines("rates"), [0.2, 1.0, 4.0]),
}  # fmt: skip

# A dense model with an engine around it, experts under a framework, one with latent attention, and one that hides its
# collectives.
BASES: dict[str, tuple[str, str, dict[str, Any], str]] = {
    "dense": ("llama-3.1-8b", "8xa100-80gb", {}, "vllm"),
    "experts": ("mixtral-8x7b", "8xh100-sxm", {"library": True}, "sglang"),
    "latent": ("deepseek-v2-lite", "8xh200-sxm", {"overlap": True}, "trtllm"),
    "framework": ("llama-3.1-8b", "8xh100-sxm", {"framework": "transformers"}, ""),
    "kernels": ("qwen3-30b-a3b", "8xl40s", {}, "kernels"),
}


@cache
def base(kind: str) -> tw.Scenario:
    model, machine, fields, engine = BASES[kind]
    return tw.Scenario(model, machine, tw.Batch(600.0, 50.0, 12.0), tw.Plan(tp=4.0, **fields), engine=engine)


def changed(s: tw.Scenario, values: dict[str, Any]) -> tw.Scenario:
    for name, x in values.items():
        s = AXES[name][0](s, x)
    return s


def numbers(r: tw.Result) -> dict[str, Any]:
    """Everything that a result says in numbers."""
    out: dict[str, Any] = {"ttft": r.ttft, "tpot": r.tpot, "time": r.time, "throughput": r.throughput, "mfu": r.mfu,
                           "energy": r.energy, "low": r.interval[0], "high": r.interval[1], "fits": r.fits}  # fmt: skip
    out |= {f"memory: {k}": v for k, v in r.memory.parts.items()} | {"sequences": r.memory.sequences}
    for p in r.phases:
        out |= {f"{p.name} time": p.time, f"{p.name} flops": p.flops, f"{p.name} busy": p.busy}
        out |= {f"{p.name} bytes: {k}": v for k, v in p.traffic.items()}
        out |= {f"{p.name} bound: {k}": v for k, v in p.bounds.items()}
    return out


def compare(kind: str, values: dict[str, list[Any]]) -> None:
    many = numbers(tw.evaluate(changed(base(kind), {k: np.asarray(v) for k, v in values.items()})))
    for i in range(len(next(iter(values.values())))):
        one = numbers(tw.evaluate(changed(base(kind), {k: v[i] for k, v in values.items()})))
        for name, x in {**dict.fromkeys(many, 0.0), **one}.items():
            found = np.broadcast_to(np.asarray(many.get(name, 0.0), dtype=float), (len(next(iter(values.values()))),))
            # A pass that does not run for one configuration (a single token needs no decoding, full passes leave
            # nothing) takes it no time.
            absent = [p for p in ("decode", "last prefill") if name.startswith(p) and f"{p} time" not in one]
            if absent or (name == "tpot" and np.isnan(x)):
                assert name not in ("decode time", "last prefill time") or found[i] == 0.0
                continue
            assert found[i] == pytest.approx(float(x), rel=1e-12, abs=1e-18, nan_ok=True), (name, i)


@pytest.mark.parametrize("axis", AXES)
@pytest.mark.parametrize("kind", BASES)
def test_each_element_is_the_scalar_answer(kind: str, axis: str) -> None:
    compare(kind, {axis: AXES[axis][1]})


@given(st.sampled_from(sorted(BASES)), st.lists(st.sampled_from(sorted(AXES)), min_size=2, max_size=4, unique=True),
       st.data())  # fmt: skip
@settings(max_examples=25, deadline=None)
def test_axes_vary_together(kind: str, axes: list[str], data: st.DataObject) -> None:
    compare(kind, {a: [data.draw(st.sampled_from(AXES[a][1])) for _ in range(3)] for a in axes})


FOUND: list[tuple[str, dict[str, list[Any]]]] = [
    # Launches of several chunks' mean move with the device wherever an interval is made.
    ("experts", {"chunk": [512.0, 512.0, 512.0], "overlap": [True, True, False]}),
    # Coefficients of several formats that follow rates which are arrays themselves.
    ("latent", {"weights": ["bf16", "bf16", "fp8"], "rates": [0.2, 0.2, 4.0]}),
    # Intervals of an all-reduce's kernels are arrays of one where a sweep is of one.
    ("latent", {"batch": [12.0]}),
]


@pytest.mark.parametrize(("kind", "values"), FOUND)
def test_axes_that_went_wrong_together(kind: str, values: dict[str, list[Any]]) -> None:
    compare(kind, values)
