"""The canonical form of a scenario: it says everything, says it once, and refuses what it does not understand."""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tierwise as tw
from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import Format
from tierwise.program.placement import Placement
from tierwise.scenario import KV, Applied, Batch, Plan, Scenario
from tierwise.scenario.hash import scenario_hash, versions
from tierwise.scenario.schema import DEGREES, from_dict, migrate, to_dict, version

numbers = st.floats(0.01, 1e6) | st.integers(1, 10**6).map(float) | st.just(float("inf"))
arrays = st.lists(numbers, min_size=1, max_size=4).map(np.asarray) | st.lists(
    st.lists(numbers, min_size=2, max_size=2), min_size=1, max_size=3
).map(np.asarray)
nums = numbers | arrays
names = st.sampled_from(["bf16", "fp8", "nvfp4", "int4-g128", "q4_k", "2.5bit", "int2-g32-sym"])
formats = (
    st.none()
    | names.map(tw.fmt)
    | st.lists(names, min_size=2, max_size=3).map(tw.fmt)
    | names.map(lambda n: tw.fmt(n, zero_bits=16.0))
    | st.builds(Format, st.just("of my own"), numbers, numbers, st.just(""))
)
kvs = st.builds(
    KV, key=formats, value=formats, residual=nums, keep=nums, budget=nums, remat=st.booleans(), relay=st.booleans()
)
placements = st.sampled_from([
    Placement(), Placement((("weights", (("host", 0.5),)),)), Placement(ops=(("attention", "host"),)),
    Placement((("kv", (("host", np.array([0.0, 0.25])), ("disk", 0.5))),)),
])  # fmt: skip
plans = st.builds(
    Plan, placement=placements,
    tp=nums, pp=nums, dp=nums, ep=nums, weights=formats, activations=formats, kv=kvs, flash=st.booleans(),
    graphs=st.booleans(), framework=st.sampled_from(["", "transformers"]), chunk=nums, overlap=st.booleans(),
    imbalance=nums, sparsity=nums, mtp=st.booleans(),
)  # fmt: skip
batches = st.builds(
    Batch, prompt=nums, output=nums, batch=nums | st.just("max"), images=nums, image_size=st.none() | numbers
)
notes = st.builds(Applied, st.text(min_size=1, max_size=9), st.just((("layers", 32.0), ("weights", 7.0))))
scenarios = st.builds(
    lambda model, machine, traffic, plan, engine, applied: Scenario(
        model, machine, traffic, plan, tuple(a.name for a in applied), engine, tuple(applied)
    ),
    st.sampled_from(["llama-3.1-8b", "deepseek-v3", "./config.json"]),
    st.sampled_from(["h100-sxm", "8xh100-sxm", "boards/mine.yaml"]),
    batches, st.none() | plans, st.sampled_from(["", "vllm"]), st.lists(notes, max_size=2),
)  # fmt: skip


@given(scenarios)
@settings(max_examples=150, deadline=None)
def test_what_is_written_is_read_back(s: Scenario) -> None:
    form = json.loads(json.dumps(to_dict(s), allow_nan=False))
    back = from_dict(form)
    assert back == s and hash(back) == hash(s)
    assert to_dict(back) == form
    assert pickle.loads(pickle.dumps(s)) == s


@given(scenarios)
@settings(max_examples=25, deadline=None)
def test_a_yaml_file_holds_the_same(s: Scenario) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/s.yaml"
        named = replace(s, model="llama-3.1-8b", machine="h100-sxm")
        named.save(path)
        assert Scenario.load(path) == named


@given(plans, plans)
@settings(max_examples=50, deadline=None)
def test_other_plans_have_other_forms(a: Plan, b: Plan) -> None:
    one, two = (Scenario("m", "h100-sxm", plan=p) for p in (a, b))
    assert (one == two) == (json.dumps(to_dict(one), sort_keys=True) == json.dumps(to_dict(two), sort_keys=True))


BASE = Scenario("mixtral-8x7b", "8xh100-sxm", Batch(512.0, 64.0, 8.0), Plan(tp=2.0, dp=2.0))
OTHER: dict[str, Any] = {
    "pp": 2.0, "ep": 4.0, "tp": 1.0, "dp": 1.0, "weights": tw.fmt("fp8"), "activations": tw.fmt("fp8"),
    "kv": KV(key=tw.fmt("fp8")), "placement": Placement((("weights", (("host", 0.5),)),)),
    "framework": "transformers", "schedule": "prefetch:ahead=2", "prompt": 513.0, "output": 65.0, "batch": "max",
    "images": 1.0, "image_size": 224.0, "workload": "encode", "lora_modules": "qv",
}  # fmt: skip


def _other(value: Any, name: str) -> Any:
    return OTHER[name] if name in OTHER else not value if isinstance(value, bool) else value * 0.5 + 0.25


@pytest.mark.parametrize("name", [f.name for f in fields(Plan)])
def test_the_hash_changes_with_every_field_of_the_plan(name: str) -> None:
    assert BASE.plan is not None
    plan = replace(BASE.plan, **{name: _other(getattr(BASE.plan, name), name)})
    assert replace(BASE, plan=plan).hash != BASE.hash


@pytest.mark.parametrize("name", [f.name for f in fields(KV)])
def test_and_of_the_cache(name: str) -> None:
    assert BASE.plan is not None
    value = tw.fmt("fp8") if name in ("key", "value") else _other(min(getattr(KV(), name), 1e6), name)
    if isinstance(getattr(KV(), name), bool):
        value = not getattr(KV(), name)
    assert replace(BASE, plan=replace(BASE.plan, kv=KV(**{name: value}))).hash != BASE.hash


@pytest.mark.parametrize("name", [f.name for f in fields(Batch)])
def test_and_of_the_traffic(name: str) -> None:
    assert BASE.with_traffic(**{name: OTHER[name]}).hash != BASE.hash


def test_and_of_the_scenario() -> None:
    others = [
        replace(BASE, model="llama-3.1-8b"), replace(BASE, machine="16xh100-sxm"), replace(BASE, machine="8xa100-80gb"),
        replace(BASE, techniques=("x",)), replace(BASE, engine="sglang"),
    ]  # fmt: skip
    found = [s.hash for s in (BASE, *others)]
    assert len(set(found)) == len(found)


def test_the_hash_is_of_contents_and_not_of_names(tmp_path: Path) -> None:
    value = Scenario(tw.load_model("mixtral-8x7b"), tw.load_system("8xh100-sxm"), BASE.traffic, BASE.plan)
    assert value.hash == BASE.hash and value != BASE
    config = {"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
              "intermediate_size": 512, "vocab_size": 1000}  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    mine = Scenario(str(path), "h100-sxm")
    before = mine.hash
    assert mine.hash == before
    path.write_text(json.dumps(config | {"hidden_size": 512}))
    assert mine.hash != before


def test_a_plan_that_is_chosen_and_the_same_plan_given_are_one_question() -> None:
    chosen = Scenario("llama-3.1-8b", "4xh100-sxm")
    assert replace(chosen, plan=chosen.resolved().plan).hash == chosen.hash


def test_numbers_are_equal_however_they_are_held() -> None:
    one = Scenario("llama-3.1-8b", "h100-sxm", Batch(512, 64, np.array([1, 8])))  # type: ignore[arg-type]
    two = Scenario("llama-3.1-8b", "h100-sxm", Batch(512.0, 64.0, np.array([1.0, 8.0])))
    assert one == two and hash(one) == hash(two) and one.hash == two.hash
    assert one != two.with_traffic(batch=np.array([1.0, 9.0]))


def test_what_runs_is_part_of_the_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    found = scenario_hash(BASE)
    assert len(found) == 64 and set(versions()) == {"version", "code", "tables"}
    for name in ("version", "code", "tables"):
        with monkeypatch.context() as m:
            m.setattr("tierwise.scenario.hash.versions", lambda name=name: versions() | {name: "another"})
            assert scenario_hash(BASE) != found


@pytest.mark.parametrize("name", tw.model_names()[::9])
def test_models_as_values_are_written_by_content(name: str) -> None:
    s = Scenario(tw.load_model(name), "h100-sxm")
    assert from_dict(json.loads(json.dumps(to_dict(s)))) == s


@pytest.mark.parametrize("name", [*tw.device_names()[::12], "8xh100-sxm"])
def test_machines_as_values_are_written_by_content(name: str) -> None:
    s = Scenario("llama-3.1-8b", tw.load_system(name))
    back = from_dict(json.loads(json.dumps(to_dict(s))))
    assert back == s and scenario_hash(back) == scenario_hash(s) if s.machine.device.engines else back == s  # type: ignore[union-attr]


def test_a_model_that_a_technique_changed_gives_the_same_numbers() -> None:
    s = Scenario("llama-3.1-8b", "h100-sxm").apply(tw.techniques.slide_window(128), tw.techniques.quantize_kv(bits=2))
    back = from_dict(json.loads(json.dumps(to_dict(s))))
    assert back == s and back.techniques == s.techniques
    assert float(tw.evaluate(back).time) == float(tw.evaluate(s).time)


@dataclass(frozen=True)
class Mine:
    """A block of a user's own."""

    width: float = 1.0


def test_what_only_python_can_say_is_refused_by_name() -> None:
    model = tw.load_model("llama-3.1-8b").map_blocks(lambda b: Mine())
    with pytest.raises(TierwiseError, match=r"model.*Mine.*give a name or a path"):
        to_dict(Scenario(model, "h100-sxm"))
    assert hash(Scenario(model, "h100-sxm")) == hash(Scenario(model, "h100-sxm"))


def test_techniques_in_a_file_are_applied() -> None:
    form = to_dict(Scenario("llama-3.1-8b", "h100-sxm")) | {"techniques": ["quantize_kv:bits=2,group=32"]}
    python = Scenario("llama-3.1-8b", "h100-sxm").apply(tw.techniques.quantize_kv(bits=2, group=32))
    assert from_dict(form).resolved() == python.resolved()


def test_what_a_file_leaves_out_is_chosen_as_the_command_line_does() -> None:
    s = from_dict({"model": "llama-3.1-8b", "machine": "4xh100-sxm", "plan": {"kv": "int2-g32"}})
    assert s.plan is not None and s.plan.kv.key == tw.fmt("int2-g32", zero_bits=16.0)
    assert [getattr(s.plan, d) for d in DEGREES] == [4.0, 1.0, 1.0, 1.0]
    assert from_dict({"model": "whisper-large-v3", "machine": "h100-sxm"}).traffic.prompt == 1.0


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"trafic": {}}, ("trafic", "did you mean 'traffic'")),
        ({"traffic": {"prmpt": 3}}, ("traffic.prmpt", "3", "'prompt'")),
        ({"traffic": {"batch": "mx"}}, ("traffic.batch", "'mx'", "'max'")),
        ({"plan": {"tpp": 4}}, ("plan.tpp", "did you mean 'tp'")),
        ({"plan": {"tp": "x"}}, ("plan.tp", "'x'", "a number")),
        ({"plan": {"tp": [[1, 2], [3]]}}, ("plan.tp", "equally many")),
        ({"plan": {"flash": 1}}, ("plan.flash", "true or false")),
        ({"plan": {"weights": "fp9"}}, ("plan.weights", "fp9", "'fp8'")),
        ({"plan": {"kv": {"kye": "fp8"}}}, ("plan.kv.kye", "'key'")),
        ({"plan": {"placement": {"tensors": 3}}}, ("plan.placement", "lists")),
        ({"plan": {"placement": {"tensor": []}}}, ("plan.placement.tensor", "'tensors'")),
        ({"plan": 3}, ("plan", "3", "a mapping")),
        ({"serving": {"max_seq": 3}}, ("serving.max_seq", "'max_seqs'")),
        ({"model": None}, ("model", "name or path")),
        ({"machine": ["h100-sxm"]}, ("machine", "name or path")),
        ({"model": {"$": "os.path"}}, ("model.$", "class of this package")),
        ({"model": {"$": "models.types.Model", "nam": "x"}}, ("model.nam", "'name'")),
        ({"model": {"$": "scenario.types.Batch"}}, ("model", "a model's name")),
        ({"techniques": "quantize_kv"}, ("techniques", "a list of text")),
        ({"applied": [{"nme": "x"}]}, ("applied", "nme")),
        ({"engine": 3}, ("engine", "3")),
        ({"schema": "tierwise.scenario/99"}, ("schema", "later version")),
        ({"schema": "tierwise.result/1"}, ("schema", "tierwise.scenario/1")),
    ],
)
def test_what_is_wrong_is_one_line_with_file_and_field(change: dict[str, Any], told: tuple[str, ...]) -> None:
    form = to_dict(Scenario("llama-3.1-8b", "h100-sxm")) | change
    with pytest.raises(TierwiseError) as caught:
        from_dict(form, "mine.yaml")
    message = str(caught.value)
    assert message.startswith("mine.yaml: ") and "\n" not in message
    for part in told:
        assert part in message


def test_earlier_versions_go_through_every_step() -> None:
    # What two changes of the schema would look like: a field that got another name, then one that got a unit.
    steps = (
        lambda d: {("machine" if k == "device" else k): v for k, v in d.items()},
        lambda d: d | {"traffic": {k: v * 1000.0 if k == "prompt" else v for k, v in d["traffic"].items()}},
    )
    oldest = {
        "schema": "tierwise.scenario/1",
        "model": "llama-3.1-8b",
        "device": "h100-sxm",
        "traffic": {"prompt": 2.0},
    }
    middle = {
        "schema": "tierwise.scenario/2",
        "model": "llama-3.1-8b",
        "machine": "h100-sxm",
        "traffic": {"prompt": 2.0},
    }
    for form in (oldest, middle):
        s = from_dict(form, steps=steps)
        assert s.machine == "h100-sxm" and s.traffic.prompt == 2000.0
    assert migrate(oldest, steps=steps)["schema"] == version(steps) == "tierwise.scenario/3"
    assert "device" in oldest, "migrating leaves the form that was given as it is"


def test_paths_are_right_wherever_the_file_lies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    (here / "board.yaml").write_text("like: h100-sxm\nsource: a test\n")
    (here / "config.json").write_text(json.dumps({"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 2,
                                                  "num_attention_heads": 4, "intermediate_size": 512,
                                                  "vocab_size": 1000}))  # fmt: skip
    monkeypatch.chdir(here)
    Scenario("./config.json", "2xboard.yaml").save("../there/s.yaml")
    monkeypatch.chdir(tmp_path)
    back = Scenario.load("there/s.yaml")
    assert back.model == "here/config.json" and back.machine == "2xhere/board.yaml"
    assert tw.load_model(back.model).hidden == 256
    monkeypatch.chdir(there)
    assert Scenario.load("s.yaml").model == "../here/config.json"


def test_results_travel_between_processes() -> None:
    r = tw.evaluate(BASE.with_traffic(prompt=np.array([100.0, 200.0])))
    back = pickle.loads(pickle.dumps(r))
    assert back.scenario == r.scenario and np.array_equal(np.asarray(back.time), np.asarray(r.time))
