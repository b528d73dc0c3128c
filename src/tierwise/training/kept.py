"""What the backward pass needs of the forward pass, and what makes it again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

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


@dataclass(frozen=True)
class Kept:
    """A tensor that the backward pass needs.

    Attributes:
        operand: what ops call it. ``size``: bytes. ``module``: what would make it again (:func:`by_module`).
        since: number of the first op that keeps it, whose gradients are the last to need it.
    """

    operand: str
    size: Num
    module: str
    since: int


def by_module(tensors: Iterable[Kept]) -> dict[str, Num]:
    """Bytes by what would make them again: ``norm``: what norms wrote, ``act``: what activation functions did, ``mlp``:
    what else is inside of feed-forward layers, ``up``: queries, keys and values made of latents; ``""``: the rest."""
    total: dict[str, Num] = {"": 0.0, **dict.fromkeys(MODULES, 0.0)}
    for tensor in tensors:
        total[tensor.module] = total[tensor.module] + tensor.size
    return total


def kept_tensors(
    ops: Iterable[tuple[Op, Num]],
    divided: Num = 1.0,
    compact: Num = 1.0,
    trains: Callable[[Op], float] = lambda op: 1.0,
    inputs: float = 0.0,
) -> list[Kept]:
    """Tensors that gradients need, attention scores left out.

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
    kept: dict[tuple[str, int], Kept] = {}

    def keep(key: tuple[str, int], operand: str, size: Num, at: int, module: str = "") -> None:
        before = kept.get(key)
        kept[key] = Kept(operand, size, module, at if before is None else before.since)

    def shared(name: str, size: Num, at: int, module: str = "") -> None:
        """One tensor, whoever else keeps it."""
        key = (name, version.get(name, 0))
        keep(key, name, maximum(kept[key].size if key in kept else 0.0, size), at, module)

    ops = list(ops)
    latent = "up" if any(OF["up"](op) for op, _ in ops) else ""
    for at, (op, n) in enumerate(ops):
        acts = [o for o in op.reads if o.role == "act"]
        if op.kind == "matmul":
            thin = float(str(op.options.get("parts", 1))) * compact if op.role in PROJECTED else 1.0
            size = n * acts[0].bytes * where(np.asarray(compact) < 1.0, thin, 1.0) * trains(op)
            inside = ("mlp" if acts[0].name == "permuted" else "act") if op.role in _FEED_FORWARD else ""
            fresh = acts[0].name == "h"
            shared(acts[0].name, size / divided if fresh else size, at, "norm" if fresh else inside)
            if inputs > 0 and trains(op) <= 0 and op.role in PROJECTED:
                shared(acts[0].name + " of a frozen map", n * acts[0].bytes, at)
        elif op.kind == "attention":
            for o in acts:
                keep((op.name + o.name, 0), o.name, o.bytes, at, latent)
        for o in op.writes:
            version[o.name] = version.get(o.name, 0) + 1
        if op.kind == "attention":
            out = op.writes[0]
            shared(out.name, out.bytes, at)
            shared("sums", op.dims["batch"] * op.dims["heads"] * op.dims["q"] * 4.0, at)
        elif op.kind == "norm":
            x = next((o for o in op.writes if o.name == "x"), op.reads[0])
            shared("x", x.bytes / divided, at)
        elif op.kind == "elementwise" and not any(word in op.name for word in _LINEAR) and op.name != "loss":
            for o in acts:
                keep((op.name + o.name, 0), o.name, n * o.bytes, at, "mlp" if op.role in _FEED_FORWARD else "")
    return list(kept.values())


# What runs again for each module.
OF: Mapping[str, Callable[[Op], bool]] = {
    "norm": lambda op: op.kind == "norm",
    "act": lambda op: op.kind == "elementwise" and op.role in _FEED_FORWARD and op.name.endswith("act"),
    "mlp": lambda op: op.role in _FEED_FORWARD,
    "up": lambda op: not {"q_up", "kv_up"}.isdisjoint(op.name.split(".")),
}


def behind_attention(ops: Sequence[tuple[Op, Num]], tensors: Iterable[Kept]) -> Num:
    """Bytes that only ops behind a body's last attention need; none where it has no attention."""
    last = max((i for i, (op, _) in enumerate(ops) if op.kind == "attention"), default=len(ops))
    return sum((t.size for t in tensors if t.since > last), 0.0)


def kept_scores(op: Op) -> Num:
    """Bytes that unfused attention keeps of its scores: these, their softmax (16 bits each) and a mask of a byte."""
    if bool(np.all(np.asarray(op.options.get("flash", True), dtype=bool))):
        return 0.0
    d = op.dims
    return 5.0 * d["batch"] * d["heads"] * d["q"] * d["columns"]
