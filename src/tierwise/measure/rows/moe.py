"""Routed experts of one rank: tokens routed by a known distribution, both products and moving the tokens.

``num_tokens`` tokens choose ``topk`` of ``num_experts``; the rank has ``num_experts / moe_ep_size`` of them, each
cut ``moe_tp_size`` ways, and is the most loaded one. ``distribution`` says how tokens spread: ``balanced`` deals
them round-robin, ``power_law_<a>`` draws each expert's popularity from a power law of that exponent between one
token and 80 % of all (below one token an expert: between 0.01 and 2), rounded to whole tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, UnknownName
from tierwise.core.num import ceil_div
from tierwise.core.numerics import fmt
from tierwise.cost import Cost, Target, price
from tierwise.cost.experts import TILES
from tierwise.measure.columns import SIZE
from tierwise.program.types import Op, Operand

COLUMNS = frozenset({"num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size",
                     "distribution", "moe_dtype"})  # fmt: skip
DTYPE = "moe_dtype"
# How tokens spread is drawn expert by expert.
BOUNDS = dict.fromkeys(sorted(COLUMNS - {"distribution", DTYPE}), SIZE) | {"num_experts": (1.0, 1e5)}

# (weights, activations, arithmetic) by the names recorded files use.
FORMATS = {
    "bfloat16": ("bf16", "bf16", "bf16"),
    "float16": ("fp16", "fp16", "fp16"),
    "fp8": ("fp8", "fp8", "fp8"),
    "fp8_block": ("fp8-block", "fp8", "fp8"),
    "nvfp4": ("nvfp4", "bf16", "fp4"),
    "int4_wo": ("int4-g128", "bf16", "bf16"),
    "w4a16_mxfp4": ("mxfp4", "bf16", "bf16"),
    "w4a8_mxfp4_mxfp8": ("mxfp4", "fp8", "fp8"),
}
# Draws of a power law that are averaged: the recorded one is not known.
_DRAWS = 6
# Beyond this exponent all tokens go to one expert.
_STEEPEST = 16.0

Rows = Mapping[str, np.ndarray]


def op(rows: Rows) -> Op:
    """One op whose sizes are the arrays of the rows, which share a dtype."""
    name = str(rows["moe_dtype"][0])
    if name not in FORMATS:
        raise UnknownName("moe_dtype", name, list(FORMATS))
    weights, acts, arithmetic = FORMATS[name]
    number = {c: np.asarray(rows[c], dtype=float) for c in COLUMNS - {"distribution", DTYPE}}
    tokens, top_k, experts, hidden = (number[c] for c in ("num_tokens", "topk", "num_experts", "hidden_size"))
    local, inner = ceil_div(experts, number["moe_ep_size"]), number["inter_size"] / number["moe_tp_size"]
    spread = np.asarray([load(int(t), int(k), int(e), int(p), str(d)) for t, k, e, p, d in zip(
        tokens, top_k, experts, number["moe_ep_size"], rows["distribution"], strict=True)])  # fmt: skip
    own, touched = np.maximum(spread[:, 0], 1e-9), np.maximum(spread[:, 1], 1e-9)
    kernels = rows["kernel_source"] if "kernel_source" in rows else np.full(tokens.shape, "")
    up = np.where(np.char.find(np.asarray(kernels, dtype=str), "nongated") >= 0, 1.0, 2.0)
    per = hidden * inner * (up + 1.0)
    dims = {"tokens": own, "hidden": hidden, "inner": inner, "experts": local, "touched": touched, "up": up,
            "routed": tokens * top_k, "reaching": tokens}  # fmt: skip
    dims |= {f"tiles_{int(t)}": spread[:, 2 + i] for i, t in enumerate(TILES)}
    reads = (Operand("x", "act", own * hidden, fmt(acts)), Operand("w", "weight", touched * per, fmt(weights)))
    return Op("moe", "experts", "moe", dims, 2.0 * own * per, reads, (Operand("y", "act", own * hidden, fmt("bf16")),),
              arithmetic)  # fmt: skip


@lru_cache(maxsize=65536)
def load(tokens: int, top_k: int, experts: int, ranks: int, distribution: str) -> tuple[float, ...]:
    """(rows, experts touched, tiles of each size) of the most loaded rank, the mean over draws."""
    local = -(-experts // ranks)
    if distribution == "balanced":
        stride = -(-experts // top_k)
        distinct = min(tokens, stride)
        touched = local // stride * distinct + min(distinct, local % stride)
        return _counts([np.full(max(touched, 0), tokens / distinct)])
    try:
        exponent = float(distribution.removeprefix("power_law_"))
    except ValueError:
        exponent = float("nan")
    if not 0.0 <= exponent <= _STEEPEST or exponent == 1.0:
        allowed = f"balanced or power_law_<exponent>, from 0 to {_STEEPEST:g} and not 1"
        raise BadField("moe", "distribution", distribution, allowed)
    low, high = (1.0, tokens * 0.8) if tokens * top_k > experts else (0.01, 2.0)
    power, rng = 1.0 - exponent, np.random.default_rng(0)
    drawn = []
    for _ in range(_DRAWS):
        popularity = ((high**power - low**power) * rng.random(experts) + low**power) ** (1.0 / power)
        counts = _whole(popularity / popularity.sum() * tokens * top_k, tokens * top_k)
        groups = np.minimum(counts, tokens)[: local * (experts // local)].reshape(-1, local)
        most = groups[np.argmax(groups.sum(axis=1))]
        drawn.append(most[most > 0])
    return _counts(drawn)


def _whole(shares: NDArray[np.float64], total: int) -> NDArray[np.float64]:
    """Rounded shares that add up to the total, the most popular adjusted first."""
    counts = np.round(shares)
    missing = int(total - counts.sum())
    order = np.argsort(-shares)
    if missing < 0:
        order = order[counts[order] > 0]
    np.add.at(counts, order[np.arange(abs(missing)) % len(order)], np.sign(missing))
    return np.maximum(counts, 0.0)


def _counts(draws: list[NDArray[np.float64]]) -> tuple[float, ...]:
    columns = [[float(x.sum()) for x in draws], [float(len(x)) for x in draws]]
    columns += [[float(np.ceil(x / t).sum()) for x in draws] for t in TILES]
    return tuple(float(np.mean(v)) for v in columns)


def cost(rows: Rows, on: Target) -> Cost:
    """The price of the rows as they were timed: in a loop, caches warm."""
    return price(op(rows), replace(on, weight_copies=1.0))
