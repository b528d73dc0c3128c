"""The plain CSV: arrival (s, or a date and time), prompt, output, and any of tenant, priority, session, after, think,
samples, adapter, blocks_<tokens>.

``after`` is the row (from 0) whose answer a request follows; ``session`` says the same by name: its rows follow each
other in order. ``blocks_512`` holds identities of 512-token blocks, separated by blanks. Column names of Vidur's
traces (https://github.com/microsoft/vidur, data/processed_traces) are understood too.
"""

from __future__ import annotations

import re
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.serving.traffic.formats._csv import CsvColumns, has
from tierwise.serving.traffic.formats._text import arrow_extra
from tierwise.serving.traffic.rows import Bools, built
from tierwise.serving.traffic.trace import Floats, Ints, Trace

CSV = True
NEEDS = ("arrival", "prompt", "output")
NAMES = {
    "arrival": ("arrival", "arrival_time", "arrived_at", "arrival_time_s"),
    "prompt": ("prompt", "prompt_tokens", "input_tokens", "input_length", "input_len", "num_prefill_tokens"),
    "output": ("output", "output_tokens", "output_length", "output_len", "num_decode_tokens"),
}
LEAST = {"priority": -np.inf, "samples": 1.0, "adapter": -1.0, "after": -1.0}
_DATE = re.compile(r"^\d{4}-\d\d-\d\d")
_BLOCKS = re.compile(r"^blocks_([1-9][0-9]{0,8})$")


def sniff(path: Path, head: str) -> bool:
    """Whether the header has an arrival, a prompt and an output."""
    return all(any(has(head, name) for name in NAMES[field]) for field in NEEDS)


def read(path: Path) -> Trace:
    """Every request, at the times the file gives."""
    table = CsvColumns(path)
    columns = [table.find(*NAMES[field]) for field in NEEDS]
    if not all(columns):
        table.need(*(column or field for column, field in zip(columns, NEEDS, strict=True)))
    dated = bool(_DATE.match("".join(table.text(columns[0])[:1].to_pylist())))
    times = table.time(columns[0]) if dated else table.number(columns[0])
    for column in columns[1:]:
        table.number(column)
    other: dict[str, Any] = {}
    whole = {name: least for name, least in LEAST.items() if table.find(name)}
    for name in whole:
        plain = {"priority": 0.0, "samples": 1.0}.get(name, -1.0)
        other[name] = ints(table.number(name, plain), plain)
    think = table.number("think", 0.0) if table.find("think") else np.zeros(len(table.lines))
    other["think"] = np.where(think > 0, think, 0.0)
    notices: tuple[str, ...] = ()
    if table.find("think") and not (think >= 0).all():
        notices += (f"{int((~(think >= 0)).sum())} think times were no times of 0 or later: taken as 0",)
    if table.find("session") and "after" not in other:
        index, names = codes(table.text("session"))
        index = np.where(np.isin(index, [i for i, name in enumerate(names) if not name]), -1, index)
        other["after"] = following(index, np.nan_to_num(times))
    if "after" in other:
        other["after"], wrong = earlier(other["after"])
        if wrong.any():
            notices += (f"{int(wrong.sum())} requests follow no earlier row (first at line "
                        f"{table.lines[np.argmax(wrong)]}): taken as the first of a session",)  # fmt: skip
    if table.find("tenant"):
        other["tenant"], other["tenants"] = codes(table.text("tenant"))
    named = [(n, m) for n in table.names if (m := _BLOCKS.match(n))]
    if named:
        other |= _blocks(path, table, *named[0])
    return built(table.rows(notices), *columns, absolute=dated, whole=whole, **other)


def text(requests: Trace) -> str:
    """A trace as the plain CSV; reading it again gives the same arrays."""
    try:
        import pyarrow as pa
        import pyarrow.compute as pc
        from pyarrow import csv
    except ImportError as error:
        raise TierwiseError(arrow_extra().replace("reading", "writing")) from error
    columns: dict[str, Any] = {"arrival": requests.arrival, "prompt": requests.prompt, "output": requests.output}
    plain = {"priority": 0, "after": -1, "think": 0.0, "samples": 1, "adapter": -1}
    columns |= {name: getattr(requests, name) for name, v in plain.items() if (getattr(requests, name) != v).any()}
    if len(requests.tenants) > 1:
        columns["tenant"] = np.array(requests.tenants)[requests.tenant]
    if len(requests.blocks):
        each = pc.cast(pa.array(requests.blocks), pa.string())
        lists = pa.ListArray.from_arrays(pa.array(requests.block_start, pa.int32()), each)
        columns[f"blocks_{requests.block_size}"] = pc.binary_join(lists, " ")
    out = BytesIO()
    csv.write_csv(pa.table(columns), out, csv.WriteOptions(quoting_style="needed"))
    return out.getvalue().decode("utf-8")


def following(session: Ints, arrival: Floats) -> Ints:
    """For every row (n,) the row before it, by arrival, of the same session; -1 for the first and for session -1."""
    order = np.lexsort((np.arange(len(session)), arrival, session))
    same = (session[order][1:] == session[order][:-1]) & (session[order][1:] >= 0)
    after = np.full(len(session), -1, np.int64)
    after[order[1:]] = np.where(same, order[:-1], -1)
    return after


def codes(names: Any) -> tuple[Ints, tuple[str, ...]]:
    """Index of each name (n,), and the names in order of appearance."""
    coded = names.dictionary_encode()
    known = tuple(str(n) for n in coded.dictionary.to_pylist())
    index = np.array(coded.indices.to_numpy(zero_copy_only=False), np.int64)
    return index, known


def codes_of(names: list[str]) -> Ints:
    """Index of each name (n,) in order of appearance; -1 for none."""
    known: dict[str, int] = {}
    return np.array([known.setdefault(name, len(known)) if name else -1 for name in names], np.int64)


def ints(values: Floats, plain: float) -> Ints:
    good = np.isfinite(values) & (np.abs(values) < 2.0**53)
    return np.where(good, values, plain).astype(np.int64)


def earlier(after: Ints) -> tuple[Ints, Bools]:
    """``after`` with -1 where it names no other row of the file, and where that was (n,)."""
    wrong: Bools = (after < -1) | (after >= len(after)) | (after == np.arange(len(after)))
    return np.where(wrong, -1, after), wrong


def _blocks(path: Path, table: CsvColumns, name: str, match: re.Match[str]) -> dict[str, Any]:
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = pc.split_pattern_regex(table.text(name), r"\s+")
    words = lists.flatten()
    given = pc.not_equal(words, "")
    owner = pc.list_parent_indices(lists).filter(given).to_numpy()
    named = words.filter(given)
    try:
        flat = pc.cast(named, pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        wrong = next((w for w in named.to_pylist() if not re.fullmatch(r"-?[0-9]+", w)), None)
        if wrong is not None:
            told = f"{path}: {name}: found {wrong!r}; allowed: whole numbers separated by blanks"
            raise TierwiseError(told) from error
        flat = named.dictionary_encode().indices.to_numpy(zero_copy_only=False).astype(np.int64)  # beyond 64 bits
    count = np.bincount(owner, minlength=len(table.lines))
    start = np.concatenate([[0], np.cumsum(count)]) if len(flat) else np.zeros(1, np.int64)
    return {"blocks": flat, "block_start": start, "block_size": int(match[1])}
