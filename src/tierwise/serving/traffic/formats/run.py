"""A recorded run of a real engine: a folder of requests.jsonl and meta.json, or its requests.jsonl alone.

Fields: input_toks, output_toks, arrival_time (s of a clock).
Source: https://github.com/casys-kaist/LLMServingSim, bench/README.md (LLMServingSim 2.0).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from tierwise.core.jsontext import BadJson, at, loads, text
from tierwise.serving.traffic.formats._jsonl import Lines, first, has
from tierwise.serving.traffic.formats._text import HEAD, content
from tierwise.serving.traffic.rows import built
from tierwise.serving.traffic.trace import Trace

NEEDS = ("arrival_time", "input_toks", "output_toks")


def sniff(path: Path, head: str) -> bool:
    """Whether it is a run's folder, or the first line an object of these fields."""
    return (path / "requests.jsonl").is_file() if path.is_dir() else has(head, *NEEDS)


def read(path: Path) -> Trace:
    """Every request, the first at 0 s."""
    file = path / "requests.jsonl" if path.is_dir() else path
    first(file, content(file, HEAD).decode("utf-8", "replace"), *NEEDS)
    requests = built(Lines(file, NEEDS).rows(), *NEEDS, absolute=True)
    about = file.with_name("meta.json")
    try:
        model = text(at(loads(about.read_text(encoding="utf-8")), "model"))
    except (OSError, ValueError, BadJson):
        return requests
    return replace(requests, source=f"{requests.source} ({model})" if model else requests.source)
