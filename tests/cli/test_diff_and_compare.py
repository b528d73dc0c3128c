"""``diff`` and ``compare``: names, pages, tables, and what they refuse."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tierwise.cli import main
from tierwise.report.comparison import named

A = "llama-3.1-8b --on h100-sxm --batch 8 --prompt 512 --output 64"


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


def test_names_of_scenarios_say_what_differs_and_never_collide() -> None:
    texts = [A, "… --kv fp8", "… --kv fp8", "llama-3.1-8b --on h200-sxm --batch 8", "…", "… --technique " + "x" * 40]
    found = named(texts)
    assert found[:2] == ["baseline", "kv fp8"] and found[3] == "on h200-sxm"
    assert len(set(found)) == len(found) and all(len(name) <= 24 for name in found)


def test_compare_names_its_columns_and_writes_what_is_asked(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    html, table, data = (tmp_path / name for name in ("c.html", "c.csv", "c.json"))
    code, out, _ = run(capsys, "compare", A, "… --kv fp8", "… --weights fp8", "… --on a100-80gb", "--label", "today",
                       "--label", "small cache", "--label", "small weights", "--label", "old",
                       "--html", str(html), "--table", str(table), "--json", str(data))  # fmt: skip
    assert code == 0
    for name in ("today", "small cache", "small weights", "old"):
        assert name in out and name in html.read_text()
    with open(table, encoding="utf-8", newline="") as f:
        rows = list(csv.DictReader(f))
    d = json.loads(data.read_text())
    assert [r["label"] for r in rows] == [d["label"], *(c["label"] for c in d["changes"])]
    for row, change in zip(rows[1:], d["changes"], strict=True):
        assert float(row["throughput_ratio"]) == change["ratios"]["throughput"]["ratio"]
        assert float(row["throughput"]) == pytest.approx(float(row["throughput_ratio"]) * float(rows[0]["throughput"]))
    assert d["made_by"]["version"]


@pytest.mark.parametrize("width", [80, 100])
def test_no_column_is_cut_without_a_mark(
    width: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    many = ["… --kv fp8", "… --weights fp8", "… --on a100-80gb --weights int4-g128", "… --batch 64"]
    _, out, _ = run(capsys, "compare", A, *many)
    lines = out.splitlines()
    head = next(line for line in lines if line.strip().startswith("scenario"))
    gone = next(line for line in lines if "no room at" in line)
    for name in ("tok/s", "TTFT", "TPOT", "time", "batch", "memory", "weights", "cache/request", "energy", "$/M"):
        assert (name in head.split()) != (name in gone), name


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (("compare", A, "… --kv fp8", "--label", "one"), "one for each of the 2"),
        (("compare", A, "… --kv fp8", "--label", "x", "--label", "x"), "names that all differ"),
        (("compare", A, "… --kv fp8", "--table", "x.txt"), ".parquet or .csv"),
        (("diff", A, "nothing.json"), "nothing.json"),
        (("diff", A), "'B'"),
        (("explain", "llama-3.1-8b", "--on", "h100-sxm", "--table", "-"), ".parquet or .csv"),
        (("explain", "llama-3.1-8b", "--clock", "0.9"), "--on"),
        (("explain", "llama-3.1-8b", "--on", "h100-sxm", "--clock", "1.5"), "--clock"),
        (("plan", "train", "llama-3.1-8b", "--on", "8xh100-sxm", "--power-cap", "400W"), "--clock"),
        (("explain", "llama-3.1-8b", "--on", "8xh100-sxm", "--train", "--sensitivity"), "--sensitivity"),
    ],
)
def test_refusals(args: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, _, err = run(capsys, *args)
    assert code == 2 and told in err and "Traceback" not in err
    assert not Path("-").exists()


def test_diff_of_a_saved_answer_and_a_saved_scenario(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    answer, scenario = tmp_path / "a.json", tmp_path / "b.yaml"
    assert run(capsys, "explain", *A.split(), "--ops", "0", "--json", str(answer))[0] == 0
    assert run(capsys, "explain", *A.split(), "--ops", "0", "--kv", "fp8", "--save", str(scenario))[0] == 0
    html, table = tmp_path / "d.html", tmp_path / "d.csv"
    code, out, _ = run(capsys, "diff", str(answer), str(scenario), "--html", str(html), "--table", str(table))
    assert code == 0 and "What moved the time" in out and "plan.kv.key" in out and "KV cache" in out
    assert "<!doctype" in html.read_text()[:20].lower() and table.read_text().startswith("what,")
    code, out, _ = run(capsys, "diff", str(answer), A, "--json", "-")
    found = json.loads(out)
    assert found["schema"] == "tierwise.difference/1" and not found["inputs"] and not found["time"]


def test_sensitivity_is_in_the_page_the_json_and_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    html, data = tmp_path / "e.html", tmp_path / "e.json"
    code, out, _ = run(capsys, "explain", *A.split(), "--sensitivity", "--html", str(html), "--json", str(data))
    assert code == 0 and "What to change in the machine" in out and "hbm bandwidth" in out
    d = json.loads(data.read_text())["sensitivity"]
    assert d["machine"][0]["name"] == "hbm bandwidth" and 0 < d["machine"][0]["saved"] < 0.1
    assert 'id="sensitivity"' in html.read_text()


TABLES = {
    "machines": ("machines",),
    "machine": ("machines", "h100-sxm"),
    "models": ("models",),
    "model": ("models", "llama-3.1-8b"),
    "ops": ("explain", *A.split()),
    "candidates": ("plan", "serve", "llama-3.1-8b", "--on", "2xh100-sxm", "--rate", "2/s", "--no-confirm"),
    "layouts": ("plan", "train", "llama-3.1-8b", "--on", "8xh100-sxm"),
    "fit": ("fit", "llama-3.1-8b", "--on", "rtx-4090", "--quant", "Q4_K_M"),
    "papers": ("papers", "run", "kivi"),
    "rates": ("goodput", "llama-3.1-8b", "--on", "h100-sxm", "--requests", "30", "--rate", "2/s", "--rate", "4/s",
              "--ttft", "1s"),
}


@pytest.mark.parametrize("ending", ["csv", "parquet"])
@pytest.mark.parametrize("name", TABLES)
def test_every_table_can_be_a_file(
    name: str, ending: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    if ending == "parquet":
        pq = pytest.importorskip("pyarrow.parquet")
    target = tmp_path / f"t.{ending}"
    code, _, err = run(capsys, *TABLES[name], "--table", str(target))
    assert code == 0, err
    if ending == "parquet":
        rows = pq.read_table(target).to_pylist()
    else:
        with open(target, encoding="utf-8", newline="") as f:
            rows = list(csv.DictReader(f))
    least = {"machines": 100, "models": 100, "fit": 1, "model": 1, "rates": 2}.get(name, 3)
    assert len(rows) >= least and all(len(row) == len(rows[0]) for row in rows)
    assert list(tmp_path.iterdir()) == [target]


STEP = "llama-3.1-8b --on 8xh100-sxm --train --global-batch 64 --seq 2048"


def test_two_training_steps_and_why_one_takes_longer(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """What causes moved adds up to what the step did, whether an answer is asked for anew, read, or continued."""
    saved, answer = tmp_path / "s.yaml", tmp_path / "s.json"
    assert run(capsys, "explain", *STEP.split(), "--save", str(saved), "--json", str(answer))[0] == 0
    for before, base in ((str(answer), f"{saved} --recompute full"), (str(saved), "… --recompute full"),
                         (STEP, "… --recompute full")):  # fmt: skip
        code, out, _ = run(capsys, "diff", before, base, "--json", "-")
        found = json.loads(out)
        assert code == 0 and found["kind"] == "tierwise.training"
        assert [x["field"] for x in found["inputs"]] == ["layout.recompute"]
        numbers = {x["field"]: x for x in found["numbers"]}
        step = numbers["time_s"]
        moved = sum(x["moved"] for x in found["time"])
        assert moved == pytest.approx(step["after"] - step["before"], rel=1e-6) and moved > 0
        assert step["interval"][0] < step["ratio"] < step["interval"][1]
        peak = numbers["peak_bytes"]
        assert sum(x["moved"] for x in found["memory"]) == pytest.approx(peak["after"] - peak["before"])
        assert numbers["tokens_per_s"]["ratio"] == pytest.approx(1.0 / step["ratio"])
    code, out, _ = run(capsys, "diff", str(saved), str(answer))
    assert code == 0 and "Nothing changed" in out
    assert "A step takes" in run(capsys, "diff", str(answer), f"{saved} --recompute full")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [(("diff", f"{STEP} --batch 3", "…"), "--micro-batch"), (("diff", "llama-3.1-8b --on l4 --zero 3", "…"), "--train"),
     (("diff", A, STEP), "tierwise.training"), (("diff", f"{STEP} --stage-layers 16,16 --pp 2", "…"), "alike")],
)  # fmt: skip
def test_what_is_no_training_step_is_refused(
    words: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code, _, err = run(capsys, *words)
    assert code == 2 and said in err and len(err.strip().splitlines()) == 1


def test_a_saved_training_step_is_compared_by_diff(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    saved = tmp_path / "s.yaml"
    assert run(capsys, "explain", *STEP.split(), "--save", str(saved))[0] == 0
    code, _, err = run(capsys, "compare", str(saved), "…")
    assert code == 2 and "diff" in err
