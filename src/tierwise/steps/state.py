"""What one engine step works on: its only description of the work, whoever asks for its price."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.num import Num, maximum, where


@dataclass(frozen=True)
class Chunk:
    """Prefill of equal parts of prompts in one step: ``count`` sequences with ``new`` tokens each after ``past``
    cached ones. Attention of equal chunks is one call; different chunks add up."""

    new: Num
    past: Num = 0.0
    count: Num = 1.0


@dataclass(frozen=True)
class StepState:
    """One step, as the busiest data-parallel rank sees it. Every size may be an array.

    Attributes:
        decodes: sequences that decode; ``context``: their cached tokens, summed over them.
        drafts: further tokens that each decoding sequence brings (draft tokens to verify).
        chunks: prefill beside them.
        logits: tokens that need the output head; None for every decoding row and one for each chunk's sequence.
        padding: rows that compute nothing, up to the next recorded batch size.
        encoder: tokens of the encoder that a decoder's sequence attends to; ``fresh_encoder``: its keys and values are
            computed in this step.
        balance: rows of the mean rank over those of this one, the busiest, which sets the step's pace: experts that
            ranks share see the rows of all of them.
        each: cached tokens of a decoding sequence, where they are known; ``context`` over ``decodes`` unless given.
    """

    decodes: Num = 0.0
    context: Num = 0.0
    drafts: Num = 0.0
    chunks: tuple[Chunk, ...] = ()
    logits: Num | None = None
    padding: Num = 0.0
    encoder: Num = 0.0
    fresh_encoder: bool = False
    each: Num | None = None
    balance: Num = 1.0

    @classmethod
    def decoding(cls, sequences: Num, each: Num, drafts: Num = 0.0) -> StepState:
        """A step that decodes sequences with ``each`` cached tokens. Where sizes are arrays, ``each`` keeps its own
        shape, so that what follows from it alone is not worked out for every number of sequences."""
        return cls(decodes=sequences, context=sequences * each, drafts=drafts, each=each)

    def divided(self, parts: float) -> StepState:
        """One of so many equal parts of the step's work: fewer sequences, or shorter chunks where there are too few."""
        def part(c: Chunk) -> Chunk:
            several = np.asarray(c.count) >= parts
            return Chunk(where(several, c.new, c.new / parts), c.past, where(several, c.count / parts, c.count))

        return replace(self, decodes=self.decodes / parts, context=self.context / parts,
                       chunks=tuple(part(c) for c in self.chunks), logits=self.heads / parts)  # fmt: skip

    @property
    def prompt_tokens(self) -> Num:
        """Tokens of prompts."""
        return sum((c.count * c.new for c in self.chunks), 0.0)

    @property
    def tokens(self) -> Num:
        """Rows that products over tokens work on, padding left out."""
        return self.decodes * (1.0 + self.drafts) + self.prompt_tokens

    @property
    def sequences(self) -> Num:
        """Sequences in the step."""
        return self.decodes + sum((c.count for c in self.chunks), 0.0)

    @property
    def heads(self) -> Num:
        """Tokens that need the output head."""
        if self.logits is not None:
            return self.logits
        return self.decodes * (1.0 + self.drafts) + sum((c.count for c in self.chunks), 0.0)

    @property
    def mean_context(self) -> Num:
        """Cached tokens of a decoding sequence."""
        if self.each is not None:
            return self.each
        return self.context / maximum(self.decodes, 1e-30)
