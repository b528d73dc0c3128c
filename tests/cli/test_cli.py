"""The commands as a user runs them: what they print, what they write, how they refuse."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tierwise import papers
from tierwise.cli import main
from tierwise.papers.suite import run_all


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


EXPLAIN = ("explain", "llama-3.1-8b", "--on", "h100-sxm", "--batch", "32", "--prompt", "2048", "--output", "256")


def test_explain_says_how_long_why_and_what_would_help(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *EXPLAIN)
    assert code == 0 and not err
    words = ("prefill", "decode", "weights", "KV cache", "What would help", "Batch 64", "Largest batch", "figures")
    for word in words:
        assert word in out, word


def test_explain_writes_what_it_is_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    html, trace, data = tmp_path / "r.html", tmp_path / "t.json", tmp_path / "d.json"
    code, out, _ = run(capsys, *EXPLAIN, "--html", str(html), "--trace", str(trace), "--json", str(data))
    assert code == 0 and str(html) in out
    assert html.read_text().lstrip().lower().startswith("<!doctype html")
    assert json.loads(trace.read_text())["traceEvents"]
    assert json.loads(data.read_text())["schema"] == "tierwise.result/3"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["d.json", "r.html", "t.json"]


def test_explain_reads_its_own_code_only_for_what_is_saved_and_makes_its_data_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tierwise.report import explain_data
    from tierwise.scenario import hash as hashed

    made = explain_data.phase_dict
    read: list[str] = []
    phases: list[str] = []
    monkeypatch.setattr(hashed, "_hashes", lambda: read.append("code") or {"code": "0" * 64, "tables": "0" * 64})
    monkeypatch.setattr(explain_data, "phase_dict", lambda p, r: phases.append(p.name) or made(p, r))
    assert run(capsys, *EXPLAIN)[0] == 0
    assert not read and phases == ["prefill", "decode"]
    data, html, rows = tmp_path / "d.json", tmp_path / "r.html", tmp_path / "ops.csv"
    asked = ("--json", str(data), "--html", str(html), "--table", str(rows), "--trace", str(tmp_path / "t.json"))
    assert run(capsys, *EXPLAIN, *asked)[0] == 0
    assert read and phases == ["prefill", "decode"] * 2
    assert json.loads(data.read_text())["made_by"]["code"] == "0" * 64


def test_an_eager_framework_is_bound_by_its_launches(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", "llama-3.2-1b", "--on", "h100-sxm", "--framework", "transformers")
    assert code == 0
    assert "the host starting kernels" in " ".join(out.split())


def test_json_to_standard_output_is_only_json(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", "deepseek-v3", "--on", "16xh800", "--ep", "16", "--json", "-")
    found = json.loads(out)
    assert code == 0 and found["scenario"]["plan"]["ep"] == 16


def test_a_model_that_does_not_fit_is_an_answer(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = run(capsys, "explain", "llama-3.1-70b", "--on", "h100-sxm")
    assert code == 0
    assert "does not fit" in out and "141 GB of weights" in " ".join(out.split())
    assert "Weights in fp8 fits" in out and "2 devices" in out and "b200" in out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("explain", "lama-3.1-8b", "--on", "h100-sxm"), "did you mean 'llama-3.1-8b'"),
        (("explain", "llama-3.1-8b", "--on", "h100-sxn"), "h100-sxm"),
        (("explain", "llama-3.1-8b"), "--on"),
        (("explain", "llama-3.1-8b", "--on", "8xh100-sxm", "--tp", "3"), "divisor of the 32 attention heads"),
        (("explain", "llama-3.1-8b", "--on", "h100-sxm", "--tp", "0"), "at least 1"),
        (("explain", "llama-3.1-8b", "--on", "h100-sxm", "--batch", "-4"), "--batch"),
        (("explain", "llama-3.1-8b", "--on", "h100-sxm", "--weights", "fp9"), "number format"),
        (("explain", "llama-3.1-8b", "--on", "h100-sxm", "--html", "/nowhere/r.html"), "does not exist"),
        (("explian", "x"), "did you mean 'explain'"),
        (("compare", "llama-2-7b --on a100-80gb"), "at least two"),
        (("compare", "llama-2-7b --on a100-80gb", "… --bogus 3"), "bogus"),
        (("papers", "run"), "name at least one"),
        (("explain", "llama-3.1-8b", "--on", "h100-sxm", "--framework", "torhc"), "unknown framework 'torhc'"),
        (("papers", "run", "no-such-paper"), "unknown paper"),
        (("models", "no-such-model"), "unknown model"),
        (("machines", "no-such-machine"), "unknown machine"),
    ],
)
def test_bad_input_is_one_line_and_exit_2(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    code, out, err = run(capsys, *args)
    assert code == 2 and not out
    assert message in err and "Traceback" not in err
    assert len(err.strip().splitlines()) <= 2


def test_nothing_is_written_when_the_input_is_bad(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    target = tmp_path / "r.html"
    code, _, _ = run(capsys, "explain", "llama-3.1-8b", "--on", "nothing", "--html", str(target))
    assert code == 2 and not list(tmp_path.iterdir())


def test_compare_continues_the_first_scenario(capsys: pytest.CaptureFixture[str]) -> None:
    base = "llama-2-7b --on a100-80gb --batch max --prompt 512 --output 338"
    code, out, _ = run(capsys, "compare", base, "… --kv int2-g32", "--json", "-")
    found = json.loads(out)
    assert code == 0
    ratios = found["changes"][0]["ratios"]
    assert ratios["memory_sequence"]["ratio"] == pytest.approx(3 / 16)
    assert ratios["batch"]["ratio"] > 3
    code, out, _ = run(capsys, "compare", base, "... --kv int2-g32")
    assert code == 0 and "baseline" in out and "×" in out


@pytest.mark.parametrize("command", ["models", "machines", "papers"])
def test_lists_are_long_and_come_as_json(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    # Papers are run to be listed: some of them here, all of them in the tests of the suite.
    some = papers.slugs()[:25]
    ran = cache(lambda: list(run_all(some, 1)))
    monkeypatch.setattr(papers, "slugs", lambda: some)
    monkeypatch.setattr("tierwise.papers.suite.run_all", lambda wanted, jobs: ran())
    code, out, _ = run(capsys, command)
    assert code == 0 and len(out.splitlines()) > 20
    code, out, _ = run(capsys, command, "--json", "-")
    assert code == 0 and json.loads(out)


def test_one_of_each_is_taken_apart(capsys: pytest.CaptureFixture[str]) -> None:
    _, out, _ = run(capsys, "models", "deepseek-v3")
    assert "671 B" in out and "moe" in out
    _, out, _ = run(capsys, "machines", "8xh100-sxm")
    assert "nvlink" in out and "source" in out


def test_paths_work_where_names_do(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    config = {"model_type": "llama", "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
              "intermediate_size": 512, "vocab_size": 1000}  # fmt: skip
    path = tmp_path / "config.json"
    path.write_text(json.dumps(config))
    code, out, _ = run(capsys, "explain", str(path), "--on", "raspberry-pi-5", "--json", "-")
    assert code == 0 and json.loads(out)["summary"]["fits"] is True


def test_a_closed_pipe_is_not_an_error() -> None:
    code = "from tierwise.cli import main; main(['machines'])"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
        assert child.stdout is not None and child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert b"Traceback" not in child.stderr.read()
