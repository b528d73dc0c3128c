"""What a live server is: its model, the options it takes, how it counts tokens, what it says of its state."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from tierwise.core.errors import BadField, TierwiseError
from tierwise.measure.observe_http import HttpClient, ServerError, refuse
from tierwise.measure.observe_prompts import Ruler, ruler
from tierwise.measure.observe_stream import DONE, Events, piece

PATHS = {"completions": "/v1/completions", "chat": "/v1/chat/completions"}
# Options beyond OpenAI's own, by which answers are as long as asked for and their tokens counted one by one. A server
# may refuse what it does not know: then fewer of them are tried.
_CONTINUOUS = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
_USAGE = {"stream_options": {"include_usage": True}}
_EXACT = {"ignore_eos": True}
OPTIONS: tuple[dict[str, Any], ...] = (_EXACT | _CONTINUOUS, _EXACT | _USAGE, _USAGE, _EXACT, {})


@dataclass(frozen=True)
class ServerState:
    """What a server says of itself at a moment: requests running and waiting, share of its KV cache in use."""

    running: float = float("nan")
    waiting: float = float("nan")
    kv: float = float("nan")


@dataclass(frozen=True)
class Server:
    """A server that answered.

    Attributes:
        model: the name it serves; ``endpoint``: ``completions`` or ``chat``.
        options: fields sent with every request.
        ruler: tokens of a prompt by its words; ``tokenizer``: whether the server counts those of a text.
        engine: whose metrics it has, "" for none; ``version``: its own, "" where it does not say.
        config: what it says of its configuration.
    """

    client: HttpClient
    model: str
    endpoint: str
    options: dict[str, Any]
    ruler: Ruler
    tokenizer: dict[str, str] | None
    engine: str = ""
    version: str = ""
    config: dict[str, Any] = field(default_factory=dict)

    def body(self, prompt: str, tokens: int) -> dict[str, Any]:
        """A request for so many tokens, streamed."""
        return asking(self.model, self.endpoint, prompt, tokens) | {"stream": True} | self.options

    async def count(self, text: str) -> int:
        """Tokens of a prompt by the server's tokenizer; by the ruler where it has none."""
        if self.tokenizer is None:
            return self.ruler.tokens(text.count(" ") + 1)
        return await _tokenized(self.client, self.model, self.tokenizer, text)

    async def state(self) -> ServerState:
        """What the server's metrics say now; nothing where it has none or does not answer."""
        names = _known()["metrics"].get(self.engine)
        if names is None:
            return ServerState()
        try:
            found = await _metrics(self.client)
        except ServerError:
            return ServerState()
        full = next((found[n] for n in names["kv"] if n in found), [])
        return ServerState(sum(found.get(names["running"], [float("nan")])),
                           sum(found.get(names["waiting"], [float("nan")])),
                           sum(full) / len(full) if full else float("nan"))  # fmt: skip


async def meet(client: HttpClient, model: str | None, endpoint: str | None, seed: int) -> Server:
    """Finds out what the recording needs to know; sends a handful of short requests, which also warm the server.

    Args:
        model: its name; None takes the only one it serves.
        endpoint: ``completions`` or ``chat``; None takes the first the server has, in that order.

    Raises:
        TierwiseError: no server, no such model, no streaming answers, no count of prompt tokens.
    """
    name, config = await _model(client, model)
    endpoint, options = await _options(client, name, endpoint)
    tokenizer = await _tokenizer(client, name) if endpoint == "completions" else None

    async def count(text: str) -> int:
        if tokenizer is not None:
            return await _tokenized(client, name, tokenizer, text)
        return await _counted(client, name, str(endpoint), text)

    measure = await ruler(count, seed)
    engine, said = await _engine(client)
    return Server(client, name, endpoint, options, measure, tokenizer, engine, await _version(client), config | said)


def asking(model: str, endpoint: str, prompt: str, tokens: int) -> dict[str, Any]:
    """The fields of a request that OpenAI's protocol has."""
    what = {"prompt": prompt} if endpoint == "completions" else {"messages": [{"role": "user", "content": prompt}]}
    return {"model": model, **what, "max_tokens": tokens, "temperature": 0.0}


async def _model(client: HttpClient, wanted: str | None) -> tuple[str, dict[str, Any]]:
    try:
        found = await client.json("GET", "/v1/models")
    except ServerError as error:
        if error.status not in (404, 405, 501) or wanted is None:
            raise
        return wanted, {}
    listed = found.get("data") if isinstance(found, dict) else None
    entries = {str(m["id"]): m for m in listed or [] if isinstance(m, dict) and "id" in m}
    if wanted is None:
        if len(entries) != 1:
            raise BadField("--model", "name", "nothing", f"one of {', '.join(entries) or '(the server lists none)'}")
        wanted = next(iter(entries))
    elif entries and wanted not in entries:
        raise BadField("--model", "name", wanted, f"what the server has: {', '.join(entries)}")
    length = entries.get(wanted, {}).get("max_model_len")
    return wanted, {"max_model_len": length} if isinstance(length, int) else {}


async def _options(client: HttpClient, model: str, endpoint: str | None) -> tuple[str, dict[str, Any]]:
    """The endpoint, and the most options with which it streams an answer."""
    refused: ServerError | None = None
    for name in PATHS if endpoint is None else (endpoint,):
        for options in OPTIONS:
            try:
                await _streams(client, name, asking(model, name, "one two three", 2) | {"stream": True} | options)
            except ServerError as error:
                if error.status not in (400, 404, 405, 422, 500, 501):
                    raise
                # The reason that counts is the one given to the plainest request, on the endpoint that is there.
                if refused is None or error.status not in (404, 405) or refused.status in (404, 405):
                    refused = error
                if error.status in (404, 405):
                    break
            else:
                return name, options
    assert refused is not None  # every endpoint was tried
    raise refused


async def _streams(client: HttpClient, endpoint: str, content: dict[str, Any]) -> None:
    where = client.name + PATHS[endpoint]
    async with client.send("POST", PATHS[endpoint], content) as answer:
        data = await answer.read()
        refuse(where, answer.status, answer.headers, data)
    seen = [d for d in Events().feed(data + b"\n\n") if d != DONE]
    if not seen:
        raise ServerError(f"{where}: the answer is no event stream: it begins {data[:60]!r}")
    for event in seen:
        piece(event)


async def _counted(client: HttpClient, model: str, endpoint: str, text: str) -> int:
    """Tokens of a prompt as the usage of a request for one token has them."""
    found = await client.json("POST", PATHS[endpoint], asking(model, endpoint, text, 1))
    usage = found.get("usage") if isinstance(found, dict) else None
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    if not isinstance(tokens, int):
        raise TierwiseError(f"{client.name}: tells neither the tokens of a prompt (usage.prompt_tokens) nor has a "
                            "tokenizer to ask: requests of a given length cannot be sent")  # fmt: skip
    return tokens


async def _tokenizer(client: HttpClient, model: str) -> dict[str, str] | None:
    """How the server counts the tokens of a text, None where it does not."""
    for how in _known()["tokenizers"]:
        try:
            one, two = [await _tokenized(client, model, how, text) for text in ("a word", "a word and a few more")]
        except ServerError as error:
            if error.status == 0:
                raise
            continue
        except TierwiseError:
            continue
        if 0 < one < two:
            return dict(how)
    return None


async def _tokenized(client: HttpClient, model: str, how: dict[str, str], text: str) -> int:
    found = await client.json("POST", how["path"], {"model": model, how["text"]: text})
    if how["count"] and isinstance(found, dict):
        found = found.get(how["count"])
    if isinstance(found, list):
        return len(found)
    if not isinstance(found, int) or isinstance(found, bool):
        raise TierwiseError(f"{client.name}{how['path']}: no count of tokens in the answer")
    return found


async def _version(client: HttpClient) -> str:
    try:
        found = await client.json("GET", "/version")
    except ServerError:
        return ""
    return str(found.get("version", "")) if isinstance(found, dict) else ""


async def _engine(client: HttpClient) -> tuple[str, dict[str, Any]]:
    try:
        async with client.send("GET", "/metrics") as answer:
            text = (await answer.read()).decode("utf-8", "replace") if answer.status == 200 else ""
    except ServerError:
        return "", {}
    found = gauges(text)
    for engine, names in _known()["metrics"].items():
        if names["running"] in found:
            return engine, _labels(text, names["config"]) if "config" in names else {}
    return "", {}


async def _metrics(client: HttpClient) -> dict[str, list[float]]:
    async with client.send("GET", "/metrics") as answer:
        data = await answer.read()
    return gauges(data.decode("utf-8", "replace"))


_SAMPLE = re.compile(r'^([A-Za-z_:][\w:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]+(\S+)', re.MULTILINE)
_LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


def gauges(text: str) -> dict[str, list[float]]:
    """Values of every series by name, in Prometheus' text format (prometheus.io, Exposition formats)."""
    found: dict[str, list[float]] = {}
    for name, _, value in _SAMPLE.findall(text):
        try:
            number = float(value)
        except ValueError:
            continue
        found.setdefault(name, []).append(number)
    return found


def _labels(text: str, name: str) -> dict[str, str]:
    """The labels of a series that says by them how a server is configured."""
    return next((dict(_LABEL.findall(labels)) for n, labels, _ in _SAMPLE.findall(text) if n == name), {})


@cache
def _known() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(files(__package__).joinpath("observe_servers.yaml").read_text("utf-8"))
    return found


__all__ = ["PATHS", "Server", "ServerState", "gauges", "meet"]
