"""vLLM's ``bench serve``: a saved result with its per-request lengths, or a dataset of {"prompt", "output_tokens"}.

A result (``--save-result --save-detailed``; SGLang's bench_serving writes the same fields with ``--output-details``, a
line a run) has input_lens, output_lens, ttfts and itls, and in newer versions start_times. Without those, arrivals are
made up from its request_rate and burstiness, or a closed loop from its max_concurrency. A dataset knows no times, and
only the text of its prompts.
Source: https://github.com/vllm-project/vllm, vllm/benchmarks/serve.py and datasets.py (CustomDataset);
https://github.com/sgl-project/sglang, python/sglang/bench_serving.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.jsontext import fields, items, number, text
from tierwise.serving.traffic.arrivals import gamma
from tierwise.serving.traffic.bench import ClientRun
from tierwise.serving.traffic.formats import _estimate
from tierwise.serving.traffic.formats._bench import column, documents, named, traced
from tierwise.serving.traffic.formats._jsonl import has, short
from tierwise.serving.traffic.rows import Rows, built
from tierwise.serving.traffic.trace import Floats, Trace

NEEDS = ("input_lens", "output_lens")
SEED = 0
# What SGLang's server says of itself, by the names of vLLM's arguments for the same.
_SGLANG = {"tp_size": "tensor_parallel_size", "pp_size": "pipeline_parallel_size", "dp_size": "data_parallel_size",
           "kv_cache_dtype": "kv_cache_dtype", "quantization": "quantization",
           "max_running_requests": "max_num_seqs", "mem_fraction_static": "gpu_memory_utilization",
           "chunked_prefill_size": "max_num_batched_tokens"}  # fmt: skip


def sniff(path: Path, head: str) -> bool:
    """Whether it is a result (detailed or not) or a dataset."""
    if not head.lstrip().startswith("{") or '"input_config"' in head:
        return False
    return '"input_lens"' in head or '"request_throughput"' in head or has(head, "prompt", "output_tokens")


def read(path: Path) -> Trace:
    """The requests of the (last) result, or of the dataset."""
    rows, lines, broken = documents(path)
    if "prompt" in rows[0]:
        return _dataset(path, rows, np.array(lines), broken)
    return traced(_result(path, rows))


def bench(path: Path) -> ClientRun:
    """The (last) result.

    Raises:
        TierwiseError: a dataset, or a result without its requests.
    """
    return _result(path, documents(path)[0])


def _result(path: Path, results: list[dict[str, Any]]) -> ClientRun:
    result = results[-1]
    if any(name not in result for name in NEEDS):
        raise TierwiseError(f"{path}: the result has no {NEEDS[0]} and {NEEDS[1]}; save it with --save-detailed "
                            "(SGLang: --output-details)")  # fmt: skip
    notices = [f"the last of {len(results)} results"] if len(results) > 1 else []
    prompt, output = (_numbers(path, result, name) for name in NEEDS)
    n = len(prompt)
    if len(output) != n:
        raise TierwiseError(f"{path}: input_lens and output_lens differ in length: {[n, len(output)]}")
    rate, most = number(result.get("request_rate")), number(result.get("max_concurrency"))
    kept = int(most) if 1 <= most < 2**31 else 0
    start, closed = _starts(result, n, rate, kept, notices)
    ttft = _times(result, "ttfts", n)
    total = _times(result, "latencies", n)
    spaced = [column(items(x)).sum() for x in items(result.get("itls"))]
    between = np.array(spaced) if len(spaced) == n else np.full(n, np.nan)
    last = np.where(np.isfinite(total), total, ttft + between)
    server = fields(result.get("server_info"))
    return ClientRun(
        path, start, prompt, output, start + ttft, start + last, output == 0, np.arange(1, n + 1),
        called="requests that failed (0 output tokens)", notices=tuple(notices), closed=closed,
        model=named(result, ("model_id",), ("model",), ("server_info", "model_path")),
        engine="sglang" if server or "sglang" in text(result.get("backend")) else "",
        arguments={ours: server[theirs] for theirs, ours in _SGLANG.items() if server.get(theirs) is not None},
    )  # fmt: skip


def _starts(result: dict[str, Any], n: int, rate: float, kept: int, notices: list[str]) -> tuple[Floats, int]:
    """When requests were sent (n,), and how many were kept in flight where that decided it."""
    known = column(items(result.get("start_times")))
    if len(known) == n:
        return known, 0
    if 0 < rate < float("inf"):
        burst = number(result.get("burstiness"))
        cv = burst**-0.5 if 1e-6 < burst < 1e6 else 1.0
        notices.append(f"the result has no start_times: arrivals made up at its {rate:g} requests/s, seed {SEED}")
        return gamma.times(n, np.random.default_rng(SEED), rate=max(rate, 1e-9), cv=cv), 0
    notices.append("the result has no start_times and no rate: " +
                   (f"a closed loop of {kept}" if kept else "all arrive at 0 s"))  # fmt: skip
    return np.zeros(n), kept


def _dataset(path: Path, rows: list[dict[str, Any]], lines: Any, broken: tuple[tuple[int, str], ...]) -> Trace:
    numbers = {
        "arrival": np.zeros(len(rows)),
        "prompt": _estimate.tokens([text(row.get("prompt")) for row in rows]),
        "output_tokens": column([row.get("output_tokens") for row in rows]),
    }
    notices = (_estimate.notice(), "the file knows no times: all arrive at 0 s")
    told = Rows(path, numbers, lines, lambda name, row: short(rows[row].get(name)), broken, notices)
    return built(told, *numbers)


def _times(result: dict[str, Any], name: str, n: int) -> Floats:
    found = column(items(result.get(name)))
    return found if len(found) == n else np.full(n, np.nan)


def _numbers(path: Path, result: dict[str, Any], name: str) -> Floats:
    if not isinstance(result[name], list):
        raise TierwiseError(f"{path}: {name}: found {short(result[name])}; allowed: a list of numbers")
    return column(result[name])
