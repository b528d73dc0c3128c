"""Layouts of pipelines: which schedule, which layers on which stage, what that does to time and memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.shapes import a100s, gpt
from tierwise.core.errors import BadField
from tierwise.models.load import load_model
from tierwise.search.train import Space, confirmed, plan_training
from tierwise.training import Layout, TrainingFramework, framework, train_step
from tierwise.training.layout import check, held, legal, pipelines

PLAIN = TrainingFramework("plain")
MODEL = gpt(16, 2048.0, 16.0)
BASE = Layout(pp=4.0, dp=2.0, global_batch=32.0, seq=1024.0)
INDEX = {name: float(i) for i, name in enumerate(pipelines())}


def step(layout: Layout, model: object = MODEL) -> object:
    return train_step(model, a100s(), layout, PLAIN)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", list(pipelines()))
@pytest.mark.parametrize("pp", [2.0, 4.0])
def test_the_sum_of_every_schedule_is_what_playing_it_gives(name: str, pp: float) -> None:
    # Embedding and head divided, so that stages are equal: closed forms are made for those.
    x = replace(BASE, pp=pp, schedule=INDEX[name], vocabulary=1.0)
    ratio, run = confirmed(step(x))  # type: ignore[arg-type]
    assert ratio == pytest.approx(1.0, abs=0.01)
    assert len(run.order.lanes) == pp


def test_what_waits_is_less_the_further_the_backward_pass_is_divided() -> None:
    bubble = {
        name: float(step(replace(BASE, pp=8.0, dp=1.0, schedule=i, vocabulary=1.0)).parts["bubble"])  # type: ignore[attr-defined]
        for name, i in INDEX.items()
    }
    assert bubble["gpipe"] == pytest.approx(bubble["one_f_one_b"])
    assert bubble["one_f_one_b"] > bubble["zero_bubble"] > bubble["zero_bubble_v"] > 0.0


def test_schedules_hold_what_their_papers_say() -> None:
    memory = {
        name: step(replace(BASE, pp=4.0, schedule=i, micro_batch=1.0, recompute=2.0)).memory  # type: ignore[attr-defined]
        for name, i in INDEX.items()
    }
    kept = {name: float(np.asarray(m.parts["activations"])) for name, m in memory.items()}
    assert kept["gpipe"] > kept["one_f_one_b"]
    # Two copies of every layer (arXiv:2412.19437, table 2), sixteen layers over four stages.
    layers = 2.0 * 4.0 * 12.0 * 2048.0**2
    more = float(memory["dual_pipe"].parts["parameters"] - memory["one_f_one_b"].parts["parameters"])
    assert more == pytest.approx(layers, rel=0.02)


@pytest.mark.parametrize("name", ["one_f_one_b", "zero_bubble", "gpipe"])
def test_layers_that_make_room_for_the_head_take_less_time(name: str) -> None:
    """A head of 128 k rows is worth more than a layer here: with fewer layers beside it the pipeline is faster."""
    wide = gpt(18, 2048.0, 16.0, vocab=128000.0)
    even = Layout(pp=2.0, dp=4.0, global_batch=64.0, seq=1024.0, schedule=INDEX[name])
    times = {n: float(step(replace(even, last=n), wide).time) for n in (0.0, 8.0, 4.0)}  # type: ignore[attr-defined]
    assert times[8.0] < times[0.0]
    # Too few, and the first stage is the slower one.
    assert times[4.0] > times[8.0]


def test_layers_of_stages_add_up() -> None:
    pp = np.asarray([1.0, 2.0, 4.0, 8.0, 16.0])
    for first, last in ((0.0, 0.0), (2.0, 0.0), (0.0, 2.0)):
        x = Layout(pp=pp, first=first, last=last)
        a, b, c = held(x, 2.0 + (pp - 1.0) * 4.0 if first or last else pp * 4.0)
        whole = np.where(pp <= 1, a, a + c + np.maximum(pp - 2.0, 0.0) * b)
        assert whole == pytest.approx(2.0 + (pp - 1.0) * 4.0 if first or last else pp * 4.0)


def test_a_divided_vocabulary_frees_the_stages_of_the_ends() -> None:
    wide = gpt(16, 2048.0, 16.0, vocab=256000.0)
    one, many = (step(replace(BASE, vocabulary=v), wide) for v in (0.0, 1.0))
    assert float(many.time) < float(one.time)  # type: ignore[attr-defined]
    assert float(np.asarray(many.memory.peak)) < float(np.asarray(one.memory.peak))  # type: ignore[attr-defined]
    total = [float(s.stages.passes.over(s.stages.passes.totals)) for s in (one, many)]  # type: ignore[attr-defined]
    assert total[1] == pytest.approx(total[0])


def test_collectives_beside_products_take_no_more_and_hide_no_product() -> None:
    x = Layout(tp=4.0, dp=2.0, global_batch=8.0, seq=2048.0, sequence_parallel=1.0)
    plain, beside = step(x), step(replace(x, asynchronous=1.0))
    assert float(beside.time) < float(plain.time)  # type: ignore[attr-defined]
    assert beside.parts["matmul"] == plain.parts["matmul"]  # type: ignore[attr-defined]
    # One part in four stays at least.
    assert float(beside.parts["link"]) >= float(plain.parts["link"]) / 4.0 - 1e-12  # type: ignore[attr-defined]


def test_gradients_averaged_at_the_end_take_the_whole_time() -> None:
    x = Layout(dp=8.0, global_batch=8.0, seq=512.0)
    beside, after = (step(replace(x, overlap=o)).parts["gradients on the wire"] for o in (1.0, 0.0))  # type: ignore[attr-defined]
    assert float(after) > float(beside) > 0.0


def test_what_a_schedule_asks_for_is_said() -> None:
    for changes, word in (
        ({"schedule": INDEX["dual_pipe"], "pp": 4.0, "global_batch": 8.0}, "at least 8"),
        ({"schedule": INDEX["zero_bubble"], "pp": 4.0, "interleave": 2.0}, "under zero_bubble"),
        ({"schedule": INDEX["zero_bubble"], "pp": 1.0, "dp": 8.0}, "without stages"),
        ({"first": 15.0}, "first \\+ last"),
        ({"first": 2.0}, "left for the other"),
    ):
        with pytest.raises(BadField, match=word):
            check(replace(BASE, **changes), 16.0, 16.0, 8.0)  # type: ignore[arg-type]


def test_the_wide_space_holds_what_the_plain_one_has_and_more() -> None:
    plain, wide = (
        plan_training(MODEL, a100s(), framework("megatron"), 8.0, 64.0, 1024.0, Space({}, wide=w))
        for w in (False, True)
    )
    assert wide.legal > 4 * plain.legal
    assert wide.candidates[0].seconds <= plain.candidates[0].seconds
    used = {float(c.step.layout.sequence_parallel) for c in wide.candidates}
    assert used <= {0.0, 1.0}
    for c in (*plain.candidates, *wide.candidates):
        assert bool(legal(c.step.layout, 16.0, 16.0, 8.0))


def test_a_model_that_stages_do_not_divide_is_cut_where_its_ends_count_as_layers() -> None:
    """126 layers on 16 stages of 8 with one less at both ends, as Llama-3 405B was (arXiv:2407.21783, 3.3.2)."""
    from tierwise.machines.load import system

    fixed = {"tp": 8.0, "pp": 16.0, "cp": 1.0, "interleave": 1.0}
    found = plan_training(
        load_model("llama-3.1-405b"), system("16384xh100-sxm"), framework("megatron"), 16384.0, 2048.0, 8192.0,
        Space(fixed), confirm=False,
    )  # fmt: skip
    assert found.legal and found.tightest is None
    x = Layout(tp=8.0, pp=16.0, dp=128.0, global_batch=2048.0, seq=8192.0, first=7.0, last=7.0, interleave=8.0)
    assert bool(legal(x, 126.0, 128.0, 8.0)) and held(x, 126.0) == (7.0, 8.0, 7.0)
    assert not bool(legal(replace(x, first=0.0, last=0.0), 126.0, 128.0, 8.0))


def test_tricks_are_what_a_step_with_them_gains() -> None:
    found = plan_training(MODEL, a100s(), framework("megatron"), 8.0, 64.0, 1024.0, Space({"pp": 4.0, "tp": 2.0}))
    best = found.candidates[0]
    assert found.tricks == tuple(sorted(found.tricks, key=lambda t: -t.gain))
    for t in found.tricks:
        if t.what == "asynchronous":
            other = train_step(MODEL, a100s(), replace(best.step.layout, asynchronous=1.0), framework("megatron"))
            assert best.seconds / float(other.time) - 1.0 == pytest.approx(t.gain)
    assert any(t.what == "asynchronous" for t in found.tricks)


def test_a_run_is_saved_and_taken_apart_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from tierwise.cli import main

    def run(*args: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(list(args))
        assert not caught.value.code, capsys.readouterr().err
        return capsys.readouterr().out

    first, second, saved = (str(tmp_path / n) for n in ("a.json", "b.json", "run.yaml"))
    asked = ["--on", "16xh100-sxm", "--global-batch", "64", "--seq", "4096", "--optimizer", "lion"]
    asked += ["--pp", "4", "--schedule", "zero_bubble"]
    run("plan", "train", "llama-3.1-8b", *asked, "--save", saved, "--json", first)
    run("explain", saved, "--train", "--json", second)
    a, b = (json.loads(Path(f).read_text()) for f in (first, second))
    assert b["seconds"] == pytest.approx(a["candidates"][0]["seconds"])
    assert b["layout"] == a["candidates"][0]["layout"] and b["layout"]["schedule"] == "zero_bubble"
    assert b["framework"]["optimizer"] == "lion"
    # A flag still counts for more than what is saved.
    run("explain", saved, "--train", "--schedule", "1f1b", "--json", second)
    assert json.loads(Path(second).read_text())["layout"]["schedule"] == "one_f_one_b"


def test_launch_files_say_schedules_and_uneven_stages_or_are_left_out() -> None:
    import re
    from importlib import resources

    import yaml

    from tierwise.training.launch import files

    model = load_model("llama-2-7b")
    x = Layout(tp=2.0, pp=2.0, dp=2.0, global_batch=32.0, seq=2048.0, zero=1.0, sequence_parallel=1.0)

    def made(**changes: float) -> dict[str, str]:
        layout = replace(x, **changes)  # type: ignore[arg-type]
        return files(train_step(model, a100s(), layout, framework("megatron")), model, "meta-llama/Llama-2-7b-hf")

    known = yaml.safe_load((resources.files("tierwise.training.launch") / "options.yaml").read_text())
    script = made(first=14.0, asynchronous=1.0)["megatron/train.sh"]
    assert "--decoder-first-pipeline-num-layers 14" in script and "--tp-comm-overlap" in script
    assert set(re.findall(r"^  --([a-z0-9-]+)", script, re.M)) <= set(known["megatron"]["options"])
    assert "overlap-grad-reduce" not in made(overlap=0.0)["megatron/train.sh"]
    v = made(schedule=INDEX["zero_bubble_v"])
    assert 'pipeline_parallel_schedule = "ZBVZeroBubble"' in v["torchtitan/train.toml"] and "megatron/train.sh" not in v
    assert not made(schedule=INDEX["dual_pipe"], global_batch=64.0)


def test_a_short_stage_hides_no_more_than_its_own_collectives() -> None:
    from tierwise.machines.load import system

    x = Layout(pp=4.0, dp=8.0, ep=8.0, global_batch=256.0, seq=2048.0, last=2.0, schedule=INDEX["dual_pipe"], zero=1.0)
    made = train_step(load_model("mixtral-8x7b"), system("32xh100-sxm"), x, framework("megatron"))
    ratio, run = confirmed(made)
    assert float(made.stages.passes.hidden) > 0.0
    assert ratio == pytest.approx(1.0, abs=0.06)
    assert float(np.asarray(run.timeline.time)) > 0.0
