"""Where tensors lie and ops are computed, and the copies that follow from it.

A *node* is a place with bytes: a tier of the device by its name, ``host`` for the memory of the computer it is in. What
a placement does not name lies in the device's main memory and is computed by the device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import Num, is_zero, where
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.residency import missed_experts
from tierwise.program.types import Op, Operand

# The streams of copies: into the device's main memory, and out of it.
IN, OUT = "copy.in", "copy.out"
# Before the mark in a layer's name; the name of all ops of a layer.
MARK, ANY = "@", "*"
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
        ops: (kind or role of op, node that computes it); ``expert`` for routed experts alone, ``attention.decode`` for
            that of a phase alone, ``*`` for all.
        parts: (mark, where the layers with that mark have things): a layer whose name ends in ``@mark``
            (:func:`tierwise.models.marks.marked`) goes by its part alone, all else by this placement.
        upload: rows from which an op that meets weights is computed by the device all the same, on copies of them
            (engines upload weights for prompts and compute next to them for single tokens); inf for never.
        mapped: what lies on a disk is read through the operating system's page cache, a window of it at a time.
        skew: Zipf exponent of how often experts are chosen. A fraction of them on a disk is what a cache of the least
            recently used ones has no room for; a step reads what it needs of that.
        foreseen: share of the experts to read that are known before their layer's router has run, so that a schedule
            may read them ahead; as many as are not known are read in vain.
        pageable: the host's memory is not pinned, so that a driver copies what passes to the device to a buffer first;
            of one group alone where that is named.
        gathered: weights that reach the device are copied there once more before they are used, as ZeRO's third stage
            gathers them from all ranks, of one rank too.
    """

    tensors: tuple[tuple[str, tuple[tuple[str, Num], ...]], ...] = ()
    ops: tuple[tuple[str, str], ...] = ()
    parts: tuple[tuple[str, Placement], ...] = ()
    upload: Num = float("inf")
    mapped: bool = False
    skew: Num = 0.0
    foreseen: Num = 1.0
    pageable: bool | str = False
    gathered: bool = False

    def __post_init__(self) -> None:
        for group, places in self.tensors:
            whole: Num = sum((f for _, f in places), 0.0)
            low = any(bool(np.any(np.asarray(f) < 0)) for _, f in places)
            if low or bool(np.any(np.asarray(whole) > 1.0 + _NOTHING)):
                raise BadField("placement", group, dict(places), "fractions from 0 that add up to at most 1")

    @cached_property
    def _places(self) -> dict[tuple[str, str], Mapping[str, Num]]:
        return {}

    def places(self, group: str, other: str = "") -> Mapping[str, Num]:
        """Fractions of a group by node, ``""`` the device's main memory; those of ``other`` where it is not named."""
        found = self._places.get((group, other))
        if found is None:
            named = dict(self.tensors)
            away = dict(named.get(group, named.get(other, ())))
            left = 1.0 - sum(away.values(), 0.0)
            # 0.7 and 0.3 leave nothing, whatever their last bits say.
            found = self._places[group, other] = {**away, "": where(np.asarray(left) < _NOTHING, 0.0, left)}
        return found

    def fractions(self, group: str, other: str = "") -> Mapping[str, Num]:
        """The same of the other nodes alone, without the main memory."""
        return {node: share for node, share in self.places(group, other).items() if node}

    def share(self, node: str, group: str, other: str = "") -> Num:
        """The fraction of a group that lies on a node; ``""`` is the device's main memory."""
        return self.places(group, other).get(node, 0.0)

    def of(self, layer: str) -> Placement:
        """What holds for a layer, by the mark in its name."""
        return dict(self.parts).get(layer.rpartition(MARK)[2], self) if self.parts and MARK in layer else self

    @property
    def nodes(self) -> tuple[str, ...]:
        """Other nodes that hold tensors."""
        own = [node for _, places in self.tensors for node, _ in places]
        return tuple(dict.fromkeys([*own, *(n for _, part in self.parts for n in part.nodes)]))

    def with_part(self, mark: str, part: Placement) -> Placement:
        """The same with layers of a mark placed by themselves."""
        return replace(self, parts=(*(x for x in self.parts if x[0] != mark), (mark, part)))

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
        parts = [f"layers marked {mark}: {f'all on {dict(part.ops)[ANY]}' if ANY in dict(part.ops) else part}"
                 for mark, part in self.parts]  # fmt: skip
        computed = [f"{kind} computed on {node}" for kind, node in self.ops]
        return ", ".join([*lying, *computed, *parts]) or "all in memory"

    def node(self, op: Op) -> str:
        """Where an op is computed: ``""`` on the device itself."""
        named = dict(self.ops)
        phase = f"{op.kind}.{op.options.get('phase', '')}"
        keys = (op.name, *(("expert",) if op.kind == "moe" else ()), phase, op.kind, op.role, ANY)
        node = next((named[key] for key in keys if key in named), "")
        return "" if node and self._uploads(op) else node

    def _uploads(self, op: Op) -> bool:
        """Whether an op has rows enough that its weights come to the device. Rows of all configurations decide alike:
        structure is not branched per element."""
        if not any(o.role == "weight" for o in op.reads):
            return False
        rows = op.dims.get("reaching", op.dims.get("m", 1.0))
        return bool(np.all(np.asarray(rows) >= self.upload))


def placed(program: Program, placement: Placement) -> Program:
    """A program with the copies that a placement asks for, as ops of kind ``copy`` on streams of their own.

    Of every operand that lies on another node than its op is computed on, the fraction there is copied before the op
    (stream ``copy.in``, or ``copy.out`` where it leaves the device), and of every result after it. What waits for what
    follows from the names of operands: a copy writes buffers (role ``copy``, of the size that is in flight) that its op
    reads, with no bytes of their own; copies of weights and caches read nothing, so that a schedule may run them ahead;
    copies of activations read what their producer wrote. Ops computed elsewhere run on a stream named after their node.
    """
    if not placement.tensors and not placement.ops and not placement.parts:
        return program
    if not placement.parts:
        return replace(program, items=tuple(_item(x, placement) for x in program.items))
    return replace(program, items=tuple(_handed_on(program.items, placement)))


def _handed_on(items: Sequence[Body | Repeat], placement: Placement) -> Iterator[Body | Repeat]:
    """Items whose layers work on different nodes: activations are copied where one is followed by one of another."""
    here = ""
    for item in items:
        for part in _runs(item, placement):
            body = part if isinstance(part, Body) else part.bodies[part.pattern[0]]
            there = _home(placement.of(body.name))
            if there != here:
                yield _hop(body, here, there)
            here = there
            yield _item(part, placement)


def _runs(item: Body | Repeat, placement: Placement) -> Iterator[Body | Repeat]:
    """A repeat as consecutive ones whose layers have their activations on one node each."""
    if isinstance(item, Body) or len(nodes := [_home(placement.of(b.name)) for b in item.bodies]) == 0:
        yield item
        return
    if len({nodes[i] for i in item.pattern}) <= 1:
        yield item
        return
    first = 0
    for i in range(1, len(item.pattern) + 1):
        if i == len(item.pattern) or nodes[item.pattern[i]] != nodes[item.pattern[first]]:
            turn = item.pattern[first:i]
            kept = sorted(set(turn))
            yield replace(item, bodies=tuple(item.bodies[k] for k in kept), pattern=tuple(map(kept.index, turn)))
            first = i


def _home(placement: Placement) -> str:
    """The node that activations lie on."""
    return next((node for node, _ in placement.fractions("activations").items()), "")


def _hop(body: Body, here: str, there: str) -> Body:
    """The copy of what a body reads first from the node where the one before it left it."""
    read = next((o for op in body.items if isinstance(op, Op) for o in op.reads if o.role == "act"), None)
    moved = () if read is None else (read,)
    name = f"{body.name.partition(MARK)[0]}.handed_to_{there or 'device'}"
    return Body(name, (_transfer(name, here, there, moved, moved, tuple(replace(o, elements=0.0) for o in moved)),))


def _percent(fraction: Num) -> str:
    return " and ".join(f"{100.0 * float(x):.3g} %" for x in np.ravel(fraction))


def _item(item: Body | Repeat, placement: Placement) -> Body | Repeat:
    if isinstance(item, Repeat):
        return replace(item, bodies=tuple(_body(b, placement) for b in item.bodies))
    return _body(item, placement)


def _body(body: Body, whole: Placement) -> Body:
    placement = whole.of(body.name)
    out: list[Op | Body | Repeat] = []
    run: list[Op] = []
    for item in body.items:
        if isinstance(item, Op):
            run.append(item)
        else:
            out += [*_ops(run, placement), _item(item, whole)]
            run = []
    return replace(body, items=(*out, *_ops(run, placement)))


def _ops(ops: Sequence[Op], placement: Placement) -> Iterator[Op]:
    """Ops that follow each other, with their copies."""
    nodes = [placement.node(op) for op in ops]
    for i, (op, node) in enumerate(zip(ops, nodes, strict=True)):
        here, gone = _local(ops, nodes, i)
        reads = [o for o in op.reads if o.role != "act" or o.name not in here]
        writes = [o for o in op.writes if o.role != "act" or o.name not in gone]
        early = [_loose(_copy(op, source, node, operands), operands, placement)
                 for source, operands in _elsewhere(reads, op, placement, node)]  # fmt: skip
        late = [_loose(_back(op, node, target, operands), operands, placement)
                for target, operands in _elsewhere(writes, op, placement, node)]  # fmt: skip
        if op.kind == "moe":
            early = [x for c in early for x in _experts_read(c, op, placement)]
        if placement.mapped:
            early = [replace(c, options={**c.options, "mapped": True}) for c in early]
        # Of no size: the bytes are those of the operands themselves, which are read where the copy put them.
        buffers = tuple(replace(o, elements=0.0) for c in early for o in c.writes)
        yield from early
        options = {**op.options, "on": node} if node else op.options
        yield replace(op, reads=(*op.reads, *buffers), stream=node or op.stream, options=options)
        yield from late


def _loose(copy: Op, operands: Sequence[Operand], placement: Placement) -> Op:
    """The copy: through a driver's buffer where the host's memory is not pinned for them, gathered on the device."""
    group = _GROUPS[operands[0].role]
    how = {"pageable": placement.pageable in (True, group), "gathered": placement.gathered and group == "weights"}
    return replace(copy, options={**copy.options, **{k: True for k, v in how.items() if v}})


def _local(ops: Sequence[Op], nodes: Sequence[str], at: int) -> tuple[set[str], set[str]]:
    """(activations that the ops just before made on the same node, those of an op that nobody reads elsewhere)."""
    node = nodes[at]
    if not node:
        return set(), set()
    first = at
    while first > 0 and nodes[first - 1] == node:
        first -= 1
    made = {o.name for op in ops[first:at] for o in op.writes if o.role == "act"}
    if at == len(ops) - 1:
        return made, set()
    end = at + 1
    while end < len(ops) and nodes[end] == node:
        end += 1
    if end == len(ops):  # what the layer ends with is handed on
        last = {o.name for o in ops[-1].writes}
        wanted = last
    else:
        wanted = {o.name for op in ops[end:] for o in op.reads if o.role == "act"}
    own = {o.name for o in ops[at].writes if o.role == "act"}
    again = {o.name for op in ops[at + 1 : end] for o in op.writes}
    return made, {name for name in own if name not in wanted or name in again}


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
        for name, fraction in placement.places(own, group).items():
            if name != node and not is_zero(elements := o.elements * fraction):
                found.setdefault((name, o.role == "act"), []).append(replace(o, elements=elements))
    for (name, _), parts in found.items():
        yield name, parts


def _experts_read(copy: Op, op: Op, placement: Placement) -> Iterator[Op]:
    """Copies of the experts that a step needs and no cache holds: those foreseen, and those the router asks for."""
    results = any(o.role == "act" for o in copy.reads)
    if results or not any(o.role == "weight" for o in op.reads) or copy.options["to"] != placement.node(op):
        yield copy
        return
    source = str(copy.options["from"])
    outside = placement.share(source, "expert", "weights")
    size = copy.dims["bytes"]
    if not is_zero(placement.skew):
        draws = op.dims.get("routed", op.dims["tokens"])
        missed = missed_experts(outside, int(np.max(op.dims["experts"])), draws, placement.skew)
        size = size * missed / outside
    known = placement.foreseen
    if np.all(np.asarray(known) >= 1.0):
        yield replace(copy, dims={**copy.dims, "bytes": size})
        return
    yield replace(copy, dims={**copy.dims, "bytes": size})  # as many as are needed, of which some in vain
    asked = tuple(replace(o, elements=0.0) for o in op.reads if o.role == "act")
    yield replace(copy, name=f"{copy.name}.asked", dims={**copy.dims, "bytes": size * (1.0 - known)},
                  reads=asked, writes=tuple(replace(o, name=f"{o.name}.asked") for o in copy.writes))  # fmt: skip


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
        options={"from": source, "to": target, **({"waits": True} if any(o.role == "act" for o in operands) else {})},
    )
