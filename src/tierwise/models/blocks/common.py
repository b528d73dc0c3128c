"""Pieces every block is built from: linear maps, norms, elementwise kernels, collectives."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.num import Num, ceil_div, is_zero, maximum
from tierwise.core.numerics import Format, fmt, multiply_in
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op, Operand

INDEX = fmt("int32")

# Vector operations an element of kernels that memory binds, counted from their formulas (an exponential, a division and
# a root count one each).
NORM = 4.0  # x² and its sum; times the inverse root, times the weight. A residual's addition and a mean are left out.
ROPE = 6.0  # (a cos - b sin, a sin + b cos): 6 for a pair, so 3 for an element of a query, and 3 for one of a key.
GATE = 5.0  # y σ(g): negation, exponential, addition, reciprocal, product.
ACTIVATION = 6.0  # u x σ(x), as a gate and one more product; GELU by a polynomial costs no less.
GATED_NORM = 8.0  # A norm, then y / (1 + exp(-g)): negation, exponential, addition, division.
ROUTE = 8.0  # Softmax: maximum, difference, exponential, sum, division; top k: a comparison, two selections.


def act(step: Step, name: str, elements: Num) -> Operand:
    """An activation tensor in the step's format."""
    return Operand(name, "act", elements, step.act)


def share(total: Num, grain: Num, degree: Num) -> Num:
    """The largest share when ``total``, in pieces of ``grain``, is dealt to ``degree`` devices.

    A grain that is no longer divisible is replicated (KV heads under wide tensor parallelism).
    """
    if is_zero(grain):
        return total / degree
    return ceil_div(total / grain, degree) * grain


@dataclass(frozen=True)
class Linear:
    """``y = x W (+ b)``.

    Attributes:
        name: of the projection.
        d_in, d_out: unsharded widths.
        bias: whether it has one.
        role: weight role.
        split: what tensor parallelism divides: ``out`` (columns), ``in`` (rows), ``none``.
        grain: outputs (or inputs) that stay together, such as a head's width.
        tied: its weight is another's (no parameters of its own).
    """

    name: str
    d_in: Num
    d_out: Num
    bias: bool = False
    role: str = "attn"
    split: str = "none"
    grain: Num = 0.0
    tied: bool = False

    def weights(self) -> Iterator[Weight]:
        split = "none" if self.split == "none" else "tp"
        if not self.tied:
            other = self.d_in if self.split == "out" else self.d_out
            yield Weight(self.name, self.d_in * self.d_out, self.role, split, self.grain * other,
                         (self.d_in, self.d_out), "" if self.split == "none" else self.split)  # fmt: skip
        if self.bias:
            yield Weight(self.name + ".bias", self.d_out, self.role, split if self.split == "out" else "none",
                         self.grain)  # fmt: skip

    def local(self, step: Step) -> tuple[Num, Num]:
        """(k, n) on one device."""
        tp = step.plan.tp
        k = share(self.d_in, self.grain, tp) if self.split == "in" else self.d_in
        n = share(self.d_out, self.grain, tp) if self.split == "out" else self.d_out
        return k, n


def matmul(
    step: Step,
    name: str,
    role: str,
    m: Num,
    linears: Iterable[Linear],
    source: str,
    target: str,
    *,
    group: str = "",
) -> Op:
    """One GEMM over the concatenated outputs of ``linears`` (fused QKV, fused gate and up).

    Args:
        m: rows, that is tokens.
        source, target: names of the activation read and written.
        group: report group; the role unless given.
    """
    parts = list(linears)
    k = parts[0].local(step)[0]
    n = sum((p.local(step)[1] for p in parts), 0.0)
    weight_role = parts[0].role
    form = step.weight(weight_role)
    density = step.density(weight_role)
    return Op(
        kind="matmul",
        name=name,
        role=group or role,
        dims={"m": m, "n": n, "k": k},
        flops=2.0 * m * n * k,
        reads=(act(step, source, m * k), Operand(name + ".w", "weight", n * k * density, form)),
        writes=(act(step, target, m * n),),
        arithmetic=multiply_in(form, step.act),
        options={"structured": step.plan.structured, "density": density, "parts": len(parts)},
    )


def elementwise(
    step: Step,
    name: str,
    role: str,
    reads: dict[str, Num],
    writes: dict[str, Num],
    per_element: float = 1.0,
    extra: tuple[Operand, ...] = (),
    kind: str = "elementwise",
) -> Op:
    """A memory-bound kernel: every operand once, ``per_element`` vector operations per element written."""
    out = sum(writes.values(), 0.0)
    return Op(
        kind=kind,
        name=name,
        role=role,
        dims={"elements": out},
        flops=out * per_element,
        reads=tuple(act(step, k, v) for k, v in reads.items()),
        writes=(*(act(step, k, v) for k, v in writes.items()), *extra),
        arithmetic="fp32",
    )


def collective(
    step: Step, name: str, kind: str, elements: Num, group: Num, source: str, *, form: Format | None = None,
    stride: Num = 1.0, after: tuple[str, ...] | None = None,
) -> list[Op]:  # fmt: skip
    """A collective among ``group`` devices, or nothing when every group is one device.

    Args:
        kind: ``all_reduce``, ``all_gather``, ``reduce_scatter``, ``all_to_all`` or ``send``.
        elements: size of the full buffer on one device before the collective (for all_gather: after it).
        stride: distance between neighbours of the group in device numbers (1: adjacent devices).
    """
    if np.all(np.asarray(group) <= 1):
        return []
    buffer = Operand(source, "act", elements, form or step.act)
    return [
        Op(
            kind="collective",
            name=name,
            role="comm",
            dims={"bytes": buffer.bytes, "group": group, "stride": stride},
            flops=0.0,
            reads=(buffer,),
            # In place: whoever reads the tensor afterwards waits for it.
            writes=(Operand(source, "act", 0.0, step.act),),
            arithmetic="fp32",
            after=after,
            stream="comm",
            options={"collective": kind, "library": step.plan.library},
        )
    ]


def all_reduce(step: Step, name: str, width: Num, source: str) -> list[Op]:
    """The sum over the tensor-parallel group that follows a row-split linear."""
    return collective(step, name, "all_reduce", step.tokens * width, step.plan.tp, source)


class Plain:
    """A block that keeps nothing for a sequence, and of which nobody needs to know more."""

    def state(self, step: Step) -> Iterable[SequenceState]:
        return ()

    def facts(self) -> BlockFacts:
        return BlockFacts()


@dataclass(frozen=True)
class Norm(Plain):
    """LayerNorm or RMSNorm over ``width``, fused with the residual addition before it.

    Attributes:
        width: normalised width.
        bias: LayerNorm's shift (weights: 2 × width).
        affine: has weights at all.
        residual: the residual is added (and written back) in the same kernel.
    """

    width: Num
    bias: bool = False
    name: str = "norm"
    affine: bool = True
    residual: bool = True

    def weights(self) -> Iterator[Weight]:
        if self.affine:
            yield Weight(self.name, self.width * (2.0 if self.bias else 1.0), "norm")

    def ops(self, step: Step) -> Iterator[Op]:
        size = step.tokens * self.width
        reads = {"x": size, "y": size} if self.residual else {"x": size}
        writes = {"h": size, "x": size} if self.residual else {"h": size}
        op = elementwise(step, self.name, "norm", reads, writes, per_element=NORM, kind="norm")
        yield replace(op, options={"centered": self.bias})


@dataclass(frozen=True)
class Extra(Plain):
    """Parameters that take memory and no noticeable time (position tables' rows, scales, class tokens)."""

    name: str
    elements: Num
    role: str = "norm"

    def weights(self) -> Iterator[Weight]:
        yield Weight(self.name, self.elements, self.role)

    def ops(self, step: Step) -> Iterable[Op]:
        return ()


@dataclass(frozen=True)
class Projection(Plain):
    """A linear map on the residual stream (adapters, poolers, patch mergers).

    ``tokens_ratio`` scales how many tokens it sees (1/4 after a 2×2 merge).
    """

    linear: Linear
    tokens_ratio: Num = 1.0
    once: bool = False

    def weights(self) -> Iterator[Weight]:
        return self.linear.weights()

    def ops(self, step: Step) -> Iterator[Op]:
        m = step.seqs if self.once else maximum(step.tokens * self.tokens_ratio, 1.0)
        yield matmul(step, self.linear.name, self.linear.role, m, [self.linear], "h", "y")
