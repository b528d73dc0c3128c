"""Sensitivities: one sweep says what one evaluation each says, and moves have the signs of physics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tierwise as tw
from tierwise.core.errors import TierwiseError
from tierwise.influence import Moved, sensitivity
from tierwise.result import changes

BASE = tw.Scenario("llama-3.1-8b", "2xh100-sxm", tw.Batch(1024.0, 64.0, 8.0), tw.Plan(tp=2.0))


@pytest.fixture(scope="module")
def moved() -> dict[str, Moved]:
    return {m.name: m for m in sensitivity(BASE)}


def test_the_sweep_says_what_single_evaluations_say(moved: dict[str, Moved]) -> None:
    for name in ("prompt", "output", "batch"):
        for end, value in enumerate((moved[name].low, moved[name].high)):
            alone = tw.evaluate(BASE.with_traffic(**{name: value}))
            for answer in ("time", "ttft", "tpot", "throughput", "energy"):
                assert moved[name].answers[answer][end] == pytest.approx(getattr(alone, answer), rel=1e-9), answer
    machine = tw.load_system("2xh100-sxm")
    tiers = tuple(replace(t, bandwidth=t.bandwidth * 1.1, write_bandwidth=t.write_bandwidth * 1.1)
                  if t.name == "hbm" else t for t in machine.device.tiers)  # fmt: skip
    faster = tw.evaluate(replace(BASE, machine=machine.with_device(tiers=tiers)))
    assert moved["hbm bandwidth"].answers["time"][1] == pytest.approx(faster.time, rel=1e-9)


def test_more_work_takes_longer_and_more_of_a_resource_never_does(moved: dict[str, Moved]) -> None:
    time = float(tw.evaluate(BASE).time)
    for m in moved.values():
        low, high = m.answers["time"]
        if m.kind in ("traffic", "error") or m.name.endswith(("latency", "kernels", "host")):
            assert low <= time * (1 + 1e-9) and high >= time * (1 - 1e-9), m.name
        else:
            assert low >= time * (1 - 1e-9) and high <= time * (1 + 1e-9), m.name
    assert next(iter(moved)) != "hbm capacity"


def test_elasticities_add_up_to_at_most_one(moved: dict[str, Moved]) -> None:
    """A machine faster in everything by a factor takes that factor less time (Euler); seconds that were fitted as such
    are no machine's."""
    total = 0.0
    for m in moved.values():
        if m.kind == "machine":
            low, high = m.answers["time"]
            total += abs(np.log(high / low)) / np.log(m.high / m.low)
    assert 0.7 < total < 1.02


def test_fitted_coefficients_move_as_the_interval_is_made(moved: dict[str, Moved]) -> None:
    r = tw.evaluate(BASE)
    for group, ends in changes(r.phases).items():
        assert moved[group].kind == "error"
        assert moved[group].answers["time"] == pytest.approx([r.time * np.exp(e) for e in ends])


def test_a_sweep_has_none() -> None:
    with pytest.raises(TierwiseError, match="a sweep already"):
        sensitivity(BASE.with_traffic(batch=np.array([1.0, 2.0])))


@pytest.mark.parametrize(
    ("model", "machine", "traffic"),
    [
        ("resnet-50", "a100-sxm-80gb", tw.Batch(batch=8.0)),
        ("llama-3.1-8b", "m3-max-64gb", tw.Batch(512.0, 64.0, 1.0)),
        ("deepseek-v3", "16xh200-sxm", tw.Batch(512.0, 64.0, "max")),
        ("mamba2-2.7b", "rtx-4090", tw.Batch(512.0, 64.0, 1.0)),
        ("whisper-large-v3", "h100-sxm", tw.Batch(1.0, 64.0, 1.0)),
    ],
)
def test_every_kind_of_model_and_machine_has_some(model: str, machine: str, traffic: tw.Batch) -> None:
    found = sensitivity(tw.Scenario(model, machine, traffic))
    assert {"traffic", "machine", "error"} <= {m.kind for m in found}
    for m in found:
        assert np.isfinite(m.answers["time"]).all(), m.name
    if traffic.batch == "max":
        capacity = next(m for m in found if m.name == "hbm capacity")
        assert capacity.answers["throughput"][0] < capacity.answers["throughput"][1]
