"""CSV into columns, a million rows in about a second: no Python per row."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError, nearest
from tierwise.serving.traffic.formats._text import arrow_extra, checked, content
from tierwise.serving.traffic.rows import Rows
from tierwise.serving.traffic.trace import Floats, Ints


class CsvColumns:
    """Text columns of a CSV file; ``number``, ``time`` and ``text`` read one, ``rows`` gathers what was read."""

    def __init__(self, path: Path) -> None:
        """Raises TierwiseError: empty, no UTF-8 text, or no header."""
        try:
            import pyarrow as pa
            from pyarrow import csv
        except ImportError as error:
            raise TierwiseError(arrow_extra()) from error
        self.path, data = path, checked(path, content(path))
        self.names = header(data[: data.find(b"\n") if b"\n" in data else None].decode("utf-8"))
        broken: list[tuple[int, str]] = []
        skipped: list[int] = []

        def refuse(row: Any) -> str:
            skipped.append(row.number)
            if row.text.strip():
                broken.append((row.number, f"found {row.actual_columns} fields; allowed: {row.expected_columns}"))
            return "skip"

        twice = sorted({n for n in self.names if self.names.count(n) > 1})
        if twice:
            raise TierwiseError(f"{path}: line 1: the column {twice[0]!r} is there twice")
        try:
            # Rows are numbered only by a single thread, and refused ones must be told by their line.
            self._table = csv.read_csv(
                pa.BufferReader(data),
                read_options=csv.ReadOptions(use_threads=False, column_names=self.names, skip_rows=1),
                parse_options=csv.ParseOptions(delimiter=delimiter(data), ignore_empty_lines=False,
                                               invalid_row_handler=refuse),
                convert_options=csv.ConvertOptions(column_types=dict.fromkeys(self.names, pa.string()),
                                                   strings_can_be_null=False),
            )  # fmt: skip
            if not self._table.num_rows and not broken:
                raise TierwiseError(f"{path}: has a header and no rows; it should hold requests")
        except pa.ArrowInvalid as error:
            raise TierwiseError(f"{path}: {error}") from error
        n = self._table.num_rows
        lines = np.arange(2, n + len(skipped) + 2)
        self.lines: Ints = np.setdiff1d(lines, skipped) if skipped else lines
        self.broken = tuple(broken)
        self._numbers: dict[str, Floats] = {}

    def need(self, *names: str) -> None:
        """Raises TierwiseError naming every missing column, those found, and the closest."""
        missing(self.path, names, self.names)

    def find(self, *names: str) -> str:
        """The first of these columns there is, whatever its case; "" for none."""
        lower = {n.lower(): n for n in self.names}
        return next((lower[n.lower()] for n in names if n.lower() in lower), "")

    def text(self, name: str) -> Any:
        """A column as an Arrow array of trimmed strings."""
        import pyarrow.compute as pc

        return pc.utf8_trim_whitespace(self._table[self.find(name)].combine_chunks())

    def number(self, name: str, missing: float = np.nan) -> Floats:
        """A column as numbers, shape (n,); nan where it holds none, ``missing`` where it is empty."""
        import pyarrow as pa
        import pyarrow.compute as pc

        strings = self.text(name)
        try:
            values = pc.cast(strings, pa.float64())
        except pa.ArrowInvalid:
            fits = pc.match_substring_regex(strings, r"^[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?$")
            plain = pc.utf8_ltrim(pc.if_else(fits, strings, "nan"), "+")
            values = _cast(pc.if_else(pc.equal(strings, ""), str(float(missing)), plain), pa.float64())
        self._numbers[name] = np.array(values.to_numpy(zero_copy_only=False), np.float64)
        return self._numbers[name]

    def time(self, name: str) -> Floats:
        """A column of dates and times (ISO 8601, with or without a zone), as seconds from the earliest, shape (n,); a
        column without any of them is read as numbers."""
        import pyarrow as pa
        import pyarrow.compute as pc

        strings = self.text(name)
        clock = r"([01]\d|2[0-3]):[0-5]\d"
        zone = rf"(Z|[+-]([01]\d|2[0-3])|[+-]{clock}|[+-]([01]\d|2[0-3])[0-5]\d)"
        fits = pc.match_substring_regex(strings, rf"^\d{{4}}-\d\d-\d\d[ T]{clock}(:[0-5]\d(\.\d{{1,9}})?)?{zone}?$")
        days = pc.utf8_slice_codeunits(strings, 0, 10)
        real = [d for d in pc.unique(days.filter(fits)).to_pylist() if _is_day(d)]
        fits = pc.and_(fits, pc.is_in(days, pa.array(real, pa.string())))
        zoned = pc.and_(fits, pc.match_substring_regex(strings, rf"[ T].*\d{zone}$"))
        none = pa.scalar(None, pa.string())
        local = _cast(pc.if_else(pc.and_not(fits, zoned), strings, none), pa.timestamp("ns"))
        utc = _cast(pc.if_else(zoned, strings, none), pa.timestamp("ns", "UTC"))
        ns = pc.coalesce(pc.cast(local, pa.int64()), pc.cast(utc, pa.int64()))
        known = np.array(ns.is_valid().to_numpy(zero_copy_only=False), bool)
        whole = np.array(ns.fill_null(0).to_numpy(zero_copy_only=False), np.int64)
        if not known.any():
            return self.number(name)
        first = whole[known].min()
        # Centuries between two times are more than a signed number of nanoseconds holds, and none is negative.
        since = (whole.view(np.uint64) - first.view(np.uint64)).astype(np.float64) * 1e-9
        self._numbers[name] = np.where(known, since, np.nan)
        return self._numbers[name]

    def moment(self, name: str) -> Floats:
        """A column of numbers or, where there is none, of dates and times as :meth:`time` reads them, shape (n,)."""
        found = self.number(name)
        return found if np.isfinite(found).any() else self.time(name)

    def rows(self, notices: tuple[str, ...] = ()) -> Rows:
        """What was read, for :func:`tierwise.serving.traffic.rows.built`."""
        return Rows(self.path, self._numbers, self.lines, self._shown, self.broken, notices)

    def _shown(self, name: str, row: int) -> str:
        found = self._table[self.find(name)][row].as_py()
        return repr(found if len(found) <= 40 else found[:37] + "...")


def header(first_line: str) -> list[str]:
    """Names of the columns, trimmed and without quotes."""
    mark = delimiter(first_line.encode())
    return [name.strip().strip('"').strip() for name in first_line.strip("\r\n").split(mark)]


def delimiter(data: bytes) -> str:
    """Comma, unless the header has more tabs, semicolons or bars."""
    line = data[: data.find(b"\n") if b"\n" in data else None]
    return max(",\t;|", key=lambda mark: line.count(mark.encode()))


def has(head: str, *names: str) -> bool:
    """Whether the first line is a CSV header with all these columns."""
    if head.lstrip().startswith(("{", "[")):
        return False
    found = {n.lower() for n in header(head.splitlines()[0])} if head.strip() else set()
    return all(n.lower() in found for n in names)


def _cast(strings: Any, kind: Any) -> Any:
    """Texts as another type; null where one cannot be, which the whole column's cast would refuse."""
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pc.cast(strings, kind)
    except pa.ArrowInvalid:
        distinct = strings.dictionary_encode()
        return pa.concat_arrays([_one(text, kind) for text in distinct.dictionary]).take(distinct.indices)


def _one(text: Any, kind: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        return pa.array([pc.cast(text, kind).as_py()], kind)
    except (pa.ArrowInvalid, ValueError, OverflowError):
        return pa.nulls(1, kind)


def _is_day(text: str) -> bool:
    """Whether there is such a day, and nanoseconds in 64 bits reach it."""
    try:
        return 1678 <= date.fromisoformat(text).year <= 2261
    except ValueError:
        return False


def missing(path: Path, needed: tuple[str, ...], found: list[str]) -> None:
    """Raises TierwiseError naming every missing column or field, those found, and the closest."""
    lower = {n.lower() for n in found}
    gone = [n for n in needed if n.lower() not in lower]
    if not gone:
        return
    close = [c for n in gone for c in nearest(n, found, 1)]
    hint = f"; closest: {', '.join(repr(c) for c in dict.fromkeys(close))}" if close else ""
    raise TierwiseError(f"{path}: line 1: no {', '.join(repr(n) for n in gone)}; found {', '.join(map(repr, found))}; "
                        f"needed: {', '.join(map(repr, needed))}{hint}")  # fmt: skip
