"""Fitted collectives: bounds of the links, protocols by size, and the recorded measurements."""

from __future__ import annotations

import numpy as np
import pytest
from tests import recorded

from tierwise.cost import Target, efficiency, price
from tierwise.machines import system
from tierwise.program.types import Op

SIZES = 2.0 ** np.arange(8, 31)


def run(
    kind: str, group: float, name: str = "8xh100-sxm", engine: str = "", library: bool = True
) -> np.ndarray:
    s = system(name)
    made = Op("collective", kind, "comm", {"bytes": SIZES, "group": group}, 0.0, (), (), "bf16",
              options={"collective": kind, "library": library})  # fmt: skip
    return np.asarray(price(made, Target(s, efficiency(s.device, engine))).time)


@pytest.mark.parametrize("kind", ["all_reduce", "all_gather", "reduce_scatter", "all_to_all"])
@pytest.mark.parametrize("name", ["8xa100-sxm", "8xh100-sxm", "8xb200-sxm", "8xl40s"])
def test_time_grows_with_size_and_never_beats_the_links(kind: str, name: str) -> None:
    time = run(kind, 8.0, name)
    assert np.all(np.diff(time) > -1e-9)
    link = system(name).scale_up
    assert link is not None
    factor = 1.0 if link.reduces or kind != "all_reduce" else 2.0
    assert np.all(time >= factor * 7 / 8 * SIZES / (1.02 * link.bandwidth))


def test_small_messages_cost_steps_and_large_ones_bytes() -> None:
    time = run("all_reduce", 8.0)
    assert time[1] / time[0] < 1.1
    assert time[-1] / time[-2] == pytest.approx(2.0, rel=0.1)


def test_an_engine_reduces_small_messages_faster_than_the_library() -> None:
    own = run("all_reduce", 8.0, engine="vllm", library=False)
    assert np.all(own[:8] < run("all_reduce", 8.0)[:8])


@pytest.mark.parametrize("file", ["collective", "custom_allreduce"])
def test_recorded_measurements_are_met(file: str) -> None:
    found = recorded.accuracy(file)
    assert found.median <= 0.10
