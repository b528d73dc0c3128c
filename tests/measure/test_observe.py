"""Recording a live server: what is sent, what is measured, what is written, and how faults are told."""

from __future__ import annotations

import csv
import json
import time
from pathlib import Path

import numpy as np
import pytest
from tests.measure.observing import NOBODY, rows, run
from tests.measure.openai_server import Behaviour, serving, tokens

from tierwise.core.errors import TierwiseError
from tierwise.measure.observe import observe
from tierwise.measure.observe_files import save
from tierwise.measure.observe_numbers import times
from tierwise.measure.observe_prompts import prompt
from tierwise.measure.observe_server import gauges
from tierwise.measure.recorded import read_run
from tierwise.serving.traffic import load, synthetic, trace


def test_times_are_those_the_server_takes() -> None:
    b = Behaviour(first=0.05, each=0.02)
    with serving(b) as live:
        found = observe(live.url, trace([0.0, 0.1], [40, 60], [6, 3]))
    assert [r.index for r in sorted(found.answered, key=lambda r: r.index)] == [0, 1] and not found.failed
    for r in found.answered:
        n = [6, 3][r.index]
        assert len(r.times) == r.output == n and r.output_by == "usage"
        assert r.times[0] - r.sent >= b.first
        # A first token may be seen late, so gaps have no lower bound; the whole has.
        assert r.times[-1] - r.sent >= b.first + (n - 1) * b.each
        assert list(r.times) == sorted(r.times)
    t = times(found)
    assert (t["latency"] >= t["ttft"]).all() and len(t["itl"]) == 5 + 2
    assert 0.5 * b.each < np.median(t["itl"]) < 2 * b.each


def test_prompts_have_the_tokens_asked_for_and_share_nothing() -> None:
    with serving(Behaviour(first=0.0, each=0.0)) as live:
        found = observe(live.url, trace(np.zeros(20), np.arange(5, 205, 10), np.full(20, 2)))
        texts = [r["prompt"] for r in live.streamed]
    for r in found.answered:  # every word is two tokens and the template three: odd numbers come out exactly
        assert r.prompt == tokens(next(t for t in texts if tokens(t) == r.prompt))
        assert abs(r.prompt - found.trace.prompt[r.index]) <= 1
    long = [t for t in texts if len(t.split()) >= 8]
    assert len({tuple(t.split()[:8]) for t in long}) == len(long)


def test_open_loop_waits_for_nobody_and_keeps_the_arrivals() -> None:
    arrival = np.array([0.0, 0.03, 0.06, 0.09])
    with serving(Behaviour(first=0.6, each=0.0)) as live:
        found = observe(live.url, trace(arrival, [9] * 4, [1] * 4))
    sent = np.array([r.sent for r in sorted(found.answered, key=lambda r: r.index)]) - found.start
    assert (sent >= arrival).all() and (sent < 0.6).all()
    assert live.busiest[0] > 1


def test_closed_loop_keeps_its_number_in_flight() -> None:
    with serving(Behaviour(first=0.02, each=0.002)) as live:
        found = observe(live.url, synthetic(9, concurrency=3, prompt=9, output=4))
    assert len(found.answered) == 9
    events = sorted([(r.sent, 1) for r in found.answered] + [(r.times[-1], -1) for r in found.answered])
    assert max(np.cumsum([e[1] for e in events])) == 3


def test_later_turns_follow_the_answer_by_the_think_time_and_repeat_the_history() -> None:
    asked = synthetic(4, "uniform", rate=50.0, prompt=600, output=3, turns=2, think=0.1)
    with serving(Behaviour(first=0.01, each=0.0)) as live:
        found = observe(live.url, asked)
        texts = {r["max_tokens"]: r["prompt"] for r in live.streamed}
    assert texts and len(found.answered) == 4
    by = {r.index: r for r in found.answered}
    for j in np.flatnonzero(asked.after >= 0):
        i = int(asked.after[j])
        assert by[j].sent >= by[i].times[-1] + 0.1
        first, second = (prompt(asked, k, found.server.ruler, 0).split() for k in (i, int(j)))
        assert second[:250] == first[:250]  # the first whole block of 512 tokens


def test_a_failed_turn_ends_its_session() -> None:
    asked = trace([0.0, 0.1], [9, 19], [2, 2], after=[-1, 0])
    other = trace([0.0, 0.1, 0.2], [9, 19, 9], [2, 2, 2], after=[-1, 0, -1])
    oops = Behaviour(faults={1: b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"})
    with serving(oops) as live, pytest.raises(TierwiseError, match="none of 1 requests was answered"):
        observe(live.url, asked)
    with serving(oops) as live:
        found = observe(live.url, other)
    assert [r.index for r in found.answered] == [2] and found.unsent == 1 and len(found.failed) == 1


def test_pieces_of_several_tokens_are_counted_by_usage_or_by_the_limit() -> None:
    for usage, by in ((True, "usage"), (False, "limit")):
        with serving(Behaviour(per_piece=4, usage=usage)) as live:
            found = observe(live.url, trace([0.0], [21], [10]))
        (r,) = found.answered
        assert (r.output, r.output_by, len(r.times)) == (10, by, 3)


def test_connections_are_used_again() -> None:
    with serving(Behaviour(first=0.0, each=0.0)) as live:
        observe(live.url, synthetic(30, concurrency=2, prompt=9, output=2))
    assert live.connections[0] <= 4


def test_a_kept_connection_that_the_server_closes_is_no_failure() -> None:
    with serving(Behaviour(first=0.0, each=0.0, faults={2: b""})) as live:
        found = observe(live.url, synthetic(3, concurrency=1, prompt=9, output=2))
    assert len(found.answered) == 3 and len(live.streamed) == 4


# ---------------------------------------------------------------- what kinds of servers there are


@pytest.mark.parametrize(
    ("refused", "left"),
    [
        ((), {"ignore_eos", "stream_options"}),
        (("continuous_usage_stats",), {"ignore_eos", "stream_options"}),
        (("ignore_eos",), {"stream_options"}),
        (("stream_options",), {"ignore_eos"}),
        (("ignore_eos", "stream_options"), set()),
    ],
)
def test_options_a_server_refuses_are_left_out(refused: tuple[str, ...], left: set[str]) -> None:
    with serving(Behaviour(refused=refused, first=0.0, each=0.0)) as live:
        found = observe(live.url, trace([0.0], [9], [4]))
    assert set(found.server.options) == left
    assert found.answered[0].output_by == ("usage" if "stream_options" in left else "limit")


def test_chat_where_there_are_no_completions() -> None:
    with serving(Behaviour(endpoints=("/v1/chat/completions",))) as live:
        found = observe(live.url + "/v1/", trace([0.0], [33], [5]))
    (r,) = found.answered
    assert found.server.endpoint == "chat" and len(r.times) == r.output == 5  # the role is no token
    assert r.times[0] - r.sent >= 0.02


def test_a_stream_without_chunks() -> None:
    with serving(Behaviour(framing="close")) as live:
        found = observe(live.url, synthetic(4, concurrency=2, prompt=9, output=3))
    assert [r.output for r in found.answered] == [3] * 4


def test_prompts_are_counted_by_the_tokenizer_where_answers_do_not() -> None:
    with serving(Behaviour(usage=False, tokenizer=True, first=0.0, each=0.0)) as live:
        found = observe(live.url, trace([0.0, 0.0], [40, 61], [2, 2]))
        sent = sorted(tokens(r["prompt"]) for r in live.streamed)
    assert sorted(r.prompt for r in found.answered) == sent
    assert {r.prompt_by for r in found.answered} == {"tokenizer"}
    with serving(Behaviour(usage=False, first=0.0, each=0.0)) as live:
        found = observe(live.url, trace([0.0], [61], [2]))
    assert (found.answered[0].prompt, found.answered[0].prompt_by) == (61, "words")


METRICS = """# HELP vllm:num_requests_running Number of requests
vllm:num_requests_running{engine="0",model_name="a \\"b\\" {c}"} 3.0
vllm:num_requests_running{engine="1",model_name="tiny"} 4.0
vllm:num_requests_waiting{engine="0"} 2
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.75
vllm:cache_config_info{block_size="16",num_gpu_blocks="1000"} 1.0
broken line
"""


def test_metrics_of_the_server_are_sampled(tmp_path: Path) -> None:
    with serving(Behaviour(metrics=METRICS, first=1.2)) as live:
        found = observe(live.url, trace([0.0], [9], [2]))
    assert found.server.engine == "vllm"
    save(found, tmp_path / "run", {"max_num_seqs": 8})
    about = json.loads((tmp_path / "run/meta.json").read_text())
    assert about["engine_kwargs"] == {"model": "tiny", "max_model_len": 4096, "max_num_seqs": 8}
    assert about["engine_config"] == {"block_size": "16", "num_gpu_blocks": "1000"}
    first = next(csv.DictReader((tmp_path / "run/timeseries.csv").open()))
    assert [float(first[k]) for k in ("t", "running", "waiting", "kv_cache_pct")] == [1.0, 7.0, 2.0, 50.0]


def test_gauges_read_prometheus_text() -> None:
    found = gauges(METRICS)
    assert found["vllm:num_requests_running"] == [3.0, 4.0] and "broken" not in found
    assert gauges("<html>no metrics</html>") == {} and gauges("a 1 1700000000\nb NaN\nc x\n").keys() == {"a", "b"}


# ---------------------------------------------------------------- what is written


def test_the_folder_is_a_recorded_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    with serving(Behaviour(first=0.01, each=0.002)) as live:
        code, out, err = run(capsys, "--url", live.url, "--rate", "100/s", "--requests", "12", "--prompt", "41",
                             "--output", "7", "--out", str(folder), "--engine-arg", "max-num-seqs=4",
                             "--engine-arg", "dtype=bfloat16")  # fmt: skip
    assert code == 0, err
    assert "TTFT" in out and "between pieces" in out and "12 requests answered" in " ".join(out.split())
    assert sorted(p.name for p in folder.iterdir()) == ["meta.json", "requests.jsonl", "timeseries.csv"]
    about, requests = json.loads((folder / "meta.json").read_text()), rows(folder)
    assert about["num_requests"] == len(requests) == 12 and about["schema_version"] == 1
    assert about["engine_kwargs"] | {"max_model_len": 0} == {
        "model": "tiny", "max_model_len": 0, "max_num_seqs": 4, "dtype": "bfloat16"}  # fmt: skip
    assert about["recorded_by"] == "client" and about["failed"] == about["unsent"] == 0
    assert about["engine"] == "unknown" and "machine" not in about
    assert [r["arrival_time"] for r in requests] == sorted(r["arrival_time"] for r in requests)
    for r in requests:
        assert abs(r["arrival_time"] - time.time()) < 600.0
        assert r["arrival_time"] + 0.01 <= r["first_token_ts"] <= r["last_token_ts"] and r["output_toks"] == 7
        assert r["queued_ts"] is None and r["scheduled_ts"] is None  # nobody outside sees it
        assert sum(r["itl"]) == pytest.approx(r["last_token_ts"] - r["first_token_ts"], abs=1e-4)
    series = list(csv.DictReader((folder / "timeseries.csv").open()))
    assert sum(float(s["gen_throughput"]) for s in series) == pytest.approx(12 * 7)
    assert sum(float(s["prompt_throughput"]) for s in series) == pytest.approx(sum(r["input_toks"] for r in requests))
    assert float(series[-1]["in_flight"]) == 0
    assert {series[0][k] for k in ("running", "waiting", "kv_cache_pct")} == {"nan"}  # no metrics say it


def test_a_recording_is_traffic(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    with serving(Behaviour(first=0.0, each=0.0)) as live:
        save(observe(live.url, trace([0.0, 0.05, 0.1], [21, 31, 41], [2, 3, 4])), tmp_path / "run", {})
        again = load(tmp_path / "run")
        found = observe(live.url, again)
    assert again.prompt.tolist() == [21, 31, 41] and again.output.tolist() == [2, 3, 4]
    assert np.allclose(again.arrival, [0.0, 0.05, 0.1], atol=0.04)
    assert sorted(r.prompt for r in found.answered) == [21, 31, 41]


def test_a_recording_is_a_run_to_validate(tmp_path: Path) -> None:
    with serving(Behaviour(first=0.03, each=0.01)) as live:
        save(observe(live.url, synthetic(6, concurrency=2, prompt=21, output=4)), tmp_path / "run", {}, machine="l4")
    found = read_run(tmp_path / "run")
    assert found.trace.closed_loop == 2 and not found.inside and found.meta["machine"] == "l4"
    assert (found.times["TTFT"] >= 0.03).all() and (found.times["latency"] >= 0.06).all()
    assert found.trace.output.tolist() == [4] * 6 and np.isnan(found.scheduled).all()
    (tmp_path / "run/meta.json").write_text('{"model": "tiny", "closed_loop": -1}')
    with pytest.raises(TierwiseError, match="closed_loop"):
        _ = read_run(tmp_path / "run").trace


def test_recordings_are_not_overwritten(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "meta.json").write_text("{}")
    code, _, err = run(capsys, "--url", NOBODY, "--rate", "1/s", "--out", str(tmp_path))
    assert code == 2 and "already holds meta.json" in err
    assert (tmp_path / "meta.json").read_text() == "{}"
    code, _, err = run(capsys, "--url", NOBODY, "--rate", "1/s", "--out", str(tmp_path / "no" / "run"))
    assert code == 2 and "does not exist" in err


def test_numbers_for_machines(capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Behaviour(first=0.0, each=0.0)) as live:
        code, out, _ = run(capsys, "--url", live.url, "--concurrency", "2", "--requests", "4", "--prompt", "9",
                           "--output", "1", "--json", "-")  # fmt: skip
    found = json.loads(out)
    assert code == 0 and found["requests"] == 4 and found["tpot"] is None
    assert found["ttft"]["median"] <= found["ttft"]["p99"] <= found["ttft"]["largest"]
