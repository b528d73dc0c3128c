"""Lines of a file become deployments, or are refused alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.serving.rows import EngineGroup, read_rows

HEAD = ("id,backend,backend_version,model_path,system,precision,mode,isl,osl,gemm_quant_mode,moe_quant_mode,"
        "concurrency,batch_size,tp_size,attention_dp_size,moe_tp_size,moe_ep_size,prefill_num_workers,"
        "decode_num_workers,prefill_tp_size,decode_tp_size,silicon_ttft_ms,silicon_tpot_ms")  # fmt: skip
GOOD = {
    "id": "a", "backend": "vllm", "model_path": "llama-3.1-8b", "system": "h100_sxm", "mode": "agg", "isl": "1024",
    "osl": "128", "concurrency": "8", "batch_size": "8", "tp_size": "2", "silicon_ttft_ms": "50",
    "silicon_tpot_ms": "8",
}  # fmt: skip


def file(tmp_path: Path, *changes: dict[str, str]) -> Path:
    names = HEAD.split(",")
    lines = [",".join((GOOD | c).get(n, "") for n in names) for c in changes]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join([HEAD, *lines]) + "\n")
    return path


def test_a_plain_row(tmp_path: Path) -> None:
    rows, refused = read_rows(file(tmp_path, {}))
    assert not refused
    assert rows[0].decode == EngineGroup(2) and rows[0].prefill is None
    assert rows[0].ttft == pytest.approx(0.05) and rows[0].tpot == pytest.approx(0.008)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"isl": "0"}, "isl"), ({"isl": "x"}, "isl"), ({"osl": "-3"}, "osl"), ({"osl": ""}, "osl"),
        ({"silicon_ttft_ms": "0"}, "silicon_ttft_ms"), ({"silicon_tpot_ms": "-1"}, "silicon_tpot_ms"),
        ({"mode": "both"}, "mode"), ({"model_path": ""}, "model_path"), ({"tp_size": "1.5"}, "tp_size"),
        ({"concurrency": "", "batch_size": ""}, "concurrency"), ({"gemm_quant_mode": "fp3"}, "fp3"),
        ({"isl": "inf"}, "isl"), ({"isl": "1e30"}, "isl"),
    ],
)  # fmt: skip
def test_one_bad_line_is_refused_alone(tmp_path: Path, change: dict[str, str], word: str) -> None:
    rows, refused = read_rows(file(tmp_path, {}, change, {"id": "c"}))
    assert [r.id for r in rows] == ["a", "c"]
    assert [r.line for r in refused] == [3]
    assert word in refused[0].reason and not refused[0].undetermined


def test_devices_counted_twice_are_counted_once(tmp_path: Path) -> None:
    rows, _ = read_rows(file(
        tmp_path,
        {"tp_size": "64", "moe_tp_size": "8", "moe_ep_size": "8"},
        {"tp_size": "4", "attention_dp_size": "4", "moe_tp_size": "1", "moe_ep_size": "16"},
        {"tp_size": "8", "moe_tp_size": "1", "moe_ep_size": "8"},
    ))  # fmt: skip
    assert [r.decode for r in rows] == [EngineGroup(8, 1, 8), EngineGroup(4, 1, 4), EngineGroup(8, 1, 8)]
    assert rows[0].notes and rows[1].notes and not rows[2].notes


def test_disaggregated_rows_need_their_workers(tmp_path: Path) -> None:
    split = {"mode": "disagg", "prefill_tp_size": "2", "decode_tp_size": "4"}
    rows, refused = read_rows(file(tmp_path, split, split | {"prefill_num_workers": "3", "decode_num_workers": "1"}))
    assert refused[0].undetermined
    assert rows[0].prefill == EngineGroup(2, workers=3) and rows[0].decode == EngineGroup(4)


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("x,y\n1,2\n")
    with pytest.raises(TierwiseError, match="no column"):
        read_rows(path)
