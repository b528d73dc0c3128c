"""Prompts of a wanted number of tokens, for a server whose tokenizer nobody here has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from tierwise.errors import TierwiseError
from tierwise.serving.traffic.trace import Trace

Count = Callable[[str], Awaitable[int]]

_FEW, _MANY = 16, 272  # words of the two texts a line is laid through


@dataclass(frozen=True)
class Ruler:
    """Tokens of a text: ``fixed`` (template, beginning of text) and ``per_word``."""

    fixed: float
    per_word: float

    def words(self, tokens: int) -> int:
        """Words that make so many tokens, at least 1."""
        return max(1, round((tokens - self.fixed) / self.per_word))

    def tokens(self, words: int) -> int:
        """Tokens of so many words."""
        return max(1, round(self.fixed + self.per_word * words))


async def ruler(count: Count, seed: int) -> Ruler:
    """A line through two texts that the server has counted.

    Raises:
        TierwiseError: the longer text does not have more tokens.
    """
    few = await count(_text(_FEW, (seed, 0)))
    many = await count(_text(_MANY, (seed, 1)))
    if not 0 < few < many:
        raise TierwiseError(f"the server counts {few} tokens in {_FEW} words and {many} in {_MANY}: no prompts of a "
                            "given length can be written for it")  # fmt: skip
    per_word = (many - few) / (_MANY - _FEW)
    return Ruler(few - per_word * _FEW, per_word)


def prompt(trace: Trace, i: int, measure: Ruler, seed: int) -> str:
    """The text of request ``i``: equal blocks of the trace are equal words, everything else is its own."""
    n = measure.words(int(trace.prompt[i]))
    own = (seed, 2, i)
    if len(trace.block_start) <= len(trace) or not len(trace.blocks):
        return _text(n, own)
    known = trace.blocks[trace.block_start[i] : trace.block_start[i + 1]]
    each = max(1, round(trace.block_size / measure.per_word))
    parts = [_text(each, (seed, 3, int(block) & (2**63 - 1))) for block in known[: -(-n // each)]]
    words = " ".join(parts).split(" ")[:n] if parts else []
    rest = [_text(n - len(words), own)] if len(words) < n else []
    return " ".join([*words, *rest])


def _text(words: int, seed: tuple[int, ...]) -> str:
    return " ".join(np.random.default_rng(seed).choice(vocabulary(), words))


@cache
def vocabulary() -> NDArray[np.str_]:
    """Words so short and common that most vocabularies have each as one token."""
    return np.array(files(__package__).joinpath("observe_words.txt").read_text("utf-8").split())
