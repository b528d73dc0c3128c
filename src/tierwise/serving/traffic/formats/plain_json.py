"""The plain format's columns as JSON lines (or a JSON list): arrival (s), prompt, output, and any of tenant, priority,
session, after, think, samples, adapter.

Names and meanings are those of the plain CSV (:mod:`.simple`).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tierwise.serving.traffic.formats._jsonl import Lines, first, has
from tierwise.serving.traffic.formats._text import HEAD, content
from tierwise.serving.traffic.formats.simple import LEAST, NAMES, codes_of, earlier, following, ints
from tierwise.serving.traffic.rows import built
from tierwise.serving.traffic.trace import Trace

NEEDS = ("arrival", "prompt", "output")


def sniff(path: Path, head: str) -> bool:
    """Whether the first object has an arrival, a prompt and an output."""
    return all(any(has(head, name) for name in NAMES[field]) for field in NEEDS)


def read(path: Path) -> Trace:
    """Every request, at the times the file gives."""
    head = content(path, HEAD).decode("utf-8", "replace")
    columns = [next((name for name in NAMES[field] if has(head, name)), field) for field in NEEDS]
    first(path, head, *columns)
    lines = Lines(path, (*columns, *LEAST, "think"), (), ("session", "tenant"), time=columns[0])
    numbers, other = lines.numbers, {}
    whole: dict[str, float] = {}
    for name, least in LEAST.items():
        plain = {"priority": 0.0, "samples": 1.0}.get(name, -1.0)
        if np.isfinite(numbers[name]).any():
            numbers[name] = np.where(np.isnan(numbers[name]), plain, numbers[name])
            whole[name], other[name] = least, ints(numbers[name], plain)
    think = numbers["think"]
    other["think"] = np.where((think > 0) & (think < 1e12), think, 0.0)
    notices: tuple[str, ...] = ()
    session = codes_of(lines.texts["session"])
    if (session >= 0).any() and "after" not in other:
        other["after"] = following(session, np.nan_to_num(numbers[columns[0]]))
    if "after" in other:
        other["after"], wrong = earlier(other["after"])
        if wrong.any():
            notices += (f"{int(wrong.sum())} requests follow no earlier row: taken as the first of a session",)
    more: dict[str, Any] = dict(other)
    tenant = codes_of(lines.texts["tenant"])
    if (tenant >= 0).any():
        names = dict.fromkeys(name for name in lines.texts["tenant"] if name)
        more |= {"tenant": np.where(tenant < 0, len(names), tenant), "tenants": (*names, "")}
        if (tenant >= 0).all():
            more["tenants"] = tuple(names)
    return built(lines.rows(notices), *columns, whole=whole, **more)
