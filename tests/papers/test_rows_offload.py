"""What must be true of papers that train with states away from the device, whatever the numbers."""

from __future__ import annotations

import pytest

from tierwise.papers.catalog import deep_optimizer_states as states
from tierwise.papers.catalog import fuyou


@pytest.mark.parametrize(
    ("run", "counted"),
    [("7B on four A100", 5.95), ("8.3B on four A100", 9.14), ("13B on four A100", 11.32), ("20B on four H100", 15.33)],
)
def test_the_models_have_the_parameters_that_deepspeed_counted(run: str, counted: float) -> None:
    """num_elems of partition_parameters.py in the logs of each run, billions."""
    assert float(states.model(run).parameters) / 1e9 == pytest.approx(counted, abs=0.005)


def test_dividing_the_update_shortens_it_and_nothing_else() -> None:
    run = "13B on four A100"
    host, both = states.on_host(run), states.on_both(run)
    assert both < host
    # No more is saved than all that the host does, and the copies that the pass waits for.
    own = float(states.model(run).parameters) / 4.0
    assert host - both < own * (1.34e-9 + 0.6e-9)


def test_one_disk_sets_the_pace_of_a_step() -> None:
    """Weights are read for the forward pass, beside it; then weights and twelve bytes of states are read and fourteen
    written, one after the other: at 6.8 and 4 GB/s no step is faster."""
    least = float(fuyou.model("13B").parameters) * (14.0 / 6.8e9 + 14.0 / 4.0e9)
    found = float(fuyou.step("13B", 1, 32.0).time)
    assert least < found < 1.35 * least
    assert float(fuyou.late("13B", 1, 32.0).time) > found


def test_more_disks_help_until_the_card_is_busy() -> None:
    rates = [fuyou.rate("13B", disks, 64.0) for disks in (1, 2, 3, 6, 12)]
    assert rates == sorted(rates) and rates[-1] < 165.2
    assert rates[1] > 1.5 * rates[0] and rates[4] == pytest.approx(rates[3], rel=0.01)


def test_more_disks_than_hold_the_states_are_needed_for_the_larger_model() -> None:
    memory = fuyou.step("175B", 1, 1.0).memory
    # Fourteen bytes a parameter, but for what is on the card.
    assert float(memory.disk) == pytest.approx(14.0 * float(fuyou.model("175B").parameters), rel=0.01)
    assert bool(memory.fits) == (float(memory.disk) <= 3.84e12)
