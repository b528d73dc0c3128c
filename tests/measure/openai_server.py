"""A tiny server on loopback that speaks OpenAI's streaming protocol, with known delays and known faults."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEMPLATE = 3  # tokens in front of every prompt; every word is two tokens


@dataclass
class Behaviour:
    """What the server does; ``fault`` is called with the number of the streamed request and may return raw bytes to
    send in place of the stream."""

    first: float = 0.02
    each: float = 0.005
    slots: int = 64
    endpoints: tuple[str, ...] = ("/v1/completions",)
    models: tuple[str, ...] = ("tiny",)
    refused: tuple[str, ...] = ()
    usage: bool = True
    tokenizer: bool = False
    metrics: str = ""
    framing: str = "chunked"
    key: str = ""
    per_piece: int = 1
    faults: dict[int, bytes] = field(default_factory=dict)
    hang: bool = False


@dataclass
class Live:
    """A running server: its address, what was asked of it, and how many answers it wrote at once at most."""

    url: str
    asked: list[dict[str, Any]]
    busiest: list[int]
    connections: list[int]

    @property
    def streamed(self) -> list[dict[str, Any]]:
        """Requests of the recording itself; the first one streamed is the look at what the server takes."""
        return [r for r in self.asked if r.get("stream")][1:]


def tokens(text: str) -> int:
    """Of a prompt."""
    return TEMPLATE + 2 * len(text.split())


@contextmanager
def serving(behaviour: Behaviour) -> Iterator[Live]:
    """The server, until the block ends."""
    b = behaviour
    live = Live("", [], [0], [0])
    slots, lock, busy = threading.Semaphore(b.slots), threading.Lock(), [0]
    over = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            with lock:
                live.connections[0] += 1

        def log_message(self, *_: object) -> None:
            pass

        def reply(self, found: object, status: int = 200) -> None:
            data = found.encode() if isinstance(found, str) else json.dumps(found).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_GET(self) -> None:
            if self.path == "/v1/models":
                self.reply({"data": [{"id": m, "max_model_len": 4096} for m in b.models]})
            elif self.path == "/metrics" and b.metrics:
                self.reply(b.metrics)
            else:
                self.reply({"detail": "Not Found"}, 404)

        def do_POST(self) -> None:
            asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if b.key and self.headers.get("Authorization") != f"Bearer {b.key}":
                return self.reply({"error": {"message": "who are you?"}}, 401)
            if self.path == "/tokenize" and b.tokenizer and "prompt" in asked:
                return self.reply({"count": tokens(asked["prompt"]), "tokens": []})
            if self.path not in b.endpoints:
                return self.reply({"detail": "Not Found"}, 404)
            with lock:
                live.asked.append(asked)
                turn = len(live.streamed) if asked.get("stream") else -1
            bad = [name for name in b.refused if name in json.dumps(asked)]
            if bad:
                return self.reply({"error": {"message": f"unknown field {bad[0]}"}}, 400)
            text = asked["prompt"] if "prompt" in asked else asked["messages"][0]["content"]
            if not asked.get("stream"):
                return self.reply({"choices": [], "usage": {"prompt_tokens": tokens(text), "completion_tokens": 1}})
            if turn in b.faults:
                self.wfile.write(b.faults[turn])
                self.close_connection = True
                return None
            with slots:
                with lock:
                    busy[0] += 1
                    live.busiest[0] = max(live.busiest[0], busy[0])
                try:
                    self.stream(asked, text, hang=b.hang and turn > 0)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True
                finally:
                    with lock:
                        busy[0] -= 1
            return None

        def stream(self, asked: dict[str, Any], text: str, hang: bool) -> None:
            chat = "messages" in asked
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            if b.framing == "chunked":
                self.send_header("Transfer-Encoding", "chunked")
            else:
                self.send_header("Connection", "close")
            self.end_headers()
            n = asked["max_tokens"]
            if chat:
                self.event({"choices": [{"delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
            for i in range(0, n, b.per_piece):
                time.sleep(b.first if i == 0 else b.each)
                end = "length" if i + b.per_piece >= n else None
                said = {"delta": {"content": " a"}} if chat else {"text": " a"}
                self.event({"choices": [{"index": 0, **said, "finish_reason": end}]})
                if hang:
                    over.wait(10.0)
                    return
            if b.usage and asked.get("stream_options", {}).get("include_usage"):
                self.event({"choices": [], "usage": {"prompt_tokens": tokens(text), "completion_tokens": n}})
            self.send("data: [DONE]\n\n")
            if b.framing == "chunked":
                self.wfile.write(b"0\r\n\r\n")
            else:
                self.close_connection = True

        def event(self, found: object) -> None:
            self.send(f"data: {json.dumps(found)}\r\n\r\n")

        def send(self, text: str) -> None:
            data = text.encode()
            self.wfile.write(b"%x;note=1\r\n%b\r\n" % (len(data), data) if b.framing == "chunked" else data)
            self.wfile.flush()

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

        def handle_error(self, *_: object) -> None:
            pass  # clients that leave are part of the tests

    server = Server(("127.0.0.1", 0), Handler)
    live.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield live
    finally:
        over.set()
        server.shutdown()
        server.server_close()
