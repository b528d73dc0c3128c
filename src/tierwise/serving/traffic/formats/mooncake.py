"""Mooncake's traces: JSON lines of timestamp (ms), input_length, output_length, hash_ids of 512-token blocks.

Equal ids mean equal blocks behind equal prefixes, so the shared part of two prompts is their common start. Others write
the same fields with their own units, which the file itself tells: timestamps with fractions are seconds where
milliseconds would be no traffic, and blocks are smaller where prompts name more of them than they fill. AIPerf adds
sessions: a session_id, and for later turns a delay (ms) after the answer before in place of a timestamp.

Source: https://github.com/kvcache-ai/Mooncake, README and FAST25-release/traces (Mooncake, FAST 2025);
https://github.com/ai-dynamo/aiperf, docs/benchmark-modes/trace-replay.md;
https://github.com/vllm-project/guidellm, issues 620 and 948 (timestamps in seconds).
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.serving.traffic.formats._jsonl import Lines, first, has
from tierwise.serving.traffic.formats._text import HEAD, content
from tierwise.serving.traffic.rows import EXACT, built, unix_unit
from tierwise.serving.traffic.trace import Floats, Ints, Trace

NEEDS = ("timestamp", "input_length", "output_length")
BLOCK = 512  # tokens behind one of hash_ids, as the traces' README says
MS = 1e-3
# Requests a second above which a clock of milliseconds is not believed: no published trace of one service has a
# hundredth of it (Mooncake 3 to 7, Azure 6, Bailian 10 to 100).
BELIEVED = 1000.0
LONG = 1e5  # units: below it, timestamps with fractions are a trace of a day in seconds, or of less than 100 s in ms


def sniff(path: Path, head: str) -> bool:
    """Whether the first line is an object of these fields."""
    if '"chat_id"' in head.split("\n", 1)[0]:
        return False  # those are in seconds: bailian
    return has(head, *NEEDS) or (has(head, *NEEDS[1:]) and (has(head, "session_id") or has(head, "delay")))


def read(path: Path) -> Trace:
    """Every request with its blocks."""
    if not has(head := content(path, HEAD).decode("utf-8", "replace"), "session_id"):
        first(path, head, *NEEDS)
    lines = Lines(path, (*NEEDS, "delay"), ("hash_ids",), ("session_id",), time="timestamp")
    time, prompt = lines.numbers["timestamp"], np.nan_to_num(lines.numbers["input_length"])
    unit, told = clock(time)
    turns, lines.numbers["timestamp"] = _sessions(lines, unit)
    blocks, start = lines.lists["hash_ids"]
    size, said = block_size(prompt, np.diff(start))
    if not len(blocks):
        start = start[:1]
    out = built(lines.rows(), *NEEDS, unit=unit, blocks=blocks, block_start=start, block_size=size, **turns)
    return replace(out, notices=(*out.notices, *told, *said))


def clock(time: Floats) -> tuple[float, tuple[str, ...]]:
    """Seconds of one unit of timestamps (n,), and a word on it where the format alone does not settle it."""
    if since := unix_unit(time):
        return since, ()
    known = time[np.isfinite(time)]
    span = float(np.ptp(known)) if len(known) else 0.0
    if span <= 0:
        return MS, ()
    rate = (len(known) - 1) / (span * MS)
    if not (known == np.floor(known)).all():
        if span < LONG or rate > BELIEVED:
            told = f"timestamp has fractions and would be {rate:,.3g} requests/s in milliseconds: read as seconds"
            return 1.0, (told,)
        return MS, ("timestamp has fractions: read as milliseconds (--rate-scale 0.001 if they are seconds)",)
    if rate > BELIEVED:
        return MS, (f"timestamp in milliseconds makes {rate:,.4g} requests/s: if they are seconds, --rate-scale 0.001",)
    return MS, ()


def block_size(prompt: Floats, count: Ints) -> tuple[int, tuple[str, ...]]:
    """Tokens of a block, from how many of them (n,) prompts (n,) name, and a word where they are not Mooncake's.

    A prompt of p tokens fills ceil(p / size) blocks, which bounds the size from both sides; of what lies between, the
    power of two is taken, for that is what engines use.
    """
    prompt = np.where((prompt > 0) & (prompt <= EXACT), prompt, 0.0)
    count = np.where(prompt > 0, count, 0)
    long = count > -(-prompt // BLOCK)
    if not long.any():
        return BLOCK, ()
    many = count > 1
    low = int(np.ceil(np.max(prompt[count > 0] / count[count > 0])))
    high = int(np.min(np.ceil(prompt[many] / (count[many] - 1.0)) - 1.0)) if many.any() else 0
    size = 1 << max(low - 1, 0).bit_length()
    size = size if size <= high else low
    if 1 <= size <= high:
        return size, (f"prompts name more blocks of {BLOCK} tokens than they fill: read as blocks of {size}",)
    return BLOCK, (f"{int(long.sum())} requests name more blocks than their prompt fills; the rest are ignored",)


def _sessions(lines: Lines, unit: float) -> tuple[dict[str, Any], Floats]:
    """Which turn follows which after how long, where delays say so; and timestamps, those of later turns filled in."""
    from tierwise.serving.traffic.formats.simple import codes_of, following

    time, delay = lines.numbers["timestamp"], lines.numbers["delay"]
    index = codes_of(lines.texts["session_id"])
    n = len(time)
    after = following(index, np.arange(n, dtype=np.float64))
    follows = (after >= 0) & (np.isfinite(delay) | np.isnan(time))
    after = np.where(follows, after, -1)
    wait = np.where(follows & (delay > 0) & (delay < 1e15), delay, 0.0) * MS
    if not follows.any():
        # The first of a session without any time begins at 0.
        return {}, np.where(np.isnan(time) & (index >= 0), 0.0, time)
    start = np.where(np.isnan(time) & (index >= 0) & ~follows, 0.0, time)
    order, filled = np.lexsort((np.arange(n), index)), start.copy()
    # Where a later turn gives no time, the earliest it could come: its session's last time and the delays since.
    waited = np.cumsum(np.where(np.isnan(start), wait, 0.0)[order])
    given = np.maximum.accumulate(np.where(np.isfinite(start[order]), np.arange(n), 0))
    filled[order] = start[order][given] + (waited - waited[given]) / unit
    return {"after": after, "think": wait}, np.where(np.isnan(time) & (index < 0), np.nan, filled)
