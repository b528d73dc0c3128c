"""Observing a server that answers badly, late, in pieces or not at all; and the parsers of what it says."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.measure.observing import NOBODY, rows, run
from tests.measure.openai_server import Behaviour, Live, serving

from tierwise.core.errors import TierwiseError
from tierwise.measure.observe import observe
from tierwise.measure.observe_files import meta, save
from tierwise.measure.observe_http import HttpClient, ServerError
from tierwise.measure.observe_numbers import numbers
from tierwise.measure.observe_prompts import Ruler, prompt
from tierwise.measure.observe_stream import Events, piece
from tierwise.serving.traffic import synthetic, trace

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
        begun = HttpClient.send

        def send(self: HttpClient, *args: object) -> object:
            if len(live.streamed) >= 5:
                self.port = port
                self.close()
            return begun(self, *args)  # type: ignore[arg-type]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(HttpClient, "send", send)
            found = observe(live.url, asked)
    assert found.stopped == "the server is gone" and len(found.answered) == 5
    assert len(found.failed) + len(found.answered) + found.unsent == 200 and len(found.failed) < 50


def interrupted(live: Live, streamed: int, *args: str) -> tuple[int, str]:
    """Exit code and output of a process of its own that gets Ctrl-C once so many answers are under way: a signal that
    came late would end whatever runs the tests."""
    # What runs in the background ignores the signal, and so do its children: the default is given back.
    code = ("import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from tierwise.cli import main; main()")  # fmt: skip
    process = subprocess.Popen([sys.executable, "-c", code, "observe", "--url", live.url, *args], text=True,
                               stdout=subprocess.PIPE, stderr=subprocess.STDOUT)  # fmt: skip
    try:
        until = time.monotonic() + 60.0
        while len(live.streamed) < streamed and process.poll() is None and time.monotonic() < until:
            time.sleep(0.005)
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=60.0)
    finally:
        process.kill()
    return process.returncode, out


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_leaves_what_was_recorded(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with serving(Behaviour(first=0.0, each=0.005)) as live:
        code, out = interrupted(live, 6, "--concurrency", "2", "--requests", "5000", "--prompt", "9", "--output", "5",
                                "--out", str(folder))  # fmt: skip
    about = json.loads((folder / "meta.json").read_text())
    assert code == 0 and about["stopped"] == "by the user" and "Stopped: by the user" in out
    assert about["num_requests"] == len(rows(folder)) >= 4
    assert about["num_requests"] + about["unsent"] + about["failed"] == 5000


@pytest.mark.skipif(os.name != "posix", reason="signals as POSIX has them")
def test_ctrl_c_before_any_answer_leaves_nothing(tmp_path: Path) -> None:
    with serving(Behaviour(first=0.0, each=0.0, hang=True)) as live:
        code, out = interrupted(live, 1, "--concurrency", "1", "--requests", "2", "--prompt", "9",
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
            async with HttpClient(url, timeout=5.0).send("GET", "/") as answer:
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
