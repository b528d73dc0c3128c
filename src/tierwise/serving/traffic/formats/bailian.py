"""Qwen-Bailian's traces: JSON lines of chat_id, parent_chat_id, timestamp (s), input_length, output_length, turn,
hash_ids of 16-token blocks.

The hashes are of each block alone; two prompts share what they have in common from the start. When answers ended is not
told, so turns keep the times they came at and follow nothing.
Source: https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon, README (KVCache in the wild, ATC 2025).
"""

from __future__ import annotations

from pathlib import Path

from tierwise.serving.traffic.blocks import content_blocks
from tierwise.serving.traffic.formats._jsonl import Lines, first, has
from tierwise.serving.traffic.formats._text import HEAD, content
from tierwise.serving.traffic.rows import built
from tierwise.serving.traffic.trace import Trace

NEEDS = ("timestamp", "input_length", "output_length", "chat_id", "parent_chat_id")
BLOCK = 16  # tokens behind one of hash_ids, as the README says


def sniff(path: Path, head: str) -> bool:
    """Whether the first line is an object of these fields."""
    return has(head, *NEEDS)


def read(path: Path) -> Trace:
    """Every request with its blocks, at the times the file gives."""
    first(path, content(path, HEAD).decode("utf-8", "replace"), *NEEDS)
    lines = Lines(path, NEEDS[:3], ("hash_ids",), time=NEEDS[0])
    blocks, start = content_blocks(*lines.lists["hash_ids"], 1)
    return built(lines.rows(), *NEEDS[:3], blocks=blocks, block_start=start, block_size=BLOCK)
