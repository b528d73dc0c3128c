"""The spine: monotone where physics is, the same for arrays and scalars, rates that follow from times."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tierwise as tw
from tests.conftest import decoder
from tierwise.models.blocks.moe import MoE
from tierwise.models.types import Model


def run(model: object, machine: object = "h100-sxm", plan: tw.Plan | None = None, **traffic: object) -> tw.Result:
    return tw.evaluate(tw.Scenario(model, machine, tw.Batch(**traffic), plan))  # type: ignore[arg-type]


def test_phases_are_what_a_request_lives_through(dense: Model) -> None:
    r = run(dense, prompt=100, output=11, batch=3)
    assert [p.name for p in r.phases] == ["prefill", "decode"]
    assert r.phase("decode").passes == 10
    assert r.time == pytest.approx(r.ttft + 10 * r.tpot)
    assert r.throughput == pytest.approx(3 * 11 / r.time)
    assert not run(dense, output=1).has("decode")
    with pytest.raises(KeyError):
        r.phase("vision")


def test_bounds_account_for_all_the_time(dense: Model) -> None:
    for p in run(dense, prompt=777, output=9, batch=5).phases:
        assert sum(p.bounds.values()) == pytest.approx(p.pass_time)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.integers(1, 300), min_size=1, max_size=3),
    st.lists(st.integers(1, 20000), min_size=1, max_size=3),
    st.lists(st.sampled_from([1.0, 2.0, 4.0]), min_size=1, max_size=2),
    st.lists(st.sampled_from(["bf16", "fp8", "int4-g64"]), min_size=1, max_size=2),
    st.booleans(),
)
def test_a_sweep_is_its_points(batch: list[int], prompt: list[int], tp: list[float], w: list[str], moe: bool) -> None:
    model = decoder(MoE(1024.0, 16.0, 2.0, 512.0)) if moe else decoder()
    b, p, t = (np.asarray(x, float).reshape(s) for x, s in
               ((batch, (-1, 1, 1, 1)), (prompt, (1, -1, 1, 1)), (tp, (1, 1, -1, 1))))  # fmt: skip
    plan = tw.Plan(tp=t, weights=tw.fmt(np.asarray(w)), chunk=4096.0)
    many = run(model, "4xh100-sxm", plan, batch=b, prompt=p, output=7)
    shape = (len(batch), len(prompt), len(tp), len(w))
    for index in np.ndindex(shape):
        i, j, k, m = index
        one = run(model, "4xh100-sxm", tw.Plan(tp=tp[k], weights=tw.fmt(w[m]), chunk=4096.0), batch=float(batch[i]),
                  prompt=float(prompt[j]), output=7)  # fmt: skip
        for name in ("ttft", "tpot", "time", "throughput", "energy", "cost"):
            got = np.broadcast_to(np.asarray(getattr(many, name)), shape)[index]
            assert got == pytest.approx(getattr(one, name), rel=1e-9), name
        assert np.broadcast_to(many.memory.peak, shape)[index] == pytest.approx(one.memory.peak, rel=1e-9)


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 256), st.integers(1, 8192), st.sampled_from([("h100-sxm", "h200-sxm"), ("mi300x", "mi325x")]))
def test_twice_the_work_takes_longer_and_a_better_machine_less(batch: int, prompt: int, pair: tuple[str, str]) -> None:
    """Priced from fits and from datasheets alike. (One more token may be cheaper, where a kernel changes its tile.)"""
    name, better = pair
    base = run(decoder(), name, tw.Plan(), batch=batch, prompt=prompt, output=4).time
    for more in ({"batch": 2 * batch, "prompt": prompt}, {"batch": batch, "prompt": 2 * prompt}):
        # Where the host sets the pace of the prompts all that grows is attention over some hundred tokens, whose fitted
        # price may give way in the seventh digit.
        assert run(decoder(), name, tw.Plan(), **more, output=4).time >= base * (1 - 1e-6)
    assert run(decoder(), better, tw.Plan(), batch=batch, prompt=prompt, output=4).time <= base * (1 + 1e-9)


def test_data_parallel_replicas_double_the_rate(dense: Model) -> None:
    one = run(dense, "h100-sxm", tw.Plan(), batch=16, prompt=512, output=16)
    two = run(dense, "2xh100-sxm", tw.Plan(dp=2.0), batch=32, prompt=512, output=16)
    assert two.throughput == pytest.approx(2 * one.throughput)
    assert two.cost == pytest.approx(2 * one.cost)


def test_a_pipeline_fills_and_then_flows(dense: Model) -> None:
    # Without the ends, which would make stages unequal: the slowest sets the pace.
    even = replace(dense, stacks=(replace(dense.stacks[0], before=(), after=()),))
    flat = run(even, "4xh100-sxm", tw.Plan(), batch=64, prompt=512, output=8)
    deep = run(even, "4xh100-sxm", tw.Plan(pp=4.0), batch=64, prompt=512, output=8)
    # A step of a quarter of the sequences passes all layers: never slower than the whole batch on one device.
    assert deep.tpot <= flat.tpot
    # An engine sends whole passes into the stages; without any, each is cut into as many micro-batches.
    bare = tw.evaluate(tw.Scenario(even, "4xh100-sxm", tw.Batch(512.0, 8.0, 64.0), tw.Plan(pp=4.0), engine="kernels"))
    for found, parts in ((deep, 1), (bare, 4)):
        prefill = found.phase("prefill")
        assert prefill.pipeline_stretch * prefill.passes == pytest.approx((parts * prefill.passes + 3) / 4)
    sent = next(p for p in prefill.ops if p.op.name == "pipeline.send")
    assert sent.segment.repeat == 3
    assert sent.op.dims["bytes"] == pytest.approx(prefill.step.tokens * 1024 * 2)


def test_decode_time_lies_between_the_roofline_and_what_engines_were_measured_at() -> None:
    """One request of an 8B model on an H100: published are 7.4 to 8.0 ms a token, 1.65 to 1.8 times what the memory
    needs to give the weights (``benchmarks/accuracy/published/few_requests.yaml``)."""
    r = run("llama-3.1-8b", batch=1, prompt=2000, output=2000)
    floor = r.phase("decode").reads("weight") / 3.35e12
    assert floor < r.tpot < 8.04e-3
    assert r.tpot > 0.85 * 7.38e-3


def test_energy_lies_between_idle_and_rated_power(dense: Model) -> None:
    r = run(dense, batch=8, prompt=512, output=32)
    machine = r.scenario.machine
    idle, rated = (w + machine.overhead_power for w in (machine.device.power.idle, machine.device.power.rated))
    assert idle * r.time < r.energy < rated * r.time


def test_utilization_is_a_fraction() -> None:
    r = run("llama-3.1-8b", batch=32, prompt=2048, output=16)
    assert 0 < r.mfu < 1


def test_the_interval_holds_the_value(dense: Model) -> None:
    r = run(dense)
    low, high = r.interval
    assert low < r.time < high
    alone = tw.evaluate(tw.Scenario(dense, "xeon-8380", tw.Batch(), engine="kernels"))
    assert alone.bases == {"datasheet": pytest.approx(1.0)}
    # What people run there was measured on its siblings.
    assert run(dense, "xeon-8380").bases == {"transferred": pytest.approx(1.0)}


def test_the_basis_is_what_most_of_the_time_rests_on() -> None:
    r = run("llama-3.1-8b", batch=32, prompt=2048, output=16)
    ops = [(x.cost.basis, float(x.time * p.passes)) for p in r.phases for x in p.ops]
    named = sum(t for b, t in ops if b == r.basis)
    assert r.basis == "calibrated"
    assert r.bases["calibrated"] == pytest.approx(named / sum(t for _, t in ops))
    assert sum(r.bases.values()) == pytest.approx(1.0)


def test_a_sweep_has_its_shares_at_each_configuration() -> None:
    r = run("llama-3.1-8b", batch=np.asarray([1.0, 64.0]), prompt=128, output=16)
    assert np.shape(r.basis) == (2,)
    np.testing.assert_allclose(sum(np.asarray(x) for x in r.bases.values()), [1.0, 1.0])
    one = run("llama-3.1-8b", batch=64.0, prompt=128, output=16)
    assert np.asarray(r.bases["calibrated"])[1] == pytest.approx(one.bases["calibrated"])


def test_importing_the_package_is_cheap() -> None:
    import subprocess
    import sys

    code = "import sys, tierwise; print(sorted({'numpy', 'pydantic', 'rich', 'yaml'} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("batch", [1.0, 2.0, 8.0])
def test_stages_do_no_more_work_than_one_device_however_few_batches_fill_them(batch: float) -> None:
    def worked(pp: float) -> tuple[float, float]:
        r = tw.evaluate(tw.Scenario("llama-3.1-8b", "4xh100-sxm", tw.Batch(512.0, 33.0, batch), tw.Plan(pp=pp)))
        flops = sum(float(p.flops * p.passes * p.share) for p in r.phases) * float(r.devices)
        return flops, float(r.mfu * r.time)

    whole, reached = worked(1.0)
    for pp in (2.0, 4.0):
        flops, seconds = worked(pp)
        assert flops == pytest.approx(whole, rel=1e-9)
        assert seconds == pytest.approx(reached / pp, rel=1e-9)


@pytest.mark.parametrize("model", ["llama-3.1-8b", "mixtral-8x7b"])
@pytest.mark.parametrize("machine", ["4xh100-sxm", "4xa100-sxm-80gb"])
def test_a_pattern_of_zeros_may_be_swept(model: str, machine: str) -> None:
    def prefill(structured: object) -> object:
        plan = tw.Plan(tp=4.0, sparsity=0.5, structured=structured)  # type: ignore[arg-type]
        return tw.evaluate(tw.Scenario(model, machine, tw.Batch(4096.0, 1.0, 8.0), plan)).ttft

    many, one = prefill(np.array([True, False])), [prefill(x) for x in (True, False)]
    assert many == pytest.approx(one, rel=1e-12)
    assert one[0] < one[1]  # type: ignore[operator]


@pytest.mark.parametrize("limit", [2.0**24, 2.0**30])
@pytest.mark.parametrize("elements", [1, 3, 200])
def test_the_largest_that_fits_is_found_to_the_last_one(limit: float, elements: int) -> None:
    from tierwise.evaluation import _bisect

    edges = [0.0, 1.0, 2.0, 3.0, 64.0, 65.0, 4095.0, limit - 1.0, limit, limit + 5.0]
    room = np.array([*edges, *np.floor(limit ** np.linspace(0.0, 1.0, 40))])
    for lot in np.resize(room, (max(1, len(room) // elements), elements)):
        assert np.array_equal(_bisect(lambda x, lot=lot: np.asarray(x) <= lot, limit), np.minimum(lot, limit))  # type: ignore[misc]
    one = [_bisect(lambda x, most=most: np.asarray(x) <= most, limit) for most in room]  # type: ignore[misc]
    assert np.array_equal(one, np.minimum(room, limit))
