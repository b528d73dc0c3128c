"""Graphs as frameworks run them: which kernels there are, and what they move, counted by hand."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np

from tierwise.core.numerics import fmt
from tierwise.program.composites import node
from tierwise.program.kernels import KernelRules, as_kernels
from tierwise.program.program import Body, Program
from tierwise.program.types import Op, Operand

N = 1000.0
EAGER = KernelRules(wide=frozenset({"LayerNormalization", "Softmax"}), widening=frozenset({"Softmax"}))
COMPILED = KernelRules(joins=True, wide=EAGER.wide, widening=EAGER.widening)
MERGING = KernelRules(merges_norms=True, joins=True, into_products=True)


def op(kind: str, of: str, reads: str, write: str, weight: float = 0.0, **options: object) -> Op:
    """An op over N elements a tensor, activations in 16 bits, weights in 32."""
    one = dict.fromkeys(("batch", "out_h", "c_out", "c_in", "kh", "kw", "groups", "n", "k"), 1.0)
    dims = one | {"out_w": N, "m": N, "elements": N}
    held = (Operand(f"{write}.w", "weight", weight, fmt("fp32")),) if weight else ()
    return Op(kind, write, "vision", dims, N, (*(Operand(r, "act", N, fmt("fp16")) for r in reads.split()), *held),
              (Operand(write, "act", N, fmt("fp16")),), "fp32", options={"node": of, **options})  # fmt: skip


def run(ops: list[Op], rules: KernelRules) -> list[Op]:
    return [o for _, o in as_kernels(Program((Body("graph", tuple(ops)),)), rules).walk()]


def kinds(ops: list[Op]) -> Counter[str]:
    return Counter(str(o.options.get("joined", node(o))) for o in ops)


def moved(ops: list[Op]) -> float:
    """Bytes of activations."""
    return float(sum(np.sum(o.bytes_of("act")) for o in ops))


# A residual block: convolution, norm and activation; convolution and norm; sum with what came in, activation.
BLOCK = [
    op("conv", "Conv", "x", "a", 9.0, merged=True), op("elementwise", "Relu", "a", "b"),
    op("conv", "Conv", "b", "c", 9.0, merged=True), op("elementwise", "Add", "c b", "d"),
    op("elementwise", "Relu", "d", "y"),
]  # fmt: skip


def test_an_eager_framework_starts_a_kernel_a_line_and_a_compiler_one_a_chain() -> None:
    eager = run(BLOCK, EAGER)
    assert kinds(eager) == {"Conv": 2, "BatchNormalization": 2, "Relu": 2, "Add": 1, "Cast": 3}
    # Of 16 bits: in and out of two convolutions, two norms, two activations, and three tensors of the sum; the image
    # comes in 32 bits and is cast to 16.
    assert moved(eager) == 2 * N * (2 * 2 + 2 * 2 + 2 * 2 + 3) + (4 + 2) * N
    compiled = run(BLOCK, COMPILED)
    assert kinds(compiled) == {"Conv": 2, "BatchNormalization+Relu": 1, "BatchNormalization+Add+Relu": 1, "Cast": 3}
    assert moved(compiled) == 2 * N * (2 * 2 + 2 + 3) + (4 + 2) * N
    merged = run(BLOCK, MERGING)
    assert sum(o.kind == "conv" for o in merged) == 2
    assert {o.kind for o in merged if "Cast" not in str(o.options)} <= {"conv"}
    assert moved(merged) < moved(compiled) < moved(eager)
    for way in (eager, compiled, merged):  # products are the same whoever runs them
        assert sum(float(np.sum(o.flops)) for o in way if o.kind == "conv") >= 2 * N


def test_what_an_exporter_wrote_in_parts_is_one_kernel() -> None:
    silu = [op("conv", "Conv", "x", "a", 9.0), op("elementwise", "Sigmoid", "a", "s"),
            op("elementwise", "Mul", "a s", "y")]  # fmt: skip
    assert kinds(run(silu, KernelRules())) == {"Conv": 1, "Silu": 1, "Cast": 2}
    gelu = [op("conv", "Conv", "x", "a", 9.0), op("elementwise", "Div", "a", "b"), op("elementwise", "Erf", "b", "c"),
            op("elementwise", "Add", "c", "d"), op("elementwise", "Mul", "a d", "e"),
            op("elementwise", "Mul", "e", "y")]  # fmt: skip
    assert kinds(run(gelu, KernelRules()))["Gelu"] == 1
    product = {"batch": 8.0, "m": 10.0, "n": 10.0, "k": 4.0}
    attention = [*(op("elementwise", "Relu", "x", name) for name in "qkv"), op("matmul", "MatMul", "q k", "s"),
                 op("norm", "Softmax", "s", "p"), op("matmul", "MatMul", "p v", "y")]  # fmt: skip
    attention = [Op(o.kind, o.name, o.role, product, o.flops, o.reads, o.writes, o.arithmetic, options=o.options)
                 if o.kind == "matmul" else o for o in attention]  # fmt: skip
    fused = run(attention, EAGER)
    assert kinds(fused) == {"Relu": 3, "Attention": 1}
    assert next(o for o in fused if o.kind == "attention").flops == 2 * N


def test_mixed_precision_casts_what_its_rules_say() -> None:
    ops = [op("conv", "Conv", "x", "a", 9.0), op("norm", "LayerNormalization", "a", "b", 5.0),
           op("matmul", "MatMul", "b", "c", 9.0), op("norm", "Softmax", "c", "d"),
           op("elementwise", "Mul", "d", "y")]  # fmt: skip
    found = run(ops, EAGER)
    by = {o.name: o for o in found}
    # The image and both weights to 16 bits; the norm's input to 32, its output back to 16 for the product.
    assert sum(node(o) == "Cast" for o in found) == 5
    assert by["b"].reads[0].format.bits == by["b"].writes[0].format.bits == 32
    assert by["c"].arithmetic == "fp16" and by["c"].reads[0].format.bits == 16
    # A softmax reads 16 bits and leaves 32, which what follows keeps.
    assert (by["d"].reads[0].format.bits, by["d"].writes[0].format.bits, by["y"].writes[0].format.bits) == (16, 32, 32)


def test_a_gate_that_waits_for_a_product_joins_what_comes_after_it() -> None:
    """Squeeze and excitation: the mean joins the activation before, the product with the gate cannot."""
    ops = [op("conv", "Conv", "x", "a", 9.0), op("elementwise", "Relu", "a", "b"),
           op("elementwise", "ReduceMean", "b", "m", reduces=True), op("conv", "Conv", "m", "g", 9.0),
           op("elementwise", "Sigmoid", "g", "s"), op("elementwise", "Mul", "b s", "y")]  # fmt: skip
    found = run(ops, COMPILED)
    assert kinds(found) == {"Conv": 2, "Relu+ReduceMean": 1, "Sigmoid+Mul": 1, "Cast": 3}
    place = {o.writes[0].name: i for i, o in enumerate(found)}
    assert place["a"] < place["b"] < place["g"] < place["y"]


def test_sizes_may_be_arrays() -> None:
    many = np.asarray([1.0, 8.0])
    def grown(operands: tuple[Operand, ...]) -> tuple[Operand, ...]:
        return tuple(replace(o, elements=o.elements * many) for o in operands)

    wide = [replace(o, flops=o.flops * many, reads=grown(o.reads), writes=grown(o.writes)) for o in BLOCK]
    for rules in (EAGER, COMPILED, MERGING):
        both = sum(np.asarray(o.bytes_of("act")) for o in run(wide, rules))
        assert both[0] == moved(run(BLOCK, rules)) and both[1] == 8.0 * both[0]
