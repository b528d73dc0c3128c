"""What a block tells of itself, so that nobody outside has to know its class.

Every block answers ``facts()`` with plain data: how many heads and experts it has, what it caches, which policies its
cache can follow. A block that wraps another passes these on (:class:`tierwise.models.wrapper.Wrapper`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, minimum

if TYPE_CHECKING:
    from tierwise.models.types import Block, Model, Stack

# What can be done to a cache: the first seven by a plan's KV policy, the others layer by layer.
POLICIES: Mapping[str, str] = {
    "format": "another number format",
    "evict": "fewer tokens kept",
    "read": "fewer tokens read",
    "rank": "fewer channels kept",
    "remat": "the layer's input kept in place of keys and values",
    "prefix": "a common prefix kept once",
    "relay": "a common prefix read once",
    "window": "a window of the newest tokens",
    "density": "a static pattern of pairs",
    "budget": "a limit of tokens for the layer",
    "copied": "a copy of the cache each step",
    "expanded": "keys and values copied to every query head",
    "rebuilt": "keys rebuilt from a low-rank copy",
}


@dataclass(frozen=True)
class Cache:
    """A cache of past tokens and what can be done to it.

    Attributes:
        layout: ``keys`` (keys and values, a vector a KV head), ``latent`` (one vector for all heads), ``entries`` (one
            for several tokens), ``rebuilt``, ``shared`` (reads an earlier layer's), ``cross`` (an encoder's).
        refuses: why a policy (of :data:`POLICIES`) cannot be followed; those not named change what is stored, read or
            computed.
    """

    layout: str
    refuses: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class BlockFacts:
    """What others need to know of a block.

    Attributes:
        heads: what tensor parallelism deals out whole: query heads, heads of a recurrence; None without.
        kv_heads, head_dim: heads of keys and values, and their width.
        scores: it computes softmax scores of queries and keys (that can be written to memory).
        cache: what it keeps for past tokens, growing with them; None when nothing.
        state: name of the fixed state of its recurrence; ``""`` without one.
        experts, top_k: routed experts, and how many of them a token visits.
        expert_shape: (width, inner width) of one expert.
        tied: elements of a matrix that is the embedding's; a pipeline stage without the embedding stores them again.
        last_only: it computes an output of a prompt's last token only (an output head that could do all).
    """

    heads: Num | None = None
    kv_heads: Num | None = None
    head_dim: Num | None = None
    scores: bool = False
    cache: Cache | None = None
    state: str = ""
    experts: Num | None = None
    top_k: Num | None = None
    expert_shape: tuple[Num, Num] | None = None
    tied: Num = 0.0
    last_only: bool = False

    @property
    def active_fraction(self) -> Num:
        """Share of the routed experts' parameters that one token is multiplied with."""
        if self.experts is None or self.top_k is None:
            return 1.0
        return minimum(self.top_k / self.experts, 1.0)


def facts_of(block: Block) -> BlockFacts:
    """What a block declares.

    Raises:
        TierwiseError: it declares nothing.
    """
    if not hasattr(block, "facts"):
        raise TierwiseError(f"{type(block).__name__} has no facts(); a block says what it has (Facts() for nothing), a "
                            "block around another derives from tierwise.models.wrapper.Wrapper")  # fmt: skip
    return block.facts()


def blocks(stack: Stack) -> Iterator[tuple[Block, Num]]:
    """Every block of a stack with how often it is executed."""
    for block in (*stack.before, *stack.after):
        yield block, 1.0
    for layer, n in stack.runs():
        for block in layer.blocks:
            yield block, n


def heads(model: Model) -> Any:
    """Heads of the text stacks (their greatest common divisor, an integer or an array), or None without any."""
    return _common(model, "heads")


def experts(model: Model) -> Any:
    """Routed experts (the greatest common divisor over layers, an integer or an array), or None without any."""
    return _common(model, "experts")


def depth(model: Model) -> int:
    """Layers of the deepest text stack: as many stages a pipeline can have."""
    return max((s.depth for s in model.stacks if s.stream == "text"), default=1)


def _common(model: Model, name: str) -> Any:
    found = [
        np.asarray(value)
        for stack in model.stacks
        if stack.stream in ("text", "encode")
        for layer in stack.kinds
        for block in layer.blocks
        if (value := getattr(facts_of(block), name)) is not None
    ]
    if not found:
        return None
    out = found[0].astype(np.int64)
    for value in found[1:]:
        out = np.gcd(out, value.astype(np.int64))
    return out if out.ndim else int(out)
