"""Files as llama.cpp's ``quantize`` makes them: which tensors of which layers get more bits than the name says.

``Q4_K_M`` is not one format: values, some down projections, the output head and others are stored wider, the embedding
as the name says, norms and routers in 32 bits. The rules follow llama.cpp (src/llama-quant.cpp), with an importance
matrix only where a type cannot do without one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from tierwise.core.numerics import MIXTURES, Format, fmt
from tierwise.models.facts import facts_of
from tierwise.models.hf_quant import mixture, projections
from tierwise.models.step import formatted
from tierwise.models.types import Model, Stack, Weight

# Types that need an importance matrix store the embedding and the head by rules of their own.
_TINY = {"iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq2_m"}
# A row that blocks of 256 do not divide is stored in blocks of 32.
_NARROW = {"q2_k": "q4_0", "q3_k": "q4_0", "q4_k": "q5_0", "q5_k": "q5_1", "q6_k": "q8_0", "tq1_0": "q4_0",
           "tq2_0": "q4_0", **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs", "iq2_s", "iq3_xxs", "iq3_s",
                                             "iq4_xs"), "iq4_nl")}  # fmt: skip
_DOWN = {"down_proj", "ffn_down", "w2"}
_VALUES = {"v_proj"}
# Families whose files hold queries, keys and values as one tensor, which goes by the values' rules.
_FUSED = {"phi", "phi3", "gpt2", "bloom", "gpt_neox", "falcon", "chatglm", "dbrx"}
_OUT = {"o_proj", "out_proj"}
_EXACT = {"norm", "router", "conv"}  # stay in 32 bits


@dataclass(frozen=True)
class _At:
    """Where a tensor stands: layer of how many, and what of the model the rules look at."""

    layer: int
    layers: int
    gqa: bool
    experts: float
    fused: bool

    @property
    def first(self) -> bool:
        """In the first eighth of the layers."""
        return self.layer < self.layers // 8

    @property
    def more(self) -> bool:
        """In the first or last eighth, or each third of those between."""
        n = self.layers
        return self.first or self.layer >= 7 * n // 8 or (self.layer - n // 8) % 3 == 2


_Rule: TypeAlias = str | Callable[[_At], str]

_VALUE_RULES: Mapping[str, _Rule] = {
    "q2_k": lambda a: "q4_k" if a.gqa else "q3_k",
    "q2_k_s": lambda a: "q4_k" if a.gqa else "q2_k",
    "q3_k_m": lambda a: "q5_k" if a.layer < 2 else "q4_k",
    "q3_k_l": "q5_k",
    "q4_k_s": lambda a: "q5_k" if a.layer < 4 else "q4_k",
    "q4_k_m": lambda a: "q6_k" if a.more else "q4_k",
    "q5_k_m": lambda a: "q6_k" if a.more else "q5_k",
    "iq3_xxs": lambda a: "q4_k" if a.gqa else "iq3_xxs",
    "iq3_xs": lambda a: "q4_k" if a.gqa else "iq3_s",
    "iq3_s": lambda a: "q4_k" if a.gqa else "iq3_s",
    "iq3_m": "q4_k",
    "iq4_nl": lambda a: "q5_k" if a.gqa else "iq4_nl",
    "iq4_xs": lambda a: "q5_k" if a.gqa else "iq4_xs",
    **dict.fromkeys(("iq2_s", "iq2_m"), lambda a: "q4_k" if a.gqa or a.experts >= 4 else "iq3_s"),
    **dict.fromkeys(("iq1_s", "iq1_m", "iq2_xxs", "iq2_xs"), lambda a: "q4_k" if a.gqa or a.experts >= 4 else "q2_k"),
}
_DOWN_RULES: Mapping[str, _Rule] = {
    "q2_k": "q3_k",
    "q2_k_s": lambda a: "q4_k" if a.first else "q2_k",
    "q3_k_m": lambda a: "q5_k" if a.layer < a.layers // 16 else "q4_k",
    "q3_k_l": "q5_k",
    "q4_k_s": lambda a: "q5_k" if a.first else "q4_k",
    "q4_k_m": lambda a: "q6_k" if a.more else "q4_k",
    "q5_k_m": lambda a: "q6_k" if a.more else "q5_k",
    "iq3_m": lambda a: "q4_k" if a.first or (a.experts == 8 and a.more) else "iq3_s",
    "iq4_nl": lambda a: "q5_k" if a.first else "iq4_nl",
    "iq4_xs": lambda a: "q5_k" if a.first else "iq4_xs",
    **dict.fromkeys(("iq2_s", "iq2_m"), lambda a: "iq3_s" if a.first else "iq2_s"),
    "iq1_s": lambda a: "q2_k" if a.first else "iq1_s",
    "iq1_m": lambda a: "q2_k" if a.first else "iq1_m",
    "iq2_xxs": lambda a: "q2_k" if a.first else "iq2_xxs",
    "iq2_xs": lambda a: "q2_k" if a.first else "iq2_xs",
}
_OUT_RULES: Mapping[str, str] = {
    "q2_k": "q3_k", "q3_k_m": "q4_k", "q3_k_l": "q5_k", "iq3_xxs": "iq3_s", "iq3_m": "q4_k", "iq1_s": "iq2_xxs",
    "iq1_m": "iq2_xxs", "iq2_s": "iq3_s", "iq2_m": "iq3_s",
}  # fmt: skip
# What eight experts share is a small part of the whole: it is stored wider.
_EIGHT_OUT = {"q2_k", "iq3_xs", "iq3_xxs", "q3_k_s", "q3_k_m", "iq4_nl", "q4_k_s", "q4_k_m", "iq3_s", "iq3_m", "iq4_xs"}


def stored_as(model: Model, weights: Format | None) -> Model:
    """The model as a file of that name stores it, head, embedding and norms included; unchanged for a format that is
    one format.

    Args:
        weights: of a plan; None for the checkpoint's own.
    """
    name = weights.name if weights is not None else ""
    if not isinstance(name, str):
        return _each(model, np.asarray(name))
    if name not in MIXTURES:
        return model
    parts: dict[str, dict[str, float]] = {}
    for role, kind, elements in _tensors(model, name):
        shares = parts.setdefault(role, {})
        shares[kind] = shares.get(kind, 0.0) + elements
    formats = {role: mixture([(fmt(kind), n) for kind, n in shares.items()]) for role, shares in parts.items()}
    formats = {**model.formats, **{role: replace(f, arithmetic="") if role not in _EXACT else f
                                   for role, f in formats.items()}}  # fmt: skip
    return replace(model, formats=formats, pinned=model.pinned.union(parts), stored_bytes=None)


def _each(model: Model, names: NDArray[np.str_]) -> Model:
    """The same for an array of formats: each role's format is an array, of one format where that is one."""
    distinct, index = np.unique(names, return_inverse=True)
    files = {str(n): stored_as(model, fmt(str(n))) for n in distinct}
    roles = frozenset[str]().union(*(f.pinned for f in files.values())) - model.pinned
    if not roles:
        return model
    linear = formatted(model)
    formats = dict(model.formats)
    for role in roles:
        parts = [f.format_of(role) if f is not model else fmt(n) if role in linear else model.format_of(role)
                 for n, f in files.items()]  # fmt: skip
        formats[role] = Format(*(np.asarray([getattr(p, key) for p in parts])[index.reshape(names.shape)]
                                 for key in ("name", "bits", "meta", "arithmetic")))  # fmt: skip
    return replace(model, formats=formats, pinned=model.pinned.union(roles), stored_bytes=None)


def _tensors(model: Model, name: str) -> Iterator[tuple[str, str, float]]:
    """(role, type, elements) of every weight outside image and audio towers, which have files of their own."""
    for stack in model.stacks:
        if stack.stream not in ("text", "encode"):
            continue
        attention = [facts_of(b) for k in stack.kinds for b in k.blocks]
        fused = model.family in _FUSED
        gqa = any(f.scores and f.kv_heads is not None and float(f.heads or 1) >= 4.0 * float(f.kv_heads)
                  for f in attention)  # fmt: skip
        experts = max((float(f.experts) for f in attention if f.experts is not None), default=0.0)
        for w in (w for b in (*stack.before, *stack.after) for w in b.weights()):
            yield w.role, _end(model, stack, w, name), float(w.elements)
            if w.role == "embed" and (tied := sum(float(np.max(facts_of(b).tied)) for b in stack.after)):
                yield "head", _end(model, stack, w, name), tied  # read as it is stored, and copied so
        for index, kind in enumerate(stack.kinds):
            layers = tuple(layer for layer, k in enumerate(stack.pattern) if k == index)
            for w, facts in ((w, facts_of(b)) for b in kind.blocks for w in b.weights()):
                for part, elements in projections(w, facts):
                    row = _row(part, w, elements, model)
                    for inner, count in _by_layer(part, w.role, name, layers, stack.depth, gqa, experts, fused).items():
                        yield w.role, _narrowed(inner, row), elements * count


@cache
def _by_layer(
    part: str, role: str, name: str, layers: tuple[int, ...], depth: int, gqa: bool, experts: float, fused: bool
) -> Mapping[str, int]:
    """Types of a weight of several layers, and how many of them have each."""
    return Counter(_inner(part, role, name, _At(layer, depth, gqa, experts, fused)) for layer in layers)


def _inner(part: str, role: str, name: str, at: _At) -> str:
    """The type of a weight inside a layer."""
    if role in _EXACT or part.endswith(".bias"):
        return "fp32"
    plain = MIXTURES[name]
    if name == "mxfp4_moe":
        return "mxfp4" if role == "expert" else plain
    rule: _Rule = plain
    if part in _VALUES or (at.fused and part in ("q_proj", "k_proj")):
        if at.experts == 8 and name not in _TINY:
            return "q8_0"
        rule = _VALUE_RULES.get(name, plain)
        # Eighty layers of grouped heads: values are an eighth of the queries' size.
        if at.layers == 80 and at.gqa and (kind := _called(rule, at)) in ("q3_k", "q4_k"):
            return "q5_k" if name not in _TINY else kind
    elif part == "k_proj" and at.experts == 8:
        return "q4_k" if name in _TINY else "q8_0"
    elif part in ("q_proj", "k_proj"):
        rule = {"iq3_xs": "iq3_xxs", "iq3_xxs": "iq2_s"}.get(name, plain)
    elif part in _DOWN:
        rule = _DOWN_RULES.get(name, plain)
    elif part in _OUT:
        eight = at.experts == 8 and (name in _EIGHT_OUT or name in _TINY)
        rule = "q5_k" if eight else _OUT_RULES.get(name, plain)
    elif part in ("gate_proj", "up_proj") and name == "iq3_xs":
        rule = "iq3_s" if at.first or at.layer >= 7 * at.layers // 8 else "iq3_xxs"
    return _called(rule, at)


def _called(rule: _Rule, at: _At) -> str:
    return rule if isinstance(rule, str) else rule(at)


def _end(model: Model, stack: Stack, w: Weight, name: str) -> str:
    """The type of the embedding, the head, or what else stands at the ends. A tied head is the embedding's matrix."""
    if w.role in _EXACT:
        return "fp32"
    plain, wide = MIXTURES[name], float(model.hidden) % 256 == 0
    tied = any(facts_of(b).tied for b in stack.after)
    if w.role == "head" or (w.role == "embed" and tied and w.name.startswith("embed")):
        if MIXTURES[name] in ("fp16", "bf16", "fp32", "q8_0"):
            return plain
        return ("q5_k" if name in _TINY or name == "iq3_xxs" else "q6_k") if wide or "_k" not in plain else "q8_0"
    if w.role == "embed":
        small = {**dict.fromkeys(_TINY, "q2_k"), "iq2_s": "iq3_s", "iq2_m": "iq3_s", "iq3_xxs": "iq3_s"}
        return _narrowed(small.get(name, plain), float(model.hidden))
    return plain


def _row(part: str, w: Weight, elements: float, model: Model) -> float:
    """Inputs of a weight, which its blocks have to divide; several experts' rows are as long as one's."""
    hidden = float(model.hidden)
    if part not in _DOWN | _OUT:
        return hidden
    one = elements * float(w.grain) / float(w.elements) if w.role == "expert" and w.grain else elements
    return one / hidden


def _narrowed(kind: str, row: float) -> str:
    return _NARROW.get(kind, kind) if row % 256 else kind
