"""A network on a microcontroller: what its arena and its flash hold, in patches where it does not fit whole, and how
long an inference takes.

Activations lie in the SRAM, int8 weights in the flash. The order of operators is the one of least memory; depthwise
convolutions write over their operand. Where the arena is too small, the first operators run in patches
(:mod:`tierwise.memory.patches`), the split that fits with the least time. Times are those of one evaluation on the
machine, patched operators as many times as their rows are computed again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tierwise.core.errors import TierwiseError
from tierwise.core.num import greatest
from tierwise.core.numerics import fmt
from tierwise.evaluation import evaluate
from tierwise.machines.load import system
from tierwise.memory import arenas
from tierwise.memory.arenas import Arena
from tierwise.memory.patches import Patched, Shapes, cuts, in_place, least_room, patched, shapes
from tierwise.memory.tensors import OperatorGraph, graph, model_ops
from tierwise.models.load import load_model
from tierwise.models.types import Model
from tierwise.program.types import Op
from tierwise.scenario.types import Batch, Plan, Scenario
from tierwise.techniques import quantize_activations, quantize_weights

GRIDS = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14)


@dataclass(frozen=True)
class OnChip:
    """A network on a chip.

    Attributes:
        whole: bytes of the SRAM without patches, tensors and what the runtime holds beside them (``beside``);
            ``split``: the patches chosen, None where none are needed or none help. ``sram``: room for both (what the
            chip has, less what its machine keeps); ``flash``, ``flash_room`` likewise for weights and code.
        whole_time, time: seconds of an inference without and with the patches.
        again: multiply-adds over those without patches.
        operators: how many; ``names`` of those in patches. ``runtime``: whose rules these are.
    """

    whole: int
    split: Patched | None
    sram: int
    flash: int
    flash_room: int
    whole_time: float
    time: float
    again: float
    operators: int
    names: tuple[str, ...]
    beside: int = 0
    runtime: str = ""

    @property
    def arena(self) -> int:
        """Bytes of the SRAM as planned."""
        return self.whole if self.split is None else self.split.peak + self.beside

    @property
    def fits(self) -> bool:
        return self.arena <= self.sram and self.flash <= self.flash_room


def on_chip(
    spec: str, machine: str, form: str = "int8", image_outside: bool = False, always: bool = False, runtime: str = ""
) -> OnChip:
    """The plan of a network (an ONNX file) on a microcontroller.

    Args:
        form: format of activations and weights. ``image_outside``: the image is read from where it lies, not from the
            arena. ``always``: the patches of least memory, though the whole network fits. ``runtime``: what runs it, a
            file of ``memory/arenas``; ``""``: tensors and weights alone, depthwise results over their operand.

    Raises:
        UnknownName: there is no such runtime.
        TierwiseError: the machine is no microcontroller (SRAM beside flash).
    """
    device = system(machine).device
    storage = next((t for t in device.tiers if t.kind == "storage"), None)
    if device.kind != "mcu" or storage is None:
        raise TierwiseError(f"{device.name}: patches are planned for microcontrollers, with SRAM beside flash")
    rules = arenas.load(runtime)
    model = load_model(spec)
    ops = model_ops(model, Plan())
    each = greatest(fmt(form).bytes)
    g = rules.applied(graph(ops, fmt(form)), ops, each)
    g = in_place(g, ops) if rules.in_place else g
    beside = rules.sram(g, ops, each)
    known, whole = shapes(ops, g, each), least_room(g) + beside
    room = int(device.memory.capacity - device.reserve)
    seconds, work = _times(spec, machine, form, ops, g, rules)
    full = sum(seconds)
    split, time, again = None, full, 1.0
    if always or whole > room:
        found = [(x, *_again(x, seconds, work)) for x in splits(g, known, image_outside)]
        fitting = [x for x in found if x[0].peak + beside <= room] if not always else []
        if fitting:
            split, time, again = min(fitting, key=lambda x: x[1])
        elif found and (least := min(found, key=lambda x: (x[0].peak, x[1])))[0].peak + beside < whole:
            split, time, again = least
    names = tuple(t.name for t in g.operators if t in g.tasks[: split.stage]) if split else ()
    count = len(g.operators)
    flash = _weights(model, each) + rules.flash(ops)
    return OnChip(
        whole, split, room, flash, int(storage.capacity), full, time, again, count, names, beside, rules.name
    )


def splits(g: OperatorGraph, s: Shapes, image_outside: bool) -> Iterator[Patched]:
    """Every split of a network: each cut, each grid."""
    for stage in cuts(g, len(s.windows)):
        side = s.sides[g.tasks[stage - 1].writes[0]][1]
        for grid in GRIDS:
            if grid <= side:
                yield patched(g, s, stage, grid, image_outside)


def _times(
    spec: str, machine: str, form: str, ops: Sequence[Op], g: OperatorGraph, rules: Arena
) -> tuple[list[float], list[float]]:  # fmt: skip
    """(seconds, multiply-adds) of each task: those of one evaluation, each operator's at the task that has its weights,
    what has none shared out."""
    base = Scenario(model=spec, machine=machine, traffic=Batch(prompt=1, output=1, batch=1))
    result = evaluate(base.apply(quantize_weights(form), quantize_activations(form)))
    priced = [p for phase in result.phases for p in phase.ops]
    by_weight = {o.name: float(p.time) for p in priced for o in p.op.reads if o.role == "weight"}
    rest = float(result.time) - sum({id(p): float(p.time) for p in priced
                                     if any(o.role == "weight" for o in p.op.reads)}.values())  # fmt: skip
    named = {op.name: op for op in ops}
    seconds, work, slower = [], [], []
    for task in g.tasks:
        op = named.get(task.name)
        mine = [o.name for o in op.reads if o.role == "weight" and o.name in by_weight] if op is not None else []
        alone = max((by_weight[n] for n in mine), default=0.0)
        seconds.append(alone)
        slower.append(rules.slower(op) if op is not None else 1.0)
        work.append(float(op.flops) / 2.0 if op is not None else 0.0)
    scale = (sum(seconds) + rest) / sum(seconds) if sum(seconds) else 1.0
    return [t * scale * s for t, s in zip(seconds, slower, strict=True)], work


def _again(x: Patched, seconds: Sequence[float], work: Sequence[float]) -> tuple[float, float]:
    """(seconds, multiply-adds over those without patches) of a split."""
    factors = [*x.again, *[1.0] * (len(seconds) - len(x.again))]
    more = sum(w * f for w, f in zip(work, factors, strict=True)) / max(sum(work), 1.0)
    return sum(t * f for t, f in zip(seconds, factors, strict=True)), more


def _weights(model: Model, each: float) -> int:
    """Bytes of the weights, their biases too; scales and wider biases are the runtime's."""
    return int(sum(float(w.elements) for s in model.stacks for k in s.kinds for b in k.blocks for w in b.weights())
               * each)  # fmt: skip
