"""Training on the command line: one layout, a plan, fine-tuning, recorded runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tierwise.cli import main

ONE = [
    "explain",
    "llama-3.1-8b",
    "--on",
    "16xh100-sxm",
    "--train",
    "--tp",
    "2",
    "--pp",
    "4",
    "--interleave",
    "2",
    "--global-batch",
    "64",
    "--seq",
    "4096",
]


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(args))
    return int(caught.value.code or 0)


def test_one_layout_with_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    html, trace, data = tmp_path / "a.html", tmp_path / "a.json", tmp_path / "b.json"
    assert run(*ONE, "--html", str(html), "--trace-out", str(trace), "--json", str(data)) == 0
    said = capsys.readouterr().out
    for part in ("a step", "MFU", "pipeline bubble", "optimizer states", "What this rests on"):
        assert part in said
    d = json.loads(data.read_text())
    assert d["seconds"] == pytest.approx(sum(d["parts"].values()))
    assert d["memory"]["peak"] == pytest.approx(sum(d["memory"]["parts"].values()))
    # Four stages of two parts, eight micro-batches a pipeline (dp is 2, batches of 64), forward and backward.
    assert len(d["pipeline"]["rows"]) == 4 * 2 * 32 * 2
    spans = [e for e in json.loads(trace.read_text())["traceEvents"] if e["ph"] == "X"]
    assert len(spans) == len(d["pipeline"]["rows"])
    assert 'id="pipeline"' in html.read_text()


def test_a_plan_with_launch_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "launch"
    assert (
        run(
            "plan",
            "train",
            "llama-3.1-8b",
            "--on",
            "16xh100-sxm",
            "--global-batch",
            "64",
            "--seq",
            "4096",
            "--tokens",
            "1T",
            "--zero",
            "1",
            "--out",
            str(out),
        )
        == 0
    )
    said = capsys.readouterr().out
    assert "Layouts" in said and "legal layouts" in said and "1 trillion tokens" in said
    assert (out / "megatron" / "train.sh").is_file() and "Predicted" in (out / "README.md").read_text()


def test_adapters_fit_where_all_parameters_do_not(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["plan", "finetune", "llama-3.1-8b", "--on", "1xrtx-4090", "--seq", "2048"]
    assert run(*asked, "--method", "full") == 0
    assert "No layout fits" in capsys.readouterr().out
    assert run(*asked, "--method", "qlora:r=16") == 0
    assert "a step" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--tp", "3"], ("nearest",)),
        (["--dp", "7"], ("devices",)),
        (["--global-batch", "3"], ("multiple",)),
        (["--recompute", "ful"], ("full",)),
        (["--optimizer", "adam"], ("adamw",)),
        (["--trainer", "megatro"], ("megatron",)),
        (["--method", "lora:r=x"], ("RANK",)),
        (["--precision", "int3"], ("bf16",)),
    ],
)
def test_what_cannot_be_is_one_line(
    args: list[str], words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("explain", "llama-3.1-8b", "--on", "8xh100-sxm", "--train", *args) == 2
    said = capsys.readouterr().err
    assert len(said.strip().splitlines()) == 1 and all(w in said for w in words)


def test_a_model_without_a_decoder_and_no_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "resnet-50", "--on", "8xh100-sxm", "--train") == 2
    assert "decoder" in capsys.readouterr().err
    assert run("plan", "train", "llama-3.1-8b") == 2
    assert "--on" in capsys.readouterr().err


COLUMNS = (
    "# GPUs,global batch,micro batch,hidden size,attention heads,# layers,sequence length,tensor parallelism,"
    "data parallelism,pipeline parallelism,iteration time (ms)"
)
VTRAIN = COLUMNS + "\n8,4,1,1024,16,16,1024,1,2,4,77.2\n8,64,4,4096,32,16,1024,8,1,1,2000\n"


def test_recorded_runs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, data = tmp_path / "runs.csv", tmp_path / "out.json"
    path.write_text(VTRAIN)
    assert run("validate", "training", str(path), "--json", str(data)) == 0
    assert "2 rows" in capsys.readouterr().out
    d = json.loads(data.read_text())
    assert sum(r["answered"] for r in d["errors"]) == 2
    path.write_text("a,b\n1,2\n")
    assert run("validate", "training", str(path)) == 2
    assert "gpu" in capsys.readouterr().err


def test_every_cause_of_time_has_its_words() -> None:
    from tierwise.report.training_report import CAUSES
    from tierwise.training.work import CLASSES

    assert set(CLASSES) <= set(CAUSES)


def test_a_mixture_of_experts_is_explained_in_training(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["explain", "mixtral-8x7b", "--on", "16xh100-sxm", "--train", "--tp", "2", "--pp", "2", "--ep", "4"])
    assert stopped.value.code == 0
    assert "experts" in capsys.readouterr().out


@pytest.mark.parametrize(("zero", "most", "advised"), [
    (0, "optimizer states", "--zero 1"), (1, "gradients", "--zero 2"), (2, "parameters", "--zero 3"),
])  # fmt: skip
def test_what_a_layout_does_already_is_no_advice(
    zero: int, most: str, advised: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Parameters take 2 bytes each, gradients 4, states 12; stages of ZeRO divide one after another."""
    flags = ["--recompute", "full", "--zero", str(zero)]
    assert run("explain", "llama-3.1-70b", "--on", "8xh100-sxm", "--train", *flags) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert f"Most of it is {most}" in said and advised in said
    assert not any(f"(--zero {done})" in said for done in range(1, zero + 1))


def test_the_largest_micro_batch_is_one_that_fits_and_the_next_does_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layout = ("explain", "llama-3.2-1b", "--on", "2xl4", "--train", "--zero", "3", "--global-batch", "32",
              "--seq", "1024")  # fmt: skip
    answers = {}
    for size in ("max", *(str(2**i) for i in range(5))):
        assert run(*layout, "--micro-batch", size, "--json", str(tmp_path / size)) == 0
        answers[size] = json.loads((tmp_path / size).read_text())
    memory = {size: a["memory"]["peak"] for size, a in answers.items()}
    room = answers["max"]["memory"]["capacity"]
    fitting = max(int(size) for size, peak in memory.items() if size != "max" and peak <= room)
    assert 1 < fitting < 16  # else this shows nothing
    assert memory["max"] == memory[str(fitting)] <= room < memory[str(2 * fitting)]
    capsys.readouterr()


@pytest.mark.parametrize(
    ("flag", "value", "instead"),
    [("--batch", "max", "--micro-batch"), ("--batch", "4", "--micro-batch"), ("--prompt", "5", "--seq"),
     ("--technique", "quantize_kv:bits=4,group=64", "nothing with --train"), ("--weights", "fp8", "--precision"),
     ("--engine", "vllm", "--trainer")],
)  # fmt: skip
def test_flags_of_requests_are_refused_where_nobody_asks(
    capsys: pytest.CaptureFixture[str], flag: str, value: str, instead: str
) -> None:
    assert run(*ONE, flag, value) == 2
    said = capsys.readouterr()
    assert said.out == "" and said.err.count("\n") == 1 and flag in said.err and instead in said.err


def test_heads_are_exchanged_where_asked_and_divide(capsys: pytest.CaptureFixture[str]) -> None:
    flags = ("explain", "llama-3.1-8b", "--on", "8xh100-sxm", "--train", "--seq", "65536", "--global-batch", "4")
    assert run(*flags, "--cp", "4", "--ulysses") == 0
    assert "heads exchanged for tokens" in capsys.readouterr().out
    assert run(*flags, "--ulysses") == 2
    assert "nothing without --cp" in capsys.readouterr().err
    assert run(*flags[:3], "96xh100-sxm", *flags[4:], "--cp", "48", "--ulysses") == 2
    assert "divisor of the 32 attention heads" in capsys.readouterr().err


def test_the_cheapest_number_of_devices_costs_no_more_than_any_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of one H100's memory an 8B model needs more, so one device is no choice; and what is saved is what was chosen."""
    line = ["plan", "train", "llama-3.1-8b", "--on", "8xh100-sxm", "--global-batch", "64", "--seq", "2048",
            "--objective", "cost", "--json", "-", "--save", str(tmp_path / "s.yaml")]  # fmt: skip
    assert run(*line) == 0
    found = json.loads(capsys.readouterr().out)
    counts = {row["devices"]: row["device_seconds"] for row in found["counts"]}
    assert all(row["usd"] is None or row["usd"] > 0.0 for row in found["counts"])
    chosen = found["machine"]["devices"]
    assert set(counts) <= {1, 2, 4, 8} and 8 in counts
    assert counts[chosen] == min(counts.values())
    assert found["candidates"][0]["seconds"] * chosen == pytest.approx(counts[chosen])
    assert f"machine: {chosen:.0f}xh100-sxm" in (tmp_path / "s.yaml").read_text()
    assert run(*line[:9], "--objective", "costs") == 2
    assert "did you mean 'cost'" in capsys.readouterr().err
