"""What differs between the KV caches of layers, and how a framework keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tierwise.core.errors import BadField
from tierwise.core.num import Num, num
from tierwise.models.facts import facts_of
from tierwise.models.types import Block, Layer, Stack
from tierwise.models.wrapper import adapt
from tierwise.scenario.types import Scenario
from tierwise.techniques._make import Technique, changed, following, on_caches, within


def budget_kv_layers(budgets: Sequence[Num], stack: str = "decoder") -> Technique:
    """Keep at most ``budgets[i]`` tokens in the cache of layer ``i`` once the prompt is in (PyramidKV,
    arXiv:2406.02069; ScaleKV, arXiv:2505.19602).

    Example: ``budget_kv_layers:[64,64,32,32]``
    """

    within("budget_kv_layers", 0, float("inf"), budgets=budgets)  # type: ignore[arg-type]

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

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        matched = following("KV budget by layer", r.model, "budget", lambda st, _: st.name == stack)
        model = replace(r.model, stacks=tuple(change(x) if x.name == stack else x for x in r.model.stacks))
        return changed(s, "KV budget by layer", r, model, matched)

    return technique


def concatenate_cache(times: int = 1) -> Technique:
    """Grow the cache by writing it anew each step, as eager frameworks do that concatenate the new token's keys
    and values (the default cache of `transformers`): on top of attention's read, one more read and one write.
    Twice (``times``) where code around the model also cuts an entry out and concatenates what is left."""
    within("concatenate_cache", 0, 100, times=times)
    return on_caches("concatenated KV cache", "copied", times)


def expand_heads() -> Technique:
    """Copy grouped keys and values to every query head before attention, as eager frameworks do whose attention
    knows no groups (``repeat_kv`` of `transformers`): attention then reads as many heads as it has queries."""
    return on_caches("heads expanded", "expanded", True)


def _limited(layer: Layer, budget: Num) -> Layer:
    def change(block: Block) -> Block:
        cache = facts_of(block).cache
        return block if cache is None or "budget" in cache.refuses else adapt(block, "budget", budget)

    return replace(layer, name=f"{layer.name}, {budget:g} tokens", blocks=tuple(change(b) for b in layer.blocks))
