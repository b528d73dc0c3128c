"""Formats whose bits follow from how they encode: dictionaries, sparse codes, outliers kept apart."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np

from tierwise.core.errors import BadField, UnknownName
from tierwise.core.num import Num
from tierwise.core.numerics import Format, fmt
from tierwise.models.blocks.common import Extra
from tierwise.models.facts import blocks, facts_of
from tierwise.models.types import Block, Layer, Model
from tierwise.scenario.types import Scenario
from tierwise.techniques._make import (
    MANY,
    NothingMatched,
    Technique,
    changed,
    following,
    on_kv,
    on_model,
    on_plan,
    running,
    weights_of,
    within,
)


def quantize_roles(form: str | Format, *roles: str) -> Technique:
    """Store the weights of some roles only (``"expert"``, ``"mlp"``, ``"embed"``, ...) in a format, whatever format
    :func:`quantize_weights` gives the others, before or after.

    Example: ``quantize_roles:fp8,expert``
    """
    stored = fmt(form)

    def change(m: Model) -> Model:
        return replace(m, formats={**m.formats, **dict.fromkeys(roles, stored)}, pinned=m.pinned.union(roles))

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        there = {w.role for st in running(r.model) for b, _ in blocks(st) for w in b.weights()}
        for role in roles:
            if role not in there:
                raise UnknownName("weight role", role, there, f"{r.model.name} has {', '.join(sorted(there))}.")
        name = f"{', '.join(roles)} in {stored}"
        return changed(s, name, r, change(r.model), weights_of(r.model, roles), "no role was named")

    return technique


def quantize_with_outliers(bits: float, outliers: Num, group: int = 16, second: int = 16, scale_bits: float = 3.0,
                           zero_bits: float = 3.0) -> Technique:  # fmt: skip
    """Weights in small groups whose scales and zeros are quantized again, and a share of ``outliers`` kept
    beside them as a 16-bit value with a 16-bit column (SpQR, arXiv:2306.03078).

    ``second`` groups share four 16-bit numbers: a scale and a zero of the scales, and of the zeros.

    Example: ``quantize_with_outliers:bits=3,outliers=0.01``
    """
    within("quantize_with_outliers", 0, 64, bits=bits, scale_bits=scale_bits, zero_bits=zero_bits)
    within("quantize_with_outliers", 0, 1, outliers=outliers)
    within("quantize_with_outliers", 1, MANY, group=group, second=second)
    meta = (scale_bits + zero_bits) / group + 4.0 * 16.0 / (group * second) + 32.0 * outliers
    form = Format(f"{bits:g}-bit with outliers", float(bits), meta, "")
    return on_plan(f"weights {form}", lambda plan: replace(plan, weights=form), lambda r: weights_of(r.model),
                   "it has no weights of linear layers")  # fmt: skip


def dictionary_experts(zeros: float, codewords: int = 2**16, longest: int = 28, row_bits: float = 64.0) -> Technique:
    """Experts in ternary weights, coded by a fixed dictionary of the likeliest runs (QMoE, arXiv:2310.16795).

    Args:
        zeros: share of weights that are zero; the signs of the others are even.
        codewords: entries of the dictionary, each named by ``log2(codewords)`` bits.
        longest: weights of the longest entry (entries are whole pairs).
        row_bits: what each row of a matrix stores besides (offset, two levels).

    Example: ``dictionary_experts:zeros=0.885``
    """
    within("dictionary_experts", 0, 0.9999, zeros=zeros)
    within("dictionary_experts", 2, 2.0**32, codewords=codewords)
    within("dictionary_experts", 2, 100, longest=longest)
    within("dictionary_experts", 0, MANY, row_bits=row_bits)
    name = f"experts ternary, {zeros:.1%} zeros, dictionary-coded"

    def change(m: Model) -> Model:
        shapes = {(float(w), float(i)) for s in m.stacks for k in s.kinds for b in k.blocks
                  for w, i in [facts_of(b).expert_shape or (0.0, 0.0)] if w}  # fmt: skip
        if not shapes:
            raise NothingMatched(name, m.name, "it has no routed experts")
        if len(shapes) != 1:
            raise BadField(m.name, "experts", sorted(shapes), "experts of one shape")
        rows = shapes.pop()  # An up projection's rows are as long as the width, a down projection's as the inner one.
        code = sum(_dictionary_bits(zeros, codewords, longest, int(r)) for r in rows) / len(rows)
        form = Format("dictionary-coded ternary", code, row_bits * sum(1.0 / r for r in rows) / len(rows), "")
        return replace(m, formats={**m.formats, "expert": form})

    return on_model(name, change)


@cache
def _dictionary_bits(zeros: float, codewords: int, longest: int, row: int) -> float:
    """Bits per weight of greedy longest-match coding of independent ternary weights, pairs being the letters.

    How likely a run is depends only on how many of its weights are not zero, so runs fall into classes
    ``(length, nonzeros)`` and the dictionary holds the likeliest classes (of the last one, a part). A word ends
    where its class has no longer neighbour in the dictionary, and the pair that did not fit opens the next word:
    a Markov chain over the nonzeros (0, 1, 2) of a word's first pair.
    """
    held = _held(zeros, codewords, longest)
    pair = [zeros**2, 2.0 * zeros * (1.0 - zeros), (1.0 - zeros) ** 2]
    lengths, after = np.zeros(3), np.zeros((3, 3))
    for first in range(3):
        reach = {first: 1.0}
        for n in range(2, longest + 1, 2):
            onward: dict[int, float] = {}
            for k, p in reach.items():
                for j, q in enumerate(pair):
                    stays = held.get((n + 2, k + j), 0.0)
                    lengths[first] += n * p * q * (1.0 - stays)
                    after[first, j] += p * q * (1.0 - stays)
                    onward[k + j] = onward.get(k + j, 0.0) + p * q * stays
            reach = onward
    share = np.linalg.matrix_power(after, 64)[0]
    # A row's end cuts its last word short: half a word is lost on average.
    return math.log2(codewords) * (1.0 / float(share @ lengths) + 0.5 / row)


def _held(zeros: float, codewords: int, longest: int) -> dict[tuple[int, int], float]:
    """The fraction of each class ``(length, nonzeros)`` that is in the dictionary, likeliest first."""
    classes = [(n, k) for n in range(2, longest + 1, 2) for k in range(n + 1)]
    classes.sort(key=lambda c: -(zeros ** (c[0] - c[1]) * ((1.0 - zeros) / 2.0) ** c[1]))
    left, held = float(codewords), {}
    for n, k in classes:
        size = math.comb(n, k) * 2.0**k
        held[n, k] = min(left / size, 1.0)
        left -= held[n, k] * size
    return held


def sparse_code_kv(nonzeros: float, coefficient_bits: float = 16.0, index_bits: float = 16.0,
                   atoms: Num = 0.0) -> Technique:  # fmt: skip
    """Each cached vector of a head is a few atoms of a dictionary: an index and a coefficient each (CSR,
    arXiv:2412.11741). ``atoms`` dictionary entries per layer are kept for keys, and as many for values.

    Finding the atoms of a new vector is not priced.

    Example: ``sparse_code_kv:nonzeros=8,atoms=1024``
    """

    within("sparse_code_kv", 0, MANY, nonzeros=nonzeros, atoms=atoms)
    within("sparse_code_kv", 0, 64, coefficient_bits=coefficient_bits, index_bits=index_bits)

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        model = r.model
        following("sparse codes", model, "format")
        widths = {float(d) for st in running(model) for b, _ in blocks(st) if _coded(b)
                  and (d := facts_of(b).head_dim) is not None}  # fmt: skip
        if len(widths) != 1:
            raise BadField(model.name, "head_dim", sorted(widths), "heads of one width")
        width = widths.pop()
        per = nonzeros / width
        form = Format(f"{nonzeros:g} atoms a head", coefficient_bits * per, index_bits * per, "")

        def layer(k: Layer) -> Layer:
            if not any(_coded(b) for b in k.blocks):
                return k
            return replace(k, blocks=(*k.blocks, Extra("kv_dictionary", 2.0 * atoms * width, "kv_dictionary")))

        stacks = tuple(replace(st, kinds=tuple(layer(k) for k in st.kinds)) for st in model.stacks)
        store = on_kv(f"KV cache {form}", "format", lambda kv: kv.and_formats(form, form))
        return store(replace(s, model=replace(model, stacks=stacks)))

    return technique


def _coded(block: Block) -> bool:
    """It keeps keys and values of its own."""
    cache = facts_of(block).cache
    return cache is not None and cache.layout in ("keys", "rebuilt", "latent", "entries")
