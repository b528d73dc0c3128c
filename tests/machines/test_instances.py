"""Instance types of clouds, found by the names people write and rented whole; more of a machine of one's own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tierwise.evaluation import evaluate
from tierwise.machines import several, system, system_names
from tierwise.scenario.types import Batch, Plan, Scenario

HOUR = 3600.0


@pytest.mark.parametrize("name", ["aws:p5.48xlarge", "p5.48xlarge", "aws-p5.48xlarge", "P5.48XLARGE"])
def test_an_instance_is_found_as_people_write_it(name: str) -> None:
    found = system(name)
    assert (found.count, found.rented, found.device.name) == (8, 8, "h100-sxm")
    assert found.scale_up is not None and found.host is not None
    assert found.rent(8) * HOUR == pytest.approx(55.04)


@pytest.mark.parametrize(("name", "count", "device"), [
    ("gcp:a3-highgpu-8g", 8, "h100-sxm"), ("a2-ultragpu-1g", 1, "a100-sxm-80gb"), ("gcp:g2-standard-4", 1, "l4"),
    ("azure:Standard_ND96isr_H100_v5", 8, "h100-sxm"), ("Standard_NC48ads_A100_v4", 2, "a100-pcie-80gb"),
    ("azure:nd96isr-mi300x-v5", 8, "mi300x"), ("aws:g6e.12xlarge", 4, "l40s"), ("aws:p4d.24xlarge", 8, "a100-sxm-40gb"),
    ("lambda:gpu_8x_a100", 8, "a100-sxm-40gb"),
])  # fmt: skip
def test_clouds(name: str, count: int, device: str) -> None:
    found = system(name)
    assert (found.count, found.device.name) == (count, device)


def test_part_of_an_instance_costs_all_of_it() -> None:
    node = system("aws:p5.48xlarge")
    whole = node.rent(8)
    assert [node.rent(n) for n in (1, 2, 8, 9, 16)] == pytest.approx([whole, whole, whole, 2 * whole, 2 * whole])
    assert node.rent(np.array([1.0, 8.0, 12.0])).tolist() == pytest.approx([whole, whole, 2 * whole])
    loose = system("8xh100-sxm")
    assert loose.rent(3) == pytest.approx(3 * loose.device.price.rent)
    assert system("2xp5.48xlarge").rent(9) == pytest.approx(2 * whole)


def test_prices_have_a_date_and_a_source_or_are_left_out() -> None:
    clouds = [system(n) for n in system_names() if n.split("-")[0] in ("aws", "gcp", "azure", "lambda")]
    assert len(clouds) > 60
    for one in clouds:
        price = one.device.price
        assert price.date and len(price.source) > 10, one.name
        # None falls back on what another cloud asks for the same card.
        assert np.isnan(price.rent) or one.name.split("-")[0].replace("gcp", "google") in price.source.lower(), one.name
        assert one.rented == one.count


def test_a_batch_on_part_of_an_instance_pays_for_all_of_it() -> None:
    ask = Batch(prompt=512.0, output=64.0, batch=4.0)
    part = evaluate(Scenario("llama-3.1-8b", "aws:p5.48xlarge", ask, Plan(tp=1.0)))
    node = system("aws:p5.48xlarge").rent(8)
    assert float(part.cost) == pytest.approx(float(part.time) * node)


def test_a_plan_pays_for_whole_instances() -> None:
    from tierwise.models.load import load_model
    from tierwise.search.question import Arrivals, Question
    from tierwise.search.serve import plan

    demand = Arrivals(512.0, 64.0, 1.0)
    asked = Question(load_model("llama-3.2-1b"), "llama-3.2-1b", (system("aws:p5.48xlarge"),), demand)
    found = plan(asked, confirm=False)
    assert found.best is not None
    rents = found.points.rent / system("aws:p5.48xlarge").rent(8)
    assert rents == pytest.approx(np.round(rents)) and np.min(rents) == pytest.approx(1.0)


def test_a_machine_of_ones_own_is_offered_in_larger_numbers(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    power = "power: {rated: 100W, idle: 10W, source: 'estimate: mine'}"
    file.write_text(f"like: a10\ntitle: My card\nreleased: 2024-01\n{power}\n")
    one = system(str(file))
    two = several(one, 2)
    assert two.count == 2 and two.device is one.device and two.scale_up is not None
    from tierwise.advise import advise

    # What would help: more of the same card, though no catalog has its name.
    advice = advise(evaluate(Scenario("llama-3.2-1b", str(file), Batch(prompt=512.0, output=64.0, batch=8.0))))
    assert all(a for a in advice)
    assert several(system("h100-sxm"), 16) == system("16xh100-sxm")
