"""JSON lines (or a JSON list of objects) into columns, each of its type; a line that is none is refused alone.

Python's own reader takes the lines, one by one: a columnar one guesses types from the first lines, and a line of
another type than guessed has ended the whole process (Arrow 26: a first line ``null``).
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.jsontext import BadJson, loads, number
from tierwise.serving.traffic.formats._csv import missing
from tierwise.serving.traffic.formats._text import checked, content
from tierwise.serving.traffic.rows import Rows
from tierwise.serving.traffic.trace import Floats, Ints

_PLAIN = re.compile(r"\d{1,20}(\.\d{1,20})?\Z")
TRIED = 20  # lines in which an object is looked for, where the first are broken


class Lines:
    """The wanted fields of every line.

    Attributes:
        numbers: (n,) by name, nan where a line has none.
        lists: identities as (flat, start (n + 1,)) by name; equal ones are equal numbers.
        texts: (n,) by name, "" where a line has none.
        lines: each row's line, from 1; ``broken``: lines that are no rows.
    """

    def __init__(
        self, path: Path, numbers: Sequence[str], lists: Sequence[str] = (), texts: Sequence[str] = (), time: str = ""
    ) -> None:
        """``time``: the one of ``numbers`` that may also be text, as :func:`moment` reads it.

        Raises TierwiseError: empty, no UTF-8 text, no line that is an object."""
        self.path = path
        self._source = source(path)
        found: dict[str, array[float]] = {name: array("d") for name in numbers}
        flat: dict[str, list[int | str]] = {name: [] for name in lists}
        count: dict[str, list[int]] = {name: [] for name in lists}
        self.texts: dict[str, list[str]] = {name: [] for name in texts}
        broken: list[tuple[int, str]] = []
        lines: list[int] = []
        for i, row, why in objects(self._source):
            if row is None:
                broken.append((i, why))
                continue
            if wrong := next((n for n in lists if not _ids(row.get(n))), None):
                broken.append((i, f"{wrong}: found {short(row[wrong])}; allowed: a list of whole numbers"))
                continue
            lines.append(i)
            for name, column in found.items():
                column.append(moment(row.get(name)) if name == time else number(row.get(name)))
            for name in lists:
                ids = row.get(name) or ()
                flat[name].extend(ids)
                count[name].append(len(ids))
            for name in texts:
                self.texts[name].append(_name(row.get(name)))
        if not lines:
            line, why = broken[0] if broken else (1, "no object")
            raise TierwiseError(f"{self.path}: no {self.place} is a request; {self.place} {line}: {why}")
        self.broken, self.lines = tuple(broken), np.array(lines, np.int64)
        self.numbers: dict[str, Floats] = {name: np.array(column, np.float64) for name, column in found.items()}
        self.lists: dict[str, tuple[Ints, Ints]] = {
            name: (identities(flat[name]), np.concatenate([[0], np.cumsum(count[name], dtype=np.int64)]))
            for name in lists
        }

    @property
    def place(self) -> str:
        """What ``lines`` counts."""
        return "line" if isinstance(self._source[0], str) else "item"

    def rows(self, notices: tuple[str, ...] = ()) -> Rows:
        """What was read, for :func:`tierwise.serving.traffic.rows.built`."""
        return Rows(self.path, self.numbers, self.lines, self._shown, self.broken, notices, self.place)

    def _shown(self, name: str, row: int) -> str:
        """What the file holds there: read again, so that nothing is kept for the few rows that are shown."""
        item = self._source[int(self.lines[row]) - 1]
        found = parsed(item)[0] if isinstance(item, str) else item
        return short(found[name]) if isinstance(found, dict) and name in found else "nothing"


def moment(value: object) -> float:
    """A time: a number as it is, or as text; a date and time (ISO 8601, of UTC where it names no zone) as seconds since
    1970; nan for whatever is none."""
    if not isinstance(value, str):
        return number(value)
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return float(value) if _PLAIN.match(value) else float("nan")
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def source(path: Path) -> list[Any]:
    """The lines of a file, or the items of the one list it is; at least one.

    Raises:
        TierwiseError: empty, no UTF-8 text, or a list that is no JSON.
    """
    text = checked(path, content(path)).decode("utf-8")
    if not text.lstrip().startswith("["):
        return text.split("\n")
    try:
        found = loads(text)
    except BadJson as error:
        if "\n" not in text.strip():
            place = f"line {error.line}, column {error.column}: " if error.line else ""
            raise TierwiseError(f"{path}: {place}{error.problem}") from None
        return text.split("\n")
    if not isinstance(found, list):
        raise TierwiseError(f"{path}: found {short(found)}; allowed: a list of requests")
    if not found:
        raise TierwiseError(f"{path}: is an empty list; it should hold requests")
    return [None if isinstance(item, str) else item for item in found]


def objects(lines: Sequence[Any]) -> Iterator[tuple[int, dict[str, Any] | None, str]]:
    """Every line that is not blank: its place from 1, its object or None, and what is wrong with it."""
    for i, line in enumerate(lines, 1):
        if isinstance(line, str):
            if line and not line.isspace():
                yield (i, *parsed(line))
        elif isinstance(line, dict):
            yield i, line, ""
        else:
            yield i, None, f"found {short(line)}; allowed: a JSON object"


def first(path: Path, head: str, *needed: str) -> None:
    """Raises TierwiseError where the first line that is an object lacks a needed field."""
    row = _first(head)
    if row is not None:
        missing(path, needed, list(row))


def has(head: str, *names: str) -> bool:
    """Whether the first JSON object has all these fields; one longer than the head counts by its text."""
    row = _first(head)
    if row is not None:
        return all(n in row for n in names)
    lines = [text for text in head.split("\n") if text.strip()][:TRIED]
    return bool(lines) and lines[0].lstrip().startswith(("{", "[")) and all(f'"{n}"' in head for n in names)


def _first(head: str) -> dict[str, Any] | None:
    """The first object of a file's beginning: of its lines, or of the list it is."""
    lines = [text for text in head.split("\n") if text.strip()][:TRIED]
    row = next((r for text in lines if (r := parsed(text)[0]) is not None), None)
    if row is None and head.lstrip().startswith("["):
        try:
            row = json.JSONDecoder().raw_decode(head.lstrip()[1:].lstrip())[0]
        except (ValueError, RecursionError):
            return None
    return row if isinstance(row, dict) else None


def parsed(text: str) -> tuple[dict[str, Any] | None, str]:
    """The object of one line, or None and what is wrong with it."""
    try:
        row = loads(text)
    except BadJson as error:
        return None, error.problem if error.cut or not error.column else f"column {error.column}: {error.problem}"
    return (row, "") if isinstance(row, dict) else (None, f"found {short(row)}; allowed: a JSON object")


def identities(values: list[int | str]) -> Ints:
    """Whole numbers of 64 bits as they are; of anything larger, or text, a number for each in order of appearance."""
    try:
        whole: Any = values  # what fits is told by trying
        return np.array(array("q", whole), np.int64)
    except (OverflowError, TypeError):
        known: dict[int | str, int] = {}
        return np.array([known.setdefault(value, len(known)) for value in values], np.int64)


def short(value: object) -> str:
    """A JSON value in at most 40 characters, for messages."""
    try:
        text = json.dumps(value)
    except (RecursionError, ValueError):
        return "something very long"
    return text if len(text) <= 40 else text[:37] + "..."


def _ids(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(type(x) is int or type(x) is str for x in value))


def _name(value: object) -> str:
    return value if isinstance(value, str) else str(value) if type(value) is int and abs(value) < 2**64 else ""
