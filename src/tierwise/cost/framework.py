"""What an eager framework adds to an op: more kernels than a serving engine needs, and an interpreter to start each.

A serving engine normalises, rotates or activates in one kernel. A framework that runs its model's code line by line
starts a kernel for every line that writes memory: each moves its tensors once more [traffic], leaves a gap behind
[kernels], and waits for the interpreter [host]. Formats that it has no kernels for are expanded first [unpack], and
caches laid out for its products [arranged]. What a framework does is data, one file each in ``frameworks/``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import UnknownName
from tierwise.core.num import Num, is_array, is_zero, maximum
from tierwise.core.numerics import Format, fmt
from tierwise.core.yamltext import parsed
from tierwise.cost.measured import describe
from tierwise.cost.types import Cost, Framework, Target, either
from tierwise.program.kernels import KernelRules
from tierwise.program.types import Op, Operand

_HERE = Path(__file__).with_name("frameworks")
# Kernels whose gaps are in the price of an op already; one where not named.
_PRICED = {"attention.unfused": 3.0, "moe": 4.0}


def price(op: Op, on: Target, framework: Framework, plain: Callable[[Op, Target], Cost]) -> Cost:
    """The cost of an op under a framework.

    Args:
        plain: prices an op as one kernel (or as many as an engine's implementation has).
    """
    if framework.rules is not None:
        from tierwise.cost.library import price as called

        cost = called(op, on) or plain(op, on)
        launch = on.device.dispatch.eager + framework.host
        return replace(cost, overlapped={**cost.overlapped, "launch": launch}, flops=op.flops)
    fused = np.asarray(op.options.get("flash", True), dtype=bool)
    if fused.any() and not fused.all():
        ways = (price(replace(op, options={**op.options, "flash": x}), on, framework, plain) for x in (True, False))
        return either(fused, *ways)
    op, prepared = _expanded(op, framework)
    kind = _class(op)
    more = framework.traffic.get(kind, 1.0)
    cost = plain(op if more == 1.0 else _moving(op, more), on)
    already = _PRICED.get(kind, 1.0)
    kernels = framework.kernels.get(kind, already)
    if op.kind == "matmul":
        kernels = kernels * float(str(op.options.get("parts", 1)))
    dispatch = on.device.dispatch
    serial = dict(cost.serial)
    serial["dispatch"] = serial.get("dispatch", 0.0) + (kernels - already) * dispatch.graph
    serial["latency"] = serial.get("latency", 0.0) + (kernels - already) * on.memory.latency
    moved = dict(cost.bytes)
    if not is_zero(prepared):
        serial["preparing"] = on.memory_time(prepared, "elementwise")
        moved[on.memory.name] = moved.get(on.memory.name, 0.0) + prepared
    overlapped = {**cost.overlapped, "launch": kernels * (dispatch.eager + framework.host)}
    return replace(cost, overlapped=overlapped, serial=serial, flops=op.flops, bytes=moved)


def _expanded(op: Op, framework: Framework) -> tuple[Op, Num]:
    """(the op as its kernels see it, with 16 bits where the framework expands formats; bytes moved for that, to pack
    what it writes, and to lay out the cache that it reads)."""
    attends, decodes = op.kind == "attention", op.options.get("phase") == "decode"
    # Keys and values of a prompt were just made, in 16 bits; those before it come from the cache.
    old = maximum(op.dims["columns"] - op.dims["q"], 0.0) / op.dims["columns"] if attends and not decodes else 1.0
    moved: Num = 0.0
    reads = []
    for o in op.reads:
        each = _by_format(framework.unpack, o.format) if o.role in ("weight", "kv") else 0.0
        arranged = framework.arranged if attends and decodes and o.role == "kv" else 0.0
        moved = moved + o.elements * (each * (old if o.role == "kv" else 1.0) + arranged)
        wide = np.asarray(each) > 0.0
        reads.append(replace(o, format=_widened(o.format, wide)) if wide.any() else o)
    for o in op.writes:
        moved = moved + (o.elements * _by_format(framework.pack, o.format) if o.role == "kv" else 0.0)
    return replace(op, reads=tuple(reads)), moved


def _by_format(table: Mapping[str, float], form: Format) -> Num:
    """What a table says of a format, 0 where nothing; of many formats each configuration's own."""
    if not is_array(form.name):
        return table.get(str(form.name), 0.0)
    names = np.asarray(form.name)
    return np.asarray([table.get(str(n), 0.0) for n in names.ravel()]).reshape(names.shape)


def _widened(form: Format, wide: NDArray[np.bool_]) -> Format:
    """The format, in 16 bits where it is expanded to them."""
    full = fmt("fp16")
    if wide.all():
        return full
    return Format(np.where(wide, full.name, form.name), np.where(wide, full.bits, form.bits),
                  np.where(wide, full.meta, form.meta), np.where(wide, full.arithmetic, form.arithmetic))  # fmt: skip


def _class(op: Op) -> str:
    if op.kind == "attention" and not np.asarray(op.options.get("flash", True)).all():
        return "attention.unfused"
    kind = describe(op).kind
    gated = kind == "act" and np.all(np.asarray(op.reads[0].elements) > op.writes[0].elements)
    return "act.gated" if gated else kind


def _moving(op: Op, times: float) -> Op:
    """The op with its activations moved ``times`` as often; with all it moves, where that is no activation."""
    some = any(o.role == "act" for o in (*op.reads, *op.writes))

    def moved(operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        return tuple(replace(o, elements=o.elements * times) if o.role == "act" or not some else o for o in operands)

    return replace(op, reads=moved(op.reads), writes=moved(op.writes))


def names() -> list[str]:
    """Every framework there is a file for."""
    return sorted(p.stem for p in _HERE.glob("*.yaml"))


@lru_cache(maxsize=32)
def load(name: str) -> Framework:
    """A framework by its name.

    Raises:
        UnknownName: there is no such file.
    """
    if name not in names():
        raise UnknownName("framework", name, names())
    data = parsed((_HERE / f"{name}.yaml").read_text("utf-8"))
    low, high = data.pop("interval")
    said: dict[str, Any] | None = data.pop("rules", None)
    rules = None
    if said is not None:
        lists: dict[str, Any] = {k: frozenset(v) if isinstance(v, list) else v for k, v in said.items()}
        rules = KernelRules(**lists)
        data = {"kernels": {}, "traffic": {}, "scores": 0.0} | data
    return Framework(name=name, interval=(float(low), float(high)), rules=rules, **data)
