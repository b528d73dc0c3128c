"""Ops and their operands: what is computed, on what, and what follows from it. No prices.

An :class:`Op` knows its work: iteration dims, operands, FLOPs. What it costs on a device is the business
of :mod:`tierwise.cost`. Everything is per device: sharding has already happened when a graph is built.
All sizes may be arrays.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tierwise.core.num import Num
from tierwise.core.numerics import Format, Names


@dataclass(frozen=True)
class Operand:
    """One tensor as one op sees it.

    Attributes:
        name: identity of the tensor inside its layer; a write and a later read of one name are an edge.
        role: ``weight``, ``act``, ``kv``, ``state``, ``table`` (embeddings), ``score``, or ``host``
            (lies in the host's memory).
        elements: how many elements move (for a gather: the gathered ones).
        format: how they are stored.
    """

    name: str
    role: str
    elements: Num
    format: Format

    @property
    def bytes(self) -> Num:
        return self.elements * self.format.bytes


@dataclass(frozen=True)
class Op:
    """One kernel's worth of work on one device.

    Attributes:
        kind: op class; ``cost/<kind>.py`` prices it.
        name: "attn.q_proj", ...
        role: what it belongs to, for reports: ``attn``, ``mlp``, ``moe``, ``ssm``, ``norm``, ``embed``,
            ``head``, ``comm``, ``conv``, ``vision``.
        dims: iteration dims by their usual names (m, n, k, batch, heads, q, kv, head_dim, ...).
        flops: arithmetic, a multiply-add counting 2.
        reads, writes: operands.
        arithmetic: dtype of the arithmetic.
        after: names of the ops it waits for; None means the op before it in the layer.
        stream: ``compute`` or ``comm``: ops of one stream never overlap each other.
        options: anything else a price needs (causal, fused, sparse, group, algorithm, ...).
    """

    kind: str
    name: str
    role: str
    dims: Mapping[str, Num]
    flops: Num
    reads: tuple[Operand, ...]
    writes: tuple[Operand, ...]
    arithmetic: Names
    after: tuple[str, ...] | None = None
    stream: str = "compute"
    options: Mapping[str, object] = field(default_factory=dict)

    @property
    def bytes(self) -> Num:
        """Bytes read and written if every operand moves exactly once."""
        return sum((o.bytes for o in (*self.reads, *self.writes)), 0.0)

    def bytes_of(self, role: str) -> Num:
        """Compulsory bytes of the operands of one role."""
        return sum((o.bytes for o in (*self.reads, *self.writes) if o.role == role), 0.0)


@dataclass(frozen=True)
class Segment:
    """The ops of one body of a program, executed ``repeat`` times in all, such as the equal layers of a stack.

    Attributes:
        path: names of the repeats around it.
    """

    name: str
    repeat: Num
    ops: tuple[Op, ...]
    path: tuple[str, ...] = ()
