"""A program as a framework starts it: one kernel a line of code, or what a compiler joins of them.

What an exporter or a block merged is taken apart again (:func:`unmerged`), what it wrote in parts put together
(:mod:`tierwise.program.composites`), the dtypes of automatic mixed precision follow from the framework's rules
(:func:`cast`), and a compiler joins pointwise work (:func:`joined`). Structure only: all sizes may be arrays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.numerics import Format, fmt
from tierwise.program.composites import acts, composed, node
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.types import Op, Operand

# Kinds whose kernels a compiler calls, and does not write.
_EXTERN = ("conv", "matmul", "attention", "moe", "scan", "collective", "copy", "embedding")


@dataclass(frozen=True)
class KernelRules:
    """How a framework runs a graph.

    Attributes:
        merges_norms: batch norms behind convolutions are merged into them, with the activation that follows.
        joins: pointwise work, norms and reductions that follow each other become one kernel.
        into_products: they also become part of the product before them, where they need nothing but its rows.
        wide: operators that automatic mixed precision computes in 32 bits; ``widening``: those among whose results
            alone have 32 bits.
        tf32: convolutions of fp32 tensors compute in TF32, where the device has it.
    """

    merges_norms: bool = False
    joins: bool = False
    into_products: bool = False
    wide: frozenset[str] = frozenset()
    widening: frozenset[str] = frozenset()
    tf32: bool = False


def as_kernels(program: Program, rules: KernelRules) -> Program:
    """The program as a framework with such rules runs it."""

    def body(b: Body) -> Body:
        inner = [x for x in b.items if isinstance(x, Op)]
        if len(inner) < len(b.items):
            return replace(b, items=tuple(x if isinstance(x, Op) else item(x) for x in b.items))
        return replace(b, items=tuple(_kernels(inner, rules)))

    def item(x: Body | Repeat) -> Body | Repeat:
        return body(x) if isinstance(x, Body) else replace(x, bodies=tuple(body(b) for b in x.bodies))

    return replace(program, items=tuple(item(x) for x in program.items))


def _kernels(ops: Sequence[Op], rules: KernelRules) -> list[Op]:
    graph = any(map(node, ops))
    out = composed(single(ops if graph else spelled(ops)))
    if not rules.merges_norms:
        out = unmerged(out)
    out = cast(out, rules, graph)
    out = [_tf32(op) for op in out] if rules.tf32 else out
    out = joined(out, rules.into_products) if rules.joins else out
    # What an op waited for may have become part of another.
    return [replace(op, after=None) for op in out]


def spelled(ops: Iterable[Op]) -> list[Op]:
    """Ops of blocks as operators of graphs: norms by name, each after the sum that blocks have in it."""
    out: list[Op] = []
    for op in ops:
        if op.kind != "norm":
            out.append(op)
            continue
        named = {**op.options, "node": "LayerNormalization" if op.options.get("centered") else "RMSNormalization"}
        added = [o for o in op.reads if o.role == "act"]
        total = next((o for o in op.writes[1:] if o.name == added[0].name), None)
        if len(added) != 2 or total is None:
            out.append(replace(op, options=named))
            continue
        out.append(Op("elementwise", f"{op.name}.add", op.role, {"elements": total.elements}, total.elements,
                      tuple(added), (total,), "fp32", options={"node": "Add"}))  # fmt: skip
        reads = (total, *(o for o in op.reads if o.role != "act"))
        out.append(replace(op, reads=reads, writes=op.writes[:1], options=named))
    return out


def single(ops: Iterable[Op]) -> list[Op]:
    """The ops with a name of its own for each tensor: blocks write one name again and again."""
    version: dict[str, str] = {}
    taken: Counter[str] = Counter()
    out: list[Op] = []
    for op in ops:
        reads = tuple(replace(o, name=version.get(o.name, o.name)) if o.role == "act" else o for o in op.reads)
        writes = []
        for o in op.writes:
            taken[o.name] += 1
            version[o.name] = o.name if taken[o.name] == 1 and not any(o.name == r.name for r in op.reads) else (
                f"{o.name}.{taken[o.name]}"
            )
            writes.append(replace(o, name=version[o.name]))
        out.append(replace(op, reads=reads, writes=tuple(writes)))
    return out


def unmerged(ops: Iterable[Op]) -> list[Op]:
    """The ops with the batch norms (and activations) that stand merged in convolutions as kernels of their own."""
    out: list[Op] = []
    for op in ops:
        active = bool(op.options.get("activated"))
        if not op.options.get("merged"):
            raw = replace(op.writes[0], name=op.writes[0].name + ".raw") if active else op.writes[0]
            out.append(replace(op, writes=(raw,)) if active else op)
            out += [_pointwise(op, "act", "Relu", (raw,), op.writes[0], 1.0)] if active else []
            continue
        result, channels = op.writes[0], op.dims["c_out"]
        raw, shift = replace(result, name=result.name + ".raw"), Operand(op.name + ".norm", "weight", 2.0 * channels,
                                                                         op.reads[-1].format)  # fmt: skip
        out.append(replace(op, writes=(raw,)))
        normed = replace(result, name=result.name + ".normed") if active else result
        out.append(_pointwise(op, "norm", "BatchNormalization", (raw, shift), normed, 2.0))
        if active:
            out.append(_pointwise(op, "act", "Relu", (normed,), result, 1.0))
    return out


def _pointwise(op: Op, name: str, kind: str, reads: tuple[Operand, ...], write: Operand, per: float) -> Op:
    return Op("norm" if kind == "BatchNormalization" else "elementwise", f"{op.name}.{name}", op.role,
              {"elements": write.elements}, per * write.elements, reads, (write,), "fp32", None,
              options={"node": kind})  # fmt: skip


def _tf32(op: Op) -> Op:
    return replace(op, arithmetic="tf32") if op.kind == "conv" and _all(np.asarray(op.arithmetic) == "fp32") else op


def cast(ops: Sequence[Op], rules: KernelRules, graph: bool) -> list[Op]:
    """The ops under automatic mixed precision, where weights are wider than the activations asked for; else as given.

    Products read and compute in the activations' format, what the rules call wide in 32 bits, everything else in the
    widest of what it reads; weights are cast each time, activations wherever an op needs them in another format.
    """
    narrow = next((o.format for op in ops for o in op.writes if op.kind in ("conv", "matmul")), None)
    mixed = [o for op in ops if op.kind in ("conv", "matmul") for o in op.reads if o.role == "weight"]
    if narrow is None or not any(_all(o.format.bits > narrow.bits) for o in mixed):
        return list(ops)
    full = fmt("fp32")
    # What comes into a graph stands in full precision; what comes into a layer, as the layer before left it.
    outside = full if graph else narrow
    held: dict[str, Format] = {}
    out: list[Op] = []
    for op in ops:
        reads = [replace(o, format=held.get(o.name, outside)) if o.role == "act" else o for o in op.reads]
        want: Format | None = None
        if op.kind in ("conv", "matmul", "attention"):
            want, written = narrow, narrow
        elif node(op) in rules.wide:
            want, written = None if node(op) in rules.widening else full, full
        else:
            table = any(o.role in ("weight", "table") and _all(o.elements > 1) for o in op.reads)
            wider = any(o.role == "act" and _all(o.format.bits > narrow.bits) for o in reads)
            written = full if wider or (table and node(op) != "BatchNormalization") else narrow
        for i, o in enumerate(reads):
            if want is None or o.role not in ("act", "weight") or _all(o.format.bits == want.bits):
                continue
            if op.kind in ("conv", "matmul", "attention") or o.role == "act":
                reads[i] = replace(o, name=f"{o.name}.as.{want}", format=want)
                out.append(_cast(op, o, reads[i]))
        writes = tuple(replace(o, format=written) for o in op.writes)
        held.update({o.name: written for o in writes})
        arithmetic = narrow.arithmetic if op.kind in ("conv", "matmul", "attention") else op.arithmetic
        out.append(replace(op, reads=tuple(reads), writes=writes, arithmetic=arithmetic))
    return out


def _cast(op: Op, before: Operand, after: Operand) -> Op:
    return Op("elementwise", f"{op.name}.cast.{before.name}", op.role, {"elements": after.elements}, 0.0, (before,),
              (after,), "fp32", None, options={"node": "Cast", "weights": before.role == "weight"})  # fmt: skip


@dataclass
class _Group:
    """Ops that one kernel does."""

    members: list[int]
    level: int
    extern: bool


def joined(ops: Sequence[Op], into_products: bool) -> list[Op]:
    """The ops with pointwise work, norms and reductions that follow each other as one kernel each.

    An op joins the kernel that writes one of its inputs unless another input depends on that kernel by way of a
    product: both then have different levels, which count products on the longest way from the graph's inputs.
    """
    writer = {o.name: i for i, op in enumerate(ops) for o in op.writes}
    groups: list[_Group] = []
    of: list[int] = []
    for i, op in enumerate(ops):
        extern = op.kind in _EXTERN
        before = [of[writer[n]] for n in _inputs(op) if n in writer and writer[n] < i]
        level = max((groups[g].level + groups[g].extern for g in before), default=0)
        home = next((g for g in reversed(before) if not extern and groups[g].level == level and not groups[g].extern),
                    None)  # fmt: skip
        if home is None and into_products and not extern and not _reduces(op):
            home = next((g for g in reversed(before) if groups[g].extern and groups[g].level + 1 == level), None)
        if home is None:
            groups.append(_Group([], level, extern))
            home = len(groups) - 1
        groups[home].members.append(i)
        of.append(home)
    read_by = _readers(ops, of)
    for g, group in enumerate(groups):
        # Pointwise work with one reader is computed where it is read.
        readers = {h for i in group.members for o in ops[i].writes for h in read_by.get(o.name, {-1})} - {g}
        home = next(iter(readers)) if len(readers) == 1 else -1
        if home < 0 or group.extern or groups[home].extern or any(map(_reduces, (ops[i] for i in group.members))):
            continue
        groups[home].members = sorted(group.members + groups[home].members)
        for i in group.members:
            of[i] = home
        group.members = []
        read_by = _readers(ops, of)
    groups, of = [g for g in groups if g.members], []
    home_of = {i: g for g, group in enumerate(groups) for i in group.members}
    read_by = _readers(ops, [home_of[i] for i in range(len(ops))])
    order = sorted(range(len(groups)), key=lambda g: max(groups[g].members))
    return [_one(ops, groups[g], g, read_by) for g in order]


def _readers(ops: Sequence[Op], of: Sequence[int]) -> dict[str, set[int]]:
    """Groups by the names that their members read."""
    out: dict[str, set[int]] = {}
    for op, group in zip(ops, of, strict=True):
        for n in _inputs(op):
            out.setdefault(n, set()).add(group)
    return out


def _reduces(op: Op) -> bool:
    return bool(op.options.get("reduces")) or (op.kind == "norm" and node(op) != "BatchNormalization")


def _inputs(op: Op) -> list[str]:
    return [*acts(op), *(o.name for o in op.reads if o.role == "weight" and ".as." in o.name)]


def _one(ops: Sequence[Op], group: _Group, at: int, read_by: Mapping[str, set[int]]) -> Op:
    """One op for a group: it reads what others wrote, and writes what others read."""
    if len(group.members) == 1:
        return ops[group.members[0]]
    members = [ops[i] for i in group.members]
    inside = {o.name for op in members for o in op.writes}
    reads = {o.name: o for op in members for o in op.reads if o.name not in inside}
    writes = [o for op in members for o in op.writes if read_by.get(o.name, {-1}) != {at}]
    main = members[0] if group.extern else next((m for m in members if m.kind == "norm"), members[-1])
    names = Counter(node(m) or m.kind for m in members)
    options = {**main.options, "joined": "+".join(names)}
    if any(map(_reduces, members)):
        options["reduces"] = True
    return replace(
        main, flops=sum((m.flops for m in members), 0.0), reads=tuple(reads.values()), writes=tuple(writes),
        options=options, name=members[-1].name,
    )  # fmt: skip


def _all(condition: object) -> bool:
    return bool(np.all(np.asarray(condition)))


__all__ = ["KernelRules", "as_kernels", "cast", "joined", "unmerged"]
