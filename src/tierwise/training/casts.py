"""Kernels that put what products read into fewer than 16 bits."""

from __future__ import annotations

from dataclasses import replace

from tierwise.core.numerics import fmt
from tierwise.program.backward import WEIGHTS
from tierwise.program.program import Body, Program, Repeat, each_op
from tierwise.program.types import Op
from tierwise.training.recipe import Recipe
from tierwise.training.trains import ADAPTER

# What their names end with.
CAST = ".cast"


def lowered(op: Op, body: str, stays: str) -> bool:
    """Whether an op is a product in fewer bits: adapters, routers and bodies whose names end with ``stays`` are not."""
    router = op.role == "moe" and not op.options.get("routed")
    return op.kind == "matmul" and not (router or body.endswith(stays) or op.options.get(ADAPTER))


def cast(program: Program, recipe: Recipe, stays: str) -> Program:
    """A forward or backward pass with its casts before its products; as it is where products are in 16 bits.

    A tensor is read (once more where its scale is found first: :attr:`Recipe.scans`) and written twice, along rows and
    transposed: the products of a backward pass contract along another axis than the forward pass's, while Hopper's
    matrix engines read eight bits in one order only, and scales of blocks run along the contracted axis (Transformer
    Engine's guide to low precision training, "Performance Considerations"). An input is cast in the forward pass for
    the gradients of weights too, a gradient once for both of its products. Weights are cast once a step, which is left
    out. Where no scale has to be found first, a norm writes its output in fewer bits as fast as in 16. Experts' inputs
    are cast by what sorts tokens for them, whose factor is fitted.

    Args:
        stays: what the names of bodies end with whose products keep 16 bits.
    """
    if not recipe.low:
        return program
    form = fmt(recipe.precision)

    def change(op: Op, body: str) -> list[Op | Body | Repeat]:
        if op.options.get("routed") or op.name.endswith(WEIGHTS) or not lowered(op, body, stays):
            return [op]
        given = next(o for o in op.reads if o.role != "weight")
        if given.name == "h" and recipe.scans <= 0:
            return [op]
        copy = replace(given, name=f"{given.name}.low", format=form)
        reads = (given,) * (2 if recipe.scans > 0 else 1)
        made = Op("elementwise", op.name + CAST, op.role, {"elements": given.elements}, given.elements, reads,
                  (copy, copy), "fp32")  # fmt: skip
        return [made, op]

    return each_op(program, change)
