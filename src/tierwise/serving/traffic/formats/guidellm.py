"""GuideLLM's report (``benchmarks.json``): benchmarks, each with its requests by status and their clock times.

A sweep holds several benchmarks; the last is read. Versions differ in where the times of a request stand.
Source: https://github.com/vllm-project/guidellm, src/guidellm/schemas (info.py, request_stats.py: 0.5 and later),
benchmark/objects.py (0.2 to 0.4).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.jsontext import at, fields, first, items, number
from tierwise.serving.traffic.bench import ClientRun
from tierwise.serving.traffic.formats._bench import column, document, named, sessions, traced
from tierwise.serving.traffic.trace import Trace

NEEDS = ("benchmarks", "requests")
_START = (("info", "timings", "request_start"), ("scheduler_info", "request_timings", "request_start"),
          ("start_time",), ("request_start_time",))  # fmt: skip
_FIRST = (("info", "timings", "first_token_iteration"), ("info", "timings", "first_iteration"),
          ("scheduler_info", "request_timings", "first_iteration"), ("first_token_time",))  # fmt: skip
_LAST = (("info", "timings", "last_token_iteration"), ("info", "timings", "last_iteration"),
         ("scheduler_info", "request_timings", "last_iteration"), ("last_token_time",), ("end_time",))  # fmt: skip
_PROMPT = (("prompt_tokens",), ("input_metrics", "total_tokens"), ("input_metrics", "text_tokens"))
_OUTPUT = (("output_tokens",), ("output_metrics", "total_tokens"), ("output_metrics", "text_tokens"))
_MODEL = (("config", "backend", "model"), ("benchmarker", "backend", "model"), ("worker", "backend_model"),
          ("config", "requests", "model"))  # fmt: skip
_STRATEGY = (("config", "strategy"), ("scheduler", "strategy"), ("args", "strategy"))


def sniff(path: Path, head: str) -> bool:
    """Whether it is a report of benchmarks."""
    said = ('"guidellm', '"run_stats"', '"request_totals"', '"generative_benchmark"', '"requests"')
    return head.lstrip().startswith("{") and '"benchmarks"' in head and any(name in head for name in said)


def read(path: Path) -> Trace:
    """The requests of the last benchmark that were answered."""
    return traced(bench(path))


def bench(path: Path) -> ClientRun:
    """The last benchmark.

    Raises:
        TierwiseError: no benchmark, or one without its requests.
    """
    report = document(path)
    found = [fields(b) for b in items(at(report, "benchmarks"))]
    if not found:
        raise TierwiseError(f"{path}: benchmarks: found none; allowed: at least one")
    one = found[-1]
    answered, others = items(at(one, "requests", "successful")), _others(one)
    requests = [fields(r) for r in (*answered, *others)]
    if not requests:
        raise TierwiseError(f"{path}: the last benchmark lists no requests; have GuideLLM keep them all "
                            "(no --output-sampling, no --sample-requests)")  # fmt: skip
    n = len(requests)
    times = [column([first(r, *paths) for r in requests]) for paths in (_START, _FIRST, _LAST)]
    tokens = [column([first(r, *paths) for r in requests]) for paths in (_PROMPT, _OUTPUT)]
    session = sessions([named(r, ("info", "conversation_id")) for r in requests],
                       [number(at(r, "info", "turn_index")) for r in requests])  # fmt: skip
    notices = (f"the last of {len(found)} benchmarks",) if len(found) > 1 else ()
    model = named(one, *_MODEL) or named(report, ("args", "model")) or named(one, ("args", "model"))
    return ClientRun(path, times[0], tokens[0], tokens[1], times[1], times[2], np.arange(n) >= len(answered),
                 np.arange(1, n + 1), notices=notices, closed=_closed(one), session=session,
                 model=model)  # fmt: skip


def _others(one: dict[str, Any]) -> list[Any]:
    """Requests without an answer."""
    return [r for status in ("incomplete", "errored") for r in items(at(one, "requests", status))]


def _closed(one: dict[str, Any]) -> int:
    """Requests in flight, where the client kept so many."""
    strategy = first(one, *_STRATEGY)
    kind = named(strategy, ("type_",), ("kind",), ("type",))
    if kind == "synchronous":
        return 1
    streams = number(first(strategy, ("streams",), ("max_concurrency",)))
    return int(streams) if kind == "concurrent" and 1 <= streams < 2**31 else 0
