"""Bytes of activations alive at once in a pass."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, maximum, where
from tierwise.program.program import Program
from tierwise.program.types import Op, Operand
from tierwise.schedule import order, parse
from tierwise.schedule.copies import in_flight

# Bytes of an fp32 activation.
_FP32 = 4.0


def live_activations(graph: Program, score: float | None = None) -> Num:
    """Peak bytes of activations alive at once, over the ops of a pass.

    A tensor lives from the op that writes it to the last op of its layer that reads it; the residual stream
    lives throughout. Score matrices of unfused attention live inside their op.

    Args:
        score: as of :func:`score_bytes`.
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
            now = sum((o.bytes for o in alive.values()), 0.0) + score_bytes(op, score)
            if i == 0 and "x" not in alive and op.writes:
                now = now + op.writes[0].bytes
            peak = maximum(peak, now)
            alive = {name: o for name, o in alive.items() if last[name] > i or name == "x"}
    return peak


def ggml_activations(graph: Program) -> Num:
    """The same as ggml's graph allocator places them: in 32 bits whatever the model's are, each value of a tensor from
    its write to its last read before the next, results of elementwise ops in the place of an input that dies there;
    attention reads keys and values from the cache alone (ggml-alloc.c, ggml_op_can_inplace)."""
    peak: Num = 0.0
    for segment in graph.segments:
        ops = [(_read(op), {o.name: o for o in op.writes if o.role == "act"}, op) for op in segment.ops]
        alive: dict[str, Num] = {}
        for i, (reads, writes, op) in enumerate(ops):
            for name, o in reads.items():
                alive.setdefault(name, o.elements * _FP32)
            later = [name for name in alive if name == "x" or _read_later(ops[i + 1 :], name)]
            dying = maximum(0.0, *(alive[n] for n in reads if n not in later and n not in writes))
            fresh = {n: o.elements * _FP32 for n, o in writes.items()}
            made = sum((v for n, v in fresh.items() if n not in alive), 0.0)
            if op.kind == "elementwise":
                made = maximum(made - dying, 0.0)
            peak = maximum(peak, sum(alive.values(), 0.0) + made + score_bytes(op))
            alive = {n: v for n, v in (alive | fresh).items() if n == "x" or _read_later(ops[i + 1 :], n)}
    return peak


def _read(op: Op) -> dict[str, Operand]:
    """Activations that an op reads: of attention the queries, which come first."""
    found = [o for o in op.reads if o.role == "act"]
    cached = op.kind == "attention" and any(o.role == "kv" for o in op.reads)
    return {o.name: o for o in (found[:1] if cached else found)}


def _read_later(ops: list[tuple[dict[str, Operand], dict[str, Operand], Op]], name: str) -> bool:
    """Whether a value is read again before another takes its name."""
    for reads, writes, _ in ops:
        if name in reads:
            return True
        if name in writes:
            return False
    return False


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


def score_bytes(op: Op, score: float | None = None) -> Num:
    """Bytes of scores alive at once inside of attention that writes them to memory.

    Args:
        score: bytes of one. None: those of the score and of its softmax in the format of the output, as one kernel
            makes it; in a backward pass their gradients are as many.
    """
    dims = op.dims
    fused = np.asarray(op.options.get("flash", True), dtype=bool)
    if fused.all() or "columns" not in dims:
        return 0.0
    each = 2.0 * op.writes[0].format.bytes if score is None else score
    return where(fused, 0.0, dims["batch"] * dims["heads"] * dims["q"] * dims["columns"] * each)
