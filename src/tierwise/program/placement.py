"""Where tensors lie and ops are computed, and the copies that follow from it.

A *node* is a place with bytes: a tier of the device by its name, ``host`` for the memory of the computer it is in. What
a placement does not name lies in the device's main memory and is computed by the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import Num, is_zero, where
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.types import Op, Operand

# The streams of copies: into the device's main memory, and out of it.
IN, OUT = "copy.in", "copy.out"
_GROUPS = {"weight": "weights", "table": "weights", "kv": "kv", "state": "state", "act": "activations"}

# What rounding leaves of a whole.
_NOTHING = 1e-9


@dataclass(frozen=True)
class Placement:
    """Where things are, as plain pairs that can be hashed and written to a file.

    Attributes:
        tensors: (group, ((node, fraction), ...)). A group is ``weights``, ``kv``, ``state`` or ``activations``, or the
            weights of one role of op (``attn``, ``mlp``, ``expert``, ``head``, ``embed``), which goes before
            ``weights``. What the fractions leave of 1 lies in the main memory.
        ops: (kind or role of op, node that computes it).
    """

    tensors: tuple[tuple[str, tuple[tuple[str, Num], ...]], ...] = ()
    ops: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        for group, places in self.tensors:
            whole: Num = sum((f for _, f in places), 0.0)
            low = any(bool(np.any(np.asarray(f) < 0)) for _, f in places)
            if low or bool(np.any(np.asarray(whole) > 1.0 + _NOTHING)):
                raise BadField("placement", group, dict(places), "fractions from 0 that add up to at most 1")

    def fractions(self, group: str, other: str = "") -> Mapping[str, Num]:
        """Fractions of a group by node, the main memory apart; those of ``other`` where the group is not named."""
        named = dict(self.tensors)
        return dict(named.get(group, named.get(other, ())))

    def at_home(self, group: str, other: str = "") -> Num:
        """The fraction that lies in the device's main memory."""
        left = 1.0 - sum(self.fractions(group, other).values(), 0.0)
        # 0.7 and 0.3 leave nothing, whatever their last bits say.
        return where(np.asarray(left) < _NOTHING, 0.0, left)

    def with_tensors(self, group: str, places: Mapping[str, Num]) -> Placement:
        """The same with a group placed; what it said of that group before is gone."""
        others = tuple(x for x in self.tensors if x[0] != group)
        return replace(self, tensors=(*others, (group, tuple(places.items()))))

    def with_ops(self, kind: str, node: str) -> Placement:
        """The same with ops of a kind or role computed on a node."""
        return replace(self, ops=(*(x for x in self.ops if x[0] != kind), (kind, node)))

    def __str__(self) -> str:
        """For people: ``"weights 60 % on host, attention computed on pim"``."""
        lying = [f"{group} {_percent(f)} on {node}" for group, places in self.tensors for node, f in places]
        return ", ".join([*lying, *(f"{kind} computed on {node}" for kind, node in self.ops)]) or "all in memory"

    def node(self, op: Op) -> str:
        """Where an op is computed: ``""`` on the device itself."""
        named = dict(self.ops)
        return named.get(op.name, named.get(op.kind, named.get(op.role, "")))


def placed(program: Program, placement: Placement) -> Program:
    """A program with the copies that a placement asks for, as ops of kind ``copy`` on streams of their own.

    Of every operand that lies on another node than its op is computed on, the fraction there is copied before the op
    (stream ``copy.in``, or ``copy.out`` where it leaves the device), and of every result after it. What waits for what
    follows from the names of operands: a copy writes buffers (role ``copy``, of the size that is in flight) that its op
    reads, with no bytes of their own; copies of weights and caches read nothing, so that a schedule may run them ahead;
    copies of activations read what their producer wrote. Ops computed elsewhere run on a stream named after their node.
    """
    if not placement.tensors and not placement.ops:
        return program
    return replace(program, items=tuple(_item(x, placement) for x in program.items))


def _percent(fraction: Num) -> str:
    return " and ".join(f"{100.0 * float(x):.3g} %" for x in np.ravel(fraction))


def _item(item: Body | Repeat, placement: Placement) -> Body | Repeat:
    if isinstance(item, Repeat):
        return replace(item, bodies=tuple(_body(b, placement) for b in item.bodies))
    return _body(item, placement)


def _body(body: Body, placement: Placement) -> Body:
    out: list[Op | Body | Repeat] = []
    run: list[Op] = []
    for item in body.items:
        if isinstance(item, Op):
            run.append(item)
        else:
            out += [*_ops(run, placement), _item(item, placement)]
            run = []
    return replace(body, items=(*out, *_ops(run, placement)))


def _ops(ops: Sequence[Op], placement: Placement) -> Iterator[Op]:
    """Ops that follow each other, with their copies."""
    for op in ops:
        node = placement.node(op)
        early = [_copy(op, source, node, operands) for source, operands in _elsewhere(op.reads, op, placement, node)]
        late = [_back(op, node, target, operands) for target, operands in _elsewhere(op.writes, op, placement, node)]
        # Of no size: the bytes are those of the operands themselves, which are read where the copy put them.
        buffers = tuple(replace(o, elements=0.0) for c in early for o in c.writes)
        yield from early
        options = {**op.options, "on": node} if node else op.options
        yield replace(op, reads=(*op.reads, *buffers), stream=node or op.stream, options=options)
        yield from late


def _elsewhere(
    operands: Sequence[Operand], op: Op, placement: Placement, node: str
) -> Iterator[tuple[str, list[Operand]]]:
    """The parts of operands that lie on each other node; activations apart, since somebody has to make them first."""
    found: dict[tuple[str, bool], list[Operand]] = {}
    for o in operands:
        group = _GROUPS.get(o.role)
        if group is None:
            continue
        own = ("expert" if op.kind == "moe" else op.role) if group == "weights" else group
        places = {**placement.fractions(own, group), "": placement.at_home(own, group)}
        for name, fraction in places.items():
            part = replace(o, elements=o.elements * fraction)
            if name != node and not is_zero(part.elements):
                found.setdefault((name, o.role == "act"), []).append(part)
    for (name, _), parts in found.items():
        yield name, parts


def _copy(op: Op, source: str, target: str, operands: Sequence[Operand]) -> Op:
    """The transfer before an op, into buffers of its own. It waits for activations, not for weights and caches: those
    were there before, and a schedule may fetch them ahead."""
    fresh = tuple(o for o in operands if o.role == "act")
    what = f"{op.name}.{'results' if fresh else operands[0].role}_from_{source or 'memory'}"
    buffers = tuple(Operand(f"{what}.{o.name}", "copy", o.elements, o.format) for o in operands)
    return _transfer(what, source, target, operands, fresh, buffers)


def _back(op: Op, source: str, target: str, operands: Sequence[Operand]) -> Op:
    """The transfer after an op: of results that others wait for, or of what is put away."""
    fresh = tuple(o for o in operands if o.role == "act")
    what = f"{op.name}.{'results' if fresh else operands[0].role}_to_{target or 'memory'}"
    return _transfer(what, source, target, operands, operands, tuple(replace(o, elements=0.0) for o in fresh))


def _transfer(
    name: str,
    source: str,
    target: str,
    operands: Sequence[Operand],
    waits: Sequence[Operand],
    writes: tuple[Operand, ...],
) -> Op:
    return Op(
        kind="copy",
        name=name,
        role="copy",
        dims={"bytes": sum((o.bytes for o in operands), 0.0)},
        flops=0.0,
        reads=tuple(replace(o, elements=0.0) for o in waits),
        writes=writes,
        arithmetic="",
        after=(),
        stream=IN if target == "" else OUT,
        options={"from": source, "to": target},
    )
