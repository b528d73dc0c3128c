"""vLLM's ``bench serve``: a saved result with its per-request lengths, or a dataset of {"prompt", "output_tokens"}.

A result (``--save-result --save-detailed``; SGLang's bench_serving writes the same fields) has input_lens and
output_lens, and in newer versions start_times. Without those, arrivals are made up from its request_rate and
burstiness, or a closed loop from its max_concurrency. A dataset knows no times, and only the text of its prompts.
Source: https://github.com/vllm-project/vllm, vllm/benchmarks/serve.py and datasets.py (CustomDataset).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.serving.traffic.arrivals import gamma
from tierwise.serving.traffic.formats import _estimate
from tierwise.serving.traffic.formats._jsonl import has, parsed
from tierwise.serving.traffic.formats._text import checked, content
from tierwise.serving.traffic.rows import Rows, built
from tierwise.serving.traffic.trace import Floats, Trace

NEEDS = ("input_lens", "output_lens")
SEED = 0


def sniff(path: Path, head: str) -> bool:
    """Whether it is a result (detailed or not) or a dataset."""
    if not head.lstrip().startswith("{"):
        return False
    return '"input_lens"' in head or '"request_throughput"' in head or has(head, "prompt", "output_tokens")


def read(path: Path) -> Trace:
    """The requests of the (last) result, or of the dataset."""
    text = checked(path, content(path)).decode("utf-8")
    try:
        results = [json.loads(text)]
    except json.JSONDecodeError:
        lines = [(i, *parsed(line)) for i, line in enumerate(text.split("\n"), 1) if line.strip()]
        broken = [(i, why) for i, row, why in lines if row is None]
        results = [row for _, row, _ in lines if row is not None]
        if not results:
            raise TierwiseError(f"{path}: line {broken[0][0]}: {broken[0][1]}") from None
    else:
        lines, broken = [(1, results[0], "")], []
    if not all(isinstance(r, dict) for r in results):
        raise TierwiseError(f"{path}: allowed: JSON objects of a result or a dataset")
    if "prompt" in results[0]:
        return _dataset(path, results, np.array([i for i, row, _ in lines if row is not None]), broken)
    return _result(path, results[-1], len(results))


def _result(path: Path, result: dict[str, Any], of: int) -> Trace:
    if any(name not in result for name in NEEDS):
        raise TierwiseError(f"{path}: the result has no {NEEDS[0]} and {NEEDS[1]}; save it with --save-detailed")
    notices = [f"the last of {of} results"] if of > 1 else []
    numbers = {name: _numbers(path, result, name) for name in NEEDS}
    n = min(len(x) for x in numbers.values())
    if any(len(x) != n for x in numbers.values()):
        raise TierwiseError(
            f"{path}: input_lens and output_lens differ in length: {[len(x) for x in numbers.values()]}"
        )
    closed, absolute = 0, False
    rate, most = result.get("request_rate"), result.get("max_concurrency")
    if len(result.get("start_times") or ()) == n:
        numbers["start_times"], absolute = _numbers(path, result, "start_times"), True
    elif isinstance(rate, int | float) and 0 < rate < float("inf"):
        cv = float(result.get("burstiness") or 1.0) ** -0.5
        numbers["start_times"] = gamma.times(n, np.random.default_rng(SEED), rate=float(rate), cv=cv)
        notices.append(f"the result has no start_times: arrivals made up at its {rate:g} requests/s, seed {SEED}")
    else:
        numbers["start_times"] = np.zeros(n)
        closed = int(most) if isinstance(most, int) and most > 0 else 0
        notices.append("the result has no start_times and no rate: " +
                       (f"a closed loop of {closed}" if closed else "all arrive at 0 s"))  # fmt: skip
    failed = (numbers["output_lens"] == 0, "requests that failed (0 output tokens)")
    rows = Rows(path, numbers, np.arange(1, n + 1), lambda name, row: f"{numbers[name][row]:g}", (), tuple(notices),
                "request")  # fmt: skip
    return built(rows, "start_times", *NEEDS, absolute=absolute, left_out=failed, closed_loop=closed)


def _dataset(path: Path, rows: list[dict[str, Any]], lines: Any, broken: list[tuple[int, str]]) -> Trace:
    texts = [row["prompt"] if isinstance(row.get("prompt"), str) else "" for row in rows]
    numbers = {
        "arrival": np.zeros(len(rows)),
        "prompt": _estimate.tokens(texts),
        "output_tokens": np.array([_number(row.get("output_tokens")) for row in rows]),
    }
    notices = (_estimate.notice(), "the file knows no times: all arrive at 0 s")
    told = Rows(path, numbers, lines, lambda name, row: repr(rows[row].get(name))[:40], tuple(broken), notices)
    return built(told, *numbers)


def _numbers(path: Path, result: dict[str, Any], name: str) -> Floats:
    values = result[name]
    if not isinstance(values, list):
        raise TierwiseError(f"{path}: {name}: found {str(values)[:40]!r}; allowed: a list of numbers")
    return np.array([_number(x) for x in values], np.float64)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else np.nan
