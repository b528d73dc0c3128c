"""One pass through a model, as a block sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tierwise.core.num import Num, maximum, minimum
from tierwise.core.numerics import Format
from tierwise.models.types import Model
from tierwise.scenario.types import Plan

LINEAR_ROLES = frozenset({"attn", "mlp", "expert", "shared_expert", "ssm", "vision"})


def formatted(model: Model) -> frozenset[str]:
    """Weight roles that a plan's format holds for, those aside whose format was set by name: linear layers; and where
    nothing is generated, convolutions too, and the head of a classifier. The convolutions of language models are short
    causal ones before a recurrence, which quantizers leave as they are."""
    more = {"conv"} if model.task != "generate" else set()
    return (LINEAR_ROLES | more | ({"head"} if model.task == "classify" else set())) - model.pinned


@dataclass(frozen=True)
class Step:
    """What runs in one pass on one device group.

    Attributes:
        model, plan: of the scenario.
        seqs: sequences on this data-parallel rank.
        new: new tokens of each sequence.
        past: tokens of each sequence that are already cached.
        phase: ``prefill``, ``decode`` or ``encode``.
        logits: tokens of each sequence that need the output head.
        encoder: encoder tokens per sequence, for cross-attention.
        fresh_encoder: the encoder's keys and values are computed in this pass.
        ahead: tokens that layers with a window hold beyond it while a prompt is read: those of the chunk in work.
        balance: tokens of the mean data-parallel rank over those of this one, the busiest: experts that ranks share see
            those of all of them.
        ranks: devices that each hold ``new`` tokens of every sequence, where attention that is not causal looks at
            those of all of them (context parallelism).
    """

    model: Model
    plan: Plan
    seqs: Num
    new: Num
    past: Num
    phase: str
    logits: Num = 1.0
    encoder: Num = 0.0
    fresh_encoder: bool = False
    ahead: Num = 0.0
    ranks: Num = 1.0
    balance: Num = 1.0

    @property
    def tokens(self) -> Num:
        """New tokens on this rank."""
        return self.seqs * self.new

    @property
    def context(self) -> Num:
        """Tokens of one sequence after the pass."""
        return self.past + self.new

    @cached_property
    def act(self) -> Format:
        """Format of activations: the plan's; else the checkpoint's, unless 16-bit weights were asked for and it has
        wider ones, since frameworks that cast the weights of an fp32 model to 16 bits cast its activations too."""
        if self.plan.activations is not None:
            return self.plan.activations
        own, asked = self.model.activations, self.plan.weights
        halved = asked is not None and np.all(np.isin(asked.name, ("fp16", "bf16"))) and np.all(own.name == "fp32")
        return asked if halved and asked is not None else own

    def weight(self, role: str) -> Format:
        """Format of the weights of a role: the plan's for those it holds for (:func:`formatted`), else the
        checkpoint's."""
        if self.plan.weights is not None and role in formatted(self.model):
            return self.plan.weights
        return self.model.format_of(role)

    def density(self, role: str) -> Num:
        """Fraction of a role's weights that is stored."""
        return 1.0 - self.plan.sparsity if role in LINEAR_ROLES or role in formatted(self.model) else 1.0

    @property
    def key(self) -> Format:
        return self.plan.kv.key or self.model.kv_format or self.act

    @property
    def value(self) -> Format:
        return self.plan.kv.value or self.model.kv_format or self.act

    def seen_tokens(self, window: Num | None = None) -> Num:
        """Sum over the new tokens of one sequence of how many tokens each attends to (causal).

        ``new * past + new (new + 1) / 2`` without a window; with one, the same with each term cut at it.
        """
        new, past = self.new, self.past
        full = new * past + new * (new + 1.0) / 2.0
        if window is None:
            return full
        # Token i of the new ones sees min(past + i, window): a ramp up to the window, then flat.
        ramp = maximum(0.0, minimum(window - past, new))
        return ramp * past + ramp * (ramp + 1.0) / 2.0 + (new - ramp) * window

    def but(self, **changes: object) -> Step:
        return replace(self, **changes)  # type: ignore[arg-type]

