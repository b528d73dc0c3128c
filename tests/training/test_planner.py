"""The planner of training: what it answers is legal, fits, and is no slower than what people published."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from tests.training.shapes import a100s, gpt
from tierwise.core.errors import BadField
from tierwise.machines.load import system
from tierwise.models.load import load_model
from tierwise.search.train import Space, plan_training
from tierwise.training import Layout, framework, train_step
from tierwise.training.launch import files, shape_of
from tierwise.training.layout import check, legal

HOW = framework("megatron")


def test_the_answer_is_legal_fits_and_is_the_fastest_of_all() -> None:
    model, machine = gpt(16, 2048.0, 16.0), a100s(8)
    found = plan_training(model, machine, HOW, 8.0, 64.0, 1024.0, Space({}))
    assert found.legal > 100 and found.fitting <= found.legal
    best = found.candidates[0].step
    assert bool(best.memory.fits) and bool(legal(best.layout, 16.0, 16.0, 8.0))
    assert all(float(best.time) <= float(c.step.time) for c in found.candidates)
    for tp in (1.0, 2.0, 4.0, 8.0):
        other = train_step(
            model,
            machine,
            Layout(
                tp=tp,
                dp=8.0 / tp,
                micro_batch=1.0,
                global_batch=64.0,
                seq=1024.0,
                zero=1.0,
                sequence_parallel=float(tp > 1),
            ),
            HOW,
        )
        assert float(best.time) <= float(other.time) or not bool(other.memory.fits)


def test_what_is_given_is_kept() -> None:
    found = plan_training(gpt(16, 2048.0, 16.0), a100s(8), HOW, 8.0, 64.0, 1024.0, Space({"tp": 2.0, "recompute": 2.0}))
    assert {(float(c.step.layout.tp), float(c.step.layout.recompute)) for c in found.candidates} == {(2.0, 2.0)}


def test_what_fits_nowhere_says_how_much_the_tightest_layout_needs() -> None:
    found = plan_training(load_model("llama-3.1-405b"), system("8xh100-sxm"), HOW, 8.0, 8.0, 8192.0, Space({}))
    assert not found.candidates and found.tightest is not None
    assert float(found.tightest.memory.peak) > float(found.tightest.memory.capacity)


def test_turing_530b_is_trained_no_slower_than_as_published() -> None:
    """Megatron-Turing: TP 8, PP 35, DP 9 on 2,520 A100 (arXiv:2201.11990 has 280, 350 and 420 DGX A100 with DP 8 to 12;
    arXiv:2205.05198, table 3, has PP 35 interleaved by 3)."""
    model = gpt(105, 20480.0, 128.0)
    machine = a100s(2520)
    found = plan_training(model, machine, HOW, 2520.0, 2520.0, 2048.0, Space({"cp": 1.0}))
    published = Layout(
        tp=8.0,
        pp=35.0,
        dp=9.0,
        interleave=3.0,
        micro_batch=1.0,
        global_batch=2520.0,
        seq=2048.0,
        sequence_parallel=1.0,
        recompute=1.0,
        zero=1.0,
    )
    theirs = train_step(model, machine, published, HOW)
    assert float(found.candidates[0].step.time) <= float(theirs.time)
    assert all(abs(c.played - 1.0) < 0.01 for c in found.candidates)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"tp": 3.0}, "nearest"),
        ({"pp": 5.0}, "nearest"),
        ({"dp": 3.0}, "devices"),
        ({"global_batch": 7.0}, "multiple"),
        ({"interleave": 2.0}, "pipeline"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(changes: dict[str, float], word: str) -> None:
    given: dict[str, float] = {"dp": 8.0, "global_batch": 64.0, "seq": 1024.0, **changes}
    with pytest.raises(BadField, match=word):
        check(Layout(**given), 16.0, 16.0, 8.0)


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"cp": 8.0, "dp": 1.0, "seq": 100.0}, "half a divisor"),
        ({"sequence_parallel": 1.0}, "tensor parallelism"),
        ({"tp": 8.0, "dp": 1.0, "sequence_parallel": 1.0, "seq": 100.0}, "multiple of tp"),
        ({"tp": 8.0, "dp": 1.0, "asynchronous": 1.0}, "sequence parallelism"),
        ({"vocabulary": 1.0}, "stages"),
        ({"ep": 2.0}, "0 experts"),
        ({"shard": 64.0, "zero": 1.0}, "divisor of the 8 replicas"),
        ({"shard": 4.0}, "zero"),
    ],
)
def test_a_choice_that_would_change_nothing_is_refused(changes: dict[str, float], word: str) -> None:
    given: dict[str, float] = {"dp": 8.0, "global_batch": 64.0, "seq": 1024.0, **changes}
    with pytest.raises(BadField, match=word):
        check(Layout(**given), 16.0, 16.0, 8.0)


def test_experts_are_shared_by_devices_that_there_are() -> None:
    x = Layout(dp=8.0, global_batch=64.0, seq=1024.0)
    check(replace(x, ep=4.0), 16.0, 16.0, 8.0, 12.0)
    for ep, word in ((8.0, "12 experts"), (12.0, "8 devices"), (3.0, "8 devices")):
        with pytest.raises(BadField, match=word):
            check(replace(x, ep=ep), 16.0, 16.0, 8.0, 12.0)
    found = plan_training(load_model("mixtral-8x7b"), system("24xh100-sxm"), HOW, 24.0, 48.0, 2048.0,
                          Space({"cp": 1.0, "recompute": 2.0, "micro_batch": 1.0}))  # fmt: skip
    for layout in (c.step.layout for c in found.candidates):
        assert 8.0 % layout.ep == 0 and layout.tp * layout.dp % layout.ep == 0


def test_what_a_plan_may_choose_is_what_may_be_asked_for() -> None:
    """The planner's rule over arrays and the one that refuses a single layout, on everything small."""
    values = {"tp": (1.0, 2.0, 3.0), "pp": (1.0, 2.0), "cp": (1.0, 2.0), "seq": (1000.0, 1002.0),
              "sequence_parallel": (0.0, 1.0), "asynchronous": (0.0, 1.0), "vocabulary": (0.0, 1.0)}  # fmt: skip
    told = set()
    for chosen in product(*values.values()):
        x = Layout(dp=2.0, global_batch=16.0, **dict(zip(values, chosen, strict=True)))
        able = bool(legal(x, 16.0, 16.0, 8.0))
        try:
            check(x, 16.0, 16.0, float(x.devices))
            refused = False
        except BadField:
            refused = True
        assert refused is not able, chosen
        told.add(able)
    assert told == {True, False}


def test_the_plan_of_least_memory_holds_no_more_than_any_layout() -> None:
    model, machine = gpt(16, 2048.0, 16.0), a100s(8)
    space = Space({"micro_batch": 1.0, "cp": 1.0})
    plans = {o: plan_training(model, machine, HOW, 8.0, 64.0, 1024.0, space, objective=o) for o in ("time", "memory")}
    least, fastest = plans["memory"].candidates[0], plans["time"].candidates[0]
    assert plans["memory"].fitting == plans["time"].fitting
    assert least.peak < fastest.peak and least.seconds > fastest.seconds
    peaks = [c.peak for c in plans["memory"].candidates]
    assert peaks == sorted(peaks)
    for tp, pp in ((1.0, 1.0), (1.0, 8.0), (2.0, 4.0), (4.0, 2.0), (8.0, 1.0)):
        dp = 8.0 / (tp * pp)
        x = Layout(tp=tp, pp=pp, dp=dp, micro_batch=1.0, global_batch=64.0, seq=1024.0, recompute=2.0,
                   zero=float(dp > 1), sequence_parallel=float(tp > 1))  # fmt: skip
        assert least.peak <= float(train_step(model, machine, x, HOW).memory.peak)


def test_launch_files_say_the_layout() -> None:
    model = load_model("llama-3.1-70b")
    x = Layout(
        tp=4.0,
        pp=8.0,
        dp=2.0,
        interleave=2.0,
        micro_batch=1.0,
        global_batch=64.0,
        seq=8192.0,
        zero=1.0,
        sequence_parallel=1.0,
        recompute=2.0,
    )
    made = files(train_step(model, system("64xh100-sxm"), x, HOW), model, "meta-llama/Llama-3.1-70B")
    script = made["megatron/train.sh"]
    for said in (
        "--tensor-model-parallel-size 4",
        "--pipeline-model-parallel-size 8",
        "--num-layers 80",
        "--num-virtual-stages-per-pipeline-rank 2",
        "--num-query-groups 8",
        "--ffn-hidden-size 28672",
        "--recompute-granularity full",
        "--sequence-parallel",
        "--untie-embeddings-and-output-weights",
    ):
        assert said in script
    assert "pipeline_parallel_degree = 8" in made["torchtitan/train.toml"]
    assert not any(name.startswith(("deepspeed", "accelerate", "axolotl")) for name in made)
    assert shape_of(model).inner == 28672 and not shape_of(model).tied


def test_launch_files_set_only_what_the_frameworks_know() -> None:
    import json
    import re
    import tomllib
    from importlib import resources

    import yaml

    known = yaml.safe_load((resources.files("tierwise.training.launch") / "options.yaml").read_text())
    model = load_model("mixtral-8x7b")
    wide = Layout(
        tp=2.0,
        pp=2.0,
        dp=2.0,
        ep=2.0,
        interleave=2.0,
        global_batch=64.0,
        seq=4096.0,
        zero=1.0,
        sequence_parallel=1.0,
        recompute=1.0,
    )
    plain = Layout(dp=8.0, global_batch=64.0, seq=4096.0, zero=3.0)
    for layout in (wide, plain):
        made = files(train_step(model, system("8xh100-sxm"), layout, HOW), model, "mistralai/Mixtral-8x7B-v0.1")
        if "megatron/train.sh" in made:
            flags = set(re.findall(r"^  --([a-z0-9-]+)", made["megatron/train.sh"], re.M))
            assert flags <= set(known["megatron"]["options"])
        titan = tomllib.loads(made["torchtitan/train.toml"])
        assert {f"{s}.{k}" for s, rows in titan.items() for k in rows} <= set(known["torchtitan"]["options"])
        if "deepspeed/ds_config.json" in made:
            assert set(json.loads(made["deepspeed/ds_config.json"])) <= set(known["deepspeed"]["options"])
