"""When ops run: lanes do one thing at a time, whatever the schedule, and all that happens adds up to the step."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

import tierwise as tw
from tierwise.report.timeline import Execution, executions
from tierwise.schedule.play import play
from tierwise.steps.corrections import Corrections
from tierwise.steps.cost import BESIDE
from tierwise.steps.price import engine_on, price_step
from tierwise.steps.state import Chunk, StepState
from tierwise.techniques import offload_weights

PLANS: dict[str, dict[str, Any]] = {
    "in line": {},
    "overlapped": {"overlap": True},
    "two batches": {"schedule": "two_batches"},
    "prefetched": {"schedule": "prefetch:ahead=2"},
    "launched one by one": {"graphs": False},
    "a framework": {"framework": "transformers"},
    "a framework, overlapped": {"framework": "transformers", "overlap": True},
}


@cache
def result(plan: str, model: str = "llama-3.1-8b") -> tw.Result:
    p = tw.Plan(tp=4.0, **PLANS[plan])
    return tw.evaluate(tw.Scenario(model, "4xh100-sxm", tw.Batch(500.0, 20.0, 16.0), p))


def by_lane(runs: list[Execution]) -> dict[str, list[Execution]]:
    out: dict[str, list[Execution]] = {}
    for x in runs:
        out.setdefault(x.lane, []).append(x)
    return out


@pytest.mark.parametrize("plan", PLANS)
def test_a_lane_does_one_thing_at_a_time_and_all_are_done_when_the_pass_is(plan: str) -> None:
    for phase in result(plan).phases:
        runs = executions(phase)
        for mine in by_lane(runs).values():
            assert all(a.start + a.duration <= b.start + 1e-12 for a, b in pairwise(mine))
        assert max(x.start + x.duration for x in runs) == pytest.approx(float(phase.pass_time), rel=1e-9)


@pytest.mark.parametrize("plan", PLANS)
def test_every_execution_is_told_once_with_its_layer(plan: str) -> None:
    for phase in result(plan).phases:
        for i, p in enumerate(phase.ops):
            mine = [x for x in executions(phase) if x.op == i]
            assert len(mine) == p.segment.repeat * phase.cost.parts
            layers = {x.layer for x in mine}
            assert len(layers) == p.segment.repeat and all(x.startswith(p.segment.name) for x in layers)


def test_a_collective_beside_the_next_block_waits_for_what_it_sums() -> None:
    phase = result("overlapped").phase("decode")
    ends = {(x.name, x.layer): x.start + x.duration for x in executions(phase)}
    sums = [x for x in executions(phase) if x.name == "attn.all_reduce"]
    assert len(sums) == 32
    for x in sums:
        assert x.lane == "link" and x.start >= ends["attn.o_proj", x.layer] - 1e-12


@pytest.mark.parametrize("plan", ["in line", "overlapped", "two batches", "prefetched"])
def test_playing_every_event_takes_as_long_as_the_array_form(plan: str) -> None:
    cost = result(plan).phase("decode").cost
    order, events = cost.executed
    schedule = BESIDE if plan == "overlapped" else cost.schedule or "in_order"
    made, demands = cost.ordered(schedule)
    assert events.time == pytest.approx(float(play(made, demands).time), rel=1e-9)
    assert len(events.events) == sum(len(x) * s.turns for s in order.sections for x in s.lanes.values())


def test_copies_have_a_lane_even_in_line() -> None:
    s = tw.Scenario("llama-2-7b", "a100-80gb", tw.Batch(512.0, 64.0, 1.0)).apply(offload_weights())
    phase = tw.evaluate(s).phase("decode")
    lanes = by_lane(executions(phase))
    copied = sum(x.duration for name, runs in lanes.items() if name.startswith("copy") for x in runs)
    # 13 GB over PCIe 4, which carries at most 32 GB/s.
    assert 0.4 < copied < float(phase.pass_time)


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b"])
def test_bounds_add_up_to_the_step(plan: str, model: str) -> None:
    """Seconds by resource are those that it adds; what runs beside others counts with what they leave uncovered."""
    for phase in result(plan, model).phases:
        assert sum(phase.bounds.values()) == pytest.approx(float(phase.pass_time), rel=1e-9)
        assert all(t >= 0 for t in phase.bounds.values())


def test_hidden_collectives_bind_less_than_those_in_line() -> None:
    hidden, plain = (result(x).phase("prefill") for x in ("overlapped", "in line"))
    # Of the device; of the step a little less, since launches show more beside what is left.
    saved = float(plain.cost.device) - float(hidden.cost.device)
    assert 0 < float(plain.pass_time) - float(hidden.pass_time) <= saved
    assert plain.bounds["link"] - hidden.bounds["link"] == pytest.approx(saved, rel=1e-6)


@pytest.mark.parametrize("plan", PLANS)
def test_the_interval_holds_its_own_value_under_every_schedule(plan: str) -> None:
    r = result(plan)
    low, high = r.interval
    assert low < r.time < high


def test_a_rank_that_holds_every_eighth_chunk_spends_an_eighth_on_it() -> None:
    """Engines of eight data-parallel ranks deal chunks out, so a rank's share of one is a fraction; without tensor
    parallelism nothing communicates, so there is nothing to overlap."""
    def step(overlap: bool, share: float) -> float:
        plan = tw.Plan(dp=8.0, overlap=overlap)
        on = engine_on(tw.load_model("llama-3.1-8b"), plan, tw.load_system("8xh100-sxm"), "vllm")
        state = StepState(8.0, 8000.0, chunks=(Chunk(512.0, 0.0, share),))
        return float(np.asarray(price_step(on, state).time))

    for share in (0.125, 0.5, 1.0):
        assert step(True, share) == pytest.approx(step(False, share), rel=1e-9)
    assert step(True, 0.125) < step(True, 1.0)


@pytest.mark.parametrize("machine", ["a100-80gb", "h100-sxm"])
def test_two_batches_of_a_mixed_step_are_two_halves_of_it_and_one_step_to_the_host(machine: str) -> None:
    """On an A100 decoding rows beside a chunk take the chunk's kernel, so each half has its own such rows."""
    state = StepState(64.0, 64.0 * 4000.0, chunks=(Chunk(1024.0, 512.0),))

    def step(schedule: str, of: StepState) -> Any:
        on = engine_on(tw.load_model("llama-3.1-8b"), tw.Plan(schedule=schedule), tw.load_system(machine), "vllm",
                       Corrections(step=1e-3, sequence=1e-5, chunk=1e-4, token=1e-7))  # fmt: skip
        return price_step(on, of)

    two, plain, half = step("two_batches", state), step("", state), step("", state.divided(2))
    assert (half.shared < 0) == (machine == "a100-80gb")
    assert two.serial_time - two.shared == pytest.approx(2 * (half.serial_time - half.shared), rel=1e-12)
    assert two.host == plain.host > half.host
