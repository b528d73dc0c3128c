"""JSON lines into columns: through Arrow where every line is whole, line by line where one is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.refusals import json_cut, json_problem
from tierwise.serving.traffic.formats._csv import missing
from tierwise.serving.traffic.formats._text import checked, content
from tierwise.serving.traffic.rows import Rows
from tierwise.serving.traffic.trace import Floats, Ints

TRIED = 20  # lines in which an object is looked for, where the first are broken
_BLOCK = 1 << 24


class Lines:
    """The wanted fields of every line: ``numbers`` (n,) by name, ``lists`` as (flat, start (n + 1,)) by name."""

    def __init__(self, path: Path, numbers: tuple[str, ...], lists: tuple[str, ...] = ()) -> None:
        """Raises TierwiseError: empty, no UTF-8 text, no line of JSON."""
        self.path, data = path, checked(path, content(path))
        self.broken: tuple[tuple[int, str], ...] = ()
        self.numbers: dict[str, Floats] = {}
        self.lists: dict[str, tuple[Ints, Ints]] = {}
        self._found: list[dict[str, Any]] = []
        if not self._arrow(data, numbers, lists):
            self._plain(data, numbers, lists)

    def rows(self, notices: tuple[str, ...] = ()) -> Rows:
        """What was read, for :func:`tierwise.serving.traffic.rows.built`."""
        return Rows(self.path, self.numbers, self.lines, self._shown, self.broken, notices)

    def _arrow(self, data: bytes, numbers: tuple[str, ...], lists: tuple[str, ...]) -> bool:
        try:
            import pyarrow as pa
            from pyarrow import json as arrow_json
        except ImportError:
            return False
        fields = [(n, pa.float64()) for n in numbers] + [(n, pa.list_(pa.int64())) for n in lists]
        options = arrow_json.ParseOptions(explicit_schema=pa.schema(fields), unexpected_field_behavior="ignore")
        # A line longer than a block is an error to Arrow.
        reading = arrow_json.ReadOptions(block_size=max(_BLOCK, _longest(data)))
        try:
            table = arrow_json.read_json(pa.BufferReader(data), read_options=reading, parse_options=options)
        except pa.ArrowInvalid:
            return False  # one bad line; the slow way says which
        for name in numbers:
            self.numbers[name] = np.array(table[name].to_numpy(), np.float64)
        for name in lists:
            column = table[name].combine_chunks()
            if column.flatten().null_count:
                return False
            start = np.concatenate([[0], np.cumsum(np.nan_to_num(_lengths(column)).astype(np.int64))])
            self.lists[name] = (np.array(column.flatten().to_numpy(zero_copy_only=False), np.int64), start)
        self.lines = _filled(data, table.num_rows)
        return True

    def _plain(self, data: bytes, numbers: tuple[str, ...], lists: tuple[str, ...]) -> None:
        broken: list[tuple[int, str]] = []
        lines: list[int] = []
        for i, text in enumerate(data.decode("utf-8").split("\n"), 1):
            if not text.strip():
                continue
            row, why = parsed(text)
            if row is None:
                broken.append((i, why))
                continue
            wrong = next((n for n in lists if not _ids(row.get(n))), None)
            if wrong:
                broken.append((i, f"{wrong}: found {_short(row[wrong])}; allowed: a list of whole numbers"))
                continue
            self._found.append(row)
            lines.append(i)
        self.broken, self.lines = tuple(broken), np.array(lines, np.int64)
        if not lines:
            line, why = broken[0]
            raise TierwiseError(f"{self.path}: no line is a request; line {line}: {why}")
        for name in numbers:
            self.numbers[name] = np.array([_number(row.get(name)) for row in self._found], np.float64)
        for name in lists:
            count = [len(row.get(name) or ()) for row in self._found]
            flat = [x for row in self._found for x in row.get(name) or ()]
            self.lists[name] = (np.array(flat, np.int64), np.concatenate([[0], np.cumsum(count, dtype=np.int64)]))

    def _shown(self, name: str, row: int) -> str:
        if self._found:
            return _short(self._found[row][name]) if name in self._found[row] else "nothing"
        value = self.numbers[name][row]
        return "nothing" if np.isnan(value) else f"{value:g}"


def first(path: Path, head: str, *needed: str) -> None:
    """Raises TierwiseError where the first line that is an object lacks a needed field."""
    rows = (parsed(text)[0] for text in head.splitlines() if text.strip())
    row = next((r for r in rows if r is not None), None)
    if row is not None:
        missing(path, needed, list(row))


def has(head: str, *names: str) -> bool:
    """Whether the first JSON object has all these fields; one line longer than the head counts by its text."""
    lines = [text for text in head.split("\n") if text.strip()][:TRIED]
    row = next((r for text in lines if (r := parsed(text)[0]) is not None), None)
    if row is not None:
        return all(n in row for n in names)
    return bool(lines) and lines[0].startswith("{") and all(f'"{n}"' in lines[0] for n in names)


def parsed(text: str) -> tuple[dict[str, Any] | None, str]:
    """The object of one line, or None and what is wrong with it."""
    try:
        row = json.loads(text)
    except json.JSONDecodeError as error:
        problem = json_problem(error)
        return None, problem if json_cut(error) else f"column {error.colno}: {problem}"
    except RecursionError:
        return None, "the JSON is nested too deep"
    return (row, "") if isinstance(row, dict) else (None, f"found {_short(row)}; allowed: a JSON object")


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan


def _ids(value: object) -> bool:
    return value is None or (isinstance(value, list) and all(type(x) is int and abs(x) < 2**63 for x in value))


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else text[:37] + "..."


def _lengths(column: Any) -> Any:
    import pyarrow.compute as pc

    return pc.list_value_length(column).to_numpy(zero_copy_only=False)


def _longest(data: bytes) -> int:
    ends = np.flatnonzero(np.frombuffer(data, np.uint8) == ord("\n"))
    return int(np.diff(ends, prepend=-1, append=len(data)).max()) + 1


def _filled(data: bytes, n: int) -> Ints:
    """Line of each of n objects: blank lines are counted, not read."""
    if b"\n\n" not in data and b"\r\n\r\n" not in data and not data[:1].isspace():
        return np.arange(1, n + 1)
    return np.array([i for i, text in enumerate(data.split(b"\n"), 1) if text.strip()][:n], np.int64)
