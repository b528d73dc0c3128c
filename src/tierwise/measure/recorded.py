"""A recorded run of a serving engine: its requests' times, what ran, and what it reported while it ran.

A folder as LLMServingSim's benchmark client and ``tierwise observe`` write it: ``meta.json`` (model, arguments of the
engine), ``requests.jsonl`` (tokens and times of each request), ``timeseries.csv`` (running, waiting and KV over time).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.numerics import fmt
from tierwise.core.refusals import json_problem
from tierwise.machines import system
from tierwise.machines.types import System
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.predict import find_model
from tierwise.serving.traffic.trace import Trace, trace

Floats = NDArray[np.float64]

_NUMBERS = ("input_toks", "output_toks", "arrival_time", "first_token_ts", "last_token_ts")
# Clocks that differ by more than a day are different clocks (one counts from 1970, the other from the last boot).
_CLOCKS = 86400.0


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
        if isinstance(closed, bool) or not isinstance(closed, int) or closed < 0:
            raise BadField(str(self.folder / "meta.json"), "closed_loop", closed, "a whole number, 0 for an open loop")
        known = self.meta.get("engine_kwargs") or {}
        size = int(known.get("block_size") or Settings().block)
        start = np.concatenate([[0], np.cumsum(self.prompt // size)])
        cached = known.get("enable_prefix_caching") is not False
        blocks = {"blocks": np.arange(start[-1]), "block_start": start, "block_size": size} if cached else {}
        return trace(self.arrival, self.prompt, self.output, closed_loop=closed, source=str(self.folder), **blocks)


def times(arrival: Floats, first: Floats, last: Floats, output: NDArray[np.int64]) -> dict[str, Floats]:
    """TTFT, TPOT and latency from times of requests."""
    more = output > 1
    return {"TTFT": first - arrival, "TPOT": (last - first)[more] / (output[more] - 1.0), "latency": last - arrival}


def read_run(folder: Path) -> Recorded:
    """The run in a folder.

    Requests that never got a token are left out, with a notice.

    Raises:
        TierwiseError: no such folder or file; a field that is missing or cannot be.
    """
    if not folder.is_dir():
        raise TierwiseError(f"{folder}: not a folder; a run is one with requests.jsonl and meta.json")
    meta = _json(folder / "meta.json")
    if not isinstance(meta, dict) or not isinstance(meta.get("model"), str):
        raise BadField(str(folder / "meta.json"), "model", meta.get("model") if isinstance(meta, dict) else meta,
                       "the name of a model")  # fmt: skip
    if not isinstance(meta.get("engine_kwargs") or {}, dict):
        raise BadField(str(folder / "meta.json"), "engine_kwargs", meta["engine_kwargs"], "arguments by name")
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


def deployment(run: Recorded, on: str = "") -> Deployment:
    """What ran, from the engine's arguments; on ``on``, else the machine the folder or ``meta.json`` names.

    Raises:
        UnknownName: no machine or model of that name.
    """
    x = dict(run.meta.get("engine_kwargs") or {})
    where = str(run.folder / "meta.json")

    def number(name: str, default: float, least: float = 1.0) -> float:
        value = x.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= least:
            raise BadField(where, f"engine_kwargs.{name}", value, f"a number of at least {least:g}")
        return float(value)

    tp, pp, dp = (number(f"{p}_parallel_size", 1.0) for p in ("tensor", "pipeline", "data"))
    experts = bool(x.get("enable_expert_parallel"))
    # Ranks of dense models share nothing; those of experts step together.
    count, ranks = (1, dp) if experts else (int(dp), 1.0)
    plan = Plan(tp=tp, pp=pp, dp=ranks, ep=tp * ranks if experts else 1.0)
    if str(x.get("kv_cache_dtype") or "auto").startswith("fp8"):
        plan = replace(plan, kv=replace(plan.kv, key=fmt("fp8"), value=fmt("fp8")))
    if x.get("quantization") == "fp8":
        plan = replace(plan, weights=fmt("fp8"))
    plain = Settings()
    settings = replace(
        plain, engine=str(run.meta.get("engine") or "vllm"), max_seqs=int(number("max_num_seqs", plain.max_seqs)),
        budget=int(number("max_num_batched_tokens", plain.budget)), max_len=int(number("max_model_len", 0)),
        block=int(number("block_size", plain.block)), memory=number("gpu_memory_utilization", plain.memory, 0.01),
        watermark=0.0,  # vLLM admits a request for whose next tokens there are blocks
        graphs=0 if x.get("enforce_eager") else plain.graphs,
    )  # fmt: skip
    machine = _machine(run, on, int(tp * pp * dp))
    return Deployment(_model(run), (Replicas(machine, plan, count, settings=settings),))


def _model(run: Recorded) -> Any:
    import os

    return find_model(str(run.meta["model"]), os.environ.get("TIERWISE_CONFIGS", ""))


def _machine(run: Recorded, on: str, devices: int) -> System:
    named = on or str(run.meta.get("machine") or run.meta.get("hardware") or "")
    if named:
        return _of(named, devices)
    parts = run.folder.resolve().name.lower().split("-")
    # vllm-<machine>-<model>: the longest run of words after the engine that names a machine.
    for length in range(min(len(parts) - 1, 4), 0, -1):
        try:
            return _of("-".join(parts[1 : 1 + length]), devices)
        except UnknownName:
            continue
    raise TierwiseError(f"{run.folder}: the folder's name and meta.json name no known machine; say it with --on")


@lru_cache(maxsize=64)
def _of(name: str, devices: int) -> System:
    found = system(name)
    return found if found.count >= devices else system(f"{devices}x{name}")


def _json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TierwiseError(f"{path}: no such file; a run has requests.jsonl and meta.json") from None
    except UnicodeDecodeError as error:
        raise TierwiseError(f"{path}: not text in UTF-8 (byte {error.start})") from None
    except json.JSONDecodeError as error:
        raise TierwiseError(f"{path}: line {error.lineno}, column {error.colno}: {json_problem(error)}") from None


def _requests(path: Path) -> tuple[dict[str, Floats], tuple[str, ...]]:
    """Columns of the requests that got tokens."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise TierwiseError(f"{path}: no such file; a run has requests.jsonl and meta.json") from None
    except UnicodeDecodeError as error:
        raise TierwiseError(f"{path}: not text in UTF-8 (byte {error.start})") from None
    rows, lost = [], 0
    for n, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except json.JSONDecodeError as error:
            raise TierwiseError(f"{path}:{n}: column {error.colno}: {json_problem(error)}") from None
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
    least = 1.0 if name.endswith("_toks") else 0.0
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not least <= value < 1e18:
        raise BadField(f"{path}:{n}", name, value, f"a number of at least {least:g}")
    return float(value)


def _series(path: Path) -> dict[str, Floats]:
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        rows = list(reader)
    out = {}
    for name in reader.fieldnames or ():
        try:
            out[name] = np.asarray([float(r[name] or "nan") for r in rows])
        except (TypeError, ValueError):
            raise BadField(str(path), name, "text", "numbers in every line") from None
    if "t" not in out:
        raise BadField(str(path), "columns", ", ".join(out) or "none", "t, running, waiting, kv_cache_pct")
    return out
