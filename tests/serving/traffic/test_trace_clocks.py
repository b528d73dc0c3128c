"""A trace means the same whatever clock, packing or separator it is written with."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tierwise.core.errors import TierwiseError

pa = pytest.importorskip("pyarrow", reason="reading traces needs pyarrow")

SECONDS = (0.0, 1.0, 3.5)


def mooncake(stamps: list[Any]) -> bytes:
    plain = {"input_length": 600, "output_length": 10}
    return "\n".join(json.dumps({"timestamp": t, **plain, "hash_ids": [0, i]}) for i, t in enumerate(stamps)).encode()


def read(path: Path, data: bytes) -> Any:
    from tierwise.serving.traffic import load

    path.write_bytes(data)
    return load(path)


@pytest.mark.parametrize("unit", [1, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("start", [1_100_000_000, 1_700_000_000, 3_000_000_000])
def test_a_unix_clock_is_known_by_its_size(tmp_path: Path, unit: float, start: int) -> None:
    found = read(tmp_path / "t.jsonl", mooncake([(start + s) * unit for s in (0, 1, 4)]))
    np.testing.assert_allclose(found.arrival, (0, 1, 4), atol=1e-6)


def test_milliseconds_from_the_first_request_stay_milliseconds(tmp_path: Path) -> None:
    found = read(tmp_path / "t.jsonl", mooncake([1000 * s for s in SECONDS]))
    np.testing.assert_allclose(found.arrival, SECONDS)


@pytest.mark.parametrize("zone", ["", "Z", "+00:00", "+05:30"])
def test_dates_and_numbers_as_text_are_times_in_json_too(tmp_path: Path, zone: str) -> None:
    days = ("2024-02-29T23:59:58", "2024-02-29 23:59:59.000", "2024-03-01T00:00:01.500000")
    dated = mooncake([day + zone for day in days])
    np.testing.assert_allclose(read(tmp_path / "d.jsonl", dated).arrival, SECONDS)
    texts = mooncake(["0", "1000", "3500"])
    np.testing.assert_allclose(read(tmp_path / "n.jsonl", texts).arrival, SECONDS)


@pytest.mark.parametrize("wrong", ["2024-02-30T00:00:00", "yesterday", "1e3", "-5", ""])
def test_a_text_that_is_no_time_refuses_its_row_only(tmp_path: Path, wrong: str) -> None:
    found = read(tmp_path / "t.jsonl", mooncake([wrong, 1000, 3500]))
    assert len(found) == 2 and "line 1: timestamp" in " ".join(found.notices)


def test_a_unix_clock_in_the_azure_and_burstgpt_tables(tmp_path: Path) -> None:
    azure = "TIMESTAMP,ContextTokens,GeneratedTokens\n" + "".join(f"{1.7e12 + 1e3 * s:.0f},5,4\n" for s in SECONDS)
    np.testing.assert_allclose(read(tmp_path / "a.csv", azure.encode()).arrival, SECONDS)
    burst = "Timestamp,Model,Request tokens,Response tokens\n"
    burst += "".join(f"2024-01-01 00:00:0{s},a,5,4\n" for s in SECONDS)
    np.testing.assert_allclose(read(tmp_path / "b.csv", burst.encode()).arrival, SECONDS)


def test_nanoseconds_by_name_are_no_clock_of_seconds(tmp_path: Path) -> None:
    rows = [{"arrival_time_ns": t, "input_toks": 3, "output_toks": 2} for t in (1_000_000_000, 3_000_000_000)]
    found = read(tmp_path / "t.jsonl", "\n".join(map(json.dumps, rows)).encode())
    np.testing.assert_allclose(found.arrival, (1.0, 3.0))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress, "bzip2": bz2.compress, "xz": lzma.compress,
    "zstd": lambda data: pa.compress(data, codec="zstd", asbytes=True),
}  # fmt: skip


@pytest.mark.parametrize("kind", PACKERS)
def test_a_packed_trace_is_the_trace_and_a_cut_one_is_refused(tmp_path: Path, kind: str) -> None:
    data = PACKERS[kind](mooncake([1000 * s for s in SECONDS]))
    np.testing.assert_allclose(read(tmp_path / "t.jsonl", data).arrival, SECONDS)
    with pytest.raises(TierwiseError, match=f"the {kind} file is damaged or cut off"):
        read(tmp_path / "cut.jsonl", data[: len(data) - 12])


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_columns_are_parted_by_whatever_parts_the_header(tmp_path: Path, mark: str) -> None:
    lines = ["arrival,prompt,output", "0,32,2", "1,64,3"]
    found = read(tmp_path / "t.csv", "\n".join(line.replace(",", mark) for line in lines).encode())
    assert found.prompt.tolist() == [32, 64] and found.output.tolist() == [2, 3]
