"""Micro-batches from both ends at once, each forward pass beside a backward pass (DualPipe, arXiv:2412.19437, 3.2.1).

Every stage holds the two parts of the model that lie equally far from the ends. Half of the micro-batches enter at the
first stage, half at the last one. Where a stage has a forward pass in one direction and a backward pass in the other,
it runs both together, so that collectives of the one (the dispatch and combine of experts) lie behind the products of
the other. Gradients of weights are put off where a stage would wait.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, maximum, minimum, where
from tierwise.program.program import Program
from tierwise.schedule._fold import Rows, Task, Wait, folded
from tierwise.schedule.closed import Passes, Shape
from tierwise.schedule.types import Order

# What ops are planned with: both passes together take as long as one after the other.
_UNITS = {"forward": 1, "first": 2, "backward": 2, "inputs": 1, "late": 1, "weights": 1, "rest": 1, "overlapped": 3}

# Ops that are a backward pass of one direction alone.
_BACK = ("first", "backward", "inputs", "late")
_HALF = ((0.5, 0.5), (0.5, 0.5))
SHAPE = Shape(1.0, _HALF, ((1.0, 1.0), (1.0, 1.0)), copies=2.0, least=2.0, even=True)


def order(program: Program | None = None, stages: int = 2, micro_batches: Num = 4.0) -> Order:
    """Stage ``i`` is a lane. Ops of direction ``d`` (0 from the first stage, 1 from the last):

    ``forward d.i``; ``backward d.i``, all gradients at once (``first d.i``, the first of a stage of the middle);
    ``overlapped d.i``, a forward pass of the direction with a backward pass of the other; ``inputs d.i`` and ``late
    d.i``, gradients of inputs alone as the pipeline fills and as it empties; ``weights d.i`` and ``rest d.i``, the
    gradients of weights that these put off.

    Args:
        program: with ops of those names, if they are to be priced; stages need none to be put in order.
        stages: devices in a row, an even number.
        micro_batches: of a step, an even number of at least ``2 * stages``; may be an array of counts that fill the
            pipeline (at least ``6 * stages``).

    Raises:
        TierwiseError: stages or micro-batches that are not even, or too few.
    """
    if stages % 2:
        raise TierwiseError(f"DualPipe takes an even number of stages, not {stages}")

    def rows(turns: int) -> list[list[Task]]:
        if turns < stages:
            raise TierwiseError(f"DualPipe takes at least {2 * stages} micro-batches for {stages} stages")
        return [_row(stages, i, turns) for i in range(stages)]

    return folded(program, rows, _waits, lambda op: _UNITS[op.split(" ")[0]], micro_batches / 2.0, 3 * stages)


def _row(stages: int, i: int, turns: int) -> list[Task]:
    """What a stage issues. Directions are told as the stage sees them: ``near`` enters at the end it is closer to."""
    near = int(i >= stages // 2)
    far = 1 - near
    from_end = min(i, stages - 1 - i)
    from_middle = stages // 2 - 1 - from_end
    out: list[Task] = []
    count: dict[str, int] = {}
    put_off: list[str] = []

    def run(what: str, way: int) -> None:
        op = f"{what} {way}.{i}"
        # A pass has the number of its micro-batch, whichever op it is part of.
        counter = f"{'f' if what in ('forward', 'overlapped') else 'b'} {way}"
        out.append((op, count.get(counter, 0)))
        count[counter] = count.get(counter, 0) + 1
        if what == "overlapped":
            count[f"b {1 - way}"] = count.get(f"b {1 - way}", 0) + 1

    def weights(what: str) -> None:
        op, turn = put_off.pop(0).rsplit(" ", 1)
        out.append((f"{what} {op}", int(turn)))

    def inputs(what: str, way: int) -> None:
        put_off.append(f"{way}.{i} {count.get(f'b {way}', 0)}")
        run(what, way)

    for _ in range(2 * from_middle):
        run("forward", near)
    for _ in range(from_end + 1):
        run("forward", near)
        run("forward", far)
    for _ in range(from_middle):
        inputs("inputs", far)
        weights("weights")
        run("forward", far)
    for k in range(turns - stages + from_end + 1):
        if k == 0 and from_middle == 0:
            # The stages of the middle have nothing to overlap their first backward pass with.
            run("forward", near)
            run("first", far)
        else:
            run("overlapped", near)
        run("overlapped", far)
    for _ in range(from_middle):
        run("backward", far)
        run("overlapped", far)
    for k in range(from_end + 1):
        for way, later in ((far, from_end % 2), (near, 0)):
            half = (from_end + 1) // 2
            if k > half or (k == half and not (way == far and later == 0)):
                inputs("late", way)
            else:
                run("backward", way)
    for _ in range(from_middle):
        weights("rest")
        inputs("late", near)
    while put_off:
        weights("rest")
    return out


def _waits(rows: Rows) -> Sequence[Wait]:
    """Forward passes wait for the stage before, backward passes for the stage behind, each as part of whatever op."""
    stages = len(rows)
    behind: dict[str, int] = {}  # op -> how much later its forward pass's micro-batch is than its backward pass's
    for row in rows:
        done = {"0": 0, "1": 0}
        for op, turn in row:
            what, _, place = op.partition(" ")
            direction, _, stage = place.partition(".")
            if what in _BACK:
                done[direction] += 1
            elif what == "overlapped":
                other = str(1 - int(direction))
                behind.setdefault(f"{other}.{stage}", turn - done[other])
                done[other] += 1

    def passes(way: int, i: int, back: bool) -> list[tuple[str, int]]:
        """(op, its turn less the micro-batch's number) of all ops with that pass in them."""
        if not back:
            return [(f"{what} {way}.{i}", 0) for what in ("forward", "overlapped")]
        overlapped = [(f"overlapped {1 - way}.{i}", behind[f"{way}.{i}"])] if f"{way}.{i}" in behind else []
        return [(f"{what} {way}.{i}", 0) for what in _BACK] + overlapped

    out: list[Wait] = []
    for way in (0, 1):
        path = list(range(stages))[:: 1 if way == 0 else -1]
        pairs = [((a, False), (b, False)) for a, b in pairwise(path)]
        pairs += [((b, True), (a, True)) for a, b in pairwise(path)]
        pairs.append(((path[-1], False), (path[-1], True)))
        for one, two in pairs:
            for a, a_late in passes(way, *one):
                for b, b_late in passes(way, *two):
                    if a != b:
                        out.append((a, b, b_late - a_late))
        for i in range(stages):
            out += [(f"inputs {way}.{i}", f"weights {way}.{i}", 0), (f"late {way}.{i}", f"rest {way}.{i}", 0)]
    return out


def unpaired(stages: Num) -> Num:
    """Micro-batches of a stage (the first) whose two passes are not run together with others."""
    return 3.0 * (stages / 2.0 - 1.0) + 2.0 + where(np.asarray(stages) <= 2, 1.0, 0.0)


def span(passes: Passes) -> Num:
    """Every micro-batch on a stage, passes together where they can be, and what it waits for the others.

    With equal stages a stage waits ``(stages / 2 - 1) (overlapped + inputs - 2 weights)`` less what is hidden of the
    micro-batches that are not run together (arXiv:2412.19437, table 2, writes ``F&B + B - 3W`` with all gradients in
    B). Stages that have more to do than others wait that much less.
    """
    p = passes
    first, middle, last = p.totals
    inputs, weights = p.inputs[1], p.weights[1]
    overlapped = middle - p.hidden
    lost = maximum(p.stages / 2.0 - 1.0, 0.0) * maximum(overlapped + inputs - 2.0 * weights - p.hidden, 0.0)
    base = p.micro_batches * overlapped + unpaired(p.stages) * p.hidden
    more = maximum((first + last) / 2.0 - middle, 0.0)
    return maximum(base + lost, base + p.micro_batches * more + maximum(lost - p.stages * more, 0.0))


def held(stages: Num, parts: Num, micro_batches: Num, at: Num) -> Num:
    """One more than there are stages (table 2)."""
    return minimum(stages + 1.0, micro_batches)
