"""Pipelines whose stages differ, against those whose stages are alike."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.shapes import a100s, gpt
from tierwise.core.errors import BadField
from tierwise.machines.load import system
from tierwise.search.uneven import arranged, plan_uneven
from tierwise.training import Layout, framework, train_step
from tierwise.training.uneven import uneven_step

HOW = framework("megatron")
MODEL = gpt(16, 2048.0, 16.0)
X = Layout(pp=4.0, dp=2.0, global_batch=32.0, seq=2048.0, zero=1.0)
# Micro-batches long enough that devices decide, not the host that launches their kernels.
LONG = Layout(pp=4.0, dp=2.0, micro_batch=4.0, global_batch=128.0, seq=2048.0, zero=1.0)


@pytest.mark.parametrize("extra", [{}, {"recompute": 2.0}, {"first": 3.0, "last": 3.0}])
def test_stages_given_as_they_are_alike_take_what_a_layout_takes(extra: dict[str, float]) -> None:
    from dataclasses import replace

    x = replace(X, **extra)
    layers = (3, 5, 5, 3) if "first" in extra else (4, 4, 4, 4)
    one, each = train_step(MODEL, a100s(8), x, HOW), uneven_step(MODEL, [a100s(8)] * 4, X if "first" in extra else x,
                                                                 HOW, layers)  # fmt: skip
    # A layout's bubble is its closed form, the other one is played.
    assert each.time == pytest.approx(float(np.asarray(one.time)), rel=0.02)
    assert max(float(np.asarray(s.memory.peak)) for s in each.stages) == pytest.approx(
        float(np.asarray(one.memory.peak)), rel=1e-9
    )
    assert each.mfu == pytest.approx(float(np.asarray(one.mfu)), rel=0.02)


def test_layers_go_where_they_are_fast_and_all_of_them_go_somewhere() -> None:
    slow, fast = a100s(8), system("8xh100-sxm")
    machines = [fast, fast, slow, slow]
    by_time = uneven_step(MODEL, machines, LONG, HOW)
    equal = uneven_step(MODEL, machines, LONG, HOW, (4, 4, 4, 4))
    assert sum(s.layers for s in by_time.stages) == 16
    assert min(s.layers for s in by_time.stages[:2]) > max(s.layers for s in by_time.stages[2:])
    assert by_time.time < 0.9 * equal.time
    alone = [uneven_step(MODEL, [m] * 4, LONG, HOW).time for m in (fast, slow)]
    assert alone[0] < by_time.time < alone[1]
    # No other neighbour of the answer has a faster slowest stage.
    found = [s.layers for s in by_time.stages]
    for i in range(4):
        for j in range(4):
            if i != j and found[i] > 0:
                moved = [n - (k == i) + (k == j) for k, n in enumerate(found)]
                other = uneven_step(MODEL, machines, LONG, HOW, moved)
                assert max(s.seconds for s in other.stages) >= max(s.seconds for s in by_time.stages) * (1 - 1e-12)


def test_a_machine_with_a_slower_fabric_is_handed_to_more_slowly_and_fits_what_it_has() -> None:
    near, far = a100s(8), system("8xa100-pcie-40gb")
    one = uneven_step(MODEL, [near] * 4, X, HOW)
    two = uneven_step(MODEL, [near, near, far, far], X, HOW)
    assert two.parts["hand-overs"] > one.parts["hand-overs"]
    assert two.fits
    for s in two.stages:
        assert float(np.asarray(s.memory.peak)) <= float(np.asarray(s.system.device.memory.capacity))


def test_the_plan_is_the_fastest_of_what_may_be_arranged() -> None:
    machines = (system("4xh100-sxm"), a100s(4))
    best = plan_uneven(MODEL, machines, HOW, 32.0, 2048.0, {})
    for tp, dp in ((1.0, 1.0), (1.0, 2.0), (2.0, 1.0), (4.0, 1.0)):
        x = Layout(tp=tp, dp=dp, global_batch=32.0, seq=2048.0, zero=1.0)
        assert best.time <= arranged(MODEL, machines, x, HOW).time * (1 + 1e-12)
    assert sum(s.layers for s in best.stages) == 16


def test_what_cannot_be_is_refused_with_what_can() -> None:
    with pytest.raises(BadField, match="add up to the 16 layers"):
        uneven_step(MODEL, [a100s(8)] * 4, X, HOW, (4, 4, 4, 5))
    with pytest.raises(BadField, match="one part"):
        from tierwise.training.layout import pipelines

        uneven_step(MODEL, [a100s(8)] * 4, Layout(pp=4.0, schedule=float(pipelines().index("v_half"))), HOW)
    with pytest.raises(BadField, match="divisor of the 8"):
        arranged(MODEL, (a100s(8),), Layout(dp=3.0), HOW)
    with pytest.raises(BadField, match="layers that fit"):
        uneven_step(gpt(96, 12288.0, 96.0), [a100s(8)] * 4, X, HOW)
