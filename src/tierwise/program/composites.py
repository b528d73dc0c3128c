"""Ops of an exported graph that a framework runs as one: activations, products around a softmax, strided views.

Exporters write what a framework's function computes in the operators that a format has: SiLU as a sigmoid and a
product, fused attention as two products with a softmax between them. Ops carry the operator in ``options["node"]``;
those of models that are described by blocks have none and stay as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tierwise.program.types import Op, Operand

# Operators whose result is the same memory seen otherwise, where the framework has strides.
_VIEWS = ("Transpose", "Split", "Slice", "Expand", "Gather")
_POINTWISE = ("Add", "Sub", "Mul", "Div", "Neg", "Pow", "Cast")


@dataclass
class _Graph:
    """Ops by place, with who writes and who reads each name; None where an op was taken up by another."""

    ops: list[Op | None]
    writer: dict[str, int]
    readers: Counter[str]

    def producer(self, name: str) -> tuple[int, Op] | None:
        at = self.writer.get(name)
        op = None if at is None else self.ops[at]
        return None if at is None or op is None else (at, op)

    def alone(self, name: str) -> bool:
        """Whether one op reads a name."""
        return self.readers[name] == 1


def composed(ops: Sequence[Op]) -> list[Op]:
    """The ops with exporters' decompositions put together again and views left out."""
    ops = without_views(ops)
    graph = _Graph(list(ops), {o.name: i for i, op in enumerate(ops) for o in op.writes},
                   Counter(n for op in ops for n in acts(op)))  # fmt: skip
    for at, op in enumerate(ops):
        if node(op) == "Add":
            _biased(graph, at, op)
        elif node(op) == "InstanceNormalization":
            _affine(graph, at, op)
        elif node(op) == "Mul":
            _gated(graph, at, op)
            _scaled(graph, at)
        elif node(op) == "Erf":
            _gelu(graph, at, op)
        elif node(op) == "Softmax":
            _attention(graph, at, op)
    return [op for op in graph.ops if op is not None]


def without_views(ops: Sequence[Op]) -> list[Op]:
    """The ops without those that only rename memory; their readers read what they saw."""
    seen: dict[str, str] = {}
    out: list[Op] = []
    for op in ops:
        reads = tuple(replace(o, name=seen.get(o.name, o.name)) if o.role == "act" else o for o in op.reads)
        if node(op) in _VIEWS and reads and reads[0].role == "act":
            seen.update({o.name: reads[0].name for o in op.writes})
            continue
        out.append(op if reads == op.reads else replace(op, reads=reads))
    return out


def node(op: Op) -> str:
    """The operator of the graph that an op came from; ``""`` without one."""
    return str(op.options.get("node", ""))


def acts(op: Op) -> list[str]:
    """The distinct activations that an op reads."""
    return list(dict.fromkeys(o.name for o in op.reads if o.role == "act"))


def _biased(graph: _Graph, at: int, op: Op) -> None:
    """A product and the addition of one number a column as one linear layer."""
    bias = [o for o in op.reads if o.role == "weight"]
    found = graph.producer(acts(op)[0]) if len(acts(op)) == 1 and len(bias) == 1 else None
    if found is None or found[1].kind != "matmul" or not graph.alone(acts(op)[0]):
        return
    if bool(np.all(np.asarray(bias[0].elements) == np.asarray(found[1].dims["n"]))):
        graph.ops[found[0]] = None
        graph.ops[at] = replace(found[1], reads=(*found[1].reads, *bias), writes=op.writes)
        graph.writer[op.writes[0].name] = at


def _affine(graph: _Graph, at: int, op: Op) -> None:
    """A group norm with its scale and shift, which exporters write as products and sums behind it."""
    last = at
    for wanted in ("Mul", "Add"):
        name = op.writes[0].name
        step = next((i for i in range(last + 1, min(last + 6, len(graph.ops)))
                     if (o := graph.ops[i]) is not None and acts(o) == [name] and node(o) == wanted), None)  # fmt: skip
        found = None if step is None else graph.ops[step]
        if step is None or found is None or not graph.alone(name):
            break
        op = replace(op, reads=(*op.reads, *(o for o in found.reads if o.role != "act")), writes=found.writes)
        graph.ops[last], graph.ops[step], last = None, op, step


def _gated(graph: _Graph, at: int, op: Op) -> None:
    """``x · sigmoid(x)``, and hard sigmoids likewise, as one activation."""
    for gate in acts(op):
        found = graph.producer(gate)
        if found and node(found[1]) in ("Sigmoid", "HardSigmoid") and graph.alone(gate):
            if acts(found[1])[0] in acts(op):
                reads = tuple(o for o in op.reads if o.name != gate)
                graph.ops[at] = replace(op, reads=reads, options={**op.options, "node": "Silu"})
                graph.ops[found[0]] = None
            return


def _scaled(graph: _Graph, at: int) -> None:
    """``x · scale + shift`` with both stored as one kernel (torch.addcmul)."""
    op = graph.ops[at]
    if op is None or len(acts(op)) != 1 or not any(o.role == "weight" for o in op.reads):
        return
    name = op.writes[0].name
    step = next((i for i in range(at + 1, min(at + 4, len(graph.ops)))
                 if (o := graph.ops[i]) is not None and acts(o) == [name] and node(o) == "Add"), None)  # fmt: skip
    found = None if step is None else graph.ops[step]
    if step is not None and found is not None and graph.alone(name) and any(o.role == "weight" for o in found.reads):
        graph.ops[at] = None
        graph.ops[step] = replace(op, reads=(*op.reads, *(o for o in found.reads if o.role != "act")),
                                  writes=found.writes, options={**op.options, "node": "Affine"})  # fmt: skip


def _gelu(graph: _Graph, at: int, op: Op) -> None:
    """``x (1 + erf(x / √2)) / 2`` as one activation."""
    scaled = graph.producer(acts(op)[0])
    if scaled is None or node(scaled[1]) not in ("Div", "Mul") or len(acts(scaled[1])) != 1:
        return
    x = acts(scaled[1])[0]
    taken, last, name = [scaled[0], at], at, op.writes[0].name
    for wanted in ("Add", "Mul", "Mul"):
        step = next((i for i in range(last + 1, min(last + 8, len(graph.ops)))
                     if (o := graph.ops[i]) is not None and name in acts(o) and node(o) == wanted), None)  # fmt: skip
        if step is None or not graph.alone(name):
            break
        taken.append(step)
        last, name = step, graph.ops[step].writes[0].name  # type: ignore[union-attr]
    end = graph.ops[last]
    if len(taken) < 4 or end is None:
        return
    source = next(o for o in scaled[1].reads if o.name == x)
    for i in taken:
        graph.ops[i] = None
    graph.ops[last] = replace(op, reads=(source,), writes=end.writes, options={**op.options, "node": "Gelu"})


def _attention(graph: _Graph, at: int, op: Op) -> None:
    """Two products with a softmax between them, and what scales or masks the scores, as one kernel."""
    taken, mask = [at], []
    found = graph.producer(acts(op)[0])
    while found and node(found[1]) in _POINTWISE:
        taken.append(found[0])
        inner = [n for n in acts(found[1]) if (p := graph.producer(n)) and (node(p[1]) in (*_POINTWISE, "MatMul"))]
        mask += [o for o in found[1].reads if o.role != "act" and o.name != "scale"]
        if len(inner) != 1:
            return
        found = graph.producer(inner[0])
    after = next((i for i in range(at + 1, min(at + 12, len(graph.ops)))
                  if (o := graph.ops[i]) is not None and op.writes[0].name in acts(o)), None)  # fmt: skip
    product = None if after is None else graph.ops[after]
    if found is None or product is None or {found[1].kind, product.kind} != {"matmul"}:
        return
    if len(acts(found[1])) < 1 or after is None or any(o.role == "weight" for o in found[1].reads):
        return
    d, e = found[1].dims, product.dims
    reads = []
    for x in (*found[1].reads, *(x for x in product.reads if x.name != op.writes[0].name)):
        # Exports scale queries and keys by the root of what the kernel scales their products by.
        place = graph.producer(x.name)
        scaled = place is not None and node(place[1]) == "Mul" and len(acts(place[1])) == 1 and graph.alone(x.name)
        if place is not None and scaled:
            taken.append(place[0])
        reads.append(replace(x, name=acts(place[1])[0]) if place is not None and scaled else x)
    dims = {"batch": d["batch"], "heads": 1.0, "kv_heads": 1.0, "q": d["m"], "kv": d["n"], "head_dim": d["k"],
            "v_dim": e["n"], "columns": d["n"], "window": float("inf")}  # fmt: skip
    for i in (*taken, found[0]):
        graph.ops[i] = None
    small: tuple[Operand, ...] = tuple(o for o in mask if o.role == "weight")
    graph.ops[after] = replace(
        product, kind="attention", name=f"{product.name}.attention", dims=dims, flops=found[1].flops + product.flops,
        reads=(*reads, *small), options={"phase": "encode", "node": "Attention"},
    )  # fmt: skip


__all__ = ["acts", "composed", "node", "without_views"]
