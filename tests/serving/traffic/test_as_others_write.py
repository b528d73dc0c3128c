"""Traces with units, widths and slips of other tools: each right value follows from the file itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("pyarrow", reason="reading traces needs pyarrow (pip install 'tierwise[serve]')")

from tierwise.core.errors import TierwiseError
from tierwise.serving import traffic
from tierwise.serving.traffic import Trace


def load(folder: Path, text: str, name: str = "t.jsonl") -> Trace:
    path = folder / name
    path.write_text(text)
    return traffic.load(path)


def lines(*rows: dict[str, Any]) -> str:
    return "\n".join(map(json.dumps, rows))


def mooncake(times: list[Any], prompts: list[int], ids: list[list[Any]]) -> str:
    return lines(*({"timestamp": t, "input_length": p, "output_length": 5, "hash_ids": i}
                   for t, p, i in zip(times, prompts, ids, strict=True)))  # fmt: skip


@pytest.mark.parametrize("base", [0, 2**63, 2**64 - 9, 10**30, "block-"])
def test_identities_may_be_of_any_width_or_text(tmp_path: Path, base: Any) -> None:
    """dynamo's traces carry unsigned hashes of 64 bits: two of eight blocks were seen before."""
    ids = [[f"{base}{x}" if isinstance(base, str) else base + x for x in (i % 2, 100 + i)] for i in range(4)]
    t = load(tmp_path, mooncake([0, 1000, 2000, 3000], [1024] * 4, ids))
    assert t.summary().shared == pytest.approx(0.25)
    assert t.block_size == 512 and not t.notices


def test_identities_in_a_csv_are_as_wide(tmp_path: Path) -> None:
    big = 2**63
    t = load(tmp_path, f"arrival,prompt,output,blocks_16\n0,32,1,{big} {big + 1}\n1,32,1,{big} {big + 2}\n", "t.csv")
    assert t.summary().shared == pytest.approx(0.25)


def test_fractions_that_would_be_no_traffic_in_milliseconds_are_seconds(tmp_path: Path) -> None:
    t = load(tmp_path, mooncake([0.0, 0.2, 0.4], [10, 20, 15], [[0], [0, 1], [2]]))
    assert t.arrival == pytest.approx([0.0, 0.2, 0.4])
    assert any("read as seconds" in n for n in t.notices)
    # The first prompt has 10 tokens of the block, so of the second's no more than 10 were seen.
    assert t.summary().shared == pytest.approx(10 / 45)
    assert any(f"blocks of {t.block_size}" in n for n in t.notices) and 15 <= t.block_size < 20


def test_whole_timestamps_stay_milliseconds_with_a_word_where_they_are_dense(tmp_path: Path) -> None:
    assert not load(tmp_path, mooncake([0, 1000, 2000], [10] * 3, [[0]] * 3)).notices
    dense = load(tmp_path, mooncake([0, 0, 0, 1, 1], [10] * 5, [[0]] * 5))
    assert dense.duration == pytest.approx(1e-3)
    assert any("if they are seconds" in n for n in dense.notices)


def test_sessions_with_delays_follow_their_answers(tmp_path: Path) -> None:
    """AIPerf's form: later turns have a delay (ms) after the answer before, and no timestamp."""
    rows = [
        {"session_id": "a", "timestamp": 1000, "input_length": 100, "output_length": 10},
        {"session_id": "b", "timestamp": 1500, "input_length": 50, "output_length": 10},
        {"session_id": "a", "delay": 2000, "input_length": 200, "output_length": 10},
        {"session_id": "a", "delay": 250.5, "input_length": 300, "output_length": 10},
    ]
    t = load(tmp_path, lines(*rows))
    assert t.prompt.tolist() == [100, 50, 200, 300]
    assert t.after.tolist() == [-1, -1, 0, 2]
    assert t.think == pytest.approx([0.0, 0.0, 2.0, 0.2505])
    assert t.arrival == pytest.approx([1.0, 1.5, 3.0, 3.2505])  # the earliest they could come


@pytest.mark.parametrize("first", ["null", "1", '"a"', "[1]", "true", "{}x", '{"timestamp": [', "1" * 5000, "[" * 5000])
@pytest.mark.parametrize(
    "row",
    [
        {"timestamp": 0, "input_length": 7, "output_length": 5, "hash_ids": [0]},
        {"timestamp": 0, "input_length": 7, "output_length": 5, "chat_id": 1, "parent_chat_id": -1, "hash_ids": [0]},
        {"arrival_time_ns": 0, "input_toks": 7, "output_toks": 5},
        {"arrival_time": 0, "input_toks": 7, "output_toks": 5},
        {"arrival": 0, "prompt": 7, "output": 5},
    ],
)
def test_a_first_line_of_another_type_is_refused_alone(tmp_path: Path, first: str, row: dict[str, Any]) -> None:
    t = load(tmp_path, f"{first}\n{json.dumps(row)}\n")
    assert t.prompt.tolist() == [7]
    assert "1 row of 2 refused: line 1: " in t.notices[0]


def test_an_offset_that_no_clock_has_is_refused_with_its_line(tmp_path: Path) -> None:
    text = "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:15:46.68,374,44\n2023-11-16 18:15:51-70,879,55\n"
    t = load(tmp_path, text, "a.csv")
    assert t.prompt.tolist() == [374]
    assert "line 3: TIMESTAMP: found '2023-11-16 18:15:51-70'" in t.notices[0]


def test_times_centuries_apart_are_not_negative(tmp_path: Path) -> None:
    t = load(tmp_path, "TIMESTAMP,ContextTokens,GeneratedTokens\n1700-01-01 00:00:00,1,1\n2200-01-01 00:00:00,1,1\n",
             "a.csv")  # fmt: skip
    assert t.duration == pytest.approx(500 * 365.2425 * 86400, rel=1e-4)


def test_a_message_without_a_speaker_is_no_answer(tmp_path: Path) -> None:
    talk = [{"conversations": [{"from": ["human"], "value": "hi"}, {"from": "gpt", "value": "yes"}]}]
    with pytest.raises(TierwiseError, match=r"no conversation has a question and its answer.*no speaker"):
        load(tmp_path, json.dumps(talk), "s.json")


@pytest.mark.parametrize("as_list", [False, True])
def test_the_plain_columns_are_read_as_json_too(tmp_path: Path, as_list: bool) -> None:
    rows = [{"arrival": 0.0, "prompt": 100, "output": 20, "session": "a", "tenant": "x"},
            {"arrival": 1.0, "prompt": 200, "output": 30, "session": "a", "tenant": "y", "think": 0.5},
            {"arrival": 2.0, "prompt": -1, "output": 30, "session": "b"}]  # fmt: skip
    t = load(tmp_path, json.dumps(rows) if as_list else lines(*rows), "p.txt")
    assert (t.prompt.tolist(), t.output.tolist()) == ([100, 200], [20, 30])
    assert t.after.tolist() == [-1, 0] and t.think.tolist() == [0.0, 0.5]
    assert [t.tenants[i] for i in t.tenant] == ["x", "y"]
    assert "found -1; allowed: a whole number" in t.notices[0]


def test_a_json_file_of_no_format_is_told_all_of_them(tmp_path: Path) -> None:
    with pytest.raises(TierwiseError, match=r"no known trace format.*guidellm: .*mooncake: .*vllm_bench: "):
        load(tmp_path, '{"hello": 1}', "x.json")
    with pytest.raises(TierwiseError, match="save it with --save-detailed"):
        load(tmp_path, '{"request_throughput": 1.0, "request_rate": 3}', "x.json")
