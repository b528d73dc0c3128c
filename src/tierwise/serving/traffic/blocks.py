"""Who shares which prefix: identities of blocks of tokens, equal where the block and all before it are equal."""

from __future__ import annotations

import numpy as np

from tierwise.serving.traffic.trace import Ints

# Tokens of a block where a file does not say: what engines cache by, so that no shared block is missed. vLLM's default
# for --block-size on CUDA, https://docs.vllm.ai/en/stable/configuration/engine_args.html
BLOCK = 16
CHUNK = 1 << 14  # requests whose blocks are numbered at once


def session_blocks(prompt: Ints, session: Ints, size: int, system: int = 0,
                   group: Ints | None = None) -> tuple[Ints, Ints]:  # fmt: skip
    """Identities of the full blocks of prompts that grow turn by turn, behind a shared system prompt.

    A session's tokens are one stream, of which every prompt is a prefix: block j of a session is the same in all
    its turns that fill it, and the same in all sessions of a group where it lies within the system prompt.

    Args:
        prompt: tokens (n,), all of one session's being prefixes of the longest.
        session: index of its session (n,), from 0 without gaps.
        size: tokens of a block.
        system: tokens shared by all sessions of a group; ``group``: index of each session's (sessions,).

    Returns:
        blocks (total,), block_start (n + 1,), or ([], [0]) where no prompt fills a block.
    """
    count = prompt // size
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    groups = np.zeros(int(session.max()) + 1 if len(session) else 0, np.int64) if group is None else group
    shared = system // size
    # Numbers without gaps between: first the groups' blocks, then each session's own.
    own = np.zeros(len(groups), np.int64)
    np.maximum.at(own, session, np.maximum(count - shared, 0))
    base = int(groups.max(initial=-1) + 1) * shared + np.cumsum(own) - own
    blocks = np.empty(start[-1], np.int64)
    for lo in range(0, len(count), CHUNK):  # so that what is needed on the way stays small beside the answer
        part = slice(lo, lo + CHUNK)
        first, end = start[lo], start[min(lo + CHUNK, len(count))]
        place = np.arange(first, end) - np.repeat(start[:-1][part], count[part])
        ahead = np.repeat(groups[session[part]] * shared, count[part])
        behind = np.repeat(base[session[part]] - shared, count[part])
        blocks[first:end] = place + np.where(place < shared, ahead, behind)
    return blocks, start if start[-1] else start[:1]


def content_blocks(tokens: Ints, token_start: Ints, size: int) -> tuple[Ints, Ints]:
    """Identities of full blocks of prompts whose tokens are known.

    Args:
        tokens: of all prompts, one after the other; ``token_start``: where each begins (n + 1,).
        size: tokens of a block.

    Returns:
        blocks (total,), block_start (n + 1,). Works one depth at a time over all prompts, so that equal blocks
        behind equal prefixes get equal identities without hashing.
    """
    count = np.diff(token_start) // size
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    blocks = np.zeros(start[-1], np.int64)
    before = np.full(len(count), -1, np.int64)
    known = 0
    for depth in range(int(count.max(initial=0))):
        rows = np.flatnonzero(count > depth)
        content = tokens[(token_start[rows] + depth * size)[:, None] + np.arange(size)]
        _, name = np.unique(np.column_stack([before[rows], content]), axis=0, return_inverse=True)
        before[rows] = blocks[start[rows] + depth] = known + name.ravel()
        known += int(name.max()) + 1
    return blocks, start if start[-1] else start[:1]
