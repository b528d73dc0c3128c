"""Which weights a recipe trains: all, adapters beside them, or slices of them; and the products that adapters add.

Lengths of columns beside adapters (DoRA, arXiv:2402.09353) divide by those of the sum of both weights, which no
gradient goes through: before each map the thin matrices are multiplied out for an identity, added to the weight, and
its columns measured; behind it what the weight and the adapter gave is scaled (huggingface/peft,
src/peft/tuners/lora/dora.py).

Frozen weights in four bits are unpacked before each product of theirs, forward and back, and not kept (bitsandbytes'
MatMul4Bit).

An adapter of rank ``r`` sends a linear map's input through two thin matrices and adds what comes out (LoRA,
arXiv:2106.09685): two products and a sum beside each map, launched like any other kernel. A slice is a share of what a
map reads (whole heads, whole channels), whose gradients alone are computed and kept, and for which that share of the
input alone is kept (S2FT, arXiv:2412.06289).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace

from tierwise.core.num import Num
from tierwise.core.numerics import Format, fmt
from tierwise.program.backward import AGAIN, DETACHED
from tierwise.program.program import Body, Program, Repeat, each_op
from tierwise.program.types import Op, Operand
from tierwise.training.recipe import Recipe

# Roles of linear maps that have adapters.
ADAPTED = ("attn", "mlp")
ADAPTER = "adapter"
COLUMNS = "columns"


def share(recipe: Recipe) -> Callable[[Op], float]:
    """The share of an op's weight that has gradients."""
    if recipe.rank > 0:
        return lambda op: float(bool(op.options.get(ADAPTER)) and not op.options.get(DETACHED))
    if recipe.prefix > 0:
        return lambda op: 0.0
    if recipe.slices:
        shares = dict(recipe.slices)
        return lambda op: shares.get(op.name.rpartition(".")[2], 0.0)
    return lambda op: 1.0


def adapted(program: Program, recipe: Recipe) -> Program:
    """The program with adapters beside its linear maps; as it is without a rank."""
    if recipe.rank <= 0:
        return program

    def change(op: Op, body: str) -> list[Op | Body | Repeat]:
        if op.kind != "matmul" or op.role not in ADAPTED:
            return [op]
        return [*(_unpacked(op) if recipe.inputs > 0 else ()), op, *_adapter(op, recipe)]

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
    added_by = [product("a", m, wide, k, given, thin), product("b", m, n, rank, thin, added)]
    if recipe.magnitudes <= 0:
        return [*added_by, total]
    eye = replace(given, name=f"{op.name}.eye", elements=k * k)
    inner, outer = (replace(given, name=f"{op.name}.eye.{x}", elements=k * y) for x, y in (("thin", wide), ("w", n)))
    both = [product("eye.a", k, wide, k, eye, inner), product("eye.b", k, n, rank, inner, outer)]
    return [*(replace(p, options={**p.options, DETACHED: True}) for p in both), *_lengths(op, n * k, form), *added_by,
            _scaled(op, op.writes[0], "base", n), _scaled(op, added, "added", n), total]  # fmt: skip


def _lengths(op: Op, elements: Num, form: Format) -> list[Op]:
    """Kernels that measure the columns of a weight and what an adapter adds to it: the latter scaled, the sum of both,
    and its norm."""
    weight = Operand(f"{op.name}.both", "weight", elements, form)

    def kernel(name: str, reads: int, writes: tuple[Operand, ...]) -> Op:
        return Op("elementwise", f"{op.name}.{name}", op.role, {"elements": elements}, elements, (weight,) * reads,
                  writes, "fp32", options={ADAPTER: True, DETACHED: True})  # fmt: skip

    return [kernel("scale", 1, (weight,)), kernel("sum", 2, (weight,)), kernel("lengths", 1, ())]


def _scaled(op: Op, what: Operand, name: str, columns: Num) -> Op:
    """An activation times the lengths of the columns that made it."""
    return Op("elementwise", f"{op.name}.{name}", op.role, {"elements": what.elements, COLUMNS: columns},
              what.elements, (what,), (what,), "fp32", options={ADAPTER: True})  # fmt: skip


def _unpacked(op: Op) -> list[Op]:
    """The kernel that unpacks a map's weight from four bits."""
    weight = next(o for o in op.reads if o.role == "weight")
    packed = replace(weight, name=f"{op.name}.packed", format=fmt("nf4"))
    return [Op("elementwise", f"{op.name}.unpack", op.role, {"elements": weight.elements}, weight.elements, (packed,),
               (weight,), "fp32", options={ADAPTER: True, AGAIN: True})]  # fmt: skip


def adapter_elements(ops: Iterable[Op]) -> list[Num]:
    """Elements of each tensor that adapters train beside a body's weights: thin matrices and lengths of columns."""
    own = [op for op in ops if op.options.get(ADAPTER) and not op.options.get(DETACHED)]
    thin = [op.dims["k"] * op.dims["n"] for op in own if op.kind == "matmul"]
    return thin + [op.dims[COLUMNS] for op in own if op.name.endswith(".added")]


def slice_elements(ops: Iterable[Op], recipe: Recipe) -> list[Num]:
    """Elements of each of a body's matrices that are trained themselves."""
    trains = share(recipe)
    own = (op for op in ops if op.kind == "matmul" and not op.options.get(ADAPTER))
    return [trains(op) * op.dims["k"] * op.dims["n"] for op in own]


def prefix_elements(ops: Iterable[Op], recipe: Recipe) -> list[Num]:
    """Elements of the trained keys and values in front of each attention of a body."""
    return [recipe.prefix * op.dims["kv_heads"] * (op.dims["head_dim"] + op.dims["v_dim"]) for op in ops
            if op.kind == "attention"]  # fmt: skip
