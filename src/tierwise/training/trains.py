"""Which weights a recipe trains: all, adapters beside them, or slices of them; and the products that adapters add.

An adapter of rank ``r`` sends a linear map's input through two thin matrices and adds what comes out (LoRA,
arXiv:2106.09685): two products and a sum beside each map, launched like any other kernel. A slice is a share of what a
map reads (whole heads, whole channels), whose gradients alone are computed and kept, and for which that share of the
input alone is kept (S2FT, arXiv:2412.06289).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tierwise.core.num import Num
from tierwise.program.program import Body, Program, Repeat, each_op
from tierwise.program.types import Op
from tierwise.training.recipe import Recipe

# Roles of linear maps that have adapters.
ADAPTED = ("attn", "mlp")
ADAPTER = "adapter"


def share(recipe: Recipe) -> Callable[[Op], float]:
    """The share of an op's weight that has gradients."""
    if recipe.rank > 0:
        return lambda op: float(bool(op.options.get(ADAPTER)))
    if recipe.slices:
        shares = dict(recipe.slices)
        return lambda op: shares.get(op.name.rpartition(".")[2], 0.0)
    return lambda op: 1.0


def adapted(program: Program, recipe: Recipe) -> Program:
    """The program with adapters beside its linear maps; as it is without a rank."""
    if recipe.rank <= 0:
        return program

    def change(op: Op, body: str) -> list[Op | Body | Repeat]:
        return [op, *(_adapter(op, recipe) if op.kind == "matmul" and op.role in ADAPTED else ())]

    return each_op(program, change)


def _adapter(op: Op, recipe: Recipe) -> list[Op | Body | Repeat]:
    whole, rank = float(str(op.options.get("parts", 1))), recipe.rank
    parts = dict(recipe.adapted).get(op.name.rpartition(".")[2], 0.0) if recipe.adapted else whole
    if parts <= 0:
        return []
    m, n, k = op.dims["m"], op.dims["n"] * min(parts / whole, 1.0), op.dims["k"]
    wide = rank * min(parts, whole)
    given = next(o for o in op.reads if o.role == "act")
    weight = next(o for o in op.reads if o.role == "weight")
    thin = replace(given, name=f"{op.name}.thin", elements=m * wide)
    added = replace(op.writes[0], name=f"{op.name}.added", elements=m * n)
    form = given.format

    def product(name: str, inner: Num, outer: Num, depth: Num, source: object, target: object) -> Op:
        size = replace(weight, name=f"{op.name}.{name}.w", elements=outer * depth, format=form)
        return replace(op, name=f"{op.name}.{name}", dims={"m": inner, "n": outer, "k": depth},
                       flops=2.0 * inner * outer * depth, reads=(source, size), writes=(target,),  # type: ignore[arg-type]
                       options={**op.options, "parts": 1, ADAPTER: True})  # fmt: skip

    total = Op("elementwise", f"{op.name}.merge", op.role, {"elements": added.elements}, added.elements,
               (added, op.writes[0]), op.writes, "fp32", options={ADAPTER: True})  # fmt: skip
    # Each part of a fused map has thin matrices of its own.
    return [product("a", m, wide, k, given, thin), product("b", m, n, rank, thin, added), total]
