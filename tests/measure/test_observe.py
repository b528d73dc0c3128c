"""Recording a live server: what is sent, what is measured, what is written, and how faults are told."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.measure.openai_server import Behaviour, serving, tokens

from tierwise.cli import main
from tierwise.errors import TierwiseError
from tierwise.measure.observe import observe
from tierwise.measure.observe_files import meta, save
from tierwise.measure.observe_http import Client, ServerError
from tierwise.measure.observe_prompts import Ruler, prompt
from tierwise.measure.observe_report import numbers, times
from tierwise.measure.observe_server import gauges
from tierwise.measure.observe_stream import Events, piece
from tierwise.measure.recorded import read_run
from tierwise.serving.traffic import load, synthetic, trace

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["observe", *args])
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


def rows(folder: Path, name: str = "requests.jsonl") -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]


# ---------------------------------------------------------------- what is measured


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


# ---------------------------------------------------------------- what goes wrong

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
HALF = b'data: {"choices": [{"text": "a", "finish_reason": null}]}\n\n'


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 26\r\n\r\n" + b'{"error":{"message":"no"}}', "HTTP 503 .*: no$"),
        (OK + b"data: {not json\n\n", "malformed stream: an event holds '{not json'"),
        (OK + b"data: [1]\n\n", "malformed stream"),
        (OK + HALF, "the stream ended before the answer did"),
        (OK + b"data: [DONE]\n\n", "the answer holds no token"),
        (OK + HALF + b'data: {"error": {"message": "out of memory"}}\n\n', "the server broke off: out of memory"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n40\r\nshort", "closed the connection before"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", "the answer is not HTTP"),
        (b"SSH-2.0-OpenSSH\r\n", "the answer is not HTTP: it begins b'SSH"),
        (b"HTTP/1.1 302 Found\r\nLocation: http://other/\r\nContent-Length: 0\r\n\r\n", "sends on to http://other/"),
    ],
)
def test_faults_of_one_request_are_told_and_the_rest_recorded(fault: bytes, said: str, tmp_path: Path) -> None:
    with serving(Behaviour(first=0.0, each=0.0, faults={2: fault})) as live:
        found = observe(live.url, synthetic(3, concurrency=1, prompt=9, output=2))
    assert len(found.answered) == 2
    (failed,) = found.failed
    assert failed.index == 1
    with pytest.raises(AssertionError, match=said):
        raise AssertionError(failed.error)
    save(found, tmp_path / "run", {})
    assert len(rows(tmp_path / "run")) == 2 and rows(tmp_path / "run", "errors.jsonl")[0]["error"] == failed.error
    assert meta(found, {})["failed"] == numbers(found)["failed"] == 1


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--url", NOBODY, "--rate", "1/s"), "connection refused: no server listens there"),
        (("--url", "127.0.0.1:8000", "--rate", "1/s"), "allowed: an address such as"),
        (("--url", "ftp://x", "--rate", "1/s"), "allowed: an address such as"),
        (("--url", "http://u:p@x", "--rate", "1/s"), "allowed: an address such as"),
        (("--url", "http://x/\u00e9", "--rate", "1/s"), "allowed: an address such as"),
        (("--url", "http://x:99999", "--rate", "1/s"), "allowed: an address such as"),
        (("--url", NOBODY), "Give one of --trace FILE, --rate 4/s, --concurrency 32"),
        (("--url", NOBODY, "--rate", "1/s", "--concurrency", "2"), "Give one of"),
        (("--url", NOBODY, "--concurrency", "0"), "at least 1"),
        (("--url", NOBODY, "--rate", "1/s", "--endpoint", "chats"), "completions or chat"),
        (("--url", NOBODY, "--rate", "1/s", "--timeout", "0"), "more than 0 s"),
        (("--url", NOBODY, "--rate", "1/s", "--engine-arg", "x"), "NAME=VALUE"),
        (("--url", NOBODY, "--rate", "1/s", "--on", "h100-sxn"), "did you mean 'h100-sxm'"),
        (("--url", NOBODY, "--rate", "1/s", "--api-key-env", "TIERWISE_NO_SUCH_KEY"), "is not set or empty"),
        (("--url", NOBODY, "--rate", "1/s", "--prompt", "wide:x=1"), "unknown length 'wide'"),
    ],
)
def test_bad_input_is_one_line(args: tuple[str, ...], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = run(capsys, *args)
    assert code == 2 and not out
    assert said in err and len(err.strip().splitlines()) == 1


def test_a_server_of_something_else_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for behaviour, args, said in (
        (Behaviour(endpoints=()), (), "/v1/chat/completions: HTTP 404"),
        (Behaviour(models=("a", "b")), (), "one of a, b"),
        (Behaviour(), ("--model", "large"), "what the server has: tiny"),
        (Behaviour(refused=("max_tokens",)), (), "HTTP 400 Bad Request: unknown field max_tokens"),
        (Behaviour(key="secret"), (), "HTTP 401 Unauthorized: who are you?"),
    ):
        with serving(behaviour) as live:
            code, _, err = run(capsys, "--url", live.url, "--rate", "1/s", *args)
        assert code == 2 and said in err, err


def test_the_key_is_sent_and_kept_nowhere(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("TIERWISE_TEST_KEY", "secret-123")
    with serving(Behaviour(key="secret-123", first=0.0, each=0.0)) as live:
        code, out, err = run(capsys, "--url", live.url, "--concurrency", "1", "--requests", "2", "--prompt", "9",
                             "--api-key-env", "TIERWISE_TEST_KEY", "--out", str(tmp_path / "run"))  # fmt: skip
    assert code == 0
    assert "secret-123" not in out + err + "".join(p.read_text() for p in (tmp_path / "run").iterdir())
    monkeypatch.setenv("TIERWISE_TEST_KEY", "a\nb")
    assert (
        "no header may have" in run(capsys, "--url", NOBODY, "--rate", "1/s", "--api-key-env", "TIERWISE_TEST_KEY")[2]
    )


def test_silence_is_given_up() -> None:
    with serving(Behaviour(first=0.0, each=0.0, hang=True)) as live, pytest.raises(TierwiseError, match=r"for 0.3 s"):
        observe(live.url, trace([0.0], [9], [5]), timeout=0.3)


def test_a_server_that_goes_away_ends_the_recording() -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    with serving(Behaviour(first=0.0, each=0.0)) as live:
        asked = synthetic(200, concurrency=1, prompt=9, output=1)
        begun = Client.send

        def send(self: Client, *args: object) -> object:
            if len(live.streamed) >= 5:
                self.port = port
                self.close()
            return begun(self, *args)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Client, "send", send)
            found = observe(live.url, asked)
    assert found.stopped == "the server is gone" and len(found.answered) == 5
    assert len(found.failed) + len(found.answered) + found.unsent == 200 and len(found.failed) < 50


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_leaves_what_was_recorded(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "run"
    with serving(Behaviour(first=0.0, each=0.005)) as live:

        def stop() -> None:
            while len(live.streamed) < 6:
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=stop, daemon=True).start()
        code, out, _ = run(capsys, "--url", live.url, "--concurrency", "2", "--requests", "5000", "--prompt", "9",
                           "--output", "5", "--out", str(folder))  # fmt: skip
    about = json.loads((folder / "meta.json").read_text())
    assert code == 0 and about["stopped"] == "by the user" and "Stopped: by the user" in out
    assert about["num_requests"] == len(rows(folder)) >= 4
    assert about["num_requests"] + about["unsent"] + about["failed"] == 5000


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_before_any_answer_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Behaviour(first=0.0, each=0.0, hang=True)) as live:

        def stop() -> None:
            while not live.streamed:
                time.sleep(0.005)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=stop, daemon=True).start()
        code, out, _ = run(capsys, "--url", live.url, "--concurrency", "1", "--requests", "2", "--prompt", "9",
                           "--out", str(tmp_path / "run"))  # fmt: skip
    assert code == 0 and "2 requests were not sent or had not ended" in " ".join(out.split())
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- the parts


def test_whatever_bytes_answer_is_told_as_such() -> None:
    whole = (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab\ncd\r\n0\r\nX: y\r\n\r\n",
             b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab\ncd", b"HTTP/1.0 200 OK\r\n\r\nab\ncd",
             b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab\ncd")  # fmt: skip
    said = [b""]
    with socket.create_server(("127.0.0.1", 0)) as place:

        def answer() -> None:
            while True:
                try:
                    link = place.accept()[0]
                except OSError:
                    return
                with link:
                    link.recv(65536)
                    link.sendall(said[0])

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{place.getsockname()[1]}"

        async def ask() -> bytes:
            async with Client(url, timeout=5.0).send("GET", "/") as answer:
                return await answer.read()

        for said[0] in whole:
            assert asyncio.run(ask()) == b"ab\ncd"

        @settings(max_examples=60, deadline=None)
        @given(st.sampled_from(whole), st.integers(0, 90), st.binary(max_size=4), st.integers(0, 90))
        def spoiled(text: bytes, at: int, other: bytes, end: int) -> None:
            said[0] = (text[:at] + other + text[at + len(other) :])[: max(end, at)]
            with contextlib.suppress(ServerError):
                asyncio.run(ask())

        spoiled()


@given(st.lists(st.tuples(st.text(alphabet=st.characters(blacklist_characters="\r\n", blacklist_categories=("Cs",))),
                          st.sampled_from(["\n", "\r\n", "\r"])), max_size=6), st.data())  # fmt: skip
def test_events_do_not_depend_on_how_bytes_are_cut(said: list[tuple[str, str]], data: st.DataObject) -> None:
    stream = "".join(f": a comment{end}data: {text}{end}id: 7{end}{end}" for text, end in said).encode()
    # A lone CR ends a line only once the next byte shows that no LF follows.
    stream += b":"
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=8)))
    events = Events()
    found = [e for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True) for e in events.feed(stream[a:b])]
    assert found == [text for text, _ in said]


def test_events_of_several_lines() -> None:
    assert Events().feed(b"data: a\ndata:b\nevent: x\n\ndata\n\n\n") == ["a\nb", ""]


@pytest.mark.parametrize(
    ("event", "token"),
    [
        ({"choices": [{"text": "a"}]}, True),
        ({"choices": [{"text": "", "finish_reason": None}]}, True),  # a token that prints nothing
        ({"choices": [{"text": "", "finish_reason": "stop"}]}, False),
        ({"choices": [{"text": "a", "finish_reason": "length"}]}, True),
        ({"choices": [{"delta": {"role": "assistant", "content": ""}}]}, False),
        ({"choices": [{"delta": {"content": "a"}}]}, True),
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, True),
        ({"choices": [{"delta": {}, "finish_reason": "stop"}]}, False),
        ({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}}, False),
        ({"choices": None}, False),
    ],
)
def test_pieces_that_carry_tokens(event: object, token: bool) -> None:
    assert piece(json.dumps(event)).token is token


@settings(max_examples=50)
@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from(["choices", "usage", "delta", "text", "error", "finish_reason", "prompt_tokens"]), x)))  # fmt: skip
def test_any_json_is_a_piece_or_an_error(event: object) -> None:
    try:
        found = piece(json.dumps(event))
    except TierwiseError:
        return
    assert found.prompt >= -1 and found.output >= -1


@given(st.floats(0, 50), st.floats(0.3, 4.0), st.integers(1, 3000))
def test_a_ruler_is_right_to_half_a_word(fixed: float, per_word: float, wanted: int) -> None:
    r = Ruler(fixed, per_word)
    if wanted >= fixed + per_word:
        assert abs(r.tokens(r.words(wanted)) - wanted) <= per_word / 2 + 0.5
    assert r.words(wanted) >= 1


def test_equal_blocks_are_equal_text_and_others_are_not() -> None:
    asked = synthetic(3, "uniform", rate=1.0, prompt=100, output=1, system=64, block_size=16)
    texts = [prompt(asked, i, Ruler(0.0, 1.0), 0).split() for i in range(3)]
    assert all(len(t) == 164 for t in texts)
    assert texts[0][:64] == texts[1][:64] == texts[2][:64]
    assert texts[0][64:] != texts[1][64:] != texts[2][64:]
    assert prompt(asked, 0, Ruler(0.0, 1.0), 1).split()[:64] != texts[0][:64]
