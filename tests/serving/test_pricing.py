"""Tables of step prices: they must say what the engine's own evaluation says, for any kind of model and layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise import Batch, Scenario, engines, evaluate, techniques
from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.loop.tables import tables
from tierwise.serving.pricing import step_prices
from tierwise.serving.steps import StepPrices
from tierwise.steps.corrections import Corrections, as_data, read_corrections

from .replay import bilinear

BARE = Corrections()
LAYOUTS = [
    ("llama-3.1-8b", "1xrtx-pro-6000", Plan()),
    ("qwen3-32b", "2xrtx-pro-6000", Plan(tp=2.0, library=True)),
    ("llama-3.1-70b", "8xh100-sxm", Plan(tp=4.0, pp=2.0)),
    ("deepseek-v3", "8xh200-sxm", Plan(tp=8.0)),
    ("deepseek-v3", "16xh200-sxm", Plan(dp=16.0, ep=16.0)),
    ("qwen3-30b-a3b", "4xh100-sxm", Plan(tp=4.0, ep=4.0)),
    ("gpt-oss-20b", "1xh100-sxm", Plan()),
    ("nemotron-h-8b", "1xa100-80gb", Plan()),
]


def device_time(p: StepPrices, decoding: int, context: float, chunks: list[tuple[int, int]], heads: int) -> float:
    """The step's device time as the docstring of StepPrices writes it."""
    total = p.tokens[decoding + sum(q for q, _ in chunks), 0] + p.heads[heads, 0]
    total += bilinear(p.decode_seqs, p.decode_context, p.decode, decoding, context)
    return float(total + sum(bilinear(p.prefill_new, p.prefill_context, p.prefill, q, c) for q, c in chunks))


def bare(model: str, machine: str, plan: Plan, **changes: object) -> StepPrices:
    asked = replace(Settings(engine="", max_seqs=300, budget=4096), **changes)  # type: ignore[arg-type]
    return step_prices(load_model(model), Replicas(system(machine), plan, settings=asked), BARE)


@pytest.mark.parametrize(("model", "machine", "plan"), LAYOUTS)
@pytest.mark.parametrize(("seqs", "context"), [(1, 300), (7, 5000), (96, 1111), (256, 3001)])
def test_a_decode_step_costs_what_evaluate_says(model: str, machine: str, plan: Plan, seqs: int, context: int) -> None:
    p = bare(model, machine, plan)
    ranks = int(plan.dp)
    r = evaluate(Scenario(model, machine, Batch(context, 3, seqs * ranks * plan.pp), plan, engine="kernels"))
    phase = next(x for x in r.phases if x.name == "decode")
    said = float(np.sum(phase.pass_time))
    # evaluate's middle step sees prompt + (output - 2) / 2 cached tokens.
    assert device_time(p, seqs * ranks, context + 0.5, [], seqs * ranks) == pytest.approx(said, rel=0.01)


@pytest.mark.parametrize(("model", "machine", "plan"), [x for x in LAYOUTS if x[2].dp == 1])
@pytest.mark.parametrize("new", [130, 777, 2048])
def test_a_prefill_step_costs_what_evaluate_says(model: str, machine: str, plan: Plan, new: int) -> None:
    p = bare(model, machine, plan)
    r = evaluate(Scenario(model, machine, Batch(new, 1, 1), plan, engine="kernels"))
    phase = next(x for x in r.phases if x.name == "prefill")
    assert device_time(p, 0, 0.0, [(new, 0)], 1) == pytest.approx(float(np.sum(phase.pass_time)), rel=0.01)


def test_nothing_costs_nothing() -> None:
    p = bare("llama-3.1-8b", "1xh100-sxm", Plan())
    assert device_time(p, 0, 0.0, [], 0) == 0.0


@pytest.mark.parametrize(("model", "machine", "plan"), LAYOUTS)
def test_tables_are_whole(model: str, machine: str, plan: Plan) -> None:
    p, ranks = bare(model, machine, plan), int(plan.dp)
    assert p.tokens.shape == (4096 * ranks + 1, 6) and p.heads.shape == (300 * ranks + 1, 6)
    assert p.decode.shape == (len(p.decode_seqs), len(p.decode_context), 6)
    assert p.prefill.shape == (len(p.prefill_new), len(p.prefill_context), 6)
    for table in (p.tokens, p.heads, p.decode, p.prefill):
        assert np.all(np.isfinite(table)) and np.all(table >= 0.0)
    # Pieces of a cut context are dealt to units in whole waves, so a little more may take a little less; not twice.
    time = p.decode[:, :, 0]
    doubled = time[:, np.isin(p.decode_context, 2.0 ** np.arange(32))]
    assert np.all(np.diff(doubled, axis=1) >= -0.03 * doubled[:, :-1] - 1e-5)
    # Likewise sequences: where kernels cease to cut caches one more may take less, in few places; twice as many hardly
    # ever do.
    where = {x: i for i, x in enumerate(p.decode_seqs / ranks)}
    pairs = np.asarray([(i, where[2 * x]) for x, i in where.items() if x > 0 and 2 * x in where])
    assert len(pairs) > 100 and np.all(time[pairs[:, 1]] >= 0.97 * time[pairs[:, 0]] - 1e-5)
    assert np.mean(np.diff(time, axis=0) < -1e-3 * time[:-1]) < 0.01
    assert p.decode_seqs[-1] == 300 * ranks and p.prefill_new[-1] == 4096 * ranks
    assert p.stages == plan.pp and p.kv_token > 0 and p.kv_room >= 0
    assert np.isinf(p.power_left) and p.power_idle > 0 and p.rent > 0


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 300), st.integers(1, 30_000), st.integers(1, 4096), st.integers(0, 30_000))
def test_more_work_never_takes_much_less(seqs: int, context: int, new: int, past: int) -> None:
    p = bare("llama-3.1-8b", "1xa100-80gb", Plan())
    one = device_time(p, seqs, context, [], seqs)
    assert device_time(p, min(2 * seqs, 300), context, [], seqs) >= 0.98 * one
    assert device_time(p, seqs, 2 * context, [], seqs) >= one
    chunk = device_time(p, 0, 0.0, [(new, past)], 1)
    assert device_time(p, 0, 0.0, [(new, 2 * past + 1)], 1) >= 0.999 * chunk


def test_kv_room_is_what_weights_leave() -> None:
    one = bare("llama-3.1-8b", "1xh100-sxm", Plan())
    # 85.5 GB by the driver, nine tenths of it, less 16.1 GB of bf16 weights; 128 KiB a token by 8 KV heads of 128.
    assert one.kv_token == 131072.0 and one.kv_fixed == 0.0
    assert 0.9 * 85.5e9 - 16.1e9 - 5e9 < one.kv_room < 0.9 * 85.6e9 - 16.0e9
    two = bare("llama-3.1-8b", "2xh100-sxm", Plan(tp=2.0))
    assert two.kv_token == one.kv_token and two.kv_room > 2.0 * one.kv_room
    stages = bare("llama-3.1-8b", "2xh100-sxm", Plan(pp=2.0))
    assert stages.kv_room == pytest.approx(two.kv_room, rel=0.05)
    assert bare("llama-3.1-405b", "1xh100-sxm", Plan()).kv_room == 0.0


def test_a_recurrent_state_is_fixed_per_sequence() -> None:
    p = bare("nemotron-h-8b", "1xh100-sxm", Plan())
    assert p.kv_fixed > 1e7 and 0 < p.kv_token < 131072


def test_recorded_batch_sizes() -> None:
    sizes = engines.load("vllm").graph_sizes(max_seqs=128, largest=512)
    assert list(sizes[:4]) == [1, 2, 4, 8] and sizes[-1] == 256 and 120 in sizes and 100 not in sizes
    assert len(engines.load("vllm").graph_sizes(128, 0)) == 0
    assert engines.load("vllm").graph_sizes(1024, 512)[-1] == 512
    assert len(engines.load("llama.cpp").graph_sizes(128, 512)) == 0 and not engines.load("llama.cpp").schedules_ahead
    assert np.all(np.diff(engines.load("trtllm").graph_sizes(1000, 1000)) > 0)


def test_calibrated_engines_add_host_time() -> None:
    replicas = Replicas(system("1xh100-sxm"), Plan(), settings=Settings(engine="vllm"))
    model = load_model("llama-3.1-8b")
    p, plain = step_prices(model, replicas), step_prices(model, replicas, BARE)
    assert np.all(plain.host == 0.0) and plain.launch == 0.0
    assert p.launch > 0 and p.request > 0 and p.basis in ("calibrated", "transferred") and p.interval[0] < 1.0
    assert p.tokens[1, 0] > plain.tokens[1, 0] * 0.9 and p.tokens[0, 0] == 0.0


def test_faster_machines_are_faster() -> None:
    replicas = Replicas(system("2xrtx-pro-6000"), Plan(tp=2.0))
    model = load_model("qwen3-32b")
    plain = step_prices(model, replicas, BARE)
    for name in ("arithmetic", "bandwidth", "link"):
        fast = step_prices(model, replicas, replace(BARE, **{name: 1.5}))
        assert np.all(fast.tokens[1:, 0] <= plain.tokens[1:, 0] * (1 + 1e-9))
        assert fast.tokens[-1, 0] < plain.tokens[-1, 0]


def test_decoding_rows_beside_a_chunk_cost_more_where_one_kernel_serves_both() -> None:
    model, asked = load_model("llama-3.1-8b"), Settings(max_seqs=128, budget=2048)
    one = step_prices(model, Replicas(system("1xa100-80gb"), Plan(), settings=asked))
    assert one.decode_mixed is not None
    assert np.all(one.decode_mixed[..., 0] >= one.decode[..., 0] - 1e-12)
    assert one.decode_mixed[-1, -1, 0] > 1.2 * one.decode[-1, -1, 0]
    apart = step_prices(model, Replicas(system("1xb200-sxm"), Plan(), settings=asked))
    assert np.array_equal(apart.decode_mixed, apart.decode)


def test_steps_are_put_together_ahead_except_in_pipelines() -> None:
    model = load_model("llama-3.1-8b")
    assert step_prices(model, Replicas(system("2xh100-sxm"), Plan(tp=2.0))).ahead == 1
    assert step_prices(model, Replicas(system("2xh100-sxm"), Plan(pp=2.0))).ahead == 0


def test_adjustments_survive_a_file(tmp_path: Path) -> None:
    a = Corrections(ops=0.9, gap=1e-3, interval=(0.9, 1.1), basis="calibrated", source="a run")
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({"adjustment": as_data(a)}))
    assert read_corrections(path) == a


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("adjustment: {ops: -1}", "adjustment.ops"),
        ("adjustment: {speed: 2}", "adjustment.speed"),
        ("adjustment: {interval: [0.9, x]}", "adjustment.interval"),
        ("adjustment: {gap: .nan}", "adjustment.gap"),
        ("other: 1", "calibrate --from-run"),
        ("[1", "YAML"),
    ],
)
def test_files_that_are_no_adjustment_are_refused_in_one_line(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(TierwiseError, match=says) as caught:
        read_corrections(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_an_engine_that_is_not_on_file_is_refused() -> None:
    with pytest.raises(UnknownName, match="vllm"):
        step_prices(
            load_model("llama-3.1-8b"), Replicas(system("1xh100-sxm"), Plan(), settings=Settings(engine="vlmm"))
        )


def test_steps_of_techniques_that_leave_nothing_to_do_have_a_price() -> None:
    """A context shorter than one chunk of landmarks leaves products of no rows."""
    asked = Scenario("llama-3.1-8b", "1xa100-sxm-80gb", Batch(30000.0, 30.0, 2.0), Plan(), engine="vllm")
    r = asked.apply(techniques.rebuild_keys(rank=160, chunk=8, budget=1024)).resolved()
    p = step_prices(r.model, Replicas(r.machine, r.plan, settings=Settings(max_len=65536)))
    assert all(np.isfinite(t).all() for t in (p.tokens, p.heads, p.decode, p.prefill))
    broken = replace(p, decode=p.decode * np.nan)
    with pytest.raises(TierwiseError, match="no finite price of a step \\(decode\\)"):
        tables(Deployment(r.model, (Replicas(r.machine, r.plan),)), [broken])
