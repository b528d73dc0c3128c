"""Prompts of a wanted number of tokens, for a server whose tokenizer nobody here has."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np

from tierwise.core.errors import TierwiseError
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
    few = await count(" ".join(_words(_FEW, (seed, 0))))
    many = await count(" ".join(_words(_MANY, (seed, 1))))
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
        return " ".join(_words(n, own))
    known = trace.blocks[trace.block_start[i] : trace.block_start[i + 1]]
    each = max(1, round(trace.block_size / measure.per_word))
    found: list[str] = []
    for block in known[: -(-n // each)].tolist():
        found += _words(each, (seed, 3, block & (2**63 - 1)))
    return " ".join([*found[:n], *_words(max(n - len(found), 0), own)])


def _words(n: int, seed: tuple[int, ...]) -> list[str]:
    known = vocabulary()
    return [known[k] for k in np.random.default_rng(seed).integers(len(known), size=n).tolist()]


@cache
def vocabulary() -> tuple[str, ...]:
    """Words so short and common that most tokenizers have each as one token."""
    return tuple(files(__package__).joinpath("observe_words.txt").read_text("utf-8").split())
