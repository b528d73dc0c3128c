"""Goodput over the rate of arrivals: physics of a queue, whatever the prices."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from tierwise.cli import main
from tierwise.core.errors import BadField
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Deployment, Replicas
from tierwise.serving.goodput import SHOWN, goodput
from tierwise.serving.pricing import step_prices
from tierwise.serving.traffic import synthetic


def of(replicas: int, ttft: float, tpot: float, **options):  # type: ignore[no-untyped-def]
    model = load_model("llama-3.1-8b")
    plan = Deployment(model, (Replicas(system(f"{replicas}xh100-sxm"), Plan(), replicas),), "power_of_two")
    requests = synthetic(400, "poisson", rate=1.0, prompt=1000, output=100, seed=1)
    prices = [step_prices(model, g) for g in plan.groups]
    return goodput(requests, plan, prices, ttft, tpot, **options)


def test_a_curve_falls_and_holds_just_up_to_its_capacity():
    found = of(1, 0.5, 0.03)
    assert found.capacity > 0
    assert [p.rate for p in found.points] == pytest.approx([found.capacity * x for x in SHOWN])
    held = [p.holds(0.9) for p in found.points]
    below = [p.rate <= found.capacity * (1.0 + 1e-9) for p in found.points]
    assert held == below
    assert all(p.metrics.goodput <= p.rate * 1.05 for p in found.points)
    # Beyond the capacity no more requests are served well, though more come.
    best = max(p.metrics.goodput for p in found.points if p.holds(0.9))
    assert found.points[-1].metrics.goodput < best


def test_looser_targets_hold_more_and_two_engines_about_twice_one():
    tight, loose = of(1, 0.2, 0.015), of(1, 1.0, 0.05)
    assert tight.capacity < loose.capacity
    assert of(1, 0.5, 0.03, attainment=0.99).capacity <= of(1, 0.5, 0.03, attainment=0.5).capacity
    assert of(2, 0.5, 0.03).capacity == pytest.approx(2.0 * of(1, 0.5, 0.03).capacity, rel=0.3)


def test_targets_below_what_one_request_takes_hold_at_no_rate():
    found = of(1, 0.001, 0.03)
    assert found.capacity == 0
    assert len(found.points)
    # Nor is the run with all requests at once, which only bounds what can be taken, a rate that anyone asked about.
    assert max(p.rate for p in found.points) < 1e3
    assert not any(p.holds(0.9) for p in found.points)


def test_given_rates_are_played_and_nothing_else():
    found = of(1, 0.5, 0.03, rates=[4.0, 2.0])
    assert [p.rate for p in found.points] == [2.0, 4.0]
    assert np.isnan(found.capacity)
    assert found.points[1].metrics.load.offered == pytest.approx(4.0, rel=0.01)


def test_requests_without_a_rate_are_refused():
    model = load_model("llama-3.1-8b")
    plan = Deployment(model, (Replicas(system("1xh100-sxm"), Plan(), 1),))
    closed = replace(synthetic(50, "poisson", rate=1.0, prompt=100, output=10, seed=1), closed_loop=4)
    with pytest.raises(BadField, match="arrive over time"):
        goodput(closed, plan, [step_prices(model, g) for g in plan.groups], 0.5, 0.05)


def test_the_command_compares_machines_and_writes_a_page(tmp_path, capsys):
    page = tmp_path / "g.html"
    main_ = ["goodput", "llama-3.1-8b", "--on", "1xh100-sxm", "--on", "1xl40s", "--prompt", "500", "--output", "50",
             "--requests", "200", "--rate", "1/s", "--rate", "4/s", "--ttft", "500ms", "--tpot", "40ms"]  # fmt: skip
    with pytest.raises(SystemExit) as end:
        main([*main_, "--html", str(page), "--json", str(tmp_path / "g.json")])
    assert end.value.code == 0
    found = json.loads((tmp_path / "g.json").read_text())
    assert [c["machine"] for c in found["curves"]] == ["1xh100-sxm", "1xl40s"]
    assert [[p["rate_per_s"] for p in c["points"]] for c in found["curves"]] == [[1.0, 4.0]] * 2
    fast, slow = (c["points"][1]["tpot_p50_s"] for c in found["curves"])
    assert fast < slow
    assert "requests that arrive a second" in page.read_text()
    assert all(len(line) <= 100 for line in capsys.readouterr().out.splitlines())


@pytest.mark.parametrize(
    ("words", "said"),
    [([], "Give --ttft"), (["--ttft", "1s", "--rate", "0/s"], "--rate"),
     (["--ttft", "1s", "--attainment", "2"], "--attainment")],
)
def test_what_cannot_be_asked_is_refused_in_one_line(words, said, capsys):
    with pytest.raises(SystemExit) as end:
        main(["goodput", "llama-3.1-8b", "--on", "1xh100-sxm", *words])
    assert end.value.code == 2
    assert said in capsys.readouterr().err


def test_what_was_asked_is_kept_and_asked_again(tmp_path, capsys):
    """The saved scenario gives the same curve, and is one that can be simulated."""
    saved, first, second = (tmp_path / n for n in ("g.yaml", "a.json", "b.json"))
    asked = ["goodput", "llama-3.2-1b", "--on", "l4", "--rate", "2/s", "--requests", "20", "--output", "8", "--ttft",
             "1s", "--save", str(saved), "--json", str(first)]  # fmt: skip
    for words in (asked, ["goodput", str(saved), "--json", str(second)], ["simulate", str(saved)]):
        with pytest.raises(SystemExit) as stop:
            main(words)
        assert not stop.value.code
    one, two = (json.loads(p.read_text())["curves"] for p in (first, second))
    assert one == two
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        main(["goodput", "llama-3.2-1b", "--on", "l4", "--on", "l40s", "--ttft", "1s", "--save", str(saved)])
    assert stop.value.code == 2 and "one machine" in capsys.readouterr().err
