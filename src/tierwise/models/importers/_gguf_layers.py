"""A decoder in a GGUF file, read layer by layer from its tensors: for architectures without a description of their own.

A tensor's name says what it is and its shape how wide (llama.cpp's gguf-py, constants.py); metadata say heads, experts
a token visits, windows, ranks. Head counts and widths may differ from layer to layer (Nemotron-NAS, OpenELM, hybrids).
What no block accounts for is counted as further parameters and named.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.numerics import fmt
from tierwise.models.blocks.common import Extra, Linear, Norm, Projection
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.families._common import stack
from tierwise.models.importers._gguf_blocks import Parts, feed_forward, mixers
from tierwise.models.importers._gguf_config import ARCHITECTURES, Meta
from tierwise.models.importers._gguf_header import GgufTensor, Header, Skipped
from tierwise.models.types import Block, Layer, Model, Stack

_BLOCK = re.compile(r"^blk\.(\d{1,9})\.(.+)$")
_NOTED = 0.005  # share of the parameters below which further tensors are not worth a note
# Encoders, recurrences and parts of other models that are not decoders of such layers.
_OTHERS = ("bert", "rwkv", "t5", "clip", "wavtokenizer", "arwkv", "cogvlm", "chameleon", "llama-embed",
           "gemma-embedding", "mmproj", "dream", "llada", "nomic-bert", "jina-bert", "modern-bert", "neo-bert",
           "eurobert")  # fmt: skip
# Of how many layers the last attends to everything (llama.cpp, src/llama-model.cpp: set_swa_pattern), where a file
# does not say; negative: the first.
_EVERY = {"gemma2": 2, "gemma3": 6, "gemma3n": 5, "gpt-oss": 2, "cohere2": 4, "exaone4": 4, "exaone-moe": 4,
          "llama4": 4, "olmo2": 4, "afmoe": 4, "smallthinker": -4}  # fmt: skip
_CHUNK = 8192  # tokens llama.cpp's llama4 attends inside of


def by_tensors(header: Header, where: str, name: str) -> Model:
    """The model a file describes by its tensors.

    Raises:
        TierwiseError: not a decoder of attention, MLPs, experts, Mamba or short convolutions; lists what is read.
        BadField: a key or layer is missing.
    """
    meta = Meta(header, where)
    if meta.arch.startswith(_OTHERS) or meta.data.get(f"{meta.arch}.attention.causal") is False:
        raise _refused(meta)
    if not any(_BLOCK.match(name) for name in header.tensors):
        raise _refused(meta)
    hidden = meta.size("embedding_length", required=True)
    count = meta.size("block_count", required=True)
    if not 0 < count <= 10_000:
        raise BadField(where, f"{meta.arch}.block_count", count, "1 to 10000 layers")
    grouped: dict[int, dict[str, GgufTensor]] = defaultdict(dict)
    for full, tensor in header.tensors.items():
        if match := _BLOCK.match(full):
            grouped[int(match[1])][match[2]] = tensor
    extra: dict[str, float] = defaultdict(float)
    layers = [_layer(meta, i, count, grouped.get(i, {}), float(hidden), extra) for i in range(count)]
    ahead = min(int(meta.size("nextn_predict_layers", 0)), count - 1)
    text = _decoder(meta, layers[: count - ahead], float(hidden), extra)
    modules = [stack("mtp", layers[count - ahead :], active=False)] if ahead else []
    total = sum(t.elements for t in header.tensors.values())
    notes = [f"architecture {meta.arch}: read by its tensors"]
    large = [f"{k} ({v / 1e6:.0f} M)" for k, v in extra.items() if v > _NOTED * total]
    notes += [f"tensors counted, their work not priced: {', '.join(large)}"] if large else []
    windows = meta.size("attention.sliding_window", 0)
    if windows and _swa(meta, 0) is None:
        notes.append(f"attention.sliding_window = {windows} is not applied: no pattern of layers is known")
    vocab = _vocab(meta)
    form = fmt("fp16")
    return Model(name, meta.arch, float(hidden), vocab, (text, *modules), {"*": form}, None, form,
                 float(meta.size("context_length", 0) or math.inf), source=where, notes=tuple(notes))  # fmt: skip


def _refused(meta: Meta) -> TierwiseError:
    import difflib

    slip = difflib.get_close_matches(meta.arch, ARCHITECTURES, n=1, cutoff=0.85)
    meant = f" (did you mean {slip[0]!r}?)" if slip else ""
    return TierwiseError(
        f"{meta.where}: GGUF architecture {meta.arch!r}{meant} is not read. Read: "
        f"{', '.join(sorted(ARCHITECTURES))}; and by its tensors, any other decoder of "
        "attention, MLPs, experts, Mamba, gated delta or short-convolution layers. "
        "The model's config.json may be read in its place"
    )


def _layer(
    meta: Meta, i: int, count: int, tensors: Mapping[str, GgufTensor], hidden: float, extra: dict[str, float]
) -> Layer:
    if not tensors:
        raise BadField(meta.where, f"blk.{i}", "no tensors", f"tensors in each of {count} layers")
    parts = Parts(meta, i, tensors, hidden, _window(meta, i), _shared(meta, i, count))
    found = [*mixers(parts), *feed_forward(parts)]
    if not found:
        raise _refused(meta)
    norms = [t for n, t in tensors.items() if n.endswith("norm.weight") and t.elements == hidden and "attn_q" not in n
             and "attn_k" not in n and "ssm_norm" not in n and not n.startswith("nextn")]  # fmt: skip
    bias = any(n.endswith("norm.bias") for n in tensors)
    blocks: list[Block] = []
    for label, block in found:
        if len(blocks) < 2 * len(norms):
            blocks.append(Norm(hidden, bias, name=f"{label}_norm"))
        blocks.append(block)
    used = sum(isinstance(b, Norm) for b in blocks)
    blocks += [Norm(hidden, bias, name="post_norm", residual=False) for _ in range(len(norms) - used)]
    if "nextn.eh_proj.weight" in tensors:
        blocks.insert(0, Projection(Linear("eh_proj", 2.0 * hidden, hidden)))
    left = sum(t.elements for t in tensors.values()) - sum(float(w.elements) for b in blocks for w in b.weights())
    if left > 0:
        blocks.append(Extra("other", left))
        for n in parts.unused():
            extra[f"blk.*.{n}"] += tensors[n].elements
    return Layer("+".join(dict.fromkeys(label for label, _ in found)), tuple(blocks))


def _decoder(meta: Meta, layers: list[Layer], hidden: float, extra: dict[str, float]) -> Stack:
    vocab, ends = _vocab(meta), {n: t for n, t in meta.tensors.items() if not n.startswith("blk.")}
    before: list[Block] = [Embedding(vocab, hidden)]
    if (t := ends.get("position_embd.weight")) is not None:
        before.append(Embedding(float(t.shape[1]), hidden, name="position"))
    after: list[Block] = []
    norm = next((n for n in ("output_norm", "token_embd_norm") if f"{n}.weight" in ends), None)
    if norm is not None:
        after.append(Norm(hidden, f"{norm}.bias" in ends, "final_norm"))
    after.append(Head(hidden, vocab, tied="output.weight" not in ends, bias="output.bias" in ends))
    left = float(sum(t.elements for n, t in ends.items() if not n.startswith("rope_")))
    left -= sum(float(w.elements) for b in (*before, *after) for w in b.weights())
    if left > 0:
        before.append(Extra("other", left, "embed"))
        known = ("token_embd.", "output", "position_embd.", "rope_", "token_embd_norm")
        for n, t in ends.items():
            if not n.startswith(known):
                extra[n] += t.elements
    built = stack("decoder", layers, before=tuple(before), after=tuple(after))
    return replace(built, before=tuple(before))


def _vocab(meta: Meta) -> float:
    words = meta.data.get("tokenizer.ggml.tokens")
    listed = words.length if isinstance(words, Skipped) else None
    vocab = meta.width("token_embd.weight", 1) or meta.size("vocab_size", listed)
    if vocab is None:
        raise BadField(meta.where, "token_embd.weight", None, f"a token embedding, or {meta.arch}.vocab_size")
    return float(vocab)


def _swa(meta: Meta, i: int) -> bool | None:
    """Whether a layer looks back over a window only; None where neither the file nor the architecture says."""
    said: Any = meta.data.get(f"{meta.arch}.attention.sliding_window_pattern")
    if isinstance(said, list) and said:
        return bool(said[i % len(said)])
    every = said if isinstance(said, int) and not isinstance(said, bool) else _EVERY.get(meta.arch)
    if not every:
        return None
    return i % every < every - 1 if every > 0 else i % -every != 0


def _window(meta: Meta, i: int) -> dict[str, float]:
    """The window or chunk of a layer's attention."""
    chunked = meta.arch == "llama4"
    size = meta.size("attention.sliding_window", _CHUNK if chunked else 0)
    return {"chunk" if chunked else "window": float(size)} if size and _swa(meta, i) else {}


def _shared(meta: Meta, i: int, count: int) -> bool:
    """Whether a layer reads the cache of an earlier one."""
    return i >= count - int(meta.size("attention.shared_kv_layers", 0))
