"""Launches beside the device: one rule for a step by itself, its chunks and the simulator."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import tierwise as tw
from tierwise.scenario.types import Plan
from tierwise.steps.corrections import corrections
from tierwise.steps.price import engine_on, price_step
from tierwise.steps.state import Chunk, StepState


def step(new: float, past: float = 0.0, kernel: float = 1e-4) -> tw.steps.cost.StepCost:
    machine = tw.load_system("1xh100-sxm")
    model = tw.load_model("llama-3.1-8b")
    fixes = replace(corrections("sglang", machine.device, model.name), launch=kernel)
    on = engine_on(model, Plan(), machine, "sglang", fixes)
    return price_step(on, StepState(chunks=(Chunk(new, past, 1.0),)))


def test_launches_show_most_where_the_device_takes_as_long() -> None:
    """Beside a device that is far slower or far faster they, or it, cost next to nothing; never less than either."""
    extra = {}
    for kernel in (1e-6, 1e-5, 1e-4, 1e-3, 1e-2):
        cost = step(2048.0, kernel=kernel)
        device, launch, time = (float(np.asarray(x)) for x in (cost.device, cost.launch, cost.time - cost.host))
        assert max(device, launch) <= time <= device + launch
        extra[abs(np.log(launch / device))] = time / max(device, launch) - 1.0
    assert [extra[k] for k in sorted(extra)] == sorted(extra.values(), reverse=True)
    assert extra[max(extra)] < 0.01 < extra[min(extra)]


@pytest.mark.parametrize("kernel", [1e-5, 1e-4, 3e-4])
def test_the_mean_of_a_prompts_chunks_takes_what_they_take_one_by_one(kernel: float) -> None:
    """Chunks after more and more cached tokens, by their mean and their last, against every chunk priced alone."""
    n, new = 9, 1024.0
    alone = [float(np.asarray(step(new, new * i, kernel).time)) for i in range(n)]
    mean = replace(step(new, new * (n - 1) / 2.0, kernel), several=float(n), last=step(new, new * (n - 1), kernel))
    assert float(np.asarray(mean.time)) == pytest.approx(np.mean(alone), rel=1e-3)
