"""Matrix products: m, n, k and a dtype."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tierwise.core.errors import UnknownName
from tierwise.core.num import where
from tierwise.core.numerics import fmt
from tierwise.cost import Cost, Target, price
from tierwise.cost.matmul import fitted, kernel_class
from tierwise.measure.columns import SIZE
from tierwise.measure.recordings import recorded, typical
from tierwise.program.types import Op, Operand

COLUMNS = frozenset({"m", "n", "k", "gemm_dtype"})
DTYPE = "gemm_dtype"
BOUNDS = {"m": SIZE, "n": SIZE, "k": SIZE}

# (weights, activations, arithmetic) by the names recorded files use. SmoothQuant ("sq") is int8 on both sides.
FORMATS = {
    "bfloat16": ("bf16", "bf16", "bf16"),
    "float16": ("fp16", "fp16", "fp16"),
    "fp8": ("fp8", "bf16", "fp8"),
    "fp8_block": ("fp8-block", "bf16", "fp8"),
    "nvfp4": ("nvfp4", "bf16", "fp4"),
    "int8_wo": ("int8", "bf16", "bf16"),
    "int4_wo": ("int4-g128", "bf16", "bf16"),
    "sq": ("int8", "bf16", "int8"),
}
# Copies of weights and of activations the timing loops go round, by engine: seen on L40S, whose cache is large
# against its memory's bandwidth, as falls of the latter where six (five) copies outgrow the cache.
CYCLED = {"sglang": (6.0, 6.0), "vllm": (6.0, 1.0), "trtllm": (5.0, 1.0)}


def op(rows: Mapping[str, np.ndarray]) -> Op:
    """One op whose sizes are the arrays of the rows, which share a dtype."""
    m, n, k = (np.asarray(rows[x], dtype=float) for x in ("m", "n", "k"))
    name = str(rows["gemm_dtype"][0])
    if name not in FORMATS:
        raise UnknownName("gemm_dtype", name, list(FORMATS))
    weights, acts, arithmetic = FORMATS[name]
    reads = (Operand("x", "act", m * k, fmt(acts)), Operand("w", "weight", n * k, fmt(weights)))
    return Op("matmul", "gemm", "mlp", {"m": m, "n": n, "k": k}, 2.0 * m * n * k, reads,
              (Operand("y", "act", m * n, fmt(acts)),), arithmetic)  # fmt: skip


def cost(rows: Mapping[str, np.ndarray], on: Target) -> Cost:
    """The price of the rows as they were timed: in a loop, launched by the host where the kernels were."""
    one = op(rows)
    fit = fitted(one, on)
    # Whether the host was in the way says the class itself, not one that its kernels merely resemble.
    eager = fit is not None and fit.dtype == kernel_class(one) and bool(np.any(np.asarray(fit["host"]) > 0))
    engine = str(rows["engine"][0]) if "engine" in rows else ""
    weights, inputs = CYCLED.get(engine, CYCLED["vllm"])
    found = price(one, replace(on, weight_copies=weights, input_copies=inputs, graphs=not eager))
    scaled = recorded(rows, "gemm", "scaled") & (str(rows[DTYPE][0]) == "fp8")
    if not scaled.any():
        return found
    return replace(found, serial={**found.serial, "scale": where(scaled, scale_seconds(rows, on), 0.0)})


def scale_seconds(rows: Mapping[str, np.ndarray], on: Target) -> np.ndarray:
    """Seconds that finding the scale of the inputs takes, which engines with static scales do not: a pass over them."""
    name = str(rows["system"][0]) if "system" in rows else "*"
    read = 2.0 * np.asarray(rows["m"], dtype=float) * np.asarray(rows["k"], dtype=float) / on.memory.bandwidth
    return np.asarray(np.maximum(typical("scale", name), typical("scale_reads", name) * read))
