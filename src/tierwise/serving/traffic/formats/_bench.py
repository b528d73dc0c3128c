"""What load generators write of a run: requests with the times a client saw, and what it says about what ran.

A format whose file holds such times has ``bench(path) -> Bench`` beside ``read``; the trace is what remains of it
without the times of tokens.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.core.jsontext import BadJson, at, loads, text
from tierwise.serving.traffic.bench import ClientRun
from tierwise.serving.traffic.formats._jsonl import parsed
from tierwise.serving.traffic.formats._text import checked, content
from tierwise.serving.traffic.rows import Rows, built
from tierwise.serving.traffic.trace import Floats, Trace

CLOSED = ("concurrent", "concurrency", "synchronous")  # how tools call a closed loop


def traced(b: ClientRun) -> Trace:
    """The requests of a run that were answered; turns follow each other after the time that passed between."""
    from tierwise.serving.traffic.formats.simple import following

    numbers = {"arrival": b.arrival, "prompt": b.prompt, "output": b.output}

    def shown(name: str, row: int) -> str:
        value = numbers[name][row]
        return "nothing" if np.isnan(value) else f"{value:g}"

    other: dict[str, Any] = {}
    if len(b.session):
        after = following(np.where(b.failed, -1, b.session), np.nan_to_num(b.arrival))
        wait = np.nan_to_num(b.arrival - b.last[after])
        other = {"after": after, "think": np.where((after >= 0) & (wait > 0), wait, 0.0)}
    rows = Rows(b.path, numbers, b.lines, shown, b.broken, b.notices, b.place)
    return built(rows, *numbers, absolute=True, left_out=(b.failed, b.called), closed_loop=b.closed, **other)


def sessions(names: list[str], turns: list[float]) -> NDArray[np.int64]:
    """Numbers of the sessions that requests are turns of (n,), -1 for those of none; empty where all are lone ones."""
    known: dict[str, int] = {}
    found = np.array([known.setdefault(name, len(known)) if name else -1 for name in names], np.int64)
    several = len(known) < np.sum(found >= 0) and any(turn > 0 for turn in turns)
    return found if several else found[:0]


def column(values: list[Any]) -> Floats:
    """JSON values as numbers (n,); nan for what is none."""
    from tierwise.core.jsontext import number

    return np.array([number(v) for v in values], np.float64)


def document(path: Path) -> Any:
    """The one JSON value of a file.

    Raises:
        TierwiseError: empty, no UTF-8 text, or no JSON.
    """
    try:
        return loads(checked(path, content(path)).decode("utf-8"))
    except BadJson as error:
        place = f"line {error.line}, column {error.column}: " if error.line else ""
        raise TierwiseError(f"{path}: {place}{error.problem}") from None


def documents(path: Path) -> tuple[list[dict[str, Any]], list[int], tuple[tuple[int, str], ...]]:
    """The objects of a file of one or more JSON texts, a line each where there are several; their lines; broken ones.

    Raises:
        TierwiseError: none at all.
    """
    data = checked(path, content(path)).decode("utf-8")
    try:
        value = loads(data)
    except BadJson as error:
        rows = [(i, *parsed(line)) for i, line in enumerate(data.split("\n"), 1) if line.strip()]
        broken = tuple((i, why) for i, row, why in rows if row is None)
        if len(broken) == len(rows):
            place = f"line {error.line}, column {error.column}: " if error.line else ""
            raise TierwiseError(f"{path}: {place}{error.problem}") from None
        return [row for _, row, _ in rows if row is not None], [i for i, row, _ in rows if row is not None], broken
    if not isinstance(value, dict):
        raise TierwiseError(f"{path}: allowed: JSON objects of a result or a dataset")
    return [value], [1], ()


def beside(path: Path, name: str) -> Any:
    """The JSON value of a file beside another; None where there is none that can be read."""
    other = path.with_name(name)
    try:
        return loads(other.read_text(encoding="utf-8")) if other.is_file() else None
    except (OSError, ValueError, BadJson):
        return None


def named(value: object, *paths: tuple[str | int, ...]) -> str:
    """The first of these paths that leads to text; "" for none."""
    return next((found for p in paths if (found := text(at(value, *p)).strip())), "")
