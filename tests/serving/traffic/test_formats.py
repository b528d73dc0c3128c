"""Every format says what its source says, on files written by hand from the published schemas and on real ones."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="reading traces needs pyarrow (pip install 'tierwise[serve]')")

from tierwise.serving import traffic
from tierwise.serving.traffic.formats import simple

DATA = Path(__file__).parents[4] / "shared" / "data"
real = pytest.mark.skipif(not DATA.exists(), reason="../shared/data is not there")


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@real
def test_azure_has_the_medians_its_paper_reports() -> None:
    """Splitwise (ISCA 2024), section III: conversation has a median prompt of 1020 and a median output of 129 tokens;
    the public file is 19,366 requests of about one hour."""
    t = traffic.load(DATA / "traces" / "azure_llm_2023_conv.csv")
    assert len(t) == 19366
    assert np.median(t.prompt) == 1020
    assert np.median(t.output) == 129
    assert t.arrival[0] == 0
    assert t.duration == pytest.approx(3501.721937, abs=1e-6)  # 18:15:46.68059 to 19:14:08.402527
    assert not t.notices


@real
def test_mooncake_has_the_means_its_paper_reports() -> None:
    """Mooncake (FAST 2025), table 2: conversation, 12,031 requests, mean input 12,035 and output 343 tokens, cache
    ratio 40 % (it does not say over what; by tokens, last blocks counted as far as they are filled, it is 37 %)."""
    t = traffic.load(DATA / "traces" / "mooncake_conversation.jsonl")
    assert len(t) == 12031
    assert t.prompt.mean() == pytest.approx(12035, abs=0.5)
    assert t.output.mean() == pytest.approx(343, abs=0.5)
    assert t.summary().shared == pytest.approx(0.40, abs=0.04)
    assert (np.diff(t.block_start) == -(-t.prompt // t.block_size)).all()


@real
@pytest.mark.parametrize("name", ["vllm-rtxpro6000-llama-3.1-8b", "vllm-rtxpro6000-qwen3-32b"])
def test_recorded_runs_are_ten_requests_a_second(name: str) -> None:
    """Their workloads are named ...-300-sps10: 300 requests at 10 a second."""
    folder = traffic.load(DATA / "runs" / name)
    file = traffic.load(DATA / "runs" / name / "requests.jsonl")
    assert len(folder) == 300
    assert folder.summary().rate == pytest.approx(10, rel=0.15)
    assert (folder.arrival == file.arrival).all()
    meta = json.loads((DATA / "runs" / name / "meta.json").read_text())
    assert meta["model"] in folder.source


def test_azure_2024_has_zones_and_sometimes_no_fraction(tmp_path: Path) -> None:
    text = ("TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00.500000+00:00,10,1\n"
            "2024-05-10 00:00:01+00:00,20,2\n2024-05-10 02:00:02+02:00,30,3\n")  # fmt: skip
    t = traffic.load(write(tmp_path, "a.csv", text))
    assert t.arrival == pytest.approx([0.0, 0.5, 1.5])
    assert t.prompt.tolist() == [10, 20, 30]


def test_burstgpt_leaves_failed_requests_out_and_counts_them(tmp_path: Path) -> None:
    text = ("Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
            "5,ChatGPT,472,18,490,Conversation log\n45,ChatGPT,1087,230,1317,Conversation log\n"
            "118,GPT-4,417,276,693,API log\n120,GPT-4,300,0,300,API log\n")  # fmt: skip
    t = traffic.load(write(tmp_path, "b.csv", text))
    assert t.arrival.tolist() == [0, 40, 113]
    assert [t.tenants[i] for i in t.tenant] == ["ChatGPT", "ChatGPT", "GPT-4"]
    assert any("1 row left out" in n and "0 response tokens" in n for n in t.notices)


def test_burstgpt_sessions_follow_the_answer_after_what_time_was_left(tmp_path: Path) -> None:
    text = ("Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
            "100.0,s1,10,GPT-4,5,5,10,Conversation log\n105.0,,1,GPT-4,5,5,10,API log\n"
            "106.0,,1,GPT-4,5,5,10,API log\n130.0,s1,4,GPT-4,15,5,20,Conversation log\n")  # fmt: skip
    t = traffic.load(write(tmp_path, "b.csv", text))
    assert t.after.tolist() == [-1, -1, -1, 0]
    assert t.think.tolist() == [0, 0, 0, 20]  # 130 - (100 + 10)


def test_llmservingsim_sessions_wait_for_their_tools(tmp_path: Path) -> None:
    lines = [
        {"session_id": "a", "arrival_time_ns": 2_000_000_000, "sub_requests": [
            {"input_toks": 40, "output_toks": 3, "tool_duration_ns": 500_000_000, "input_tok_ids": list(range(40))},
            {"input_toks": 50, "output_toks": 4, "tool_duration_ns": 0, "input_tok_ids": list(range(50))}]},
        {"input_toks": 36, "output_toks": 2, "arrival_time_ns": 0, "input_tok_ids": [*range(20), *range(100, 116)]},
    ]  # fmt: skip
    t = traffic.load(write(tmp_path, "w.jsonl", "\n".join(map(json.dumps, lines))))
    assert t.arrival.tolist() == [0, 2, 2.5]
    assert t.after.tolist() == [-1, -1, 1]
    assert t.think.tolist() == [0, 0, 0.5]
    ids = [t.blocks[a:b].tolist() for a, b in zip(t.block_start, t.block_start[1:], strict=False)]
    assert [len(x) for x in ids] == [2, 2, 3]
    assert ids[0][0] == ids[1][0] == ids[2][0]  # tokens 0 to 15 are the same in all three
    assert ids[0][1] != ids[1][1]
    assert ids[2][:2] == ids[1]


def test_flat_llmservingsim_reads_the_same_with_and_without_arrow(tmp_path: Path) -> None:
    rows = [
        {"input_toks": 33, "output_toks": 2, "arrival_time_ns": i * 10**9, "input_tok_ids": [7] * 33} for i in (0, 1)
    ]
    good = "\n".join(map(json.dumps, rows))
    fast = traffic.load(write(tmp_path, "a.jsonl", good))
    slow = traffic.load(write(tmp_path, "b.jsonl", good + '\n{"input_toks": 3, "out'))
    assert fast.blocks.tolist() == slow.blocks.tolist()
    assert fast.arrival.tolist() == slow.arrival.tolist() == [0, 1]
    assert "line 3: the JSON is cut off" in slow.notices[0]


def test_sharegpt_repeats_the_history_of_a_conversation(tmp_path: Path) -> None:
    talk = {"id": "x", "conversations": [
        {"from": "human", "value": "a" * 1000}, {"from": "gpt", "value": "b" * 500},
        {"from": "human", "value": "漢" * 100}, {"from": "gpt", "value": "c" * 10},
        {"from": "human", "value": "bye"}]}  # fmt: skip
    for name, text in (("s.json", json.dumps([talk, talk])), ("s.jsonl", f"{json.dumps(talk)}\n{json.dumps(talk)}\n")):
        t = traffic.load(write(tmp_path, name, text))
        assert t.output.tolist() == [150, 3, 150, 3]  # 0.3 tokens an ASCII character
        assert t.prompt.tolist() == [300, 300 + 150 + 60] * 2
        assert t.after.tolist() == [-1, 0, -1, 2]
        assert any("estimated" in n for n in t.notices)
        assert any("2 questions without an answer" in n for n in t.notices)
        first, second = (t.blocks[t.block_start[i] : t.block_start[i + 1]] for i in (0, 1))
        assert (second[: len(first)] == first).all()
        other = t.blocks[t.block_start[2] :]
        assert not set(other) & set(first)


def test_openai_messages_are_conversations_too(tmp_path: Path) -> None:
    talk = {"messages": [{"role": "system", "content": "s" * 100}, {"role": "user", "content": [{"text": "q" * 100}]},
                         {"role": "assistant", "content": "a" * 100}]}  # fmt: skip
    t = traffic.load(write(tmp_path, "m.jsonl", json.dumps(talk)))
    assert t.prompt.tolist() == [60]
    assert t.output.tolist() == [30]


def test_vllm_results_have_their_start_times_or_rate_or_concurrency(tmp_path: Path) -> None:
    result = {"request_rate": "inf", "burstiness": 1.0, "max_concurrency": 4, "request_throughput": 1.0,
              "input_lens": [10, 20, 30], "output_lens": [1, 0, 3]}  # fmt: skip
    t = traffic.load(write(tmp_path, "r.json", json.dumps(result, indent=1)))
    assert t.closed_loop == 4
    assert t.prompt.tolist() == [10, 30]  # the second failed
    t = traffic.load(write(tmp_path, "s.json", json.dumps(result | {"start_times": [101.0, 102.0, 100.5]})))
    assert t.closed_loop == 0
    assert t.arrival.tolist() == [0, 0.5]
    assert t.prompt.tolist() == [30, 10]
    many = result | {"request_rate": 5.0, "input_lens": [9] * 4000, "output_lens": [9] * 4000}
    t = traffic.load(write(tmp_path, "t.jsonl", json.dumps(result) + "\n" + json.dumps(many)))
    assert t.summary().rate == pytest.approx(5, rel=0.1)
    assert any("last of 2 results" in n for n in t.notices)


def test_vllm_datasets_are_counted_by_their_text(tmp_path: Path) -> None:
    text = '{"prompt": "What is the capital of India?", "output_tokens": 10}\n{"prompt": "x", "output_tokens": 1520}\n'
    t = traffic.load(write(tmp_path, "d.jsonl", text))
    assert t.output.tolist() == [10, 1520]
    assert t.prompt.tolist() == [9, 1]


def test_plain_csv_understands_sessions_tenants_dates_and_other_names(tmp_path: Path) -> None:
    text = ("arrived_at;num_prefill_tokens;num_decode_tokens;session;tenant;think;samples\n"
            "0.5;10;1;a;x;;\n1;20;2;;y;;2\n2;30;3;a;x;4;\n")  # fmt: skip
    t = traffic.load(write(tmp_path, "v.csv", text))
    assert t.arrival.tolist() == [0.5, 1, 2]
    assert t.after.tolist() == [-1, -1, 0]
    assert t.think.tolist() == [0, 0, 4]
    assert t.samples.tolist() == [1, 2, 1]
    assert [t.tenants[i] for i in t.tenant] == ["x", "y", "x"]
    dated = "arrival,prompt,output\n2024-01-01T00:00:10Z,1,1\n2024-01-01T00:00:12Z,1,1\n"
    assert traffic.load(write(tmp_path, "d.csv", dated)).arrival.tolist() == [0, 2]


def test_gzip_reads_like_the_file_inside(tmp_path: Path) -> None:
    text = "arrival,prompt,output\n0,1,2\n1,3,4\n"
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(text.encode()))
    assert simple.text(traffic.load(tmp_path / "a.csv.gz")) == simple.text(traffic.load(write(tmp_path, "a.csv", text)))


def test_limit_and_rate(tmp_path: Path) -> None:
    path = write(tmp_path, "a.csv", "arrival,prompt,output\n" + "\n".join(f"{i},1,1" for i in range(100)))
    t = traffic.load(path, limit=10, rate_scale=2)
    assert len(t) == 10
    assert t.arrival.tolist() == [i / 2 for i in range(10)]


def test_bailian_is_in_seconds_and_shares_only_from_the_start(tmp_path: Path) -> None:
    plain = {"chat_id": 3, "parent_chat_id": -1, "input_length": 40, "output_length": 2, "type": "text", "turn": 1}
    given = enumerate(([5, 6, 7], [5, 6, 8], [9, 6, 7]))
    rows = [plain | {"timestamp": 61.5 + i, "hash_ids": ids} for i, ids in given]
    t = traffic.load(write(tmp_path, "q.jsonl", "\n".join(map(json.dumps, rows))))
    assert t.arrival.tolist() == [61.5, 62.5, 63.5]
    assert t.block_size == 16
    ids = t.blocks.reshape(3, 3)
    assert (ids[0, :2] == ids[1, :2]).all()
    assert len(set(t.blocks)) == 7  # the third shares nothing: what follows another start is another prefix
