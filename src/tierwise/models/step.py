"""One pass through a model, as a block sees it."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tierwise.core.num import Num, maximum, minimum
from tierwise.core.numerics import Format
from tierwise.models.types import Model
from tierwise.scenario.types import Plan

LINEAR_ROLES = frozenset({"attn", "mlp", "expert", "shared_expert", "ssm", "vision"})


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

    @property
    def tokens(self) -> Num:
        """New tokens on this rank."""
        return self.seqs * self.new

    @property
    def context(self) -> Num:
        """Tokens of one sequence after the pass."""
        return self.past + self.new

    @property
    def act(self) -> Format:
        """Format of activations."""
        return self.plan.activations or self.model.activations

    def weight(self, role: str) -> Format:
        """Format of the weights of a role: the plan's for linear layers, unless the role's was set by name; else the
        checkpoint's."""
        if self.plan.weights is not None and role in LINEAR_ROLES - self.model.pinned:
            return self.plan.weights
        return self.model.format_of(role)

    def density(self, role: str) -> Num:
        """Fraction of a role's weights that is stored."""
        return 1.0 - self.plan.sparsity if role in LINEAR_ROLES else 1.0

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

