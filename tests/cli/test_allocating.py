"""``tierwise allocate`` of a graph: the answer, its files, and what is refused."""

from __future__ import annotations

import csv
import json
import runpy
from pathlib import Path

import pytest

from tierwise.cli import main

pytest.importorskip("onnx")
pytest.importorskip("numba")
EXAMPLE = Path(__file__).resolve().parents[2] / "examples/make_small_onnx.py"


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    runpy.run_path(str(EXAMPLE))["write"](folder)
    return folder


def asked(*args: str) -> int:
    with pytest.raises(SystemExit) as left:
        main(["allocate", *args])
    return int(left.value.code or 0)


def test_a_graph_is_ordered_in_a_machines_scratchpad(graphs: Path, tmp_path: Path) -> None:
    out, page, data = tmp_path / "o.csv", tmp_path / "p.html", tmp_path / "d.json"
    files = ("-o", str(out), "--html", str(page), "--json", str(data))
    where = ("--on", "npu-1MB-sram", "--capacity", "589824", "--activations", "int8")
    assert asked(str(graphs / "transformer-block.onnx"), *where, *files) == 0
    d = json.loads(data.read_text())
    # The residual stream, 128 tokens of 512 bytes, goes out and comes in where gate and up fill the arena.
    assert d["traffic"] == d["bound"] == 2 * 128 * 512 < d["first_fit"]
    assert d["place"] == "sram of ethos-u65" and d["peak"] <= d["capacity"] == 589824
    assert any("spill" in row for row in d["placed"])
    rows = list(csv.DictReader(out.open()))
    assert len(rows) == len(d["placed"]) and {int(r["offset"]) for r in rows} == {r["offset"] for r in d["placed"]}
    assert "spill" in page.read_text()


def test_room_for_everything_moves_nothing(graphs: Path, tmp_path: Path) -> None:
    data = tmp_path / "d.json"
    assert asked(str(graphs / "nas-cells.onnx"), "--capacity", "64MiB", "--separate", "--json", str(data)) == 0
    assert json.loads(data.read_text())["traffic"] == 0


def test_without_an_arena_it_is_the_least_that_nothing_has_to_leave(graphs: Path, tmp_path: Path) -> None:
    data = tmp_path / "d.json"
    assert asked(str(graphs / "u-net.onnx"), "--activations", "int8", "--json", str(data)) == 0
    d = json.loads(data.read_text())
    assert d["traffic"] == 0 and d["peak"] == d["capacity"]
    small = ("--capacity", str(d["capacity"] - 1))
    assert asked(str(graphs / "u-net.onnx"), "--activations", "int8", *small, "--json", str(data)) == 0
    assert json.loads(data.read_text())["traffic"] > 0


@pytest.mark.parametrize(
    ("args", "word"),
    [
        (("--on", "npu-1MB-sram", "--tier", "l9"), "sram, dram"),
        (("--on", "npu-1MB-sram", "--capacity", "2MiB"), "at most 1048576"),
        (("--tier", "sram", "--capacity", "1MiB"), "--on"),
        (("--capacity", "0"), "at least 1"),
        (("--capacity", "1MiB", "--json", "-", "-o", "-"), "--json"),
    ],
)
def test_what_cannot_be_asked(
    graphs: Path, args: tuple[str, ...], word: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert asked(str(graphs / "u-net.onnx"), *args) == 2
    assert word in capsys.readouterr().err


def test_buffers_have_no_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "b.csv"
    table.write_text("id,lower,upper,size\na,0,1,4\n")
    assert asked(str(table), "--on", "npu-1MB-sram") == 2
    assert "--on" in capsys.readouterr().err
