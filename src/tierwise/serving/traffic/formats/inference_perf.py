"""inference-perf's ``per_request_lifecycle_metrics.json``: a JSON list of requests with start, end and token times (s).

Source: https://github.com/kubernetes-sigs/inference-perf, inference_perf/reportgen/base.py (the list) and
inference_perf/apis/base.py (``info``; before multimodal requests its tokens stood there directly).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.jsontext import BadJson, at, fields, first, items, loads
from tierwise.serving.traffic.bench import ClientRun
from tierwise.serving.traffic.formats._bench import column, document, named, traced
from tierwise.serving.traffic.formats._jsonl import short
from tierwise.serving.traffic.trace import Trace

NEEDS = ("start_time", "end_time", "request", "info")


def sniff(path: Path, head: str) -> bool:
    """Whether it is such a list, or a summary (which holds no requests)."""
    return (head.lstrip().startswith("[") and all(f'"{n}"' in head for n in NEEDS[:3])) or _summary(head)


def read(path: Path) -> Trace:
    """Every request that was answered, the first at 0 s."""
    return traced(bench(path))


def bench(path: Path) -> ClientRun:
    """The requests of a run.

    Raises:
        TierwiseError: a summary without its requests; no list.
    """
    found = document(path)
    if not isinstance(found, list) or not found:
        raise TierwiseError(f"{path}: found {short(found)}; allowed: the list of requests in "
                            "per_request_lifecycle_metrics.json (per_request: true)")  # fmt: skip
    rows = [fields(r) for r in found]
    stamps = [items(first(r, ("info", "response_metrics", "output_token_times"), ("info", "output_token_times"),
                          ("info", "response_metrics", "chunk_times"))) for r in rows]  # fmt: skip
    output = column([first(r, ("info", "response_metrics", "output_tokens"), ("info", "output_tokens")) for r in rows])
    prompt = column([first(r, ("info", "request_metrics", "text", "input_tokens"), ("info", "input_tokens"))
                     for r in rows])  # fmt: skip
    failed = np.array([bool(r.get("error")) for r in rows]) | (output == 0)
    n = len(rows)
    return ClientRun(
        path, column([r.get("start_time") for r in rows]), prompt, output, column([at(s, 0) for s in stamps]),
        column([at(s, -1) for s in stamps]), failed, np.arange(1, n + 1),
        model=next((m for r in rows if (m := named(_asked(r), ("model",)))), ""),
    )  # fmt: skip


def _asked(row: dict[str, Any]) -> Any:
    written = row.get("request")
    if not isinstance(written, str):
        return written
    try:
        return loads(written)
    except BadJson:
        return None


def _summary(head: str) -> bool:
    return head.lstrip().startswith("{") and '"load_summary"' in head and '"successes"' in head
