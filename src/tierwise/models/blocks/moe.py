"""Mixture of experts: top-k routing, shared experts, expert parallelism."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.num import Num, ceil_div, is_zero, maximum, minimum, where
from tierwise.core.numerics import multiply_in
from tierwise.models.blocks.common import INDEX, ROUTE, Linear, act, collective, elementwise, matmul
from tierwise.models.blocks.mlp import MLP
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op, Operand

# Bytes of an activation sent in 8 bits: one, and a 32-bit scale for every 128.
EIGHT_BITS = 1.0 + 4.0 / 128.0


def distinct(experts: Num, top_k: Num, tokens: Num) -> Num:
    """Expected number of distinct experts touched by ``tokens`` tokens, each choosing ``top_k`` evenly.

    ``E (1 - (1 - k/E)^T)``: each token misses a given expert with probability ``1 - k/E``.
    """
    miss = maximum(1.0 - top_k / experts, 0.0)
    return experts * (1.0 - miss**tokens)


@dataclass(frozen=True)
class MoE:
    """Routed experts, each an MLP, and optional shared experts every token passes through.

    Attributes:
        hidden: width of the residual stream; ``latent`` the width experts work in, when projected down.
        experts, top_k: how many there are and how many a token visits.
        inner: inner width of one expert.
        gated, bias: as in an MLP.
        shared_inner: inner width of the shared experts together (0: none).
        shared_gate: a one-output gate scales the shared experts.
        router_bias: one number per expert (score correction).
        iterations: times tokens pass through experts in the layer, with a router each (chains of experts).
        ranks: a token's experts lie on at most this many expert-parallel ranks (group-limited routing:
            SAM, arXiv:2110.07431).
        router: it has one (False: tokens arrive assigned); ``extra``: further parameters.
    """

    hidden: Num
    experts: Num
    top_k: Num
    inner: Num
    gated: bool = True
    bias: bool = False
    shared_inner: Num = 0.0
    shared_gate: bool = False
    router_bias: bool = False
    latent: Num | None = None
    iterations: int = 1
    ranks: Num = float("inf")
    router: bool = True
    extra: Num = 0.0
    name: str = "moe"

    @property
    def width(self) -> Num:
        return self.hidden if self.latent is None else self.latent

    def _shared(self) -> MLP | None:
        if is_zero(self.shared_inner):
            return None
        return MLP(self.hidden, self.shared_inner, self.gated, self.bias, "shared_expert", f"{self.name}.shared")

    def _latent(self) -> list[Linear]:
        if self.latent is None:
            return []
        return [
            Linear("latent_down", self.hidden, self.latent, role="shared_expert"),
            Linear("latent_up", self.latent, self.hidden, role="shared_expert"),
        ]

    def weights(self) -> Iterator[Weight]:
        if self.router:
            rows = self.hidden * self.experts + (self.experts if self.router_bias else 0.0)
            yield Weight("router", rows * self.iterations, "router")
        per = self.width * self.inner * (3.0 if self.gated else 2.0)
        if self.bias:
            per = per + self.inner * (2.0 if self.gated else 1.0) + self.width
        yield Weight("experts", per * self.experts, "expert", "ep", per, sides=(self.width, self.inner))
        for linear in self._latent():
            yield from linear.weights()
        if shared := self._shared():
            yield from shared.weights()
            if self.shared_gate:
                yield Weight("shared_gate", self.hidden, "router")
        if not is_zero(self.extra):
            yield Weight("extra", self.extra, "norm")

    def placement(self, step: Step) -> tuple[Num, Num, Num]:
        """(experts on one device, slices each of them is cut into, tokens that reach the device's group).

        The experts' group is ``ep`` devices; where ``ep`` is smaller than the tensor-parallel group the rest
        of that group cuts each expert. Expert ranks beyond one tensor-parallel group bring the tokens of
        their data-parallel ranks along.
        """
        plan = step.plan
        local = ceil_div(self.experts, plan.ep)
        slices = maximum(plan.tp / plan.ep, 1.0)
        ranks = maximum(plan.ep / plan.tp, 1.0)
        return local, slices, step.tokens * where(np.asarray(ranks) > 1.0, ranks * step.balance, 1.0)

    def ops(self, step: Step) -> Iterator[Op]:
        for _ in range(self.iterations):
            yield from self._pass(step)

    def _pass(self, step: Step) -> Iterator[Op]:
        plan, t = step.plan, step.tokens
        local, slices, reaching = self.placement(step)
        if self.router:
            router = Linear("router", self.hidden, self.experts, role="router")
            yield matmul(step, f"{self.name}.router", "moe", t, [router], "h", "scores")
            chosen = t * self.top_k
            yield elementwise(step, f"{self.name}.topk", "moe", {"scores": t * self.experts}, {"choice": chosen}, ROUTE)
        down_up = self._latent()
        if down_up:
            yield matmul(step, f"{self.name}.latent_down", "moe", t, down_up[:1], "h", "z")
        yield from self._exchange(step, "dispatch", "h")
        yield self._experts(step, local, slices, reaching)
        yield from self._exchange(step, "combine", "y")
        if down_up:
            yield matmul(step, f"{self.name}.latent_up", "moe", t, down_up[1:], "y", "y")
        shared = self._shared()
        if shared is not None:
            yield from (op for op in shared.ops(step) if op.kind != "collective")
        size = t * self.hidden
        yield elementwise(step, f"{self.name}.merge", "moe", {"y": size * 2.0}, {"y": size}, 2.0)
        # Inside a tensor-parallel group partial sums are added up. Without any (routed experts on ranks beyond it,
        # none shared), each member got its share of the tokens back and gathers the rest.
        whole = (np.asarray(plan.ep) > plan.tp) & (shared is None)
        yield from collective(step, f"{self.name}.all_reduce", "all_reduce", size, where(whole, 1.0, plan.tp), "y")
        yield from collective(step, f"{self.name}.all_gather", "all_gather", size, where(whole, plan.tp, 1.0), "y")

    def _exchange(self, step: Step, name: str, source: str) -> list[Op]:
        """Tokens travel to their experts' ranks, or back: one copy per distinct rank a token visits."""
        plan = step.plan
        ranks = maximum(plan.ep / plan.tp, 1.0)
        copies = minimum(ranks * (1.0 - (1.0 - 1.0 / ranks) ** self.top_k), self.ranks)
        sent = step.tokens / plan.tp * self.width * copies * plan.imbalance
        group = where(ranks > 1.0, plan.ep, 1.0)
        # What one copy takes: 8-bit experts are sent 8-bit activations with a scale for every 128.
        eight = (np.asarray(step.weight("expert").arithmetic) == "fp8") & (name == "dispatch")
        copy = step.tokens / plan.tp * self.width * where(eight, EIGHT_BITS, step.act.bytes) * plan.imbalance
        more = {"copy": copy, "copies": copies, "choices": self.top_k, "most": self.ranks}
        return [replace(op, dims={**op.dims, **more}, options={**op.options, "prompts": step.phase != "decode"})
                for op in collective(step, f"{self.name}.{name}", "all_to_all", sent, group, source)]  # fmt: skip

    def _experts(self, step: Step, local: Num, slices: Num, reaching: Num) -> Op:
        """All routed experts of a device as one grouped GEMM pair."""
        form = step.weight("expert")
        inner = self.inner / slices
        rows = reaching * self.top_k * (local / self.experts) * step.plan.imbalance
        touched = distinct(self.experts, self.top_k, reaching) * (local / self.experts)
        per = self.width * inner * (3.0 if self.gated else 2.0)
        density = step.density("expert")
        # Inside a tensor-parallel group every device has all tokens and skips those of others' experts; from other
        # ranks only those come that were sent here.
        ranks = maximum(step.plan.ep / step.plan.tp, 1.0)
        sent = ranks > 1.0
        here = where(sent, reaching * (1.0 - (1.0 - 1.0 / ranks) ** self.top_k), reaching)
        slots = where(sent, rows, reaching * self.top_k)
        return Op(
            kind="moe",
            name=f"{self.name}.experts",
            role="moe",
            dims={
                "tokens": rows, "hidden": self.width, "inner": inner, "experts": local, "touched": touched,
                "up": 2.0 if self.gated else 1.0, "routed": slots, "reaching": here,
            },
            flops=2.0 * rows * per,
            reads=(
                act(step, "h", rows * self.width),
                Operand("experts.w", "weight", touched * per * density, form),
                Operand("choice", "act", rows, INDEX),
            ),
            writes=(act(step, "y", rows * self.width), act(step, "u", rows * inner * (3.0 if self.gated else 2.0))),
            arithmetic=multiply_in(form, step.act),
            options={"structured": step.plan.structured, "bias": self.bias},
        )  # fmt: skip

    def state(self, step: Step) -> Iterable[SequenceState]:
        return ()

    def facts(self) -> BlockFacts:
        return BlockFacts(experts=self.experts, top_k=self.top_k, expert_shape=(self.width, self.inner))
