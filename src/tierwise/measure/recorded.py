"""A recorded run of a serving engine: its requests' times, what ran, and what it reported while it ran.

A folder as LLMServingSim's benchmark client and ``tierwise observe`` write it: ``meta.json`` (model, arguments of the
engine), ``requests.jsonl`` (tokens and times of each request), ``timeseries.csv`` (running, waiting and KV over time).
Or the file of a load generator, recognized by its content: every format of ``serving/traffic/formats`` with times.
"""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.jsontext import BadJson, loads
from tierwise.serving.deployment import Settings
from tierwise.serving.traffic.bench import ClientRun
from tierwise.serving.traffic.load import recorded, recorded_formats
from tierwise.serving.traffic.trace import Trace, trace

Floats = NDArray[np.float64]

_NUMBERS = ("input_toks", "output_toks", "arrival_time", "first_token_ts", "last_token_ts")
# Clocks that differ by more than a day are different clocks (one counts from 1970, the other from the last boot).
_CLOCKS = 86400.0
LARGEST = 1 << 28  # bytes of a recording's own text files
LONGEST = 1e7  # tokens of one request: ten times the longest context there is, and few enough to be numbered


@dataclass(frozen=True)
class Recorded:
    """A run; arrays of shape (n,) in order of arrival, times in seconds from the first arrival.

    Attributes:
        folder: where it was read from; ``meta``: as written.
        arrival: when clients sent requests; ``scheduled`` (nan where not recorded), ``first``, ``last``.
        prompt, output: tokens.
        series: columns of ``timeseries.csv`` by name, with ``t`` in seconds from the start; empty without one.
        notices: what was left out, for people.
        inside: the engine itself took the times; else a client did, which also sees what lies between them.
    """

    folder: Path
    meta: Mapping[str, Any]
    arrival: Floats
    scheduled: Floats
    first: Floats
    last: Floats
    prompt: NDArray[np.int64]
    output: NDArray[np.int64]
    series: Mapping[str, Floats]
    notices: tuple[str, ...] = ()
    inside: bool = True

    @property
    def about(self) -> str:
        """The file that says what ran, for messages."""
        return str(self.folder if self.folder.is_file() else self.folder / "meta.json")

    @property
    def times(self) -> dict[str, Floats]:
        """TTFT, TPOT (of requests with two tokens or more) and latency of each request, seconds."""
        return times(self.arrival, self.first, self.last, self.output)

    @property
    def trace(self) -> Trace:
        """Arrivals and lengths, to play; in a closed loop where the client kept so many requests in flight.

        What prompts share is not recorded, so the blocks of each are its own: a request that lost its place finds those
        again that nobody took meanwhile.
        """
        closed = self.meta.get("closed_loop") or 0
        if isinstance(closed, bool) or not isinstance(closed, int) or not 0 <= closed < 2**31:
            raise BadField(self.about, "closed_loop", closed, "a whole number, 0 for an open loop")
        size = int(argument(self, "block_size", Settings().block, most=2**20))
        start = np.concatenate([[0], np.cumsum(self.prompt // size)])
        cached = (self.meta.get("engine_kwargs") or {}).get("enable_prefix_caching") is not False
        blocks = {"blocks": np.arange(start[-1]), "block_start": start, "block_size": size} if cached else {}
        return trace(self.arrival, self.prompt, self.output, closed_loop=closed, source=str(self.folder), **blocks)


def times(arrival: Floats, first: Floats, last: Floats, output: NDArray[np.int64]) -> dict[str, Floats]:
    """TTFT, TPOT and latency from times of requests."""
    more = output > 1
    return {"TTFT": first - arrival, "TPOT": (last - first)[more] / (output[more] - 1.0), "latency": last - arrival}


def argument(run: Recorded, name: str, default: float, least: float = 1.0, most: float = 2.0**31) -> float:
    """A number among the engine's arguments.

    Raises:
        BadField: none, or out of bounds.
    """
    value = (run.meta.get("engine_kwargs") or {}).get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise BadField(run.about, f"engine_kwargs.{name}", value, f"a number from {least:g} to {most:.12g}")
    return float(value)


def read_run(path: Path) -> Recorded:
    """The run in a folder, or in the file of a load generator.

    Requests that never got a token are left out, with a notice.

    Raises:
        TierwiseError: no such folder or file; no format that is read; a field that is missing or cannot be.
    """
    if path.is_file():
        if path.name == "requests.jsonl" and path.with_name("meta.json").is_file():
            return _folder(path.parent)
        found = recorded(path)
        if found is None:
            raise TierwiseError(f"{path}: no recorded run that is read; those are {readable()}")
        return _of_bench(found)
    if not path.is_dir():
        raise TierwiseError(f"{path}: there is no such folder or file; a run is {readable()}")
    return _folder(path)


def readable() -> str:
    """What is read as a recorded run, in words."""
    return f"a folder with requests.jsonl and meta.json, or a load generator's file ({', '.join(recorded_formats())})"


def is_run(path: Path) -> bool:
    """Whether a file is one of a load generator; a file that cannot be read is none."""
    try:
        return recorded(path) is not None
    except TierwiseError:
        return False


def _folder(folder: Path) -> Recorded:
    about = folder / "meta.json"
    meta = _json(about)
    if not isinstance(meta, dict) or not isinstance(meta.get("model"), str):
        found = meta.get("model") if isinstance(meta, dict) else meta
        raise BadField(str(about), "model", found, "the name of a model")
    if not isinstance(meta.get("engine_kwargs") or {}, dict):
        raise BadField(str(about), "engine_kwargs", meta["engine_kwargs"], "arguments by name")
    columns, notices = _requests(folder / "requests.jsonl")
    arrival, first, last = columns["arrival_time"], columns["first_token_ts"], columns["last_token_ts"]
    queued = columns["queued_ts"]
    if np.any(np.abs(first - arrival) > _CLOCKS):
        # Another clock: the quickest hand-over from the client to the engine took no time.
        known = queued if np.all(np.isfinite(queued)) else first
        arrival = arrival + float(np.min(known - arrival))
    order = np.argsort(arrival, kind="stable")
    start = float(arrival[order[0]])
    return Recorded(
        folder=folder,
        meta=meta,
        arrival=arrival[order] - start,
        scheduled=columns["scheduled_ts"][order] - start,
        first=first[order] - start,
        last=last[order] - start,
        prompt=columns["input_toks"][order].astype(np.int64),
        output=columns["output_toks"][order].astype(np.int64),
        series=_series(folder / "timeseries.csv"),
        notices=notices,
        inside=bool(np.all(np.isfinite(queued))),
    )


def _of_bench(b: ClientRun) -> Recorded:
    """A client's recording: requests whose tokens have times, in order of arrival."""
    asked = np.isfinite(b.arrival) & (b.prompt >= 1) & (b.output >= 1) & (b.prompt <= LONGEST) & (b.output <= LONGEST)
    timed = np.isfinite(b.first) & np.isfinite(b.last) & (b.first >= b.arrival) & (b.last >= b.first)
    good = asked & timed & ~b.failed
    if not good.any():
        why = "none has a time of its first and last token" if asked.any() else "none was answered"
        raise TierwiseError(f"{b.path}: no request can be used: {why}")
    lost = len(good) - int(good.sum())
    notices = (*b.notices, *((f"{lost} requests failed or have no times of tokens and are left out",) if lost else ()))
    order = np.flatnonzero(good)[np.argsort(b.arrival[good], kind="stable")]
    start = float(b.arrival[order[0]])
    meta = {"model": b.model, "engine": b.engine, "machine": b.machine, "closed_loop": b.closed,
            "engine_kwargs": {**({"tensor_parallel_size": b.count} if b.count else {}), **b.arguments}}  # fmt: skip
    return Recorded(
        b.path, meta, b.arrival[order] - start, np.full(len(order), np.nan), b.first[order] - start,
        b.last[order] - start, b.prompt[order].astype(np.int64), b.output[order].astype(np.int64), {}, notices,
        inside=False,
    )  # fmt: skip


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise TierwiseError(f"{path}: no such file; a run has requests.jsonl and meta.json") from None
    except OSError as error:
        raise TierwiseError(f"{path}: cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise TierwiseError(f"{path}: larger than {LARGEST} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TierwiseError(f"{path}: not text in UTF-8 (byte {error.start})") from None


def _json(path: Path) -> Any:
    try:
        return loads(_text(path))
    except BadJson as error:
        raise TierwiseError(f"{path}: line {error.line}, column {error.column}: {error.problem}") from None


def _requests(path: Path) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """Columns of the requests that got tokens."""
    rows, lost = [], 0
    for n, line in enumerate(_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = loads(line)
        except BadJson as error:
            raise TierwiseError(f"{path}:{n}: column {error.column}: {error.problem}") from None
        if not isinstance(record, dict):
            raise BadField(f"{path}:{n}", "line", line, "one JSON object a line")
        if record.get("first_token_ts") is None or record.get("last_token_ts") is None:
            lost += 1
            continue
        rows.append([_field(record, name, path, n) for name in _NUMBERS]
                    + [_field(record, name, path, n, False) for name in ("queued_ts", "scheduled_ts")])  # fmt: skip
    if not rows:
        raise TierwiseError(f"{path}: no request that got a token")
    table = np.asarray(rows, dtype=float).T
    notices = (f"{lost} requests never got a token and are left out",) if lost else ()
    return dict(zip((*_NUMBERS, "queued_ts", "scheduled_ts"), table, strict=True)), notices


def _field(record: Mapping[str, Any], name: str, path: Path, n: int, needed: bool = True) -> float:
    value = record.get(name)
    if value is None and not needed:
        return float("nan")
    least, most = (1.0, LONGEST) if name.endswith("_toks") else (0.0, 1e18)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value <= most:
        raise BadField(f"{path}:{n}", name, value, f"a number from {least:g} to {most:g}")
    return float(value)


def _series(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        return {}
    try:
        reader = csv.DictReader(_text(path).splitlines())
        rows = list(reader)
    except csv.Error as error:
        raise TierwiseError(f"{path}: not CSV: {error}") from None
    out = {}
    for name in reader.fieldnames or ():
        try:
            out[name] = np.asarray([float(r[name] or "nan") for r in rows])
        except (TypeError, ValueError):
            raise BadField(str(path), name, "text", "numbers in every line") from None
    if "t" not in out:
        raise BadField(str(path), "columns", ", ".join(out) or "none", "t, running, waiting, kv_cache_pct")
    if not np.all(np.isfinite(out["t"])) or np.any(np.diff(out["t"]) < 0):
        raise BadField(str(path), "t", "values out of order or missing", "seconds that do not decrease")
    return out
