"""``tierwise simulate`` as a user runs it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

from tierwise.cli import main

TRAFFIC = ["--rate", "5/s", "--requests", "30", "--prompt", "200", "--output", "20"]


def simulate(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["simulate", *args])
    return int(caught.value.code or 0)


def test_it_says_whether_the_targets_are_met_and_writes_what_is_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {k: str(tmp_path / v) for k, v in (("--html", "o.html"), ("--trace-out", "t.json"), ("--json", "o.json"))}
    assert (
        simulate("llama-2-7b", "--on", "a100-80gb", *TRAFFIC, "--ttft", "1s", *[x for p in files.items() for x in p])
        == 0
    )
    assert "llama-2-7b on 1 × NVIDIA A100" in capsys.readouterr().out
    assert all(Path(f).stat().st_size > 1000 for f in files.values())
    assert json.loads(Path(files["--json"]).read_text())["metrics"]["done"] == 30


def test_policies_given_twice_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    two = ["--router", "round_robin", "--router", "random"]
    assert simulate("llama-2-7b", "--on", "2xa100-80gb", "--tp", "1", *TRAFFIC, *two) == 0
    out = capsys.readouterr().out
    assert "round_robin" in out and "random" in out


@pytest.mark.parametrize(
    "args",
    [
        ("--prefill-replicas", "1", "--decode-replicas", "2", "--tp", "1"),
        ("--prefill-replicas", "2", "--decode-replicas", "1", "--tp", "2", "--prefill-plan", "tp=1"),
        ("--tp", "2", "--pp", "2"),
        ("--tp", "2", "--fail", "1s:0:2s", "--router", "least_loaded"),
        ("--tp", "4", "--draft", "3", "--accept", "0.8", "--no-prefix-cache"),
        ("--tp", "4", "--prefill-share", "0.4"),
        ("--tp", "1", "--autoscaler", "queue_length", "--startup", "2s"),
        ("--tp", "1", "--autoscaler", "queue_length", "--startup", "peer"),
        ("--tp", "4", "--turns", "3", "--shared", "64", "--host-cache", "8GB", "--disk-cache", "8GB", "--pooled"),
    ],
)
def test_every_way_to_deploy_serves_the_traffic(args: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("llama-2-7b", "--on", "4xa100-80gb", *TRAFFIC, "--json", "-", *args) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["done"] == 30 and found["metrics"]["unfinished"] == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        ((), "what comes in"),
        (("--rate", "-1/s"), "rate"),
        (("--rate", "1/s", "--concurrency", "3"), "give one of them"),
        (("--trace", "missing.csv"), "missing.csv"),
        (("--rate", "1/s", "--scheduler", "chonked"), "chunked"),
        (("--rate", "1/s", "--max-seqs", "0"), "--max-seqs"),
        (("--rate", "1/s", "--replicas", "4"), "4 engines of 1 devices need 4"),
        (("--rate", "1/s", "--memory", "1.5"), "--memory"),
        (("--rate", "1/s", "--budget", "1000000000"), "1 to 1,048,576"),
        (("--rate", "1/s", "--max-seqs", "100000000"), "1 to 1,048,576"),
        (("--rate", "1/s", "--engine", "vlmm"), "did you mean 'vllm'"),
        (("--rate", "1/s", "--seed", "-1"), "--seed"),
        (("--rate", "1/s", "--shared", "10000000000000"), "system"),
        (("--rate", "1/s", "--max-len", "-5"), "--max-len"),
        (("--rate", "1/s", "--draft", "-1"), "--draft"),
        (("--rate", "1/s", "--adapters", "-1"), "--adapters"),
        (("--rate", "1/s", "--prompt", "0"), "prompt: found 0"),
        (("--rate", "1/s", "--replicas", "0"), "--replicas"),
        (("--rate", "1/s", "--prefill-replicas", "0"), "--prefill-replicas"),
        (("--rate", "1/s", "--prefill-plan", "tp=2"), "--prefill-replicas"),
        (("--rate", "1/s", "--prefill-replicas", "1", "--prefill-plan", "tp=x"), "tp=2,pp=1"),
        (("--rate", "1/s", "--table", "x.foo"), "allowed: .parquet or .csv"),
        (("--rate", "1/s", "--fail", "x"), "SECONDS:REPLICA:SECONDS-DOWN"),
        (("--rate", "1/s", "--html", "/nowhere/at/all.html"), "does not exist"),
    ],
)
def test_what_cannot_be_is_one_clear_line(args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate("llama-2-7b", "--on", "a100-80gb", *args) == 2
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err and len(err.strip().splitlines()) <= 2


def test_without_numba_it_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from tierwise.cli import main\n"
        "main(['simulate', 'llama-2-7b', '--on', 'a100-80gb', '--rate', '1/s', '--requests', '2'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "tierwise[serve]" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(("model", "said"), [("bert-base", "generates text"), ("whisper-large-v3", "decoder alone")])
def test_models_that_no_engine_serves_token_by_token(model: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert simulate(model, "--on", "a100-80gb", "--rate", "1/s") == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("llama-3.1-70b", "--on", "h100-sxm"), "its weights take 141 GB of a device of 85.5 GB"),
        (("llama-3.1-8b", "--on", "h100-sxm", "--budget", "1000000"), "steps of 1,000,000 tokens"),
    ],
)
def test_what_no_memory_holds_is_an_answer(
    args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert simulate(*args, "--rate", "1/s", "--requests", "5") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "none of 5 requests finished" in out and said in out


def test_the_answer_says_how_many_replicas_an_autoscaler_had_up(capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--rate", "40/s", "--prompt", "300", "--output", "40", "--requests", "200", "--tp", "1")
    for more, said, other in (
        (("--autoscaler", "queue_length"), "on up to 8 replicas", ""),
        ((), "on 8 replicas", "up on average"),
    ):
        assert simulate("llama-3.1-8b", "--on", "8xh100-sxm", *args, *more) == 0
        told = " ".join(capsys.readouterr().out.split())
        assert said in told and (not other or other not in told) and (other or "up on average" in told)


def test_adapters_are_said_with_their_rank(capsys: pytest.CaptureFixture[str]) -> None:
    args = ("--rate", "4/s", "--prompt", "300", "--output", "20", "--requests", "50", "--adapters", "8")
    assert simulate("llama-3.1-8b", "--on", "h100-sxm", *args, "--lora-rank", "32") == 0
    assert "8 adapters of rank 32" in " ".join(capsys.readouterr().out.split())
