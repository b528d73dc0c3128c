"""Fewer bits for weights, activations and the KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tierwise.core.errors import BadField
from tierwise.core.num import Num, num
from tierwise.core.numerics import Format, fmt
from tierwise.scenario.types import Plan
from tierwise.techniques._make import Technique, on_kv, on_plan


def quantize_weights(format: str | Format | Sequence[str]) -> Technique:
    """Store linear weights in a format: ``"int4-g128"`` (GPTQ, arXiv:2210.17323; AWQ, arXiv:2306.00978),
    ``"fp8"``, ``"nvfp4"``, ``"q4_k"``, ``"0.8bit"``, ... or an array of them for a sweep.

    Embeddings, the output head, routers and norms keep the checkpoint's format.
    """
    form = fmt(format)
    return on_plan(f"weights {form}", lambda plan: replace(plan, weights=form))


def quantize_activations(format: str | Format) -> Technique:
    """Run activations in a format, such as ``"int8"`` (SmoothQuant, arXiv:2211.10438) or ``"fp8"``."""
    form = fmt(format)
    return on_plan(f"activations {form}", lambda plan: replace(plan, activations=form))


def quantize_kv(
    bits: int | None = None, group: int = 128, residual: Num = 0.0, *, format: str | Format | None = None,
    value_format: str | Format | None = None, zero_bits: float = 16.0,
) -> Technique:  # fmt: skip
    """Store the KV cache in few bits, with one fp16 scale and one fp16 zero per group (KIVI, arXiv:2402.02750).

    Args:
        bits: bits of an element; or give ``format`` ("fp8", "int4-g64", ...).
        group: elements that share a scale and a zero.
        residual: newest tokens kept in the activations' format.
        value_format: another format for values than for keys.
        zero_bits: bits of a group's zero.
    """
    if (bits is None) == (format is None):
        raise BadField("quantize_kv", "bits", bits, "either bits (with group) or a format, not both")
    key = fmt(format, zero_bits=zero_bits) if format is not None else fmt(f"int{bits}-g{group}", zero_bits=zero_bits)
    value = key if value_format is None else fmt(value_format, zero_bits=zero_bits)
    return on_kv(f"KV cache {key}", key=key, value=value, residual=num(residual))


def mix_kv_bits(important: Num, high: Num = 4.0, low: Num = 2.0) -> Technique:
    """Store the cache of an ``important`` share of the tokens in ``high`` bits and of the others in ``low`` bits
    (ZipVL, arXiv:2410.08584). Scales shared by whole channels or tokens weigh nothing and are left out."""
    share = num(important)
    form = Format(f"{high:g}/{low:g}-bit", share * high + (1.0 - share) * low, 0.0, "")
    return on_kv(f"KV cache {form}", key=form, value=form)


def sparsify_weights(sparsity: Num, structured: bool = False) -> Technique:
    """Remove a fraction of the linear weights: unstructured (SparseGPT, arXiv:2301.00774), or ``structured``
    2:4, which matrix engines with a sparse rate also compute faster. Index metadata is not counted here;
    pass a format that includes it to :func:`quantize_weights` where it matters."""

    def change(plan: Plan) -> Plan:
        return replace(plan, sparsity=num(sparsity), structured=structured)

    return on_plan(f"{sparsity:.0%} of weights pruned" if isinstance(sparsity, float) else "weights pruned", change)
