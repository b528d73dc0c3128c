"""GenAI-Perf's ``profile_export.json``: experiments of requests, each with the clock (ns) and text of every response.

Tokens are those the server counted (``usage``), else the prompt's are estimated from its text, and each response with
text is one. Source: https://github.com/triton-inference-server/client,
src/c++/perf_analyzer/genai-perf/tests/test_llm_profile_data_parser.py and docs/files.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.jsontext import BadJson, at, fields, first, items, loads, number, text
from tierwise.serving.traffic.bench import ClientRun
from tierwise.serving.traffic.formats import _estimate
from tierwise.serving.traffic.formats._bench import CLOSED, column, document, named, traced
from tierwise.serving.traffic.trace import Trace

NEEDS = ("experiments", "requests")
NS = 1e-9


def sniff(path: Path, head: str) -> bool:
    """Whether it is such a file."""
    said = ('"service_kind"', '"request_inputs"', '"response_timestamps"')
    return head.lstrip().startswith("{") and '"experiments"' in head and any(name in head for name in said)


def read(path: Path) -> Trace:
    """Every request of the last experiment that was answered."""
    return traced(bench(path))


def bench(path: Path) -> ClientRun:
    """The last experiment.

    Raises:
        TierwiseError: none, or one without requests.
    """
    found = [fields(e) for e in items(at(document(path), "experiments"))]
    requests = [fields(r) for r in items(found[-1].get("requests"))] if found else []
    if not requests:
        raise TierwiseError(f"{path}: experiments: the last lists no requests; allowed: at least one")
    notices = [f"the last of {len(found)} experiments"] if len(found) > 1 else []
    answers = [_answer(r) for r in requests]
    prompts = column([at(a, "usage", "prompt_tokens") for a in answers])
    if np.isnan(prompts).any():
        prompts = np.where(np.isnan(prompts), _estimate.tokens([_asked(r) for r in requests]), prompts)
        notices.append(_estimate.notice())
    output = column([first(a, ("usage", "completion_tokens"), ("count",)) for a in answers])
    origin = min((t for r in requests if type(t := r.get("timestamp")) is int), default=0)

    def times(values: list[Any]) -> Any:
        return column([v - origin if type(v) is int else v for v in values]) * NS

    mode = named(found[-1], ("experiment", "mode"))
    kept = number(at(found[-1], "experiment", "value"))
    n = len(requests)
    return ClientRun(
        path, times([r.get("timestamp") for r in requests]), prompts, output, times([a["first"] for a in answers]),
        times([a["last"] for a in answers]), output == 0, np.arange(1, n + 1), called="requests without an answer",
        notices=tuple(notices), closed=int(kept) if mode in CLOSED and 1 <= kept < 2**31 else 0,
        model=next((name for r in requests if (name := named(_payload(r), ("model",)))), ""),
    )  # fmt: skip


def _answer(request: dict[str, Any]) -> dict[str, Any]:
    """When the first and the last response with text came, how many there were, and what the server counted."""
    stamps = items(request.get("response_timestamps"))
    usage: dict[str, Any] = {}
    spoken = []
    for stamp, response in zip(stamps, items(request.get("response_outputs")), strict=False):
        said = ""
        for part in _chunks(response):
            usage = fields(at(part, "usage")) or usage
            found = first(part, ("choices", 0, "delta", "content"), ("choices", 0, "text"),
                          ("choices", 0, "message", "content"), ("text_output",))  # fmt: skip
            said += text(found)
        if said:
            spoken.append(stamp)
    return {"first": spoken[0] if spoken else None, "last": spoken[-1] if spoken else None, "count": len(spoken),
            "usage": usage}  # fmt: skip


def _chunks(response: Any) -> list[Any]:
    """The JSON values of one response: of a stream's lines, or itself."""
    written = at(response, "response")
    if not isinstance(written, str):
        return [response]
    return [value for line in written.split("\n") if (value := _value(line.removeprefix("data:"))) is not None]


def _asked(request: dict[str, Any]) -> str:
    """What was asked, as text."""
    payload = _payload(request)
    parts = [at(m, "content") for m in items(at(payload, "messages"))]
    lists = [text(at(p, "text")) for part in parts for p in items(part)]
    return "".join([*map(text, parts), *lists]) or text(first(payload, ("prompt",), ("text_input",)))


def _payload(request: dict[str, Any]) -> Any:
    found = first(request, ("request_inputs", "payload"), ("request_inputs",))
    return _value(found) if isinstance(found, str) else found


def _value(written: str) -> Any:
    try:
        return loads(written)
    except BadJson:
        return None
