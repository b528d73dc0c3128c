"""Patch-based inference: the first convolutions of a network run on one piece of the image after the other.

High resolutions come first, and with them the largest tensors. Where the first operators run on a patch of their last
result at a time, only the patch's part of everything before it is resident; neighbouring patches need some of the same
rows (the halo), which are computed again (MCUNetV2, arXiv:2110.15352). The patched operators' last result is whole, the
operators behind it run as ever. Regions are exact: each patch's rows and columns, clipped at the image.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from tierwise.memory.arenas import depthwise
from tierwise.memory.packing import live
from tierwise.memory.spill_search import Rules, search
from tierwise.memory.spilling import belady, replayed
from tierwise.memory.tensors import IN_PLACE, NewTensor, OperatorGraph, Task, rewritten
from tierwise.program.types import Op

Range = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """What a task does to rows: ``kernel`` rows at a ``stride``, ``pad`` above the first."""

    kernel: int
    stride: int
    pad: int

    def needs(self, rows: Range, height: int) -> Range:
        """Rows of the operand that rows of the result need."""
        first = rows[0] * self.stride - self.pad
        last = (rows[1] - 1) * self.stride - self.pad + self.kernel
        return max(first, 0), min(last, height)


@dataclass(frozen=True)
class Patched:
    """A split of a network.

    Attributes:
        stage: tasks that run in patches, from the first; 0 for none. ``grid``: patches a side.
        peak: bytes resident at once at most; ``patch_peak``, ``rest_peak``: in the patched part and behind it.
        again: multiply-adds of each patched task over those without patches.
    """

    stage: int
    grid: int
    peak: int
    patch_peak: int
    rest_peak: int
    again: tuple[float, ...]


@dataclass(frozen=True)
class Shapes:
    """(channels, side) of each tensor, and the window of each task, for the tasks that can be patched.

    Attributes:
        windows: by task number, from the first, as far as tasks are convolutions of square images.
    """

    sides: Mapping[int, tuple[int, int]]
    windows: tuple[Window, ...]


def in_place(g: OperatorGraph, ops: Sequence[Op], sums: bool = False) -> OperatorGraph:
    """The graph with depthwise convolutions that write over their operand, where nothing else reads it: a channel's
    result takes the place of the channel. The result then takes room only once the operand has left.

    Args:
        sums: a convolution whose result is summed with a tensor (a shortcut) that nothing reads afterwards adds its
            products to it where it lies, as matrix products with one matrix for addend and result do.
    """
    alone = {op.name for op in ops if depthwise(op)}
    last = {t: max(readers) for t, readers in enumerate(g.readers) if readers}

    def change(i: int, task: Task, tensor: NewTensor) -> list[Task]:
        one = len(task.writes) == 1
        over = task.name in alone and len(task.reads) == 1 and one and len(g.readers[task.reads[0]]) == 1
        added = [t for t in task.reads[1:] if sums and one and last[t] == i and g.size[t] == g.size[task.writes[0]]]
        if not added and (not over or g.size[task.writes[0]] > g.size[task.reads[0]]):
            return [task]
        between = tensor(g.names[task.writes[0]] + IN_PLACE, 0)
        return [Task(task.name, task.reads, (between,)), Task(task.name + IN_PLACE, (between,), task.writes)]

    return rewritten(g, change)


def shapes(ops: Sequence[Op], g: OperatorGraph, form_bytes: float) -> Shapes:
    """Sides of tensors and windows of the convolutions that a network begins with, up to the first pooling; operands of
    one that are summed into its result (residuals) have a window of one row. Operators do not say a dilation: none."""
    by_name = {op.name: op for op in ops}
    sides: dict[int, tuple[int, int]] = {}
    windows = []
    for task in g.tasks:
        if task.name.endswith(IN_PLACE):
            sides[task.writes[0]] = sides[task.reads[0]]
            windows.append(Window(1, 1, 0))
            continue
        op = by_name.get(task.name)
        if op is None:  # a padding of its own
            break
        d = op.dims
        plain = op.kind == "conv" and not op.options.get("transposed") and len(task.writes) == 1
        if not plain or float(d["out_h"]) != float(d["out_w"]) or float(d["kh"]) != float(d["kw"]):
            break
        out, kernel, stride = (int(float(d[k])) for k in ("out_w", "kh", "stride"))
        main, channels = task.reads[0], int(float(d["c_in"]))
        side = sides[main][1] if main in sides else math.isqrt(int(g.size[main] / form_bytes) // channels)
        # A pooling that went with the convolution leaves a smaller result, by a window that nothing says.
        full = (0, math.ceil(form_bytes * float(d["c_out"]) * out * out))
        if -(-side // stride) != out or g.size[task.writes[0]] not in full:
            break
        sides.setdefault(main, (channels, side))
        sides[task.writes[0]] = (int(float(d["c_out"])), out)
        if any(sides.get(t, (0, 0))[1] != out for t in task.reads[1:]):
            break
        windows.append(Window(kernel, stride, max((out - 1) * stride + kernel - side, 0) // 2))
    return Shapes(sides, tuple(windows))


def cuts(g: OperatorGraph, count: int) -> Iterator[int]:
    """Numbers of first tasks behind which only one tensor is needed."""
    for stage in range(1, count + 1):
        done = set(range(stage))
        needed = {t for i in range(stage, len(g.tasks)) for t in g.tasks[i].reads if g.writer.get(t, stage) in done}
        if needed == set(g.tasks[stage - 1].writes):
            yield stage


def regions(g: OperatorGraph, s: Shapes, stage: int, rows: Range) -> dict[int, Range]:
    """Rows of each tensor that a patch of the last result needs (columns alike)."""
    out: dict[int, Range] = {g.tasks[stage - 1].writes[0]: rows}
    for i in range(stage - 1, -1, -1):
        task, window = g.tasks[i], s.windows[i]
        have = out[task.writes[0]]
        for k, t in enumerate(task.reads):
            need = window.needs(have, s.sides[t][1]) if k == 0 else have
            held = out.get(t, need)
            out[t] = (min(held[0], need[0]), max(held[1], need[1]))
    return out


def patched(g: OperatorGraph, s: Shapes, stage: int, grid: int, image_outside: bool) -> Patched:
    """The peak and the work of a split.

    Args:
        image_outside: the input is read where it lies (flash, a camera's line buffer), a patch at a time; else it is
            resident until the last patch.
    """
    result = g.tasks[stage - 1].writes[0]
    side = s.sides[result][1]
    lines = [regions(g, s, stage, (k * side // grid, (k + 1) * side // grid)) for k in range(grid)]
    # What is written in place has no bytes of its own yet.
    scale = {t: g.size[t] / float(s.sides[t][1] ** 2) for t in lines[0]}
    worst = {t: max(x[t][1] - x[t][0] for x in lines) for t in lines[0]}
    whole = set(g.inputs) if not image_outside else set[int]()
    # Results of the last patched task go straight into the whole result.
    size = tuple(0 if t == result or t in whole else
                 math.ceil(scale[t] * worst[t] ** 2) if t in worst else n for t, n in enumerate(g.size))  # fmt: skip
    inner = least_room(replace(g, tasks=g.tasks[:stage], size=size))
    patch_peak = inner + g.size[result] + sum(g.size[t] for t in whole)
    rest = least_room(replace(g, tasks=g.tasks[stage:])) if stage < len(g.tasks) else 0
    again = []
    for i in range(stage):
        t = g.tasks[i].writes[0]
        ran = sum(x[t][1] - x[t][0] for x in lines)
        again.append((ran / s.sides[t][1]) ** 2)
    return Patched(stage, grid, max(patch_peak, rest), patch_peak, rest, tuple(again))


def least_room(g: OperatorGraph) -> int:
    """Bytes in which some order runs without moving anything out: the least over all orders."""
    low, kept = max(g.working), replayed(Rules(g, sum(g.size) + 1), [(i, 0) for i in range(len(g.tasks))])
    high = max(live(kept.stays) if len(kept.stays) else 0, low)
    while low < high:
        middle = (low + high) // 2
        if _runs(g, middle):
            high = middle
        else:
            low = middle + 1
    return high


def _runs(g: OperatorGraph, capacity: int) -> bool:
    r = Rules(g, capacity)
    if replayed(r, belady(r)).traffic == 0:
        return True
    return bool(search(r, 1, time.perf_counter() + 2.0).moves)
