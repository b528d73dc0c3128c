"""Prices from a machine's own measurements: what `tierwise calibrate` found, op class by op class.

An op of a class costs what its calls into the engine cost, plus its traffic at the bandwidth measured for a
working set of its size, plus its arithmetic at the measured rate::

    time = (calls × call + steps × step) × (1 + cold × spilled) + passes × bytes / copy(working set) + flops / rate

A matrix product reads its weights at the bandwidth measured for the model's whole working set (they come from
the same place in every pass): one curve for a single row (matrix times vector), one for several rows (the
weights are packed for the kernel first). Nothing here is fitted to end-to-end results of the models it prices.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, maximum, scalar, where
from tierwise.core.numerics import Names
from tierwise.cost.constants import constant
from tierwise.cost.types import Cost, Target
from tierwise.machines.profile import Class, Curve, Products, Profile
from tierwise.program.types import Op

# A cache that is still in use gives this much of the best bandwidth, and is flushed by this many times its size
# (eight ways of a set-associative cache, each replaced once).
_NEARLY, _TIMES = constant("measured.nearly"), constant("measured.times")


@dataclass(frozen=True)
class OpWork:
    """An op in the words of a profile: class, calls, sequential steps, bytes, FLOPs; of products their number, bytes of
    weights and rows."""

    kind: str
    calls: Num = 1.0
    steps: Num = 0.0
    bytes: Num = 0.0
    flops: Num = 0.0
    parts: Num = 0.0
    weights: Num = 0.0
    rows: Num = 0.0


def price(op: Op, on: Target, profile: Profile) -> Cost:
    """The measured cost of an op; formats may be arrays, and each configuration takes its own coefficients."""
    tags = _tags(op)
    if all(isinstance(t, str) for t in tags):
        return _price(op, on, profile, Tags(*(str(t) for t in tags)))
    grids = np.broadcast_arrays(*(np.asarray(t, dtype=np.str_) for t in tags))
    distinct = sorted(set(zip(*(g.ravel().tolist() for g in grids), strict=True)))
    masks = [np.logical_and.reduce([g == t for g, t in zip(grids, row, strict=True)]) for row in distinct]
    costs = [_price(op, on, profile, Tags(*row)) for row in distinct]

    def merged(of: Callable[[Cost], Mapping[str, Num]]) -> dict[str, Num]:
        return {k: np.select(masks, [np.broadcast_to(of(c)[k], _shape(of(c)[k], masks[0])) for c in costs])
                for k in of(costs[0])}  # fmt: skip

    return replace(costs[0], overlapped=merged(lambda c: c.overlapped), serial=merged(lambda c: c.serial),
                   bytes=merged(lambda c: c.bytes))  # fmt: skip


def _shape(value: Num, mask: NDArray[np.bool_]) -> tuple[int, ...]:
    return np.broadcast_shapes(np.shape(value), mask.shape)


@dataclass(frozen=True)
class Tags:
    """By what coefficients are looked up: format of the weights, arithmetic, format of the activations."""

    weights: str
    arithmetic: str
    dtype: str


def _tags(op: Op) -> tuple[Names, Names, Names]:
    weight = next((o for o in op.reads if o.role == "weight"), None)
    act = next((o for o in (*op.writes, *op.reads) if o.role == "act" and np.any(np.asarray(o.format.bits) > 0)), None)
    return weight.format.name if weight else "", op.arithmetic, act.format.name if act else ""


def _price(op: Op, on: Target, profile: Profile, tags: Tags) -> Cost:
    work = describe(op)
    c = coefficients(profile, work.kind, tags.dtype)
    slower = 1.0 + profile.cold * spilled(profile.copy, on.working)
    serial: dict[str, Num] = {"dispatch": (c.call * work.calls + c.step * work.steps) * slower}
    arithmetic: Num = work.flops / c.rate if c.rate else 0.0 * work.flops
    moved = work.bytes * c.passes
    time = moved / along(profile.copy, work.bytes)
    if op.kind in ("matmul", "moe"):
        p = products(profile, tags)
        arithmetic, streamed = product_time(p, work, on.working)
        time = time + streamed
        moved = moved + work.weights
        if op.kind == "matmul":
            serial["dispatch"] = p.call * work.parts * slower
        else:
            serial["dispatch"] = serial["dispatch"] + p.call * work.parts * slower
    serial[on.memory.name] = time
    return Cost({"compute": arithmetic}, serial, op.flops, {on.memory.name: moved}, "measured", profile.interval)


def products_of(profile: Profile, op: Op) -> Products:
    """Coefficients of a product of one format."""
    return products(profile, Tags(*(str(t) for t in _tags(op))))


def products(profile: Profile, tags: Tags) -> Products:
    """Coefficients of a product: those of its weights' format, its arithmetic, or the slowest measured."""
    for name in (tags.weights, tags.arithmetic):
        if name in profile.products:
            return profile.products[name]
    return min(profile.products.values(), key=lambda p: p.rate)


def coefficients(profile: Profile, kind: str, dtype: str) -> Class:
    """Coefficients of a class, of its dtype, or of any other op."""
    for name in (f"{kind}:{dtype}", kind, kind.split(".", maxsplit=1)[0], "*"):
        if name in profile.classes:
            return profile.classes[name]
    return Class()


def product_time(p: Products, work: OpWork, working: Num) -> tuple[Num, Num]:
    """(seconds of arithmetic, seconds of reading weights) of a product.

    A single row costs its reading alone: the arithmetic hides in it, and the curve was measured so. Where nobody
    said how much a pass reads in all (``working`` 0), weights come from memory.
    """
    size = where(np.asarray(working) > 0.0, maximum(working, work.weights), np.inf)
    several = np.asarray(work.rows) > 1.0
    read = where(several, work.weights / along(p.many, size), work.weights / along(p.one, size))
    return where(several, work.flops / p.rate, 0.0 * work.flops), read


def along(curve: Curve, size: Num) -> Num:
    """Bytes per second of a curve at a working set."""
    x = np.log(np.maximum(np.asarray(size, dtype=float), 1.0))
    return scalar(np.exp(np.interp(x, np.log(curve.at), np.log(curve.value))))


def spilled(copy: Curve, working: Num) -> Num:
    """How much of an engine's own code and data a pass over that many bytes pushes out of a core's cache, 0 to 1.

    The cache ends where copies are last nearly as fast as they get; a few times its size leaves nothing behind.
    """
    near = max(at for at, value in zip(copy.at, copy.value, strict=True) if value >= _NEARLY * max(copy.value))
    beyond = np.log(np.maximum(np.asarray(working, dtype=float), 1.0) / near) / np.log(_TIMES)
    return scalar(np.clip(beyond, 0.0, 1.0))


def describe(op: Op) -> OpWork:
    """The class of an op, and how much of each thing it does."""
    make = _BY_KIND.get(op.kind, _elementwise)
    return make(op)


def _matmul(op: Op) -> OpWork:
    d = op.dims
    calls = float(str(op.options.get("parts", 1))) * d.get("batch", 1.0)
    return OpWork("matmul", calls, parts=calls, flops=op.flops, weights=op.bytes_of("weight"), rows=d["m"])


def _moe(op: Op) -> OpWork:
    """Experts one after the other: every one a step, even when no token chose it, and two products where some did."""
    d = op.dims
    touched = maximum(d["touched"], 1e-9)
    return OpWork("moe", steps=d["experts"], parts=2.0 * touched, bytes=op.bytes_of("act"), flops=op.flops,
                weights=op.bytes_of("weight"), rows=d["tokens"] / touched)  # fmt: skip


def _attention(op: Op) -> OpWork:
    phase = str(op.options.get("phase", "prefill"))
    kind = {"decode": "decode", "prefill": "prefill"}.get(phase, "full")
    return OpWork(f"attention.{kind}", bytes=op.bytes, flops=op.flops)


def _conv(op: Op) -> OpWork:
    d = op.dims
    if op.role == "ssm":
        kind = "conv.causal"
    elif _all(d["groups"] > 1):
        kind = "conv.depthwise"
    elif _all(d["kw"] == 1):
        kind = "conv.pointwise"
    elif _all(d["stride"] == d["kw"]):
        kind = "conv.patch"
    else:
        kind = "conv.wide"
    return OpWork(kind, bytes=op.bytes, flops=op.flops)


def _scan(op: Op) -> OpWork:
    """An eager scan is a loop over tokens whose body touches every state."""
    d = op.dims
    phase = "decode" if op.options.get("phase") == "decode" else "prefill"
    tokens = d["tokens"] / d["chunk"]
    states = d["batch"] * d["tokens"] * d["channels"] * d["state"] * 4.0
    return OpWork(f"scan.{phase}", steps=tokens, bytes=states, flops=op.flops)


def _elementwise(op: Op) -> OpWork:
    kind = op.name.rsplit(".", 1)[-1].split("#")[0]
    if op.kind == "norm":
        kind = "norm.centered" if op.options.get("centered") else "norm.rms"
    elif kind == "rope_cache" and not any(o.role == "kv" for o in op.writes):
        kind = "split"
    elif op.kind == "embedding":
        kind = "embedding"
    return OpWork(kind, bytes=op.bytes, flops=op.flops)


_BY_KIND = {"matmul": _matmul, "moe": _moe, "attention": _attention, "conv": _conv, "scan": _scan}


def _all(condition: Any) -> bool:
    return bool(np.all(np.asarray(condition)))
