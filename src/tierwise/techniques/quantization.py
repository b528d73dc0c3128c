"""Fewer bits for weights, activations and the KV cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import Num, is_zero, num
from tierwise.core.numerics import Format, fmt
from tierwise.models.step import LINEAR_ROLES, formatted
from tierwise.scenario.types import Plan
from tierwise.techniques._make import MANY, Technique, on_kv, on_plan, ops_of, shown, weights_of, within

_NO_LINEAR = "it has no weights of linear layers but such as keep a format of their own"


def quantize_weights(format: str | Format | Sequence[str]) -> Technique:
    """Store linear weights in a format: ``"int4-g128"`` (GPTQ, arXiv:2210.17323; AWQ, arXiv:2306.00978),
    ``"fp8"``, ``"nvfp4"``, ``"q4_k"``, ``"0.8bit"``, ... or an array of them for a sweep.

    Embeddings, the output head, routers and norms keep the checkpoint's format; in models that generate nothing it
    holds for convolutions and a classifier's head too.

    Example: ``quantize_weights:int4-g128``
    """
    form = fmt(format)
    return on_plan(f"weights {form}", lambda p: replace(p, weights=form), lambda r: weights_of(r.model), _NO_LINEAR)


def quantize_activations(format: str | Format) -> Technique:
    """Run activations in a format, such as ``"int8"`` (SmoothQuant, arXiv:2211.10438) or ``"fp8"``.

    Example: ``quantize_activations:fp8``
    """
    form = fmt(format)
    return on_plan(f"activations {form}", lambda plan: replace(plan, activations=form),
                   lambda r: (("ops", ops_of(r, lambda op: True)),), "it computes nothing")  # fmt: skip


def quantize_kv(
    bits: Num | None = None, group: Num = 128.0, residual: Num = 0.0, *,
    format: str | Format | Sequence[str] | None = None, value_format: str | Format | Sequence[str] | None = None,
    zero_bits: float = 16.0,
) -> Technique:  # fmt: skip
    """Store the KV cache in few bits, with one fp16 scale and one fp16 zero per group (KIVI, arXiv:2402.02750).

    Args:
        bits: bits of an element, or an array of them for a sweep; or give ``format`` ("fp8", "int4-g64", ...).
        group: elements that share a scale and a zero.
        residual: newest tokens kept in the activations' format.
        value_format: another format for values than for keys.
        zero_bits: bits of a group's zero.

    Example: ``quantize_kv:bits=2,group=32,residual=128``
    """
    if (bits is None) == (format is None):
        raise BadField("quantize_kv", "bits", bits, "either bits (with group) or a format, not both")
    within("quantize_kv", 0, MANY, residual=residual)
    within("quantize_kv", 0, 64, zero_bits=zero_bits)
    key = fmt(_integers(bits, group) if format is None else format, zero_bits=zero_bits)
    value = key if value_format is None else fmt(value_format, zero_bits=zero_bits)
    return on_kv(f"KV cache {key}", "format", lambda kv: kv.and_formats(key, value, num(residual)))


def mix_kv_bits(important: Num, high: Num = 4.0, low: Num = 2.0) -> Technique:
    """Store the cache of an ``important`` share of the tokens in ``high`` bits and of the others in ``low`` bits
    (ZipVL, arXiv:2410.08584). Scales shared by whole channels or tokens weigh nothing and are left out.

    Example: ``mix_kv_bits:important=0.3,high=4,low=2``
    """
    within("mix_kv_bits", 0, 1, important=important)
    within("mix_kv_bits", 0, 64, high=high, low=low)
    share = num(important)
    form = Format(f"{shown(high)}/{shown(low)}-bit", share * high + (1.0 - share) * low, 0.0, "")
    return on_kv(f"KV cache {form}", "format", lambda kv: kv.and_formats(form, form))


def sparsify_weights(sparsity: Num, structured: bool = False) -> Technique:
    """Remove a fraction of the linear weights: unstructured (SparseGPT, arXiv:2301.00774), or ``structured``
    2:4, which matrix engines with a sparse rate also compute faster. Index metadata is not counted here;
    pass a format that includes it to :func:`quantize_weights` where it matters.

    Example: ``sparsify_weights:sparsity=0.5,structured=true``
    """

    within("sparsify_weights", 0, 1, sparsity=sparsity)

    def change(plan: Plan) -> Plan:
        if not is_zero(plan.sparsity):
            gone = f"nothing more: {plan.sparsity} are already removed"
            raise BadField("sparsify_weights", "sparsity", sparsity, gone)
        return replace(plan, sparsity=num(sparsity), structured=structured)

    name = f"{sparsity:.0%} of weights pruned" if isinstance(sparsity, float) else "weights pruned"
    return on_plan(name, change, lambda r: weights_of(r.model, LINEAR_ROLES | formatted(r.model)), _NO_LINEAR)


def _integers(bits: Num | None, group: Num) -> str | Sequence[str]:
    """Names of integer formats: one, or as many as there are bits and groups."""
    both = np.broadcast_arrays(np.asarray(bits, dtype=float), np.asarray(group, dtype=float))
    for name, values in zip(("bits", "group"), both, strict=True):
        if np.any(values < 1) or np.any(values != np.floor(values)):
            raise BadField("quantize_kv", name, bits if name == "bits" else group, "whole numbers of at least 1")
    names = [f"int{b:.0f}-g{g:.0f}" for b, g in zip(both[0].ravel(), both[1].ravel(), strict=True)]
    return names[0] if both[0].ndim == 0 else np.asarray(names).reshape(both[0].shape)  # type: ignore[return-value]
