"""Kernels that a framework calls for graphs of images: convolutions, linear layers, attention, pointwise work.

Physics first: bytes over the memory's bandwidth, arithmetic over the peak of the engine that a library takes (tensor
cores; vector units for depthwise convolutions), a trip through memory where a layout must be turned. A few fractions
are fitted, one set for all NVIDIA GPUs (``calibration/*/pixels.yaml``, by ``benchmarks/fit/pixels.py``):

- ``conv``, ``linear``: share of the peak at many channels; ``*_columns``, ``*_depth``: output channels, and inputs of
  an output (channels by window), at which half of it is reached; ``grouped``: of convolutions in groups;
- ``attention``: share of the peak of fused attention; ``depthwise``: of the vector units;
- ``product_bytes``, ``stem_bytes``, ``depthwise_bytes``, ``point``, ``wide``, ``wide_joined``, ``reduce``, ``pool``:
  share of the memory's bandwidth of products, of those with up to four input channels, of depthwise ones, of pointwise
  kernels, of norms that reduce (as they are, and as a compiler writes them), of reductions and of pooling;
- ``turn``: bytes moved to turn a layout, over those of the activations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, minimum, where
from tierwise.cost.limits import within_peaks
from tierwise.cost.types import Cost, Target
from tierwise.program.composites import node
from tierwise.program.types import Op

# Input channels of an image (with alpha): no library has tensor-core kernels that fill with so few.
_IMAGE = 4.0
_PRODUCTS = ("conv", "matmul", "attention")
_POINTWISE = ("elementwise", "norm", "embedding")


def price(op: Op, on: Target) -> Cost | None:
    """The cost of one kernel; None where nothing was fitted for the device's kind, or the op is of another class."""
    fit = on.efficiency.fit("pixels", op.arithmetic)
    if fit is None or op.kind not in (*_PRODUCTS, *_POINTWISE):
        return None
    k = fit.values
    compute, share = _compute(op, on, k) if op.kind in _PRODUCTS else (_vector(op, on), _share(op, k))
    loose = op.bytes_of("act") + op.bytes_of("score")
    near = loose <= on.cache_capacity
    moved = op.bytes - where(near, loose, 0.0 * loose)
    parts = {
        "compute": compute,
        on.memory.name: moved / (on.memory.bandwidth * share),
        on.cache_name: on.cache_time(op.bytes, op.kind),
    }
    cost = on.cost(op.kind, parts, op.flops, {on.memory.name: moved, on.cache_name: op.bytes}, fit=fit)
    if op.kind == "conv" and on.framework is not None and not on.framework.channels_last:
        turned = where(_on_tensor_cores(op), where(near, 0.0 * loose, loose), 0.0)
        cost = replace(cost, serial={**cost.serial, "layout": k["turn"] * turned / on.memory.bandwidth})
    return within_peaks(op, on, cost)


def _compute(op: Op, on: Target, k: Mapping[str, Num]) -> tuple[Num, Num]:
    """(seconds of a product's arithmetic, share of the bandwidth that its kernel reaches)."""
    rate, d = on.rate(op.arithmetic)[0], op.dims
    if op.kind == "attention":
        return op.flops / (rate * k["attention"]), k["product_bytes"]
    if op.kind == "matmul":
        share = k["linear"] * _filled(d["n"], k["linear_columns"]) * _filled(d["k"], k["linear_depth"])
        return op.flops / (rate * minimum(share, 1.0)), k["product_bytes"]
    groups = d.get("groups", 1.0)
    columns, channels = d["c_out"] / groups, d["c_in"] / groups
    filled = _filled(columns, k["conv_columns"]) * _filled(channels * d["kh"] * d["kw"], k["conv_depth"])
    share = where(groups > 1.0, k["grouped"], k["conv"]) * filled
    alone = (channels <= 1.0) & (groups > 1.0)
    vector = on.rate("fp32", "vector")[0] * k["depthwise"]
    compute = where(alone, op.flops / vector, op.flops / (rate * minimum(share, 1.0)))
    few = where(d["c_in"] <= _IMAGE, k["stem_bytes"], k["product_bytes"])
    return compute, where(alone, k["depthwise_bytes"], few)


def _filled(size: Num, half: Num) -> Num:
    return size / (size + half)


def _vector(op: Op, on: Target) -> Num:
    rate, _ = on.rate("fp32", "vector")
    return op.flops / (rate * on.efficiency.of("compute", "vector"))


def _share(op: Op, k: Mapping[str, Num]) -> Num:
    """Share of the bandwidth of a kernel that computes next to nothing."""
    reduces = bool(op.options.get("reduces"))
    if op.kind == "norm" and node(op) != "BatchNormalization":
        return k["wide_joined"] if "joined" in op.options else k["wide"]
    if reduces:
        return k["wide_joined"] if "joined" in op.options else k["reduce"]
    return k["pool"] if "Pool" in node(op) and "joined" not in op.options else k["point"]


def _on_tensor_cores(op: Op) -> NDArray[np.bool_]:
    """Whether a convolution's kernels read 16-bit tiles with channels last: all but depthwise ones."""
    depthwise = (np.asarray(op.dims.get("groups", 1.0)) > 1.0) & (np.asarray(op.dims["c_in"]) <= op.dims["groups"])
    return np.isin(op.arithmetic, ("fp16", "bf16")) & ~depthwise
