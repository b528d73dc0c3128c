"""``tierwise fit``: what fits where agrees with what ``explain`` says of each."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tierwise import engines
from tierwise.cli import main
from tierwise.core.numerics import fmt
from tierwise.machines import system
from tierwise.report.fit_report import ordinary


def run(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(list(args))
    return int(caught.value.code or 0)


def test_each_row_is_what_explain_says(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, one = tmp_path / "fit.json", tmp_path / "one.json"
    asked = ("--on", "rtx-3060", "--on", "rtx-4090", "--quant", "bf16", "--quant", "Q4_K_M", "--context", "4096")
    assert run("fit", "llama-3.1-8b", *asked, "--json", str(table)) == 0
    said = capsys.readouterr().out
    assert "3 of 4 fit" in said and "does not fit" in said
    rows = json.loads(table.read_text())["rows"]
    assert [r["fits"] for r in rows] == [False, True, True, True]
    assert (
        run(
            "explain",
            "llama-3.1-8b",
            "--on",
            "rtx-4090",
            "--weights",
            "Q4_K_M",
            "--engine",
            "llama.cpp",
            "--prompt",
            "3584",
            "--output",
            "512",
            "--json",
            str(one),
        )
        == 0
    )
    found = json.loads(one.read_text())
    assert rows[3]["tokens_per_s"] == pytest.approx(1.0 / found["summary"]["tpot_s"])
    assert rows[3]["needs"] == pytest.approx(found["memory"]["peak"])
    # Fewer bits: less memory, more room, faster.
    assert rows[3]["needs"] < rows[2]["needs"] and rows[3]["longest"] >= rows[2]["longest"]
    assert rows[3]["tokens_per_s"] > rows[2]["tokens_per_s"]


def test_several_are_given_by_commas_or_again(capsys: pytest.CaptureFixture[str]) -> None:
    asked = {"--context": ("8k", "32k"), "--quant": ("Q4_K_M", "AWQ"), "--on": ("rtx4090", "m4max")}
    again = [word for flag, values in asked.items() for value in values for word in (flag, value)]
    commas = [word for flag, values in asked.items() for word in (flag, ", ".join(values))]
    found = []
    for words in (again, commas):
        assert run("fit", "llama-3.1-8b", *words, "--json", "-") == 0
        found.append(json.loads(capsys.readouterr().out)["rows"])
    assert len(found[0]) == 8 and found[0] == found[1]


def test_machines_by_how_much_memory_they_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "llama-3.2-1b", "--vram", "12GB", "--quant", "Q8_0") == 0
    said = capsys.readouterr().out
    assert "rtx-3060" in said and "rtx-4090" not in said


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("--vram", "13TB"), "12GB"),
        (("--context", "0"), "at least 2"),
        (("--on", "rtx-3060", "--vram", "8GB"), "not both"),
        (("--on", "rtx-306"), "rtx-3060"),
    ],
)
def test_what_cannot_be_is_one_line(args: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "llama-3.1-8b", *args) == 2
    said = capsys.readouterr().err
    assert word in said and len(said.strip().splitlines()) <= 2


def test_a_format_brings_the_engine_whose_own_it_is() -> None:
    """Formats of GGUF files are llama.cpp's, where the machine's usual engine does not read them already."""
    own = [engines.of_format(f, "ada") for f in ("Q4_K_M", "iq2_xxs", "bf16", "fp8")]
    assert own == ["llama.cpp", "llama.cpp", "", ""]
    assert engines.of_format("Q8_0", "apple-gpu-9") == ""  # llama.cpp is what people run there
    assert engines.of_format("int4-g64", "ada") == ""


def test_ordinary_machines_are_of_the_catalog() -> None:
    found = ordinary()
    assert all(system(name).device.memory.capacity > 1e10 for name in found["machines"])
    assert [weights for weights in found["formats"] if fmt(weights.lower()).bits]


def test_what_does_not_fit_says_what_would(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, html = tmp_path / "fit.json", tmp_path / "fit.html"
    asked = ("--on", "rtx-4070", "--on", "rtx-2060", "--quant", "bf16", "--quant", "Q4_K_M", "--context", "32k")
    assert run("fit", "qwen3-14b", *asked, "--context", "8k", "--json", str(out), "--html", str(html)) == 0
    said = capsys.readouterr().out
    rows = {(r["machine"], r["format"], r["context"]): r for r in json.loads(out.read_text())["rows"]}
    assert rows["rtx-4070", "bf16", 8e3]["change"] == "Q4_K_M"  # which fits there
    shorter = rows["rtx-4070", "Q4_K_M", 32e3]
    assert not shorter["fits"] and shorter["change"] == f"{shorter['longest']:,.0f} tokens"
    # Tokens of a whole conversation, so the same however long the one asked about was.
    assert shorter["longest"] == pytest.approx(rows["rtx-4070", "Q4_K_M", 8e3]["longest"], rel=0.01)
    assert rows["rtx-2060", "bf16", 8e3]["change"] == "more memory" and "tierwise plan fit" in said
    assert "what fits where" in html.read_text()


def test_memory_is_counted_without_what_the_system_keeps(capsys: pytest.CaptureFixture[str]) -> None:
    """Of unified memory a share is the system's: what a model takes of it is not the model's."""
    assert run("fit", "llama-3.1-8b", "--on", "m2-ultra-192gb", "--quant", "Q4_K_M", "--json", "-") == 0
    row = json.loads(capsys.readouterr().out)["rows"][0]
    assert row["kept"] > 40e9 and row["needs"] - row["kept"] < 8e9
    assert run("fit", "llama-3.1-8b", "--on", "m2-ultra-192gb", "--quant", "Q4_K_M") == 0
    assert " of 155 GB" in capsys.readouterr().out


def test_a_size_without_its_unit_is_asked_about(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "llama-3.1-8b", "--vram", "12") == 2
    assert "12GB?" in capsys.readouterr().err


def test_a_rented_machine_costs_its_whole_rent(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("fit", "llama-3.2-1b", "--on", "aws:g6.12xlarge", "--quant", "fp8", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["rows"][0]["usd_per_hour"] == pytest.approx(4.6016)


def test_a_model_that_writes_nothing_is_told_in_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "fit.json"
    assert run("fit", "bert-base", "--on", "rtx-4090", "--context", "512", "--quant", "bf16", "--json", str(out)) == 0
    row = json.loads(out.read_text())["rows"][0]
    assert run("explain", "bert-base", "--on", "rtx-4090", "--prompt", "512", "--json", str(out)) == 0
    assert row["inputs_per_s"] == pytest.approx(1.0 / json.loads(out.read_text())["summary"]["time_s"])
    text = capsys.readouterr().out
    assert row["tokens_per_s"] is None and "inputs/s" in text and "nan" not in text
