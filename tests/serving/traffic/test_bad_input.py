"""Bad rows are refused with their line and counted; bad files say in one line what was found and what is allowed."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("pyarrow", reason="reading traces needs pyarrow (pip install 'tierwise[serve]')")

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.serving import traffic
from tierwise.serving.traffic import Trace

HEADER = "arrival,prompt,output\n"


def load(folder: Path, text: str | bytes, name: str = "t.csv", format: str | None = None) -> Trace:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return traffic.load(path, format)


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ("-1,5,5", "line 3: arrival: found '-1'; allowed: a time of 0 or later"),
        ("nan,5,5", "line 3: arrival: found 'nan'"),
        ("inf,5,5", "line 3: arrival: found 'inf'"),
        ("1e300,5,5", "line 3: arrival: found '1e300'; allowed: a time of 0 or later, at most 9e+09"),
        ("x,5,5", "line 3: arrival: found 'x'"),
        (",5,5", "line 3: arrival: found ''"),
        ("1,0,5", "line 3: prompt: found '0'; allowed: a whole number of at least 1"),
        ("1,5,0", "line 3: output: found '0'"),
        ("1,5,-2", "line 3: output: found '-2'"),
        ("1,1.5,5", "line 3: prompt: found '1.5'"),
        ("1,NaN,5", "line 3: prompt: found 'NaN'"),
        ("1,1e30,5", "line 3: prompt: found '1e30'"),
        ("1,5", "line 3: found 2 fields; allowed: 3"),
        ("1,5,5,5", "line 3: found 4 fields; allowed: 3"),
        ("1,five,5", "line 3: prompt: found 'five'"),
    ],
)
def test_a_bad_row_is_refused_with_its_line_and_the_rest_is_read(tmp_path: Path, row: str, told: str) -> None:
    t = load(tmp_path, f"{HEADER}0,1,2\n{row}\n3,4,5\n")
    assert t.arrival.tolist() == [0, 3]
    assert t.output.tolist() == [2, 5]
    assert len(t.notices) == 1
    assert told in t.notices[0]
    assert t.notices[0].startswith("1 row of 3 refused: ")


def test_readings_of_a_clock_are_counted_from_the_first(tmp_path: Path) -> None:
    t = load(tmp_path, f"{HEADER}1700000000.5,1,2\n1700000001.5,1,2\n")
    assert t.arrival.tolist() == [0, 1]
    assert t.notices == ("arrival is the time of a clock, 1700000000 at first: counted from there",)
    assert load(tmp_path, f"{HEADER}500,1,2\n501,1,2\n").arrival.tolist() == [500, 501]


@pytest.mark.parametrize(
    "time",
    ["2024-02-30 00:00:00", "2024-05-10 24:00:00", "2024-05-10 00:00:60", "0001-01-01 00:00:00", "yesterday", "1.5",
     "2024-05-10 00:00:00+99:00", "2024-05-10 00:00:00 ago", ""],
)  # fmt: skip
def test_days_and_hours_that_are_none_are_refused(tmp_path: Path, time: str) -> None:
    good = "2024-05-10 00:00:0{},1,1\n"
    t = load(tmp_path, f"TIMESTAMP,ContextTokens,GeneratedTokens\n{good.format(1)}{time},1,1\n{good.format(3)}")
    assert t.arrival.tolist() == [0, 2]
    assert f"line 3: TIMESTAMP: found '{time}'; allowed: a time" in t.notices[0]


@pytest.mark.parametrize("zone", ["", "Z", "+00", "+00:00", "-0000"])
def test_zones_are_read(tmp_path: Path, zone: str) -> None:
    rows = "".join(f"2024-05-10T00:0{i}{':30.25' if i else ''}{zone},1,1\n" for i in range(2))
    assert load(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows).arrival.tolist() == [0, 90.25]


def test_blank_lines_are_no_requests_and_move_no_line_number(tmp_path: Path) -> None:
    t = load(tmp_path, f"{HEADER}0,1,2\n\n\n1,0,5\n2,3,4\n\n")
    assert len(t) == 2
    assert "line 5: prompt" in t.notices[0]


def test_only_the_first_five_lines_are_listed_and_all_are_counted(tmp_path: Path) -> None:
    t = load(tmp_path, HEADER + "0,1,1\n" + "1,0,1\n" * 20 + "2,3\n")
    assert t.notices[0].startswith("21 rows of 22 refused: line 3: ")
    assert t.notices[0].count("line") == 5
    assert t.notices[0].endswith("; and 16 more.")


def test_unsorted_arrivals_are_sorted_with_a_notice(tmp_path: Path) -> None:
    t = load(tmp_path, f"{HEADER}3,1,1\n1,2,2\n2,3,3\n")
    assert t.arrival.tolist() == [1, 2, 3]
    assert t.prompt.tolist() == [2, 3, 1]
    assert t.notices == ("arrivals were not in order (first at line 3): sorted",)


def test_turns_come_along_when_rows_are_sorted_and_refused(tmp_path: Path) -> None:
    t = load(tmp_path, "arrival,prompt,output,after,think\n5,1,1,-1,0\n1,2,2,-1,0\n2,0,3,1,4\n6,4,4,0,7\n7,5,5,2,7\n")
    assert t.prompt.tolist() == [2, 1, 4, 5]
    assert t.after.tolist() == [-1, -1, 1, -1]  # the last followed a row that was refused
    assert t.think.tolist() == [0, 0, 7, 0]


def test_turns_that_follow_nothing_or_the_future_are_told(tmp_path: Path) -> None:
    t = load(tmp_path, "arrival,prompt,output,after\n0,1,1,1\n1,1,1,9\n2,1,1,2\n")
    assert t.after.tolist() == [-1, -1, -1]
    assert any("2 requests follow no earlier row" in n for n in t.notices)
    assert any("1 request came before what they follow" in n for n in t.notices)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "is empty"),
        ("\n \n", "is empty"),
        (HEADER, "has a header and no rows"),
        (f"{HEADER}0,0,0\n", "no request can be used. 1 row of 1 refused: line 2: prompt"),
        (b"\xff\xfea\x00", "is UTF-16"),
        (f"{HEADER}0,1,1\n".encode() + b"1,caf\xe9,1\n", "line 3: found byte 0xe9, which is not UTF-8"),
        (gzip.compress(b"arrival,prompt,output\n" + b"0,1,1\n" * 99, mtime=0)[:-12], "gzip file is damaged or cut off"),
        (b"PAR1\x00\x00", "is a Parquet file"),
        ("arrival,prompt,prompt,output\n0,1,1,1\n", "the column 'prompt' is there twice"),
        ("hello world\nwhat is this\n", "no known trace format (it begins 'hello world"),
        ("[1, 2]", "no known trace format"),
    ],
)
def test_a_file_without_requests_is_an_error_that_says_why(tmp_path: Path, content: str | bytes, told: str) -> None:
    with pytest.raises(TierwiseError, match=r"t\.csv") as error:
        load(tmp_path, content)
    assert told in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_columns_name_what_was_found_what_is_needed_and_the_closest(tmp_path: Path) -> None:
    with pytest.raises(TierwiseError) as error:
        load(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokn\n2024-01-01 00:00:00,1,1\n")
    for part in (
        "'GeneratedTokens'",
        "found 'TIMESTAMP', 'ContextTokens', 'GeneratedTokn'",
        "closest: 'GeneratedTokn'",
    ):
        assert part in str(error.value)
    with pytest.raises(TierwiseError, match=r"no 'output_length'; found 'timestamp', 'input_length'"):
        load(tmp_path, '{"timestamp": 1, "input_length": 2}\n')
    with pytest.raises(TierwiseError, match=r"no 'TIMESTAMP'"):
        load(tmp_path, HEADER + "0,1,1\n", format="azure")


def test_unknown_formats_and_files(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'azure'"):
        load(tmp_path, HEADER + "0,1,1\n", format="azur")
    with pytest.raises(TierwiseError, match="there is no such file"):
        traffic.load(tmp_path / "none.csv")
    with pytest.raises(TierwiseError, match="a folder without a recorded run"):
        traffic.load(tmp_path)


@pytest.mark.parametrize(("n", "scale"), [(0, 1.0), (-3, 1.0), (1, 0.0), (1, -1.0), (1, float("nan"))])
def test_limits_and_scales_that_cannot_be(tmp_path: Path, n: int, scale: float) -> None:
    (tmp_path / "t.csv").write_text(HEADER + "0,1,1\n")
    with pytest.raises(TierwiseError, match="allowed"):
        traffic.load(tmp_path / "t.csv", limit=n, rate_scale=scale)


MOONCAKE = {"timestamp": 0, "input_length": 600, "output_length": 5, "hash_ids": [0, 1]}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ('{"timestamp": 27, "input_len', "line 2: the JSON is cut off"),
        ("[1, 2]", "line 2: found [1, 2]; allowed: a JSON object"),
        ('{"timestamp": 27,}', "line 2: column 18: not JSON"),
        (json.dumps(MOONCAKE | {"timestamp": -1}), "line 2: timestamp: found -1; allowed: a time of 0 or later"),
        (json.dumps(MOONCAKE | {"input_length": "6"}), 'line 2: input_length: found "6"'),
        (json.dumps(MOONCAKE | {"output_length": None}), "line 2: output_length: found"),
        (json.dumps(MOONCAKE | {"output_length": True}), "line 2: output_length: found true"),
        (json.dumps(MOONCAKE | {"hash_ids": [0, None]}), "line 2: hash_ids: found [0, null]; allowed: a list of whole"),
        (json.dumps(MOONCAKE | {"hash_ids": "x"}), 'line 2: hash_ids: found "x"'),
        (json.dumps({k: v for k, v in MOONCAKE.items() if k != "input_length"}), "line 2: input_length: found nothing"),
    ],
)
def test_a_bad_json_line_is_refused_with_its_line(tmp_path: Path, line: str, told: str) -> None:
    good = json.dumps(MOONCAKE)
    t = load(tmp_path, f"{good}\n{line}\n{good}\n", "t.jsonl")
    assert len(t) == 2
    assert t.blocks.tolist() == [0, 1, 0, 1]
    assert told in t.notices[0]


def test_a_sharegpt_file_that_is_cut_off_says_where(tmp_path: Path) -> None:
    with pytest.raises(TierwiseError, match=r"line 1, column \d+: the JSON is cut off"):
        load(tmp_path, '[{"conversations": [{"from": "human", "value": "hel', "t.json")


@given(st.binary(max_size=200))
def test_no_bytes_end_in_anything_but_a_trace_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes
) -> None:
    folder = tmp_path_factory.mktemp("noise")
    for head in (b"", HEADER.encode() + b"0,1,1\n", b'{"timestamp": 0, "input_length": 1, "output_length": 1}\n'):
        try:
            t = load(folder, head + noise)
        except TierwiseError as error:
            assert "\n" not in str(error)
        else:
            assert len(t) >= 1
            assert (np.diff(t.arrival) >= 0).all()
            assert (t.prompt >= 1).all()
            assert (t.output >= 1).all()


number = st.one_of(st.integers(-3, 3).map(str), st.floats().map(str), st.text("0123456789.eE+-naif ", max_size=6))


@given(st.lists(st.tuples(number, number, number), min_size=1, max_size=12))
def test_what_is_read_and_what_is_refused_are_all_there_is(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    folder = tmp_path_factory.mktemp("rows")
    text = HEADER + "0,1,1\n" + "".join(f"{','.join(row)}\n" for row in rows)
    t = load(folder, text)
    refused = [int(n.split(" row")[0]) for n in t.notices if "refused" in n]
    assert len(t) + sum(refused) == len(rows) + 1
    assert (np.diff(t.arrival) >= 0).all()
    assert t.arrival[0] >= 0
    assert (np.minimum(t.prompt, t.output) >= 1).all()


def test_without_pyarrow_csv_says_what_to_install_and_json_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(TierwiseError, match=r"pip install 'tierwise\[serve\]'"):
        load(tmp_path, HEADER + "0,1,1\n")
    t = load(tmp_path, json.dumps(MOONCAKE), "t.jsonl")
    assert t.blocks.tolist() == [0, 1]
