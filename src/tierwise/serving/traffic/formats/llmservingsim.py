"""LLMServingSim's workloads: JSON lines of input_toks, output_toks, arrival_time_ns, or sessions of sub_requests.

A sub-request follows the one before it by its tool's time. Where the tokens themselves are there (input_tok_ids),
equal blocks of them are known to be shared.
Source: https://github.com/casys-kaist/LLMServingSim, workloads/README.md.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.jsontext import items, number
from tierwise.serving.traffic.blocks import BLOCK, content_blocks
from tierwise.serving.traffic.formats._jsonl import Lines, first, has, identities, objects, short, source
from tierwise.serving.traffic.formats._text import HEAD, checked, content
from tierwise.serving.traffic.rows import Rows, built
from tierwise.serving.traffic.trace import Ints, Trace

NEEDS = ("arrival_time_ns", "input_toks", "output_toks")
NS = 1e-9


def sniff(path: Path, head: str) -> bool:
    """Whether the first line is a request or a session of it."""
    return has(head, *NEEDS) or has(head, "sub_requests")


def read(path: Path) -> Trace:
    """Every request, at the times the file gives."""
    data = checked(path, content(path))
    if b'"sub_requests"' in data:
        return _sessions(path)
    first(path, data[:HEAD].decode("utf-8", "replace"), *NEEDS)
    lines = Lines(path, NEEDS, ("input_tok_ids",))
    return built(lines.rows(), *NEEDS, unit=NS, **_shared(*lines.lists["input_tok_ids"]))


def _sessions(path: Path) -> Trace:
    """Sessions, and single requests among them; a line is refused as a whole."""
    calls: list[dict[str, Any]] = []
    lines: list[int] = []
    broken: list[tuple[int, str]] = []
    after: list[int] = []
    for i, row, why in objects(source(path)):
        turns = [] if row is None else row.get("sub_requests", [row])
        if not (isinstance(turns, list) and turns and all(isinstance(t, dict) for t in turns)):
            broken.append((i, why or "sub_requests: allowed: a list of requests"))
            continue
        time, waited = number((row or {}).get("arrival_time_ns")), 0.0
        for turn, call in enumerate(turns):
            calls.append(call | {"arrival_time_ns": time + waited, "wait": waited})
            after.append(len(calls) - 2 if turn else -1)
            tool = number(call.get("tool_duration_ns"))
            waited += tool if 0 < tool < np.inf else 0.0
            lines.append(i)
    numbers = {name: np.array([number(c.get(name)) for c in calls], np.float64) for name in NEEDS}
    total = np.array([c["wait"] for c in calls], np.float64)
    follows = np.array(after, np.int64)
    think = np.where(follows >= 0, total - total[follows], 0.0) * NS
    ids = [[t for t in items(c.get("input_tok_ids")) if type(t) in (int, str)] for c in calls]
    start = np.concatenate([[0], np.cumsum([len(x) for x in ids], dtype=np.int64)])
    tokens = identities([t for x in ids for t in x])
    rows = Rows(path, numbers, np.array(lines, np.int64), lambda name, row: short(calls[row].get(name)), tuple(broken))
    return built(rows, *NEEDS, unit=NS, after=follows, think=think, **_shared(tokens, start))


def _shared(tokens: Ints, start: Ints) -> dict[str, Any]:
    if not len(tokens):
        return {}
    blocks, block_start = content_blocks(tokens, start, BLOCK)
    return {"blocks": blocks, "block_start": block_start, "block_size": BLOCK}

