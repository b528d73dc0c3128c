"""What the host launches of a body, one kernel after the other."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, where
from tierwise.program.program import Program
from tierwise.program.types import Op
from tierwise.training.recipe import Recipe


def launches(program: Program, name: str, graphs: str) -> Num:
    """Ops of a body that the host launches one by one, all experts' products as one; collectives of more than one
    device; nothing that is replayed as a graph (:attr:`Recipe.graphs`)."""
    some = [op for s in program.segments if s.name == name for op in s.ops if not _replayed(op, graphs)]
    one = [where(np.asarray(op.dims["group"]) > 1, 1.0, 0.0) if op.kind == "collective" else 1.0 for op in some]
    return sum(one, 0.0)


def looped(program: Program, name: str, count: Num, recipe: Recipe) -> Num:
    """Kernels of single experts, which one op launches in a loop (Transformer Engine's GroupedLinear, a product of
    cuBLAS for each): in fewer bits a cast goes before each product."""
    if recipe.grouped > 0 or recipe.graphs == "step":
        return 0.0
    casts = 2.0 if recipe.low else 1.0
    some = [(op, s.repeat / count) for s in program.segments if s.name == name for op in s.ops]
    products = ((op, n) for op, n in some if op.kind == "matmul" and op.options.get("routed"))
    return sum((casts * n * op.dims["batch"] for op, n in products), 0.0)


def _replayed(op: Op, graphs: str) -> bool:
    """Whether a graph has an op. What follows the choice of experts has other shapes every time (arXiv:2603.07685)."""
    routed = bool(op.options.get("routed")) or "choices" in op.dims
    router = op.role == "moe" and not routed
    return graphs == "step" or (graphs == "layers" and not routed) or (graphs == "router" and router)
