"""The backward pass of a body: for every op what computes its gradients, in reverse order.

- A GEMM ``Y = X W`` has two of the same arithmetic: ``dX = dY Wᵀ`` and ``dW = Xᵀ dY``, which is added to a gradient
  that stays in memory (read and written: it stands twice among what the op writes) or written by itself.
- Fused attention recomputes its scores: five products where the forward pass has two (FlashAttention-2,
  arXiv:2307.08691, section 3.1), so it does its work 2.5 times over. Unfused attention keeps its softmax: its kernels
  go over the scores seven times (read the softmax for the gradient of values, write its gradient, read both and write
  the gradient of scores, read that for queries and for keys), those of the forward pass four times.
- A kernel that memory binds reads what it read and the gradient of what it wrote, and writes gradients of what it read.
- A collective has its conjugate: an all-gather the reduce-scatter, an all-reduce an all-reduce (Megatron-LM,
  arXiv:1909.08053, section 3), a send the send the other way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.num import Num, scalar
from tierwise.core.numerics import Format, fmt
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.types import Op, Operand

# Products of a fused attention's backward pass over those of its forward pass.
ATTENTION = 2.5
# Passes over the scores of an unfused attention's backward pass over those of its forward pass.
UNFUSED = 7.0 / 4.0
# What the names of ops end with that compute gradients of weights: only the update waits for them, so that a schedule
# may put them off (arXiv:2401.10241). All other ops of a backward pass compute gradients of inputs.
WEIGHTS = ".wgrad"
# Options of ops that no gradient goes through: with ``DETACHED`` an op has nothing in the backward pass, with ``AGAIN``
# it runs once more there (a weight unpacked from fewer bits, which is not kept).
DETACHED, AGAIN = "detached", "again"
_CONJUGATE = {"all_gather": "reduce_scatter", "reduce_scatter": "all_gather"}


# The share of an op's weight that has gradients: of the inputs that it maps.
Share = Callable[[Op], float]


def backward(
    program: Program, gradients: Format | None = None, share: Share = lambda op: 1.0, added: Num = 1.0
) -> Program:
    """The backward pass of every body of a program, bodies in reverse order.

    Args:
        gradients: format that gradients of weights are written in; fp32 unless given.
        share: what of each op's weight is trained; 0 where it is frozen.
        added: 1 where products add their gradients of weights to those of earlier micro-batches, 0 where they only
            write them.
    """
    kept = _Kept(gradients or fmt("fp32"), added)
    return Program(tuple(_item(item, kept, share) for item in reversed(program.items)), program.role)


@dataclass(frozen=True)
class _Kept:
    """How gradients of weights are kept."""

    form: Format
    added: Num


def _item(item: Body | Repeat, kept: _Kept, share: Share) -> Body | Repeat:
    if isinstance(item, Repeat):
        return replace(item, bodies=tuple(_body(b, kept, share) for b in item.bodies), pattern=item.pattern[::-1])
    return _body(item, kept, share)


def _body(body: Body, kept: _Kept, share: Share) -> Body:
    items: list[Op | Body | Repeat] = []
    for item in reversed(body.items):
        if isinstance(item, Op):
            items += _gradients(item, body.name, kept, share(item))
        else:
            items.append(_item(item, kept, share))
    return Body(body.name, tuple(items))


def _gradients(op: Op, body: str, kept: _Kept, share: float) -> Iterator[Op | Repeat]:
    """What computes the gradients of one op."""
    if op.options.get(DETACHED):
        return
    if op.options.get(AGAIN):
        yield replace(op, name=op.name + ".grad")
    elif op.kind == "matmul":
        yield from _matmul(op, kept, share)
    elif op.kind == "moe":
        yield replace(op, name=op.name + ".dgrad")
        if share > 0:
            yield replace(op, name=op.name + WEIGHTS)
    elif op.kind == "attention":
        fused = np.asarray(op.options.get("flash", True), dtype=bool)
        count = scalar(np.where(fused, ATTENTION, UNFUSED))
        yield Repeat("products", (Body(body, (replace(op, name=op.name + ".grad"),)),), count=count)
    elif op.kind == "collective":
        how = str(op.options["collective"])
        yield replace(op, name=op.name + ".grad", options={**op.options, "collective": _CONJUGATE.get(how, how)})
    elif op.kind == "embedding":
        if share > 0:
            yield _scattered(op, kept.form)
    else:
        yield _bound_by_memory(op)


def _matmul(op: Op, how: _Kept, share: float) -> Iterator[Op]:
    m, n, k = op.dims["m"], op.dims["n"], op.dims["k"]
    weight = next(o for o in op.reads if o.role == "weight")
    given, out = next(o for o in op.reads if o.role == "act"), op.writes[0]
    upstream = _gradient(out)
    yield replace(
        op,
        name=op.name + ".dgrad",
        dims={**op.dims, "m": m, "n": k, "k": n},
        reads=(upstream, weight),
        writes=(_gradient(given),),
    )
    if share <= 0:
        return
    size: Num = op.dims.get("batch", 1.0) * n * k * share
    kept = Operand(weight.name + ".grad", "grad", size, how.form)
    yield replace(
        op,
        name=op.name + WEIGHTS,
        dims={**op.dims, "m": n, "n": k * share, "k": m},
        flops=op.flops * share,
        reads=(upstream, replace(given, elements=given.elements * share)),
        writes=(kept, replace(kept, elements=how.added * size)),
        options={**op.options, "density": 1.0},
    )


def _scattered(op: Op, form: Format) -> Op:
    """Rows of a table's gradient, read and written where tokens fell."""
    size = op.dims["tokens"] * op.dims["width"]
    rows = Operand(op.name + ".grad", "grad", size, form)
    return Op(
        "elementwise",
        op.name + ".grad",
        op.role,
        {"elements": size},
        size,
        (*map(_gradient, op.writes), rows),
        (rows,),
        "fp32",
    )


def _bound_by_memory(op: Op) -> Op:
    reads = (*_acts(op.reads), *map(_gradient, _acts(op.writes)))
    writes = tuple(map(_gradient, _acts(op.reads)))
    return replace(op, name=op.name + ".grad", reads=reads, writes=writes, flops=2.0 * op.flops)


def _acts(operands: Iterable[Operand]) -> list[Operand]:
    return [o for o in operands if o.role == "act"]


def _gradient(o: Operand) -> Operand:
    return replace(o, name="d" + o.name)
