"""Changes to the model's structure: fewer layers, shared layers, narrower attention."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace

from tierwise.core.errors import BadField
from tierwise.core.num import Num, num
from tierwise.models.types import Block, Layer, Model, Stack
from tierwise.techniques._make import MANY, Technique, on_caches, on_model, shown, within


def prune_layers(count: int | None = None, layers: Collection[int] | None = None, stack: str = "decoder") -> Technique:
    """Remove whole layers: the given indexes, or ``count`` from the end (ShortGPT, arXiv:2403.03853).

    Example: ``prune_layers:count=2``
    """

    def change(s: Stack) -> Stack:
        drop = set(layers) if layers is not None else set(range(s.depth - (count or 0), s.depth))
        bad = [i for i in drop if not 0 <= i < s.depth]
        if bad or len(drop) >= s.depth:
            raise BadField("prune_layers", "layers", sorted(drop), f"some, not all, of 0 to {s.depth - 1}")
        return replace(s, pattern=tuple(k for i, k in enumerate(s.pattern) if i not in drop))

    gone = len(set(layers)) if layers is not None else count or 0
    name = f"{gone} layers removed"
    return on_model(name, _on_stack(stack, change), (("layers removed", gone),), "none was named: give count or layers")


def share_layers(copies: Num, stack: str = "decoder") -> Technique:
    """Groups of ``copies`` layers share one set of weights (groups of groups, when applied again): memory shrinks,
    arithmetic stays (ALBERT, arXiv:1909.11942; FoldGPT, arXiv:2407.00928).

    Example: ``share_layers:copies=2``
    """

    within("share_layers", 1, MANY, copies=copies)

    def change(s: Stack) -> Stack:
        return replace(s, kinds=tuple(replace(k, copies=k.copies * num(copies)) for k in s.kinds))

    name = f"weights shared by {shown(copies)} layers"
    return on_model(name, _on_stack(stack, change), needs="the stack has no layers")


def slide_window(window: Num, where: Callable[[Layer], bool] | None = None) -> Technique:
    """Causal attention looks back ``window`` tokens only (Longformer, arXiv:2004.05150), or as far as it did where that
    is less; ``where`` picks layers.

    Example: ``slide_window:1024``
    """

    within("slide_window", 1, MANY, window=window)
    picks = None if where is None else (lambda s, i: where(s.kinds[i]))
    return on_caches(f"window of {shown(window)} tokens", "window", num(window), picks)


def sparsify_attention(density: Num) -> Technique:
    """A static pattern computes, stores and reads a fraction of the causal pairs (block-sparse, strided).

    Example: ``sparsify_attention:density=0.25``
    """
    within("sparsify_attention", 0, 1, density=density)
    return on_caches("static sparse attention", "density", num(density))


def drop_blocks(test: Callable[[Block], bool], name: str = "blocks removed") -> Technique:
    """Remove every block a test picks, such as all state-space blocks of a hybrid."""
    return on_model(name, lambda m: m.map_blocks(lambda b: None if test(b) else b),
                    needs="no block passes the test")  # fmt: skip


def _on_stack(name: str, change: Callable[[Stack], Stack]) -> Callable[[Model], Model]:
    def model(m: Model) -> Model:
        known = [s.name for s in m.stacks]
        if name not in known:
            raise BadField(m.name, "stack", name, f"one of {', '.join(known)}")
        return replace(m, stacks=tuple(change(s) if s.name == name else s for s in m.stacks))

    return model
