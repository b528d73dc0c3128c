"""One table of settings: a flag means one thing everywhere, and a saved scenario stands for the flags that made it."""

from __future__ import annotations

import inspect
import json
import re
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.main import get_command

import tierwise as tw
from tierwise.cli import _app, main
from tierwise.cli._plan import serve
from tierwise.core.errors import TierwiseError
from tierwise.scenario.fields import FIELDS, read
from tierwise.serving.traffic import synthetic


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    code, out, err = run(capsys, *args, "--json", "-")
    assert code == 0, err
    return json.loads(out)


def commands() -> dict[str, Any]:
    app = typer.Typer(add_completion=False)
    app.command("serve")(serve.command)
    every: dict[str, Any] = dict(_app([]).commands)
    return every | {"plan": get_command(app)}


ASK = ("explain", "simulate", "plan")


def test_a_flag_means_one_thing_in_every_command_that_asks() -> None:
    by_option = {row.option: row for row in FIELDS.values()}
    seen: dict[str, set[str]] = {}
    for name in ASK:
        for option in commands()[name].params:
            for flag in option.opts:
                if flag in by_option:
                    told = re.sub(r" \(default: [^)]*\)|\.? Repeat to .*$|\.$", "", option.help)
                    seen.setdefault(flag, set()).add(told)
    assert len(seen) > 60
    assert {flag: told for flag, told in seen.items() if len(told) > 1} == {}
    assert {"--engine", "--on", "--save", "--weights", "--kv", "--prompt"} <= set(seen)


@pytest.mark.parametrize("name", ["explain", "simulate", "plan", "observe", "traffic"])
def test_no_command_declares_by_hand_what_the_table_has(name: str) -> None:
    kept = {"observe": {"engine", "on", "out", "json"}, "traffic": {"out", "json"}}.get(name, set())
    for option in commands()[name].params:
        row = next((r for r in FIELDS.values() if r.option in option.opts), None)
        if row is not None and option.name not in kept:
            assert option.help.startswith(row.help.removesuffix(".")), option.name


def test_files_are_asked_for_in_one_way_in_every_command() -> None:
    """``--json``, ``--html`` and ``--table`` take a file wherever they are."""
    takes: dict[str, set[str]] = {}
    for name, command in commands().items():
        for option in command.params:
            if option.name in ("json", "html", "table", "trace_out"):
                assert not option.is_flag, f"{name} --{option.name}"
                takes.setdefault(option.name, set()).add(name)
    assert takes["json"] >= {"explain", "fit", "papers", "models", "machines", "techniques", "traffic", "diff"}
    assert takes["html"] >= {"explain", "fit", "compare", "papers", "diff", "simulate", "goodput", "plan", "allocate"}
    assert takes["table"] >= {"explain", "fit", "compare", "papers", "diff", "models", "machines", "techniques"}


@pytest.mark.parametrize(
    "words", [("models", "llama-3.2-1b"), ("machines", "l4"), ("techniques", "quantize_kv"), ("papers", "run", "kivi")]
)
def test_lists_write_json_and_go_on_printing(
    words: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    code, said, _ = run(capsys, *words, "--json", str(out))
    assert code == 0 and json.loads(out.read_text()) and words[-1] in said
    assert json.loads(run(capsys, *words, "--json", "-")[1]) == json.loads(out.read_text())


def test_papers_have_pages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "papers.html"
    assert run(capsys, "papers", "run", "kivi", "--html", str(out))[0] == 0
    text = out.read_text()
    assert "KIVI: A Tuning-Free" in text and "reproduced" in text and "What it assumes" in text


def test_requests_are_as_long_in_every_command_where_nobody_says() -> None:
    told = {name: [re.search(r"\(default: (\d+)\)", o.help) for o in command.params if o.name in ("prompt", "output")]
            for name, command in commands().items()}  # fmt: skip
    found = {name: [x and float(x[1]) for x in both] for name, both in told.items() if both}
    asking = {"explain", "simulate", "traffic", "observe", "plan"}
    assert asking <= set(found)
    assert {name: both for name, both in found.items() if both != [tw.Batch().prompt, tw.Batch().output]} == {}
    assert inspect.signature(synthetic).parameters["prompt"].default == tw.Batch().prompt


@pytest.mark.parametrize("name", sorted(_app([]).commands))
def test_h_is_help(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    short, long = run(capsys, name, "-h"), run(capsys, name, "--help")
    assert short == long and short[0] == 0 and "Usage" in short[1]


@pytest.mark.parametrize("row", FIELDS.values(), ids=list(FIELDS))
def test_every_setting_reads_its_own_default_and_refuses_what_it_is_not(row: Any) -> None:
    if row.default is not None:
        assert read(row, row.default) == row.default
    if row.kind not in ("text", "length"):
        with pytest.raises(TierwiseError, match=row.option):
            read(row, "purple")
    if row.least is not None and row.kind != "batch":
        with pytest.raises(TierwiseError, match=row.option):
            read(row, row.least if row.above else -1)
    if row.most is not None:
        with pytest.raises(TierwiseError, match=row.option):
            read(row, row.most if row.below else row.most + 1)
    assert row.help.endswith(".") or row.help.endswith(")")


EXPLAINED = [
    ("llama-3.1-8b", "--on", "h100-sxm", "--batch", "32"),
    ("llama-3.1-8b", "--on", "4xh100-sxm", "--weights", "fp8", "--kv", "int2-g32", "--chunk", "2k", "--unfused"),
    ("deepseek-v3", "--on", "16xh800", "--ep", "16", "--batch", "max", "--engine", "sglang"),
    ("llama-3.2-1b", "--on", "h100-sxm", "--framework", "transformers"),
    ("whisper-large-v3", "--on", "h100-sxm", "--batch", "4"),
    (
        "llama-3.1-8b",
        "--on",
        "h100-sxm",
        "--technique",
        "slide_window:128",
        "--technique",
        "quantize_kv:bits=4,group=64",
    ),
]


@pytest.mark.parametrize("flags", EXPLAINED, ids=lambda f: f[0] + f[-1])
def test_a_saved_scenario_gives_the_numbers_of_its_flags(
    flags: tuple[str, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(tmp_path / "s.yaml")
    first = answer(capsys, "explain", *flags, "--save", path)
    assert answer(capsys, "explain", path) == first
    assert yaml.safe_load(Path(path).read_text())["schema"] == "tierwise.scenario/1"


def test_flags_override_a_saved_scenario(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "s.yaml")
    answer(
        capsys, "explain", "llama-3.1-8b", "--on", "4xh100-sxm", "--tp", "2", "--kv", "fp8", "--eager", "--save", path
    )
    direct = answer(capsys, "explain", "llama-3.1-8b", "--on", "8xh100-sxm", "--tp", "4", "--dp", "2", "--batch", "4")
    over = ("--on", "8xh100-sxm", "--tp", "4", "--dp", "2", "--batch", "4", "--kv", "bf16", "--no-eager")
    changed = answer(capsys, "explain", path, *over)
    assert changed["summary"] == direct["summary"]
    assert answer(capsys, "explain", path, "--batch", "4")["scenario"]["plan"]["formats"]["keys"] == "fp8"


def test_a_type_to_read_a_model_as_is_taken_everywhere_and_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    given = {"model_type": "brand_new", "hidden_size": 1024, "intermediate_size": 3072, "num_hidden_layers": 28,
             "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 151936}  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(given))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    found = answer(capsys, "explain", "config.json", "--on", "rtx-4090", "--as", "qwen3", "--save", "sub/s.yaml")
    # Heads of 128, as Qwen3's class has them, and a head of its own.
    assert found["scenario"]["model"]["parameters"] == 751632384
    assert yaml.safe_load((tmp_path / "sub" / "s.yaml").read_text())["model"] == "../config.json#as=qwen3"
    monkeypatch.chdir("/")
    assert answer(capsys, "explain", str(tmp_path / "sub" / "s.yaml"))["summary"] == found["summary"]
    plain = answer(capsys, "explain", str(tmp_path / "config.json"), "--on", "rtx-4090")
    model = plain["scenario"]["model"]
    assert "generic decoder" in model["family"] and model["parameters"] < 751632384
    for name, command in commands().items():
        if any(p.name == "model" and p.param_type_name == "argument" for p in command.params):
            assert any("--as" in p.opts for p in command.params), name


def test_scenarios_are_compared_by_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    a, b = str(tmp_path / "a.yaml"), str(tmp_path / "b.yaml")
    text = "llama-2-7b --on a100-80gb --batch 8"
    by_text = answer(capsys, "compare", text, "… --technique quantize_kv:bits=2,group=32", "--save", a, "--save", b)
    by_file = answer(capsys, "compare", a, b)
    by_technique = answer(capsys, "compare", a, "--technique", "quantize_kv:bits=2,group=32")
    for found in (by_file, by_technique):
        assert found["changes"][0]["ratios"] == by_text["changes"][0]["ratios"]
    assert by_text["changes"][0]["ratios"]["memory_sequence"]["ratio"] == pytest.approx(3 / 16)


def test_a_simulation_is_asked_again_by_its_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    path = str(tmp_path / "s.yaml")
    flags = ("llama-2-7b", "--on", "2xa100-80gb", "--tp", "1", "--rate", "5/s", "--requests", "30", "--prompt",
             "lognormal:mean=200,cv=1", "--output", "20", "--max-seqs", "8", "--ttft", "1s", "--router", "random",
             "--kv", "fp8")  # fmt: skip
    first = answer(capsys, "simulate", *flags, "--save", path)
    again = answer(capsys, "simulate", path)
    for part in ("deployment", "traffic", "targets", "metrics", "times", "load", "cdf"):
        assert again[part] == first[part], part
    assert answer(capsys, "simulate", path, "--rate", "50/s")["metrics"] != first["metrics"]
    closed = answer(capsys, "simulate", path, "--concurrency", "2")
    assert closed["traffic"] != first["traffic"], "a flag replaces the load of the file"
    code, _, err = run(capsys, "explain", path)
    assert code == 2 and "--prompt" in err, "a rule is no size of a batch"
    assert answer(capsys, "explain", path, "--prompt", "200")["summary"]["fits"] is True


def test_the_older_name_of_a_flag_still_works(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "t.json"
    for flag in (f"--trace={target}", f"--trace-out={target}"):
        assert run(capsys, "explain", "llama-3.1-8b", "--on", "h100-sxm", flag)[0] == 0
        assert json.loads(target.read_text())["traceEvents"]
        target.unlink()
    for flag in ("--budget", "--tokens"):
        code, _, err = run(capsys, "simulate", "llama-3.1-8b", "--on", "h100-sxm", "--rate", "1/s", flag, "0")
        assert code == 2 and "--tokens: found 0" in err


def test_a_plan_is_saved_as_what_it_answers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    path = str(tmp_path / "p.yaml")
    flags = ("--rate", "10/s", "--prompt", "1000", "--output", "200", "--ttft", "500ms", "--tpot", "20ms")
    planned = answer(
        capsys, "plan", "serve", "llama-3.1-8b", "--on", "4xh100-sxm", *flags, "--no-confirm", "--save", path
    )
    chosen = planned["answer"]["engines"]
    played = answer(capsys, "simulate", path, "--requests", "20")
    group = played["deployment"]["groups"][0]
    assert group["count"] == chosen["count"] and group["devices"] == chosen["tp"] * chosen["pp"] * chosen["dp"]
    assert group["settings"]["budget"] == planned["answer"]["max_num_batched_tokens"]
    assert group["settings"]["max_seqs"] == planned["answer"]["max_num_seqs"]
    assert played["targets"] == {"ttft_s": 0.5, "tpot_s": 0.02}
    again = answer(capsys, "plan", "serve", path, "--no-confirm")
    assert again["question"]["requests_per_s"] == pytest.approx(10.0) and again["met"]


@pytest.mark.parametrize(
    ("text", "flags", "told"),
    [
        ("schema: tierwise.scenario/7\n", (), "later version"),
        ("model: llama-3.1-8b\nmachine: h100-sxm\nplan: {tpp: 3}\n", (), "did you mean 'tp'"),
        ("model: llama-3.1-8b\n", (), "--on"),
        ("model: llama-3.1-8b\nmachine: h100-sxm\ntraffic: [3]\n", (), "traffic"),
        ("model: llama-3.1-8b\nmachine: h100-sxm\ntraffic: {batch: -3}\n", (), "batch"),
        ("model: llama-3.1-8b\nmachine: h100-sxm\nengine: vlmm\n", (), "did you mean 'vllm'"),
        ("model: llama-3.1-8b\nmachine: h100-sxm\ntechniques: [quantise_kv]\n", (), "quantize_kv"),
        ("model: lama-3.1-8b\nmachine: h100-sxm\n", (), "did you mean 'llama-3.1-8b'"),
        ("model: llama-3.1-8b\nmachine: 4xh100-sxm\n", ("--tp", "3"), "divisor"),
        ("model: llama-3.1-8b\nmodel: x\n", (), "twice"),
        ("[1, 2]\n", (), "a mapping"),
    ],
)
def test_a_wrong_file_is_one_line(
    text: str, flags: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.yaml"
    path.write_text(text)
    for command in (("explain",), ("compare", f"{path} --batch 2")) if not flags else (("explain",),):
        code, out, err = run(capsys, *command, str(path), *flags)
        assert code == 2 and not out and told in err and "Traceback" not in err
        assert len(err.strip().splitlines()) <= 2


def test_a_sweep_in_a_file_is_no_simulation(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "s.yaml"
    path.write_text("model: llama-3.1-8b\nmachine: 4xh100-sxm\nplan: {tp: [1, 2]}\n")
    code, _, err = run(capsys, "simulate", str(path), "--rate", "1/s")
    assert code == 2 and "plan.tp holds several values" in err


def test_json_alone_prints(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", "llama-2-7b", "--json", "--on", "a100-80gb")
    assert code == 0 and json.loads(out)["schema"].startswith("tierwise.result/")


def test_names_with_spaces_and_two_outputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tmp_path / "my chat.yaml")
    answer(capsys, "explain", "llama-2-7b", "--on", "a100-80gb", "--save", path)
    found = answer(capsys, "compare", path, "--technique", "quantize_kv:bits=2")
    assert found["changes"][0]["ratios"]["batch"]["ratio"] == 1.0
    code, out, err = run(capsys, "explain", path, "--json", "-", "--save", "-")
    assert code == 2 and not out and "--save" in err


@pytest.mark.parametrize("command", [("simulate",), ("goodput",), ("plan", "serve")])
@pytest.mark.parametrize(
    ("section", "name", "values"),
    [("traffic", "output", [8.0]), ("traffic", "requests", [20, 30]), ("plan", "weights", ["fp8", "bf16"]),
     ("serving", "replicas", [1, 2]), ("targets", "ttft", [1.0, 2.0])],
)  # fmt: skip
def test_a_sweep_is_refused_where_one_configuration_is_asked_for(
    command: tuple[str, ...], section: str, name: str, values: list[object], tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    form = {"schema": "tierwise.scenario/1", "model": "llama-3.2-1b", "machine": "2xl4",
            "traffic": {"prompt": 100.0, "output": 8.0, "rate": 2.0, "requests": 20},
            "targets": {"ttft": 1.0, "tpot": 0.05}}  # fmt: skip
    file = tmp_path / "s.yaml"
    file.write_text(json.dumps({**form, section: {**form.get(section, {}), name: values}}))  # type: ignore[dict-item]
    with pytest.raises(SystemExit) as caught:
        main([*command, str(file)])
    assert caught.value.code == 2
    assert f"{section}.{name} holds several values" in capsys.readouterr().err


SERVED = ("llama-3.1-8b", "--on", "4xh100-sxm", "--tp", "2", "--batch", "8")
TRAINED = ("llama-3.1-8b", "--on", "16xh100-sxm", "--train", "--tp", "2", "--pp", "2", "--global-batch", "64")
# A value of each flag that is another than its default, and where it takes another flag to mean something, that one.
SERVED_BY = {
    "clock": "0.7", "power_cap": "150W", "link_share": "0.2", "rent": "1.25/h", "batch": "9",
    "prompt": "3000", "output": "300",
    "tp": "4", "pp": "2", "weights": "fp8", "activations": "fp8", "kv": "fp8", "chunk": "512", "eager": None,
    "unfused": None, "framework": "transformers", "schedule": "two_batches", "engine": "sglang",
    "technique": "slide_window:512",
}  # fmt: skip
TRAINED_BY = {
    "clock": "0.7", "link_share": "0.2", "global_batch": "128", "micro_batch": "2", "seq": "2048", "cp": "2",
    "interleave": "2", "first_layers": "14", "last_layers": "14", "stage_layers": "14,18", "recompute": "full",
    "zero": "0", "shard": "2", "sequence_parallel": False, "vocabulary_parallel": None, "tp_overlap": None,
    "grad_overlap": False, "ulysses": "--cp 2", "offload_activations": None, "imbalance": "2",
    "lengths": "lognormal:mean=600,cv=1.2", "straggler": "0.05", "islands": "2", "compress": "int8", "mtbf": "5000h",
    "optimizer": "lion", "precision": "fp8", "trainer": "fsdp", "method": "lora:r=16", "train_tokens": "15T",
    "padded": "--lengths lognormal:mean=600,cv=1.2", "late": "--islands 2", "averaging": "--islands 2",
    "local_steps": "--islands 2", "restart": "--mtbf 500h", "storage": "--mtbf 500h",
    "background": "--mtbf 500h --storage 5GB",
    "spares": "--mtbf 500h", "repair": "--mtbf 5000h", "offload": None,
    **dict.fromkeys(("offload_disk", "offload_share", "early_update", "device_update"), "--offload optimizer"),
    "capacity": "--imbalance 2", "moe_token_dispatcher_type": "alltoall", "overlap_moe_expert_parallel_comm": None,
    "use_transformer_engine_op_fuser": None, "cuda_graph_scope": "full_iteration", "mtp_num_layers": "1",
}  # fmt: skip
# A computer with a host's memory and disks.
COMPUTER = ("llama-2-7b", "--on", "4xa100-sxm-80gb + epyc-7742 + 2x nvme-gen4-dc", "--train", "--global-batch", "64")
# What only models with experts, or with a module that predicts further ahead, can be asked; and only such a computer.
ROUTED = {
    **dict.fromkeys(("offload_disk", "offload_share", "early_update", "device_update"), COMPUTER),
    **dict.fromkeys(("imbalance", "capacity", "moe_token_dispatcher_type", "overlap_moe_expert_parallel_comm",
                     "use_transformer_engine_op_fuser"), ("mixtral-8x7b", *TRAINED[1:], "--ep", "4")),
    "mtp_num_layers": ("deepseek-v3", "--on", "256xh100-sxm", "--train", "--ep", "64", "--global-batch", "256"),
}  # fmt: skip
VALUES = {"capacity": "1.2", "device_update": "0.5", "offload_share": "0.5", "averaging": "gossip:1",
          "local_steps": "10", "restart": "9000s", "storage": "5GB", "spares": "2", "repair": "200h"}  # fmt: skip


def given(name: str, value: Any) -> tuple[str, ...]:
    option = FIELDS[name].option
    if value is False:
        return (f"--no-{option[2:]}",)
    return (option,) if FIELDS[name].kind == "switch" else (option, VALUES.get(name, value))


def numbers(capsys: pytest.CaptureFixture[str], *flags: str) -> Any:
    """What was found, without what was asked."""
    found = answer(capsys, "explain", *flags)
    return {k: v for k, v in found.items() if k not in ("made_by", "scenario", "layout", "text", "notes", "sources")}


@pytest.mark.parametrize("name", SERVED_BY)
def test_a_flag_of_inference_changes_a_number_and_is_refused_in_training(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    flag = given(name, SERVED_BY[name])
    assert numbers(capsys, *SERVED, *flag) != numbers(capsys, *SERVED)
    if name not in ("clock", "link_share", "rent", "tp", "pp", "schedule"):  # rent: what a whole run costs
        code, _, err = run(capsys, "explain", *TRAINED, *flag)
        assert code == 2 and flag[0] in err


@pytest.mark.parametrize("name", TRAINED_BY)
def test_a_flag_of_training_changes_a_number_and_is_refused_without_it(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    beside = str(TRAINED_BY[name]).split() if str(TRAINED_BY[name]).startswith("--") else []
    flag = given(name, TRAINED_BY[name])
    asking = ROUTED.get(name, TRAINED)
    if name != "offload":  # which wants a machine with a host's memory
        assert numbers(capsys, *asking, *beside, *flag) != numbers(capsys, *asking, *beside)
    if asking is not TRAINED:
        assert run(capsys, "explain", *TRAINED, *beside, *flag)[0] == 2
    if beside:
        assert run(capsys, "explain", *TRAINED, *flag)[0] == 2
    if name not in ("clock", "link_share"):
        code, _, err = run(capsys, "explain", *SERVED, *(flag if name != "offload" else ("--offload", "optimizer")))
        assert code == 2 and flag[0] in err


def test_every_flag_of_explain_is_in_the_test_of_what_flags_change() -> None:
    told = {o.name for o in commands()["explain"].params if o.name in FIELDS}
    shown = {"html", "trace_out", "table", "json", "save", "sensitivity", "machine", "train", "model", "read_as"}
    # Filled up by the other degrees; of images; and the one there is.
    others = {"dp", "ep", "images", "image_size", "workload"}
    assert told - shown - others == set(SERVED_BY) | set(TRAINED_BY)
