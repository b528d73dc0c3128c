"""A recording as a folder: meta.json, requests.jsonl and timeseries.csv, as recorded runs of engines have them.

Source of the fields: https://github.com/casys-kaist/LLMServingSim, bench/README.md (LLMServingSim 2.0). Beyond them:
``cached_toks``, ``finish`` and ``itl`` (seconds between the pieces of an answer) of each request, and in meta.json who
recorded, what failed and who counted the tokens. All times are of one clock, seconds since 1970 that only go forward;
what a client cannot see (when the engine queued and scheduled a request) is null.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.files import write
from tierwise.measure.observe import TICK, Observed, Recording

FILES = ("meta.json", "requests.jsonl", "timeseries.csv")
COLUMNS = ("t", "prompt_throughput", "gen_throughput", "running", "waiting", "kv_cache_pct", "in_flight")


def check_folder(folder: Path) -> None:
    """Refuses, before anything is measured, a folder that cannot be made or that holds a recording.

    Raises:
        TierwiseError: says which.
    """
    if folder.exists() and not folder.is_dir():
        raise TierwiseError(f"{folder}: is a file; give a folder")
    held = [name for name in (*FILES, "errors.jsonl") if (folder / name).exists()]
    if held:
        raise TierwiseError(f"{folder}: already holds {held[0]}; give another folder, recordings are not overwritten")
    if not folder.exists() and not folder.absolute().parent.is_dir():
        raise TierwiseError(f"{folder}: the folder {folder.parent} does not exist")


def save(
    found: Recording, folder: Path, engine_arguments: dict[str, Any], *, engine: str = "", machine: str = ""
) -> list[Path]:
    """Writes the folder; ``requests.jsonl`` comes last, so that a folder with it is whole.

    Args:
        engine_arguments: how the server was started, as far as is known.
        engine: its name, where its metrics do not say it; ``machine``: what it runs on, where that is known.

    Returns:
        The files.
    """
    check_folder(folder)
    folder.mkdir(exist_ok=True)
    texts = {
        "meta.json": json.dumps(meta(found, engine_arguments, engine, machine), indent=2) + "\n",
        "timeseries.csv": "\n".join(series(found)) + "\n",
        "errors.jsonl": "".join(_failed(found, r) for r in _ordered(found.failed)),
        "requests.jsonl": "".join(_answered(found, r) for r in _ordered(found.answered)),
    }
    written = [folder / name for name, text in texts.items() if text]
    for path in written:
        write(str(path), texts[path.name])
    return written


def meta(found: Recording, engine_arguments: dict[str, Any], engine: str = "", machine: str = "") -> dict[str, Any]:
    """What was recorded, of what, and what is missing."""
    server, trace = found.server, found.trace
    name = engine or server.engine or "unknown"
    about: dict[str, Any] = {"schema_version": 1, "model": server.model, "engine": name}
    if machine:
        about["machine"] = machine
    if server.version:
        about["vllm_version" if name == "vllm" else "engine_version"] = server.version
    known = {k: server.config[k] for k in ("max_model_len",) if k in server.config}
    return about | {
        "engine_kwargs": {"model": server.model} | known | engine_arguments,
        "engine_config": {k: v for k, v in server.config.items() if k not in known},
        "dataset_path": trace.source,
        "num_requests": len(found.answered),
        "started_at": _date(found.epoch),
        "finished_at": _date(found.epoch + found.end - found.start),
        "tick_seconds": TICK,
        "recorded_by": "client",
        "url": server.client.name,
        "endpoint": server.endpoint,
        "closed_loop": trace.closed_loop,
        "failed": len(found.failed),
        "unsent": found.unsent,
        "stopped": found.stopped,
        "prompt_tokens_by": dict(Counter(r.prompt_by for r in found.answered)),
        "output_tokens_by": dict(Counter(r.output_by for r in found.answered)),
    }


def series(found: Recording) -> Iterator[str]:
    """Lines of timeseries.csv: tokens a second in each tick, and the server's state at its end.

    A prompt's tokens count in the tick of the first token. Without metrics of the server, what runs, what waits and
    what the cache holds is nan: a client knows only how many are ``in_flight`` (of those that were answered).
    """
    yield ",".join(COLUMNS)
    n = max(1, int(np.ceil((found.end - found.start) / TICK)))
    ends = TICK * np.arange(1, n + 1)
    done = found.answered
    first = np.array([r.times[0] for r in done]) - found.start
    times = np.array([t for r in done for t in r.times]) - found.start
    each = np.array([r.output / len(r.times) for r in done for _ in r.times])
    edges = np.append(0.0, ends)
    prompts = np.histogram(first, edges, weights=np.array([float(r.prompt) for r in done]))[0] / TICK
    outputs = np.histogram(times, edges, weights=each)[0] / TICK
    sent = np.array([r.sent for r in done]) - found.start
    last = np.array([r.times[-1] for r in done]) - found.start
    seen = np.full((n, 3), np.nan)
    for t, state in found.states if found.server.engine else ():
        # What was last seen stands until the next look; the last tick may be too short for one.
        seen[round(t / TICK) - 1 :] = state.running, state.waiting, 100.0 * state.kv
    flying = _before(sent, ends) - _before(last, ends)
    for row in zip(ends, prompts, outputs, *seen.T, flying, strict=True):
        yield ",".join(f"{x:.10g}" for x in row)


def _answered(found: Recording, r: Observed) -> str:
    gaps = [round(float(x), 6) for x in np.diff(r.times)]
    return _line(_begun(found, r) | {
        "queued_ts": None, "scheduled_ts": None,
        "first_token_ts": _clock(found, r.times[0]), "last_token_ts": _clock(found, r.times[-1]),
        "cached_toks": r.cached if r.cached >= 0 else None, "finish": r.finish, "itl": gaps,
    })  # fmt: skip


def _failed(found: Recording, r: Observed) -> str:
    return _line(_begun(found, r) | {"pieces": len(r.times), "error": r.error})


def _begun(found: Recording, r: Observed) -> dict[str, Any]:
    return {
        "request_id": f"observe-{r.index}", "input_toks": r.prompt, "output_toks": r.output,
        "arrival_time": _clock(found, r.sent),
    }  # fmt: skip


def _clock(found: Recording, t: float) -> float:
    return round(found.epoch + (t - found.start), 6)


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row) + "\n"


def _ordered(requests: tuple[Observed, ...]) -> list[Observed]:
    return sorted(requests, key=lambda r: (r.sent, r.index))


def _before(times: np.ndarray, ends: np.ndarray) -> np.ndarray:
    return np.searchsorted(np.sort(times), ends, side="right").astype(float)


def _date(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
