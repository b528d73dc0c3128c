"""Bytes of activations alive at once in a pass."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, where
from tierwise.program.program import Program
from tierwise.program.types import Op, Operand
from tierwise.schedule import order, parse
from tierwise.schedule.copies import in_flight


def live_activations(graph: Program) -> Num:
    """Peak bytes of activations alive at once, over the ops of a pass.

    A tensor lives from the op that writes it to the last op of its layer that reads it; the residual stream
    lives throughout. Score matrices of unfused attention live inside their op.
    """
    peak: Num = 0.0
    for segment in graph.segments:
        last: dict[str, int] = {}
        for i, op in enumerate(segment.ops):
            for o in (*op.reads, *op.writes):
                if o.role == "act":
                    last[o.name] = i
        alive: dict[str, Operand] = {}
        for i, op in enumerate(segment.ops):
            for o in (*op.reads, *op.writes):
                if o.role == "act":
                    known = alive.get(o.name)
                    if known is None or not _bigger(known, o):
                        alive[o.name] = o
            now = sum((o.bytes for o in alive.values()), 0.0) + _scores(op)
            if i == 0 and "x" not in alive and op.writes:
                now = now + op.writes[0].bytes
            peak = maximum(peak, now)
            alive = {name: o for name, o in alive.items() if last[name] > i or name == "x"}
    return peak


def copy_buffers(program: Program, schedule: str = "") -> Num:
    """Bytes of the buffers that copies from other nodes are written to, of the layer that has most: as many of each as
    the schedule's order keeps in flight, one where copies run in line."""
    if not any(op.kind == "copy" for _, op in program.walk()):
        return 0.0
    flying: dict[int, Num] = {}
    if schedule:
        name, options = parse(schedule)
        made = order(name, program, **options)
        found = in_flight(made)
        flying = {id(made.work[b.writer]): found[b.name] for b in made.buffers}
    most: Num = 0.0
    for segment in program.segments:
        copies = [op for op in segment.ops if op.kind == "copy"]
        size = sum((flying.get(id(op), 1.0) * o.bytes for op in copies for o in op.writes), 0.0)
        most = maximum(most, size)
    return most


def _bigger(a: Operand, b: Operand) -> bool:
    return bool(np.all(np.asarray(a.bytes) >= np.asarray(b.bytes)))


def _scores(op: Op) -> Num:
    """The score matrix and its softmax, when attention writes them to memory."""
    dims = op.dims
    fused = np.asarray(op.options.get("flash", True), dtype=bool)
    if fused.all() or "columns" not in dims:
        return 0.0
    element = op.writes[0].format.bytes
    return where(fused, 0.0, 2.0 * dims["batch"] * dims["heads"] * dims["q"] * dims["columns"] * element)
