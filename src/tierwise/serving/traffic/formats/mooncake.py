"""Mooncake's traces: JSON lines of timestamp (ms), input_length, output_length, hash_ids of 512-token blocks.

Equal ids mean equal blocks behind equal prefixes, so the shared part of two prompts is their common start.
Source: https://github.com/kvcache-ai/Mooncake, README and FAST25-release/traces (Mooncake, FAST 2025).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tierwise.serving.traffic.formats._jsonl import Lines, first, has
from tierwise.serving.traffic.formats._text import HEAD, content
from tierwise.serving.traffic.rows import built
from tierwise.serving.traffic.trace import Trace

NEEDS = ("timestamp", "input_length", "output_length")
BLOCK = 512  # tokens behind one of hash_ids, as the traces' README says
MS = 1e-3


def sniff(path: Path, head: str) -> bool:
    """Whether the first line is an object of these fields."""
    return has(head, *NEEDS) and '"chat_id"' not in head.split("\n", 1)[0]  # those are in seconds: bailian


def read(path: Path) -> Trace:
    """Every request with its blocks."""
    first(path, content(path, HEAD).decode("utf-8", "replace"), *NEEDS)
    lines = Lines(path, NEEDS, ("hash_ids",))
    blocks, start = lines.lists["hash_ids"]
    prompt = np.nan_to_num(lines.numbers["input_length"])
    long = np.diff(start) > -(-prompt // BLOCK)
    if not len(blocks):
        start = start[:1]
    out = built(lines.rows(), *NEEDS, unit=MS, blocks=blocks, block_start=start, block_size=BLOCK)
    if long.any():
        told = f"{int(long.sum())} requests name more blocks than their prompt fills; the rest are ignored"
        out = replace(out, notices=(*out.notices, told))
    return out
