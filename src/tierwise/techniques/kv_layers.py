"""What differs between the KV caches of layers, and how a framework keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tierwise.core.errors import BadField
from tierwise.core.num import Num, num
from tierwise.models.blocks.attention import Attention
from tierwise.models.types import Block, Layer, Model, Stack
from tierwise.techniques._make import Technique, on_model


def budget_kv_layers(budgets: Sequence[Num], stack: str = "decoder") -> Technique:
    """Keep at most ``budgets[i]`` tokens in the cache of layer ``i`` once the prompt is in (PyramidKV,
    arXiv:2406.02069; ScaleKV, arXiv:2505.19602)."""

    def change(s: Stack) -> Stack:
        if len(budgets) != s.depth:
            raise BadField("budget_kv_layers", "budgets", len(budgets), f"one for each of the {s.depth} layers")
        kinds: list[Layer] = []
        known: dict[tuple[int, float], int] = {}
        pattern = []
        for kind, budget in zip(s.pattern, budgets, strict=True):
            key = (kind, float(budget))
            if key not in known:
                known[key] = len(kinds)
                kinds.append(_limited(s.kinds[kind], num(budget)))
            pattern.append(known[key])
        return replace(s, kinds=tuple(kinds), pattern=tuple(pattern))

    def model(m: Model) -> Model:
        return replace(m, stacks=tuple(change(s) if s.name == stack else s for s in m.stacks))

    return on_model("KV budget by layer", model)


def concatenate_cache(times: int = 1) -> Technique:
    """Grow the cache by writing it anew each step, as eager frameworks do that concatenate the new token's keys
    and values (the default cache of `transformers`): on top of attention's read, one more read and one write.
    Twice (``times``) where code around the model also cuts an entry out and concatenates what is left."""

    def change(block: Block) -> Block:
        if isinstance(block, Attention) and block.causal and block.source == "self":
            return replace(block, copied=times)
        return block

    return on_model("concatenated KV cache", lambda m: m.map_blocks(change))


def expand_heads() -> Technique:
    """Copy grouped keys and values to every query head before attention, as eager frameworks do whose attention
    knows no groups (``repeat_kv`` of `transformers`): attention then reads as many heads as it has queries."""

    def change(block: Block) -> Block:
        if isinstance(block, Attention) and block.causal and block.source == "self":
            return replace(block, expanded=True)
        return block

    return on_model("heads expanded", lambda m: m.map_blocks(change))


def _limited(layer: Layer, budget: Num) -> Layer:
    blocks = tuple(
        replace(b, budget=budget) if isinstance(b, Attention) and b.source == "self" else b for b in layer.blocks
    )
    return replace(layer, name=f"{layer.name}, {budget:g} tokens", blocks=blocks)
