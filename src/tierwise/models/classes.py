"""What the class that a configuration's ``architectures`` names has of a model, and lacks.

Families build the class that writes text. Reward models, embedders and encoders by themselves are published with the
same fields and another class: layers without a head, a classifier in its place, the text model without its towers.
`transformers` names them by their endings; of a bare model it is the table of class defaults that says so, since
published code calls models that write text by the same ending (``ChatGLMModel``).
"""

from __future__ import annotations

from dataclasses import replace

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Extra, Linear, Projection
from tierwise.models.blocks.ends import Head
from tierwise.models.config import Config
from tierwise.models.defaults import writes_text
from tierwise.models.facts import facts_of
from tierwise.models.families._encoder import architecture, labels
from tierwise.models.types import Block, Layer, Model, Stack

_TOWERS = ("vision", "audio", "clip")
_NO_HEAD = "has no head that writes text: read as one pass over a text (if it does, name another in `architectures`)"
_NO_TEXT = "no class of its type writes text: read as one pass over a text"


def as_class(built: Model, c: Config) -> tuple[Model, tuple[str, ...]]:
    """(the model as the class that the file names has it, what to tell the user of that).

    Args:
        built: with everything that its fields describe, and a head that predicts tokens.
        c: the whole configuration.
    """
    name, text = architecture(c), next((s for s in built.stacks if s.stream == "text" and s.active), None)
    if text is None:
        return built, ()
    if name and name == c.defaults.text:
        return _alone(built, name)
    encoder = next((s for s in built.stacks if s.stream in ("encode", "audio")), None)
    # T5Gemma's class has its decoder classify tokens, T5's its encoder.
    by_encoder = name.endswith("EncoderModel") or (name.endswith("ForTokenClassification") and "Gemma" not in name)
    if encoder is not None and encoder.stream == "encode" and by_encoder:
        ends = () if name.endswith("Model") else (Head(built.hidden, labels(c), bias=True, every=True),)
        return replace(built, stacks=(replace(encoder, after=(*encoder.after, *ends)),), task="encode"), ()
    head = next((b for b in text.after if isinstance(b, Head) and facts_of(b).last_only), None)
    found = None if head is None else _ends(name, c, head, encoder is not None)
    if head is None or found is None or (encoder is not None and not found and head.tied):
        return built, ()  # as one writes text with it
    new = replace(text, after=(*text.after[: text.after.index(head)], *found), stream="encode")
    if _both_ways(name, c):
        new = replace(new, kinds=tuple(replace(k, blocks=tuple(_seeing(b) for b in k.blocks)) for k in new.kinds))
    said = f"its class, {name}, {_NO_HEAD}" if name else _NO_TEXT
    return replace(built, stacks=tuple(new if s is text else s for s in built.stacks), task="encode"), (said,)


def _ends(name: str, c: Config, head: Head, behind: bool) -> tuple[Block, ...] | None:
    """What a class has in place of the head; None for one that writes text. ``behind``: an encoder."""
    hidden = head.width
    if name.endswith("ForSequenceClassification"):
        dense = Projection(Linear("classifier", hidden, hidden, True, "mlp"), once=True)
        classes = Head(hidden, labels(c), bias=behind, pooled=True)
        return (dense, classes) if behind else (classes,)
    if name.endswith(("ForTokenClassification", "ForQuestionAnswering")):
        rows = 2.0 if name.endswith("ForQuestionAnswering") else labels(c)
        return (Head(hidden, rows, bias=True, every=True),)
    if name.endswith("RewardModel"):
        step = "Process" in name
        return (Head(hidden, c.size("num_labels", default=2.0 if step else 1.0), every=step, pooled=not step),)
    if name.endswith("ForMaskedLM"):
        return (replace(head, every=True),)
    bare = name == c.defaults.bare if name else not writes_text(c.text("model_type"))
    return () if bare else None


def _both_ways(name: str, c: Config) -> bool:
    """Whether tokens see those behind them."""
    masked = name.endswith("ForMaskedLM") or not writes_text(c.text("model_type"))
    return masked or c.flag("use_bidirectional_attention") or not c.flag("is_causal", default=True)


def _seeing(block: Block) -> Block:
    return replace(block, causal=False) if isinstance(block, Attention) and block.source == "self" else block


def _alone(built: Model, name: str) -> tuple[Model, tuple[str, ...]]:
    """The text model without towers or an encoder: layers that look only at these do not run, and what others have to
    look at them with is there and idle."""
    kept = tuple(s for s in built.stacks if s.stream == "text")
    if all(s in kept or s.stream not in (*_TOWERS, "encode") for s in built.stacks):
        return built, ()
    notes = tuple(n for n in built.notes if "read by its fields" not in n)
    said = f"its class, {name}, is the text model alone: no tower and no encoder"
    return replace(built, stacks=tuple(_without_source(s) for s in kept), notes=notes), (said,)


def _without_source(stack: Stack) -> Stack:
    def idle(block: Block) -> Block:
        return Extra("cross", sum((w.elements for w in block.weights()), 0.0), "attn")

    def layer(old: Layer) -> Layer:
        crossing = [b for b in old.blocks if isinstance(b, Attention) and b.source == "cross"]
        own = any(isinstance(b, Attention) and b.source != "cross" for b in old.blocks)
        if crossing and not own:
            return replace(old, blocks=tuple(idle(b) for b in old.blocks))
        return replace(old, blocks=tuple(idle(b) if b in crossing else b for b in old.blocks))

    before = tuple(b for b in stack.before if not (isinstance(b, Extra) and b.role == "vision"))
    return replace(stack, kinds=tuple(layer(k) for k in stack.kinds), before=before)
