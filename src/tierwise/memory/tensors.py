"""The graph that is scheduled over a scratchpad: operators, the tensors they read and write, and bytes.

Weights are read once, in whatever order operators run, and go past the scratchpad; what lies in it are activations.
An operator has all its operands resident while it runs. One whose operands together take more than the capacity runs
in tiles through the whole scratchpad: everything else leaves, each operand is read from outside and each result written
there, whatever the schedule.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.num import greatest
from tierwise.core.numerics import Format
from tierwise.machines.load import system
from tierwise.models.lower import lower, running
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.kernels import KernelRules, as_kernels
from tierwise.program.types import Op
from tierwise.scenario.types import Plan

# Accelerators apply what is pointwise on a product's way out.
FUSED = KernelRules(merges_norms=True, joins=True, into_products=True)


NewTensor = Callable[[str, int], int]
# Ends of the names of tasks that compute nothing: a result takes its operand's place, a kernel's buffer is let go.
IN_PLACE, BUFFER = " (in place)", " (buffer)"


@dataclass(frozen=True)
class Task:
    """An operator: its name, and the numbers of the tensors it reads and writes."""

    name: str
    reads: tuple[int, ...]
    writes: tuple[int, ...]


@dataclass(frozen=True)
class OperatorGraph:
    """Operators in an order they can run in, over tensors.

    Attributes:
        tasks: every tensor is written by one task at most, before any reads it.
        names, size: of the tensors; bytes. One that no task writes comes from outside, one that none reads goes there.
    """

    tasks: tuple[Task, ...]
    names: tuple[str, ...]
    size: tuple[int, ...]

    @cached_property
    def writer(self) -> dict[int, int]:
        return {t: i for i, task in enumerate(self.tasks) for t in task.writes}

    @cached_property
    def readers(self) -> tuple[tuple[int, ...], ...]:
        out: list[list[int]] = [[] for _ in self.size]
        for i, task in enumerate(self.tasks):
            for t in task.reads:
                out[t].append(i)
        return tuple(map(tuple, out))

    @cached_property
    def inputs(self) -> tuple[int, ...]:
        return tuple(t for t in range(len(self.size)) if t not in self.writer and self.readers[t])

    @cached_property
    def outputs(self) -> tuple[int, ...]:
        return tuple(t for t in range(len(self.size)) if not self.readers[t] and t in self.writer)

    @property
    def operators(self) -> tuple[Task, ...]:
        """The tasks that compute or move something."""
        return tuple(t for t in self.tasks if not t.name.endswith((IN_PLACE, BUFFER)))

    @property
    def compulsory(self) -> int:
        """Bytes that any schedule moves: inputs once in, outputs once out."""
        return sum(self.size[t] for t in (*self.inputs, *self.outputs))

    @cached_property
    def working(self) -> tuple[int, ...]:
        """Bytes of each task's operands together."""
        return tuple(sum(self.size[t] for t in {*task.reads, *task.writes}) for task in self.tasks)


class GraphBuilder:
    """A graph as its operators are listed, in an order they can run in; each has one result."""

    def __init__(self) -> None:
        self.tasks, self.names, self.size = list[Task](), list[str](), list[int]()

    def source(self, name: str, bytes_: float) -> int:
        """A tensor from outside; its number."""
        self.names.append(name)
        self.size.append(int(-(-bytes_ // 1)))
        return len(self.names) - 1

    def operator(self, name: str, reads: Sequence[int], bytes_: float) -> int:
        """An operator that reads tensors and writes one of so many bytes; that tensor's number."""
        out = self.source(f"{name} {len(self.tasks)}", bytes_)
        self.tasks.append(Task(self.names[out], tuple(dict.fromkeys(reads)), (out,)))
        return out

    def listed(self) -> OperatorGraph:
        return OperatorGraph(tuple(self.tasks), tuple(self.names), tuple(self.size))


def rewritten(g: OperatorGraph, change: Callable[[int, Task, NewTensor], Iterable[Task]]) -> OperatorGraph:
    """The graph with each task (told with its number) replaced by others, over its tensors and those that ``change``
    makes by calling its last argument with a name and bytes, which answers the tensor's number."""
    names, size = list(g.names), list(g.size)

    def tensor(name: str, bytes_: int) -> int:
        names.append(name)
        size.append(bytes_)
        return len(names) - 1

    tasks = tuple(new for i, task in enumerate(g.tasks) for new in change(i, task, tensor))
    return OperatorGraph(tasks, tuple(names), tuple(size))


def graph(ops: Sequence[Op], form: Format | None = None) -> OperatorGraph:
    """Of the ops of one pass, each tensor with the most bytes that anything writes or reads of it.

    Args:
        form: in which all activations lie; None: each as the ops have it.

    Raises:
        TierwiseError: nothing there moves an activation, or operators wait for each other.
    """
    number: dict[str, int] = {}
    size: list[float] = []
    written: set[str] = set()
    tasks = []
    for op in ops:
        reads, writes = ([o for o in side if o.role == "act"] for side in (op.reads, op.writes))
        for o in (*reads, *writes):
            n = number.setdefault(o.name, len(number))
            if n == len(size):
                size.append(0.0)
            if o in writes or o.name not in written:
                each = o.format if form is None else form
                size[n] = max(size[n], greatest(o.elements * each.bytes))
        written.update(o.name for o in writes)
        if reads or writes:
            ins = tuple(dict.fromkeys(number[o.name] for o in reads))
            tasks.append(Task(op.name, ins, tuple(dict.fromkeys(number[o.name] for o in writes))))
    if not tasks:
        raise TierwiseError("the graph moves no activations: nothing to allocate")
    return OperatorGraph(_runnable(tasks), tuple(number), tuple(int(-(-s // 1)) for s in size))


def _runnable(tasks: Sequence[Task]) -> tuple[Task, ...]:
    """The tasks in an order they can run in, as near the given one as there is."""
    writer = {t: i for i, task in enumerate(tasks) for t in task.writes}
    waits = [{writer[t] for t in task.reads if t in writer and writer[t] != i} for i, task in enumerate(tasks)]
    behind: list[list[int]] = [[] for _ in tasks]
    for i, before in enumerate(waits):
        for j in before:
            behind[j].append(i)
    ready = [i for i, before in enumerate(waits) if not before]
    out: list[Task] = []
    while ready:
        i = heapq.heappop(ready)
        out.append(tasks[i])
        for j in behind[i]:
            waits[j].discard(i)
            if not waits[j]:
                heapq.heappush(ready, j)
    if len(out) < len(tasks):
        stuck = next(task.name for i, task in enumerate(tasks) if waits[i])
        raise TierwiseError(f"operator {stuck}: it waits for its own result, so no order runs the graph")
    return tuple(out)


def model_ops(model: Model, plan: Plan, batch: float = 1.0, rules: KernelRules | None = FUSED) -> list[Op]:
    """The ops of one pass of an imported graph, joined as an accelerator's compiler joins them.

    Raises:
        TierwiseError: the model is not one graph that runs once.
    """
    stacks = [s for phase in ("encode", "vision") for s in running(model, phase)]
    if len(stacks) != 1 or model.family != "onnx":
        raise TierwiseError(f"{model.name}: operators are ordered of one exported graph (*.onnx)")
    program = lower(Step(model, plan, batch, 1.0, 0.0, stacks[0].stream))
    return [op for _, op in (as_kernels(program, rules) if rules else program).walk()]


def capacity_of(machine: str | None, tier: str | None, capacity: int | None) -> tuple[str, int]:
    """(what the arena is called, bytes): a capacity that was asked for, else that of a machine's on-chip memory.

    Raises:
        TierwiseError, BadField: neither is given, or the machine has no such memory.
    """
    if machine is None:
        if tier is not None:
            raise BadField("--tier", "value", tier, "a memory of the machine that --on names")
        if capacity is None:
            raise TierwiseError("a graph needs an arena: --capacity BYTES, or --on MACHINE")
        return "", capacity
    device = system(machine).device
    if tier is None:
        own = [t for t in device.tiers if t.kind == "scratchpad"] or [device.memory] * (device.kind == "mcu")
    else:
        own = [t for t in device.tiers if t.name == tier]
    if not own:
        names = ", ".join(t.name for t in device.tiers)
        raise BadField("--tier", device.name, tier, f"one of its memories: {names}")
    size = int(own[0].capacity)
    if capacity is not None and capacity > size:
        raise BadField("--capacity", "bytes", capacity, f"at most {size}, what {own[0].name} of {device.name} holds")
    return f"{own[0].name} of {device.name}", size if capacity is None else capacity
