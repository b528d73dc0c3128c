"""Arenas of microcontroller runtimes: what each keeps in the SRAM and in the flash beside tensors and weights.

One file a runtime, ``arenas/NAME.yaml``, found by its place. What a runtime does with a graph is a fact with a source:
whether depthwise results lie over their operand, whether a padding that its convolutions do not know is an operator of
its own, which buffers kernels work in, what it holds for each channel and operator. Code and the memory of the program
around it have no source; ``own`` is what MobileNetV2 at 0.3 and 64 pixels was recorded to take beyond the rest (table
of mit-han-lab/tinyengine); its other networks are left out (``benchmarks/tinyml.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.num import greatest
from tierwise.core.units import parse
from tierwise.core.yamltext import Malformed, parsed
from tierwise.memory.tensors import BUFFER, NewTensor, OperatorGraph, Task, rewritten
from tierwise.program.types import Op

HERE = Path(__file__).parent / "arenas"
SCRATCH = ("none", "padded-channel", "columns")
PAD = " (padding)"
_FIELDS = ("in_place", "own_padding", "scratch", "ram", "flash", "cycles", "source")


@dataclass(frozen=True)
class Arena:
    """A runtime's rules.

    Attributes:
        in_place: depthwise convolutions write over their operand.
        own_padding: its files know no padding in numbers, but as an operator before a convolution (onnx-tensorflow
            writes every one so).
        scratch: what depthwise convolutions work in. ``padded-channel``: two bytes an element of one padded channel,
            kept apart; ``columns``: two bytes an element of the windows of one position, while they run.
        ram_channel, ram_operator, ram_own: bytes of the SRAM for each channel of a convolution's result, for each
            operator, and in all.
        flash_channel, flash_own: bytes of the flash likewise.
        cycles: of its convolutions, depthwise ones (``depthwise``) and products (``matmul``) over those of the kernels
            that vendors tune now, which machines' rates are of; 1 where not named.
    """

    name: str = ""
    in_place: bool = True
    own_padding: bool = False
    scratch: str = "none"
    ram_channel: float = 0.0
    ram_operator: float = 0.0
    ram_own: float = 0.0
    flash_channel: float = 0.0
    flash_own: float = 0.0
    source: str = ""
    cycles: Mapping[str, float] = field(default_factory=dict)

    def sram(self, g: OperatorGraph, ops: Sequence[Op], each: float) -> int:
        """Bytes of the SRAM beside tensors; ``each``: of an activation's element."""
        scratch = 0.0
        if self.scratch == "padded-channel":
            scratch = max((2.0 * each * _padded_side(op) ** 2 for op in ops if depthwise(op)), default=0.0)
        held = self.ram_channel * channels(ops) + self.ram_operator * len(g.operators)
        return math.ceil(scratch + held + self.ram_own)

    def applied(self, g: OperatorGraph, ops: Sequence[Op], each: float) -> OperatorGraph:
        """The graph as the runtime runs it, but for results in place."""
        g = padded(g, ops, each) if self.own_padding else g
        return buffered(g, ops, each) if self.scratch == "columns" else g

    def slower(self, op: Op) -> float:
        """Cycles of an operator over those of the kernels that vendors tune now."""
        return self.cycles.get("depthwise" if depthwise(op) else op.kind, 1.0)

    def flash(self, ops: Sequence[Op]) -> int:
        """Bytes of the flash beside weights."""
        return math.ceil(self.flash_channel * channels(ops) + self.flash_own)


def names() -> tuple[str, ...]:
    """Runtimes on file."""
    return tuple(sorted(p.stem for p in HERE.glob("*.yaml")))


def load(name: str = "") -> Arena:
    """A runtime's rules; ``""``: tensors and weights alone, depthwise results over their operand.

    Raises:
        UnknownName: no such file. BadField, TierwiseError: a wrong one.
    """
    if not name:
        return Arena()
    if name not in names():
        raise UnknownName("runtime", name, names(), f"Allowed: {', '.join(names())}.")
    return _load(name)


@cache
def _load(name: str) -> Arena:
    where = f"memory/arenas/{name}.yaml"
    data = _data(name)
    for name_ in data:
        if name_ not in _FIELDS:
            raise BadField(where, name_, data[name_], f"one of {', '.join(_FIELDS)}")
    if data.get("scratch") not in SCRATCH:
        raise BadField(where, "scratch", data.get("scratch"), f"one of {', '.join(SCRATCH)}")
    ram, flash = data["ram"], data["flash"]
    sizes = {f"ram_{k}": parse(str(ram[k]), "bytes", where) for k in ("channel", "operator", "own")}
    sizes |= {f"flash_{k}": parse(str(flash[k]), "bytes", where) for k in ("channel", "own")}
    over, own = bool(data["in_place"]), bool(data["own_padding"])
    cycles = {str(k): float(v) for k, v in data.get("cycles", {}).items()}
    return Arena(name, over, own, data["scratch"], source=data["source"], cycles=cycles, **sizes)


def _data(name: str) -> Mapping[str, Any]:
    try:
        data: dict[str, Any] = parsed((HERE / f"{name}.yaml").read_text(encoding="utf-8"))
    except Malformed as error:
        raise TierwiseError(f"memory/arenas/{name}.yaml{error.place}: not valid YAML: {error.problem}") from None
    other = data.pop("like", "")
    return {**_data(other), **data} if other else data


def depthwise(op: Op) -> bool:
    """Whether an operator is a convolution in which each channel sees itself alone."""
    if op.kind != "conv":
        return False
    groups = np.asarray(op.dims["groups"])
    return bool(np.max(groups) > 1.0 and np.all(groups == op.dims["c_in"]))


def channels(ops: Sequence[Op]) -> float:
    """Channels of the results of all convolutions together."""
    return sum(_of(op, "c_out") for op in ops if op.kind == "conv")


def _padded_side(op: Op) -> float:
    """Elements a side of a depthwise convolution's padded operand: what its results and its window span."""
    out, kernel, stride = (_of(op, k) for k in ("out_w", "kw", "stride"))
    return max(out * stride, (out - 1.0) * stride + 1.0) + kernel - 1.0


def padded(g: OperatorGraph, ops: Sequence[Op], each: float) -> OperatorGraph:
    """The graph with paddings that convolutions say themselves (:func:`tierwise.models.importers`) written out, by an
    operator before them, as interpreters whose convolutions do not know them run it."""
    own = {op.name: float(str(op.options["padded"])) for op in ops if op.kind == "conv" and op.options.get("padded")}

    def change(_: int, task: Task, tensor: NewTensor) -> list[Task]:
        if task.name not in own:
            return [task]
        main, *others = task.reads
        between = tensor(g.names[main] + PAD, math.ceil(own[task.name] * each))
        return [Task(task.name + PAD, (main,), (between,)), Task(task.name, (between, *others), task.writes)]

    return rewritten(g, change)


def buffered(g: OperatorGraph, ops: Sequence[Op], each: float) -> OperatorGraph:
    """The graph with the buffer that a depthwise convolution works in (int16 windows of one position of all channels,
    as CMSIS-NN's) beside its tensors."""
    size_of = {op.name: math.ceil(2.0 * each * _of(op, "c_in") * _of(op, "kh") * _of(op, "kw"))
               for op in ops if depthwise(op)}  # fmt: skip

    def change(_: int, task: Task, tensor: NewTensor) -> list[Task]:
        if task.name not in size_of:
            return [task]
        buffer = tensor(task.name + BUFFER, size_of[task.name])
        return [Task(task.name, task.reads, (*task.writes, buffer)), Task(task.name + BUFFER, (buffer,), ())]

    return rewritten(g, change)


def _of(op: Op, dim: str) -> float:
    return greatest(op.dims[dim])
