"""What the backward pass needs of the forward pass, and what makes it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from tierwise.core.num import Num, maximum, where
from tierwise.program.types import Op

# Roles of linear maps whose inputs may be kept as projections.
PROJECTED = ("attn", "mlp")
# Modules of a layer that may be computed again one by one (:class:`tierwise.training.layout.Layout`).
MODULES = ("norm", "act", "mlp", "up")
_FEED_FORWARD = ("mlp", "moe")
# Kernels that are linear in what they read: their gradients need nothing of it.
_LINEAR = ("rope", "merge", "permute", "positions", "experts.bias")


def kept_by_module(
    ops: Iterable[tuple[Op, Num]],
    divided: Num = 1.0,
    compact: Num = 1.0,
    trains: Callable[[Op], float] = lambda op: 1.0,
    inputs: float = 0.0,
) -> tuple[dict[str, Num], Num]:
    """Bytes of tensors that gradients need, each tensor once, by what would make them again, and those of attention
    scores: ``norm``: what norms wrote, ``act``: what activation functions did, ``mlp``: what else is inside of
    feed-forward layers, ``up``: queries, keys and values made of latents; ``""``: the rest.

    A matrix product needs its input, attention its queries, keys, values, output and the logarithm of each row's sum
    (or, unfused, its scores, their softmax and what dropout left of it), a norm the stream it normalised, an activation
    what it was applied to.

    Args:
        ops: with how often each runs (once for every expert).
        divided: devices among which the residual stream and its normalised copies are divided.
        compact: share of its width in which each linear map of a layer keeps its input, by a projection of its own.
            What something else keeps anyway (attention its output) stays whole.
        trains: the share of an op's weight that has gradients, for which a product needs its input.
        inputs: as in the recipe.
    """
    version: dict[str, int] = {}
    kept: dict[tuple[str, int], Num] = {}
    made: dict[tuple[str, int], str] = {}
    scores: Num = 0.0

    def keep(name: str, size: Num, fresh: bool = False, module: str = "") -> None:
        key = (name, version.get(name, 0))
        kept[key] = maximum(kept.get(key, 0.0), size / divided if fresh else size)
        made[key] = module

    ops = list(ops)
    latent = "up" if any(OF["up"](op) for op, _ in ops) else ""
    for op, n in ops:
        acts = [o for o in op.reads if o.role == "act"]
        if op.kind == "matmul":
            thin = float(str(op.options.get("parts", 1))) * compact if op.role in PROJECTED else 1.0
            size = n * acts[0].bytes * where(np.asarray(compact) < 1.0, thin, 1.0) * trains(op)
            inside = ("mlp" if acts[0].name == "permuted" else "act") if op.role in _FEED_FORWARD else ""
            keep(acts[0].name, size, acts[0].name == "h", "norm" if acts[0].name == "h" else inside)
            if inputs > 0 and trains(op) <= 0 and op.role in PROJECTED:
                keep(acts[0].name + " of a frozen map", n * acts[0].bytes)
        elif op.kind == "attention":
            for o in acts:
                keep(op.name + o.name, o.bytes, module=latent)
            scores = scores + _scores(op)
        for o in op.writes:
            version[o.name] = version.get(o.name, 0) + 1
        if op.kind == "attention":
            out = op.writes[0]
            keep(out.name, out.bytes)
            keep("sums", op.dims["batch"] * op.dims["heads"] * op.dims["q"] * 4.0)
        elif op.kind == "norm":
            x = next((o for o in op.writes if o.name == "x"), op.reads[0])
            keep("x", x.bytes, fresh=True)
        elif op.kind == "elementwise" and not any(word in op.name for word in _LINEAR) and op.name != "loss":
            for o in acts:
                key = (op.name + o.name, 0)
                kept[key] = n * o.bytes
                made[key] = "mlp" if op.role in _FEED_FORWARD else ""
    total: dict[str, Num] = {"": 0.0, **dict.fromkeys(MODULES, 0.0)}
    for key, size in kept.items():
        total[made[key]] = total[made[key]] + size
    return total, scores


# What runs again for each module.
OF: Mapping[str, Callable[[Op], bool]] = {
    "norm": lambda op: op.kind == "norm",
    "act": lambda op: op.kind == "elementwise" and op.role in _FEED_FORWARD and op.name.endswith("act"),
    "mlp": lambda op: op.role in _FEED_FORWARD,
    "up": lambda op: not {"q_up", "kv_up"}.isdisjoint(op.name.split(".")),
}


def until_attention(ops: Sequence[tuple[Op, Num]]) -> Sequence[tuple[Op, Num]]:
    """A body's ops up to its last attention; all of one that has none."""
    last = max((i for i, (op, _) in enumerate(ops) if op.kind == "attention"), default=len(ops) - 1)
    return ops[: last + 1]


def _scores(op: Op) -> Num:
    """Of unfused attention: scores, their softmax (16 bits each) and a mask of a byte."""
    if bool(np.all(np.asarray(op.options.get("flash", True), dtype=bool))):
        return 0.0
    d = op.dims
    return 5.0 * d["batch"] * d["heads"] * d["q"] * d["columns"]
