"""Kernels of engines for one's own machine (llama.cpp, MLX): products with block-quantized weights, one row or many.

One row (decoding) is a matrix-vector product. It reads the weights once and expands every one of them on the vector
units, and the two overlap, the longer setting the pace but for where they are alike (a power mean)::

    vector(rows) = |bytes / (bandwidth × memory), weights × (work + rows × mac) / issue rate|

The issue rate counts units and their clock. Bandwidth is what memory gives to units that each have so many bytes in
flight [flight] over its latency (Little's law), which binds on cards with fast memory and few units.

Many rows (a prompt, cut into micro-batches) are a matrix product on the fastest unit the backend uses, whose last tile
is padded, and whose last wave of tiles leaves units idle, half of them on average::

    matrix(rows) = max((bytes + again) / (bandwidth × memory), 2 (rows + pad + idle) columns × depth / (rate × peak))
    idle = fill × units × min(rows, tile) × tile / columns

where tiles read weights [again] that the cache has lost (:mod:`tierwise.cost.ondevice_tiles`); both are added [serial]
where a unit reads a tile, waits, multiplies and waits, as llama.cpp's integer products do (ggml-cuda/mmq.cuh).

A product takes the lesser of both, where kernels for few rows exist, or goes to a library of 16-bit products after its
weights were expanded [library]. Experts are such products, each touched one with its own rows, by the kernel that the
step's tokens together ask for. Attention reads the cache, or multiplies at a fraction of the 16-bit peak; without flash
attention it writes the scores (in fp32) and reads them back. Every kernel leaves a gap [gap]; activations are fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, greatest, is_array, maximum, minimum, where
from tierwise.core.numerics import Format
from tierwise.cost.constants import constant
from tierwise.cost.kits import Kit, kit
from tierwise.cost.limits import within_peaks
from tierwise.cost.ondevice_tiles import TILE, expert_work, read_again, tiled
from tierwise.cost.types import Cost, Target
from tierwise.program.types import Op

_NO_KERNELS = ("collective", "copy")
# Activations are fp32 where the model's operands count 16 bits.
_FP32 = 2.0
# A score is written by the first product, read and written by the softmax, and read by the second, in fp32.
_SCORE_BYTES = 16.0
# Bits of the vectors of kernels written for AVX2.
_NARROW = 256
# FLOP a clock of a unit of 128 lanes, by which the issue rate is counted.
_LANES = 256.0
# Rows that kernels for few of them take.
FEW = constant("ondevice.few")
# Rows beyond which a library multiplies, where an engine uses one; bytes of a weight written in fp16 and read again.
_LIBRARY = constant("ondevice.library")
_EXPANDED = 4.0
# An input is read in fp32, written and read in fp16; a result is written and read in fp16, and written in fp32.
_CONVERTED = 2.0
# Rows of a library's part-filled tile.
_PADDED = 16.0
# Products of an expert; kernels for each that a library multiplies: three products, each after expanding its weights.
_PRODUCTS = 3.0
CALLS = 2.0 * _PRODUCTS
# Rows of each touched expert in a step of one token, within rounding: two tokens share experts now and then.
_ONE_ROW = 1.0 + 1e-6
# Elements of a head beyond which it is wide.
_HEAD = constant("ondevice.head")
# How sharply bytes in flight bind.
_FLIGHT = constant("ondevice.flight")
# How sharply the longer of reading and expanding sets the pace.
_SHARP = constant("ondevice.sharp")

_PLAIN = ("f16", "bf16")

Parts = tuple[dict[str, Num], Num, Num]
"""(seconds by resource that overlap, kernels, bytes of memory)."""


def price(op: Op, on: Target) -> Cost | None:
    """The cost of an op under an engine with kernels of its own; None under any other."""
    found = kit(on.efficiency.engine, on.device)
    if found is None or op.kind in _NO_KERNELS:
        return None
    return with_kit(op, on, found)


def with_kit(op: Op, on: Target, k: Kit) -> Cost:
    """The cost of an op by given coefficients."""
    make: Callable[[Op, Target, Kit], Parts] = _BY_KIND.get(op.kind, _other)
    on = reading_at(on, k.reads)
    parts, kernels, moved = make(op, on, k)
    serial = {"dispatch": kernels * k.values["gap"]}
    # A step's interval covers its ops (see tierwise.steps.corrections), but for those that another node computes.
    apart = (k.intervals["decode" if few_rows(op) else "prefill"]) if op.options.get("on") else (1.0, 1.0)
    cost = Cost(parts, serial, op.flops, {on.memory.name: moved}, k.basis(on.device.name), apart)
    return within_peaks(op, on, cost)


def reading_at(on: Target, share: float) -> Target:
    """The target as a backend sees it that reads a share of its memory's bandwidth."""
    if share == 1.0:
        return on
    tiers = tuple(replace(t, bandwidth=t.bandwidth * share) if t is on.memory else t for t in on.device.tiers)
    return replace(on, system=on.system.with_device(tiers=tiers))


def few_rows(op: Op) -> bool:
    """Whether an op works on rows as few as decoding does."""
    rows = op.dims.get("reaching", op.dims.get("m", op.dims.get("q", 1.0)))
    return bool(np.all(np.asarray(rows) <= FEW))


def class_of(format: Format) -> str:
    """Which kernels read weights of a format: ``f16``, ``q8``, ``q5`` and ``q4`` (one scale a block: legacy formats,
    MXFP4, integers in groups), ``k`` (two levels of scales, IQ4_XS among them), ``iq`` (codebooks), or plain ``f16`` or
    ``bf16``."""
    name, bits = str(format.name), greatest(format.bits)
    if name.startswith("iq") and not name.startswith("iq4"):
        return "iq"
    # There are no weights in q8_k: files of that name are of q8_0 and 16 bits.
    if (name.endswith("_k") or "_k_" in name or name == "iq4_xs") and name != "q8_k":
        return "k"
    if bits >= 15.0:
        return "bf16" if name == "bf16" else "f16"
    return "q8" if bits >= 7.5 else "q5" if name.startswith("q5") else "q4"


def product(
    c: Mapping[str, Num], memory: Num, issue: Num, peak: Num, rows: Num, elements: Num, weights: Num,
    fed: Num | None = None, library: Num = 0.0, converted: Num = 0.0, spare: Num = 0.0, unpack: Num = 0.0,
    again: Num = 0.0, serial: Num = 0.0,
) -> tuple[Num, Num]:  # fmt: skip
    """(seconds of reading and expanding weights, seconds of multiplying; the one that does not bind is 0) of products.

    Args:
        c: coefficients of the class: ``memory`` (share of the bandwidth), ``work`` and ``mac`` (vector FLOP to expand a
            weight, and to multiply it with a row), ``rate`` (share of the peak), ``pad`` (rows of a part-filled tile).
        memory, issue, peak: bandwidth, the issue rate, and FLOP/s of the unit that multiplies many rows.
        rows: of the input. ``elements``: weights that they meet. ``weights``: their bytes.
        fed: rows by which the kernel is chosen, where these are not ``rows``: all tokens of a mixture's step.
        library: share of the peak that a library of 16-bit products reaches, to which an engine expands the weights for
            more than [ondevice.library] rows; 0 where it does not. ``converted``: bytes of inputs and results, which it
            takes and gives in fp16.
        spare: tiles of a wave that are left empty, over those that a column of tiles has (:func:`tiled`).
        unpack: vector FLOP by which a weight is expanded for a library.
        again: bytes of weights that tiles read again. ``serial``: 1 where reading and multiplying take turns, 0 where
            they overlap.
    """
    fed = rows if fed is None else fed
    # Experts that are multiplied one after the other are so by the kernel that their own rows ask for.
    fed = where(by_a_library(fed, library), rows, fed)
    idle = spare * minimum(rows, TILE)
    read = weights / (memory * c["memory"])
    expand = elements * (c["work"] + maximum(rows, 1.0) * c["mac"]) / issue
    one = (read**_SHARP + expand**_SHARP) ** (1.0 / _SHARP)
    multiply = 2.0 * (rows + c["pad"] + idle) * elements / (peak * c["rate"])
    written = read + elements * _EXPANDED / (memory * c["memory"])
    expanded = (written**_SHARP + (elements * unpack / issue) ** _SHARP) ** (1.0 / _SHARP)
    expanded = expanded + _CONVERTED * converted / (memory * c["memory"])
    expanded = expanded + 2.0 * (rows + _PADDED + idle) * elements / (peak * maximum(library, 1e-9))
    by_library = by_a_library(rows, library)
    multiply = where(by_library, expanded, multiply)
    tiles = where(by_library, read, read + again / (memory * c["memory"]))
    turns = (np.asarray(serial) > 0.0) & ~by_library
    many = where(turns, tiles + multiply, maximum(tiles, multiply))
    few = np.asarray(fed) <= FEW
    reads = (few & (np.asarray(one) <= np.asarray(many))) | (np.asarray(tiles) >= np.asarray(multiply))
    least = where(few, minimum(one, many), many)
    return where(reads, least, 0.0 * least), where(reads, 0.0 * least, least)


def started(tokens: Num, rows: Num, library: Num, apart: Num, alone: Num) -> Num:
    """Kernels that are started for each touched expert, beside the step's: where experts are multiplied one after the
    other, by a library, or by ``apart`` kernels for each of an expert's products (``alone`` where the step has one
    token, so that an expert has one of the ``rows``; 0 where one kernel multiplies all experts)."""
    single = np.asarray(rows) <= _ONE_ROW
    return where(by_a_library(tokens, library), CALLS, _PRODUCTS * where(single, alone, apart))


def by_a_library(rows: Num, library: Num) -> NDArray[np.bool_]:
    """Whether a library multiplies so many rows; of experts, where all tokens are so many, they are multiplied one
    after the other, each by the kernel that its own rows ask for."""
    return (np.asarray(library) > 0.0) & (np.asarray(rows) > _LIBRARY)


def decoding(v: Mapping[str, Num], memory: Num, issue: Num, fused: Num, kv: Num, macs: Num) -> Num:
    """Seconds of attention of single rows: ``kv`` bytes of keys and values, ``macs`` multiply-adds."""
    reach = where(fused, v["kv_flash"], v["kv_plain"])
    return kv / (memory * reach) + macs * where(fused, v["kv_work_flash"], v["kv_work_plain"]) / issue


def reading(
    v: Mapping[str, Num], memory: Num, peak: Num, fused: Num, macs: Num, scores: Num, kv: Num, queries: Num, head: Num
) -> Num:
    """Seconds of attention of a prompt: ``macs`` multiply-adds; ``scores`` bytes of scores moved where not fused; keys
    and values (``kv`` bytes) read again by every tile of [kv_tile] of the ``queries``. Fused kernels of some backends
    reach less [wide] with heads (of ``head`` elements) that their matrix instructions do not take."""
    reach = where(fused, v["attn_flash"] * where(np.asarray(head) > _HEAD, v["wide"], 1.0), v["attn_plain"])
    again = kv * maximum(queries / v["kv_tile"], 1.0) / memory
    multiply = 2.0 * macs / (peak * reach)
    both = (multiply**_SHARP + again**_SHARP) ** (1.0 / _SHARP)
    return both + where(fused, 0.0, scores) / (memory * v["scores"])


def own_tiles(op: Op, on: Target, v: Mapping[str, Num], name: str) -> tuple[Num, Num]:
    """(bytes that tiles read again, whether reading and multiplying take turns) by kernels for a class of formats;
    plain ones are a library's."""
    if name in _PLAIN:
        return 0.0, 0.0
    along, across = read_again(op, on, True), read_again(op, on, False)
    return v["again"] * (v["streamed"] * along + (1.0 - v["streamed"]) * across), v["serial"]


def _product(
    op: Op, on: Target, k: Kit, rows: Num, elements: Num, weights: Num, fed: Num | None = None
) -> dict[str, Num]:
    issue, memory = issue_rate(on), bandwidth(on, k.values["flight"])
    spare = k.values["fill"] * tiled(op, on)

    def of(name: str) -> dict[str, Num]:
        peak_rate = peak(on, k.peaks[name])
        library = 0.0 if name in _PLAIN else k.values["library"]
        read, multiply = product(k.classes[name], memory, issue, peak_rate, rows, elements, weights, fed, library,
                                 op.bytes_of("act") * _FP32, spare, k.values["unpack"],
                                 *own_tiles(op, on, k.values, name))  # fmt: skip
        return {on.memory.name: read, "compute": multiply}

    return _by_class(op, k, of)


def peak(on: Target, name: str) -> Num:
    """FLOP/s that products of many rows are counted against.

    Args:
        name: a dtype, for the fastest unit that has it; ``dot``, int8 on the vector units, ``dot256`` on 256 bits of
            them; or ``matrix``, 16-bit matrix
            instructions that accumulate in 16 bits (half of int8 where more is not stated), and ``dot`` on a device
            that has none.
    """
    if name in ("dot", "dot256"):
        rate, engine = on.rate("int8", "vector")
        return rate * (_NARROW / engine.width if name == "dot256" and engine.width > _NARROW else 1.0)
    if name != "matrix":
        return on.rate(name)[0]
    rate, engine = on.rate("fp16")
    return maximum(rate, on.rate("int8")[0] / 2.0) if engine.kind == "matrix" else on.rate("int8", "vector")[0]


def issue_rate(on: Target) -> Num:
    """FLOP/s of the vector units if each had 128 lanes; their rate where no clock is known."""
    rate, engine = on.rate("fp32", "vector")
    counted = engine.units * engine.clock * _LANES
    return where(np.isfinite(np.asarray(counted)), counted, rate)


def bandwidth(on: Target, flight: Num) -> Num:
    """Bytes per second that units with ``flight`` bytes on their way each draw from memory (Little's law)."""
    units = on.rate("fp32", "vector")[1].units
    return drawn(on.memory.bandwidth, units / maximum(on.memory.latency, 1e-9), flight)


def drawn(memory: Num, requests: Num, flight: Num) -> Num:
    """The same from a bandwidth and units over latency."""
    return (memory**-_FLIGHT + (flight * requests) ** -_FLIGHT) ** (-1.0 / _FLIGHT)


def _weight(op: Op) -> Format | None:
    return next((o.format for o in op.reads if o.role == "weight"), None)


def _by_class(op: Op, k: Kit, of: Callable[[str], dict[str, Num]]) -> dict[str, Num]:
    """``of(class)`` for the op's weights; of many formats each configuration takes its own class."""
    weight = _weight(op)
    if weight is None:
        return of("f16" if "f16" in k.classes else next(iter(k.classes)))
    if not is_array(weight.name):
        return of(class_of(weight))
    names, bits = np.broadcast_arrays(np.asarray(weight.name), np.asarray(weight.bits))
    kinds = np.vectorize(lambda n, b: class_of(Format(str(n), float(b), 0.0, "")), otypes=[str])(names, bits)
    out: dict[str, Num] = {}
    for kind in np.unique(kinds):
        for part, t in of(str(kind)).items():
            out[part] = where(kinds == kind, t, out.get(part, 0.0 * t))
    return out


def _activations(op: Op, on: Target, k: Kit) -> Num:
    return moving(k.values, activations(op, on), op.bytes_of("act") * _FP32, issue_rate(on))


def moving(v: Mapping[str, Num], near: Num, size: Num, issue: Num) -> Num:
    """Seconds to move activations: at a share of the bandwidth, and at so many FLOP a byte of the vector units."""
    return near / v["acts"] + size * v["acts_work"] / issue


def activations(op: Op, on: Target) -> Num:
    """Seconds to move activations at best: through the last cache what fits there."""
    size = op.bytes_of("act") * _FP32
    cache = on.device.cache
    near = on.memory.bandwidth if cache is None else maximum(cache.bandwidth, on.memory.bandwidth)
    return where(np.asarray(size) <= np.asarray(on.cache_capacity), size / near, size / on.memory.bandwidth)


def _matmul(op: Op, on: Target, k: Kit) -> Parts:
    d = op.dims
    weights = op.bytes_of("weight")
    read = where(np.asarray(weights) > 0.0, weights, op.bytes)
    parts = _product(op, on, k, d["m"], d["n"] * d["k"] * d.get("batch", 1.0), read)
    parts["activations"] = _activations(op, on, k)
    return parts, k.kernels["matmul"] * float(str(op.options.get("parts", 1))), op.bytes


def _moe(op: Op, on: Target, k: Kit) -> Parts:
    rows, elements = expert_work(op)
    tokens = where(np.asarray(k.values["apart"]) > 0.0, rows, op.dims["tokens"])
    parts = _product(op, on, k, rows, elements, op.bytes_of("weight"), tokens)
    # Experts do not get the same rows, and start one after the other; those a library multiplies are plain products.
    weight = _weight(op)
    plain = weight is None or (not is_array(weight.name) and class_of(weight) in _PLAIN)
    many = where(by_a_library(rows, 0.0 if plain else k.values["library"]), 1.0, k.values["grouped"])
    more = where(np.asarray(tokens) <= FEW, k.values["experts"], many)
    parts = {name: t * more for name, t in parts.items()}
    parts["activations"] = _activations(op, on, k)
    calls = op.dims["touched"] * started(tokens, rows, *(k.values[name] for name in ("library", "apart", "alone")))
    return parts, k.kernels["moe"] + calls, op.bytes


def attention_work(op: Op) -> tuple[Num, Num]:
    """(multiply-adds, bytes of scores that unfused kernels move)."""
    d = op.dims
    pairs = d["batch"] * d["heads"] * d["q"]
    return pairs * d["kv"] * (d["head_dim"] + d["v_dim"]), pairs * d.get("columns", d["kv"]) * _SCORE_BYTES


def _attention(op: Op, on: Target, k: Kit) -> Parts:
    kv = op.bytes_of("kv")
    fused = np.asarray(op.options.get("flash", True), dtype=bool)
    macs, scores = attention_work(op)
    kernels = where(fused, k.kernels["flash"], k.kernels["attention"])
    memory = on.memory.bandwidth
    if op.options.get("phase") == "decode":
        time = decoding(k.values, bandwidth(on, k.values["flight"]), issue_rate(on), fused, kv, macs)
        return {on.memory.name: time}, kernels, op.bytes
    time = reading(k.values, memory, on.rate("fp16")[0], fused, macs, scores, kv, op.dims["q"],
                   op.dims["head_dim"])  # fmt: skip
    return {"compute": time}, kernels, op.bytes + where(fused, 0.0, scores)


def _scan(op: Op, on: Target, k: Kit) -> Parts:
    """A recurrent scan: its state, and its arithmetic on the vector units."""
    vector, _ = on.rate("fp32", "vector")
    work = op.flops / (vector * k.values["scan"])
    moved = op.bytes_of("state") * _FP32 / on.memory.bandwidth
    return {on.memory.name: moved, "compute": work, "activations": _activations(op, on, k)}, k.kernels["scan"], op.bytes


def _other(op: Op, on: Target, k: Kit) -> Parts:
    kept = op.bytes - op.bytes_of("act")
    parts: dict[str, Num] = {"activations": _activations(op, on, k), on.memory.name: kept / on.memory.bandwidth}
    return parts, kernels_of(op, k.kernels), op.bytes


def kernels_of(op: Op, counts: Mapping[str, float]) -> float:
    """Kernels of an op that is no product: by its own name, or its kind."""
    name = op.name.rsplit(".", 1)[-1].split("#")[0]
    return counts.get(name, counts.get(op.kind, 1.0))


_BY_KIND: Mapping[str, Callable[[Op, Target, Kit], Parts]] = {
    "matmul": _matmul, "moe": _moe, "attention": _attention, "scan": _scan,
}  # fmt: skip

__all__ = ["FEW", "by_a_library", "class_of", "decoding", "peak", "price", "product", "reading", "reading_at",
           "started", "with_kit"]  # fmt: skip
