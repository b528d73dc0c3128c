"""``tierwise plan fit`` from the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tierwise.cli import main

CARD = "rtx-3050 + 64GB ddr5 + nvme-gen4"
ONE = ("--weights", "q4_k_m", "--kv", "fp16", "--context", "4096")


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(args))
    return int(caught.value.code or 0)


def test_the_answer_its_files_and_its_scenario_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, data, saved, page = (tmp_path / n for n in ("run", "fit.json", "fit.yaml", "fit.html"))
    asked = (*ONE, "--out", str(out), "--json", str(data), "--save", str(saved), "--html", str(page))
    assert run("plan", "fit", "qwen2.5-14b", "--on", CARD, *asked) == 0
    said = capsys.readouterr().out
    found = json.loads(data.read_text())
    best = found["answer"]
    assert f"feed-forward parts of {best['feed_forward_on_host']} of 48 layers on the host" in " ".join(said.split())
    assert "llama-server" in said and "What would help" in said
    assert (out / "llama.cpp.sh").stat().st_mode & 0o111
    assert json.loads((out / "prediction.json").read_text())["tokens_per_s"] == pytest.approx(best["tokens_per_s"])
    assert best["interval"][0] < 1.0 < best["interval"][1]
    # One road: explaining the plan gives the same number.
    assert run("explain", str(saved), "--json", str(tmp_path / "explained.json")) == 0
    explained = json.loads((tmp_path / "explained.json").read_text())
    assert 1.0 / explained["summary"]["tpot_s"] == pytest.approx(best["tokens_per_s"])
    assert explained["memory"]["peak"] == pytest.approx(best["peak"])
    assert "tiers-chart" in page.read_text()
    for tier in best["tiers"]:
        assert tier["capacity"] is None or sum(tier["parts"].values()) <= tier["capacity"]


def test_what_does_not_fit_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "fit", "mixtral-8x22b", "--on", "m3-max-64gb", "--weights", "q4_k_m", "--weights", "iq2_xs") == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "does not fit" in said and "--min-bits 2.3" in said and "nvme-gen4" in said


def test_throughput_of_a_batch(capsys: pytest.CaptureFixture[str]) -> None:
    on = "t4 + xeon-6248 208GB ddr4-2666"
    asked = ("--batch", "max", "--weights", "fp16", "--context", "544", "--output", "32")
    assert run("plan", "fit", "opt-1.3b", "--on", on, *asked) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "sequences at once" in said
    # Whoever asks for throughput and names no batch asks the same.
    assert run("plan", "fit", "opt-1.3b", "--on", on, "--goal", "throughput", *asked[2:]) == 0
    assert " ".join(capsys.readouterr().out.split()) == said


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (("--on", "rtx4090 + 64GB ddrx"), "ddrx"),
        (("--on", CARD, "--context", "1"), "--context"),
        (("--on", CARD, "--min-bits", "40"), "--min-bits"),
        (("--on", CARD, "--goal", "speed"), "latency, throughput"),
        (("--on", CARD, "--output", "9000"), "--output"),
        (("--on", CARD, "--weights", "q9_z"), "q9_z"),
        (("--on", CARD, "--engine", "vllm"), "llama.cpp"),
        (("--on", CARD, "--batch", "max", "--goal", "latency"), "throughput"),
        ((), "--on"),
    ],
)
def test_bad_input_names_the_flag(asked: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("plan", "fit", "llama-3.1-8b", *asked) == 2
    assert said in capsys.readouterr().err


def test_a_model_too_large_for_a_board_is_said_to_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("explain", "qwen2.5-14b", "--on", "raspberry-pi-5") in (0, 1)
    assert "does not fit" in " ".join(capsys.readouterr().out.split())


def test_its_divisions_are_a_table_and_its_command_stays_whole(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    table, page = tmp_path / "fit.csv", tmp_path / "fit.html"
    assert run("plan", "fit", "qwen2.5-14b", "--on", CARD, *ONE, "--table", str(table), "--html", str(page)) == 0
    said = capsys.readouterr().out
    head, *rows = table.read_text().splitlines()
    assert {"weights", "layers_on_host", "tokens_per_s"} <= set(head.split(",")) and rows
    # To be copied: one line, however narrow the terminal; in the page, in a box of its own.
    command = next(line for line in said.splitlines() if "llama-server" in line)
    assert len(command) > 80 and "--no-mmap" in command
    assert "<pre" in page.read_text() and "llama-server" in page.read_text()
