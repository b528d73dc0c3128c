"""Pipelines whose backward pass is divided, against the bubbles their papers derive."""

from __future__ import annotations

import numpy as np
import pytest

from tests.schedule import reference
from tierwise.core.errors import TierwiseError
from tierwise.schedule import order
from tierwise.schedule.closed import Passes, pipelines
from tierwise.schedule.copies import in_flight
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand, Order

# Forward, gradients of inputs (which hold attention's extra products), gradients of weights.
F, B, W = 2.0, 2.3, 1.8


def demands(made: Order, parts: float = 1.0, hidden: float = 0.0) -> list[Demand]:
    """Durations by what an op does; ``backward`` is all gradients where those of weights are not apart."""
    seconds = {"forward": F, "inputs": B, "late": B, "weights": W, "rest": W, "first": B + W, "backward": B + W,
               "overlapped": F + B + W - hidden}  # fmt: skip
    if any(op.startswith("weights") for op in made.ops) and not any(op.startswith("late") for op in made.ops):
        seconds["backward"] = B
    return [Demand(seconds[op.split(" ")[0]] / parts) for op in made.ops]


@pytest.mark.parametrize("p, m", [(1, 3), (2, 2), (4, 4), (4, 9), (8, 40), (6, 100)])
def test_zero_bubble_waits_a_forward_and_a_backward_less_the_weights(p: int, m: int) -> None:
    # arXiv:2401.10241, table 2: (p - 1) (T_F + T_B - T_W).
    made = order("zero_bubble", stages=p, micro_batches=float(m))
    done = play(made, demands(made), exposed=False)
    assert done.time == pytest.approx(m * (F + B + W) + (p - 1) * (F + B - W), rel=1e-12)
    # Stage i keeps no more of them than the first does under one forward, one backward.
    assert max(in_flight(made).values()) <= min(p, m)


@pytest.mark.parametrize("p, m", [(3, 6), (4, 8), (4, 50), (8, 16), (8, 64)])
def test_a_v_of_equal_passes_waits_half_of_one_for_each_other_stage(p: int, m: int) -> None:
    made = order("zero_bubble_v", stages=p, micro_batches=float(m))
    equal = [Demand(1.0) for _ in made.ops]
    assert play(made, equal, exposed=False).time == pytest.approx(6.0 * m + p - 1, rel=1e-12)
    one_way = order("one_f_one_b", stages=p, micro_batches=float(m))
    whole = play(one_way, [Demand(2.0 if op.startswith("forward") else 4.0) for op in one_way.ops], exposed=False).time
    # (p - 1) of 6 units a stage is what one forward, one backward waits.
    assert whole - 6.0 * m == pytest.approx(6.0 * (p - 1))
    # Both parts of a stage together: at most 2p halves, as the first stage of one forward, one backward has p wholes.
    for row in reference.issues(made).values():
        held = np.cumsum([{"f": 1, "b": 0, "w": -1}[made.ops[op][0]] for _, op, _ in row])
        assert held.max() <= 2 * p


@pytest.mark.parametrize("p, m", [(2, 4), (4, 8), (4, 40), (8, 16), (8, 20), (16, 96)])
def test_dual_pipe_waits_as_its_table_says(p: int, m: int) -> None:
    # arXiv:2412.19437, table 2: (PP/2 - 1) (F&B + B - 3 W), its B with the gradients of weights. Equal passes: 2 each.
    made = order("dual_pipe", stages=p, micro_batches=float(m))
    units = {"forward": 1.0, "first": 2.0, "backward": 2.0, "inputs": 1.0, "late": 1.0, "weights": 1.0, "rest": 1.0,
             "overlapped": 3.0}  # fmt: skip
    done = play(made, [Demand(units[op.split(" ")[0]]) for op in made.ops], exposed=False)
    assert done.time == pytest.approx(3.0 * m + (p / 2 - 1) * (3.0 + 2.0 - 3.0), rel=1e-12)
    # All work is done once: a forward and both backward passes of every micro-batch on every stage.
    for busy in done.busy.values():
        assert busy == pytest.approx(3.0 * m)


@pytest.mark.parametrize("name", [n for n in pipelines() if n != "one_f_one_b"])
def test_an_order_of_many_is_that_of_each(name: str) -> None:
    p = 4
    counts = np.asarray([32.0, 40.0, 56.0])
    made = order(name, stages=p, micro_batches=counts)
    rng = np.random.default_rng(7)
    seconds = rng.uniform(0.5, 2.0, len(made.ops))
    times = play(made, [Demand(float(x)) for x in seconds], exposed=False).time
    by_name = dict(zip(made.ops, seconds, strict=True))
    for m, time in zip(counts, np.asarray(times), strict=True):
        one = order(name, stages=p, micro_batches=float(m))
        assert set(one.ops) == set(made.ops)
        alone = play(one, [Demand(float(by_name[op])) for op in one.ops], exposed=False).time
        assert alone == pytest.approx(time, rel=1e-12)


@pytest.mark.parametrize("name, share", [("v_half", 1 / 2), ("v_min", 1 / 3)])
@pytest.mark.parametrize("p", [2, 4, 6, 9, 16])
def test_gentler_vs_hold_less_and_wait_less_than_one_forward_one_backward(name: str, share: float, p: int) -> None:
    # arXiv:2405.15362: half and a third of the activations, about half and two thirds of the bubble 6 (p - 1).
    m = 4 * p
    made = order(name, stages=p, micro_batches=float(m))
    waits = float(play(made, [Demand(1.0) for _ in made.ops], exposed=False).time) - 6.0 * m
    assert p - 1 <= waits < 0.75 * 6.0 * (p - 1)
    held = max(
        np.cumsum([{"f": 0.5, "b": 0.0, "w": -0.5}[made.ops[op][0]] for _, op, _ in row]).max()
        for row in reference.issues(made).values()
    )
    said = float(pipelines()[name].held(float(p), 2.0, float(m), 0.0))
    assert held <= said <= held + 0.5  # micro-batches of a stage's whole share
    assert share * p <= held <= max(share * p + 2.0, p if p == 2 else 0)


def passes(p: int, m: int, hidden: float = 0.0) -> Passes:
    """Equal stages."""
    return Passes(float(p), float(m), 1.0, (F, F, F), (B, B, B), (W, W, W), hidden)


@pytest.mark.parametrize("p, m", [(2, 8), (4, 8), (4, 40), (8, 16), (8, 64)])
@pytest.mark.parametrize("name", list(pipelines()))
def test_closed_forms_agree_with_what_is_played(name: str, p: int, m: int) -> None:
    made = order(name, stages=p, micro_batches=float(m))
    parts = pipelines()[name].shape.parts or 1.0
    for hidden in (0.0, 1.2) if name == "dual_pipe" else (0.0,):
        played = play(made, demands(made, parts, hidden), exposed=False).time
        said = pipelines()[name].span(passes(p, m, hidden))
        # Hiding a fifth of a micro-batch in the fewest that fill the pipeline: which stage is last is then not clear.
        assert float(said) == pytest.approx(float(played), rel=0.02 if hidden and m < 3 * p else 0.01)


def test_micro_batches_held_are_those_of_the_orders() -> None:
    p, m = 6, 30
    for name, form in pipelines().items():
        if name == "dual_pipe" or form.shape.parts > 1:
            continue  # two parts of a stage, which are not full at the same time
        found = in_flight(order(name, stages=p, micro_batches=float(m)))
        for at, stage in ((0.0, 0), (1.0, p - 1)):
            assert float(found[f"activations {stage}"]) == pytest.approx(float(form.held(p, 1.0, m, at)))


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(TierwiseError, match="even"):
        order("dual_pipe", stages=3, micro_batches=8.0)
    with pytest.raises(TierwiseError, match="at least 8"):
        order("dual_pipe", stages=4, micro_batches=6.0)
    with pytest.raises(TierwiseError, match="whole"):
        order("zero_bubble", stages=3, micro_batches=2.5)
    with pytest.raises(TierwiseError, match="fill"):
        order("zero_bubble_v", stages=4, micro_batches=np.asarray([4.0, 80.0]))
