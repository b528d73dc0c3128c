"""Tables of measurements are read as typed columns: a cell that cannot be is named, with its row and what may be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="reading measurements needs pyarrow (pip install 'tierwise[serve]')")

import pyarrow as pa
import pyarrow.parquet as pq

from tierwise.cli import main
from tierwise.core.errors import TierwiseError
from tierwise.measure.columns import COUNT, SIZE, numbers, read
from tierwise.measure.training import read as read_training

GEMM = ("system,engine,version,kernel_source,gemm_dtype,m,n,k,latency\n"
        "h100_sxm,vllm,0.14.0,vllm_default,bfloat16,{m},4096,4096,{t}\n")  # fmt: skip
TRAINING = ("framework,gpu,hidden,layers,heads,seq,gbs,mbs,tp,pp,dp,ffn,vocab,experts,tied,status,iter_s\n"
            "megatron,h100_sxm,4096,32,32,4096,64,1,2,1,4,14336,32000,{experts},{tied},ok,3.5\n")  # fmt: skip


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert stop.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(("m", "t", "named"), [("x", "0.1", "m: found 'x'"), ("-4", "0.1", "m: found -4"),
                                               ("8", "[]", "latency: found '[]'")])  # fmt: skip
def test_a_cell_that_cannot_be_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], m: str, t: str, named: str
) -> None:
    file = tmp_path / "t.csv"
    file.write_text(GEMM.format(m=m, t=t))
    said = refused(capsys, "validate", "ops", str(file))
    assert named in said and "row 1" in said and "a number from" in said


def test_what_a_row_may_lack_is_nan_and_what_it_may_not_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.parquet"
    pq.write_table(pa.table({"a": [1, None, 3], "b": ["2", "", "nan"], "c": [None, "x", "y"]}), file)
    table = read(file)
    found = numbers(table, "t", {"a": SIZE, "b": COUNT}, lacking=("a", "b"))
    assert np.isnan(found["a"]).tolist() == [False, True, False]
    assert np.isnan(found["b"]).tolist() == [False, True, True]
    assert found["c"].tolist() == ["", "x", "y"]
    with pytest.raises(TierwiseError, match="row 2"):
        numbers(table, "t", {"a": SIZE})


def test_a_column_twice_and_text_that_is_none_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("a,a\n1,2\n")
    with pytest.raises(TierwiseError, match="each column once"):
        read(file)
    file.write_bytes(b"a,b\n1,\xff\xfe\n")
    with pytest.raises(TierwiseError, match="b: found"):
        numbers(read(file), str(file), {"b": SIZE})


def test_zeros_of_a_csv_file_are_numbers_not_words(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(TRAINING.format(experts="0", tied="0"))
    row = read_training(file)[0]
    assert (row["experts"], row["tied"], row["hidden"]) == (0.0, 0.0, 4096.0)  # no mixture, nothing tied
    file.write_text(TRAINING.format(experts="many", tied="0"))
    with pytest.raises(TierwiseError, match="experts: found 'many'"):
        read_training(file)
