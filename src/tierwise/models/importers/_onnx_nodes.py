"""What one ONNX node computes, from the shapes of its tensors: iteration dims, operands, FLOPs. No prices.

Shapes and attributes: the ONNX operator reference. FLOPs of a matrix product or convolution count a
multiply-add as 2 and leave out the bias; other ops count vector operations per element, as in models/blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

Shape = tuple[int, ...]

# Nodes that only rename what is in memory.
VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
# Nodes whose result depends on shapes alone, so that it is known before the pass.
STATIC = frozenset({"Shape", "Size", "Constant"})


@dataclass(frozen=True)
class OnnxNode:
    """A node with its tensors: their names, ``""`` for an absent optional one."""

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def ints(self, name: str, default: list[int]) -> list[int]:
        value = self.attributes.get(name, default)
        return list(value) if isinstance(value, (list, tuple)) else default

    def int(self, name: str, default: int) -> int:
        value = self.attributes.get(name, default)
        return value if isinstance(value, int) else default


@dataclass(frozen=True)
class NodeWork:
    """A node's work at concrete sizes.

    Attributes:
        kind, dims: as in :class:`tierwise.program.types.Op`.
        factor, product: FLOPs are ``factor`` times the product of those dims.
        carrier: the dim that grows with the batch.
        reads: elements read of inputs, by position, where fewer than all.
        table: position of an input that is a table of rows.
    """

    kind: str
    dims: Mapping[str, int]
    factor: float
    product: tuple[str, ...]
    carrier: str
    reads: Mapping[int, int] = field(default_factory=dict)
    table: int | None = None
    options: Mapping[str, object] = field(default_factory=dict)


def work_of(node: OnnxNode, shapes: Mapping[str, Shape], static: Callable[[str], bool]) -> NodeWork | None:
    """The work of a node, or None when it cannot be told (unknown op, unknown or unexpected shapes).

    Args:
        shapes: of every tensor whose shape is known.
        static: whether a tensor is a constant of the model.
    """
    rule = _RULES.get(node.op)
    if rule is None or not all(n in shapes for n in (*node.inputs, *node.outputs) if n):
        return None
    try:
        return rule(node, [shapes.get(n, ()) for n in node.inputs], [shapes.get(n, ()) for n in node.outputs],
                    [bool(n) and static(n) for n in node.inputs])  # fmt: skip
    except (IndexError, ZeroDivisionError):
        return None  # ranks no valid node of this kind has


def known(op: str) -> bool:
    """Whether there is a rule for an operator."""
    return op in _RULES


Rule = Callable[[OnnxNode, list[Shape], list[Shape], list[bool]], NodeWork | None]


def _conv(x_at: int = 0, w_at: int = 1) -> Rule:
    def rule(node: OnnxNode, ins: list[Shape], outs: list[Shape], _: list[bool]) -> NodeWork:
        x, w, y = ins[x_at], ins[w_at], outs[0]
        work = _conv_work(node, x[0], y[2:], x[1], w[0], w[2:], False)
        own = _own_padding(node, x[2:])
        return replace(work, options={**work.options, "padded": x[1] * math.prod(own)}) if own else work

    return rule


def _own_padding(node: OnnxNode, x: Shape) -> Shape:
    """Sides of a convolution's operand with the padding that its file says in numbers; empty where it says none, or the
    least that the results need, by name."""
    pads = node.ints("pads", [])
    if len(pads) != 2 * len(x) or not any(pads):
        return ()
    return tuple(n + a + b for n, a, b in zip(x, pads, pads[len(x) :], strict=False))


def _conv_transpose(node: OnnxNode, ins: list[Shape], outs: list[Shape], _: list[bool]) -> NodeWork:
    # Every input position is multiplied with the whole window of every output channel of its group.
    x, w = ins[0], ins[1]
    return _conv_work(node, x[0], x[2:], x[1], outs[0][1], w[2:], True)


def _conv_work(
    node: OnnxNode, batch: int, grid: Shape, c_in: int, c_out: int, window: Shape, transposed: bool
) -> NodeWork:
    """A convolution over any number of axes: all but the last are one."""
    groups = node.int("group", 1)
    if groups < 1 or not grid or c_in % groups:
        raise IndexError
    dims = {
        "batch": batch, "out_h": math.prod(grid[:-1]), "out_w": grid[-1], "c_out": c_out, "c_in": c_in,
        "kh": math.prod(window[:-1]), "kw": window[-1], "groups": groups,
        "stride": (node.ints("strides", []) or [1])[-1],
    }  # fmt: skip
    product = ("batch", "out_h", "out_w", "c_out", "c_in", "kh", "kw")
    return NodeWork("conv", dims, 2.0 / groups, product, "batch", options={"transposed": True} if transposed else {})


def _matmul(a_at: int = 0, b_at: int = 1) -> Rule:
    def rule(_: OnnxNode, ins: list[Shape], outs: list[Shape], static: list[bool]) -> NodeWork:
        a, b = ins[a_at], ins[b_at]
        shared = len(b) <= 2 or (static[b_at] and math.prod(b[:-2]) == 1)
        a, b = (1, *a) if len(a) == 1 else a, (*b, 1) if len(b) == 1 else b
        m, n, k = a[-2], b[-1], a[-1]
        if shared:  # one matrix for all: the rest of a are rows
            return _gemm_work(math.prod(a[:-2]) * m, n, k, 1, "m")
        batch = math.prod(outs[0][: len(outs[0]) - 2])
        return _gemm_work(m, n, k, batch, "batch")

    return rule


def _gemm(node: OnnxNode, ins: list[Shape], outs: list[Shape], _: list[bool]) -> NodeWork:
    k = ins[0][0 if node.int("transA", 0) else 1]
    return _gemm_work(outs[0][0], outs[0][1], k, 1, "m")


def _einsum(node: OnnxNode, ins: list[Shape], _: list[Shape], __: list[bool]) -> NodeWork | None:
    """A product of two tensors: labels are batch, rows, columns or summed, by where they occur."""
    equation = node.attributes.get("equation", "")
    sides = equation.replace(" ", "").split("->") if isinstance(equation, str) else []
    terms = sides[0].split(",") if len(sides) == 2 else []
    if len(terms) != 2 or "." in equation:
        return None
    a, b, out = terms[0], terms[1], sides[1]
    if len(a) != len(ins[0]) or len(b) != len(ins[1]):
        return None
    size = dict(zip(a + b, (*ins[0], *ins[1]), strict=True))

    def over(test: Callable[[str], bool]) -> int:
        return math.prod(n for label, n in size.items() if test(label))

    return _gemm_work(
        m=over(lambda c: c in a and c not in b),
        n=over(lambda c: c in b and c not in a),
        k=over(lambda c: c in a and c in b and c not in out),
        batch=over(lambda c: c in a and c in b and c in out),
        carrier="batch" if set(a) & set(b) & set(out) else "m",
    )


def _gemm_work(m: int, n: int, k: int, batch: int, carrier: str) -> NodeWork:
    return NodeWork("matmul", {"m": m, "n": n, "k": k, "batch": batch}, 2.0, ("batch", "m", "n", "k"), carrier)


def _each(per_element: float, kind: str = "elementwise") -> Rule:
    """So many vector operations per element written."""

    def rule(_: OnnxNode, __: list[Shape], outs: list[Shape], ___: list[bool]) -> NodeWork:
        return NodeWork(kind, {"elements": sum(map(math.prod, outs))}, per_element, ("elements",), "elements")

    return rule


def _reduce(node: OnnxNode, ins: list[Shape], outs: list[Shape], _: list[bool]) -> NodeWork:
    """One vector operation per element read."""
    dims = {"elements": math.prod(outs[0]), "inputs": math.prod(ins[0])}
    return NodeWork("elementwise", dims, 1.0, ("inputs",), "inputs", options={"reduces": True})


def _pool(node: OnnxNode, _: list[Shape], outs: list[Shape], __: list[bool]) -> NodeWork:
    window = math.prod(node.ints("kernel_shape", [1]))
    return NodeWork("elementwise", {"elements": math.prod(outs[0])}, float(window), ("elements",), "elements")


def _resize(node: OnnxNode, ins: list[Shape], outs: list[Shape], _: list[bool]) -> NodeWork:
    """A multiply-add per tap: 2 taps along every scaled axis when linear, 4 when cubic."""
    mode = node.attributes.get("mode", b"nearest")
    mode = mode.decode(errors="replace") if isinstance(mode, bytes) else str(mode)
    scaled = sum(i != o for i, o in zip(ins[0], outs[0], strict=False))
    per = 0.0 if mode == "nearest" else 2.0 * {"cubic": 4, "linear": 2}.get(mode, 1) ** scaled
    return NodeWork("elementwise", {"elements": math.prod(outs[0])}, per, ("elements",), "elements")


def _part(node: OnnxNode, _: list[Shape], outs: list[Shape], __: list[bool]) -> NodeWork:
    """A copy of some of the input."""
    n = math.prod(outs[0])
    return NodeWork("elementwise", {"elements": n}, 0.0, ("elements",), "elements", {0: n})


def _gather(node: OnnxNode, ins: list[Shape], outs: list[Shape], static: list[bool]) -> NodeWork:
    if not static[0] or node.int("axis", 0) != 0:
        return _part(node, ins, outs, static)
    rows, n = math.prod(ins[1]), math.prod(outs[0])
    width = math.prod(ins[0][1:])
    return NodeWork("embedding", {"tokens": rows, "width": width}, 0.0, (), "tokens", {0: n}, table=0)


def _all(rule: Rule, names: str) -> dict[str, Rule]:
    return dict.fromkeys(names.split(), rule)


_POOL = "MaxPool AveragePool LpPool"
_REDUCE = """GlobalAveragePool GlobalMaxPool GlobalLpPool ReduceMean ReduceSum ReduceMax ReduceMin ReduceProd
    ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare ArgMax ArgMin"""
_NORM = """InstanceNormalization GroupNormalization LayerNormalization RMSNormalization LpNormalization
    MeanVarianceNormalization LRN"""
_MOVE = """Transpose Concat Split Pad Expand Tile DepthToSpace SpaceToDepth ScatterND ScatterElements
    ReverseSequence OneHot Trilu"""
_PLAIN = """Add Sub Mul Div Neg Abs Relu LeakyRelu PRelu Clip Min Max Sum Mean Equal Less LessOrEqual Greater
    GreaterOrEqual And Or Not Xor Where Cast CastLike Floor Ceil Round Sign Sqrt Reciprocal Mod BitShift IsNaN
    IsInf ThresholdedRelu CumSum"""
_SCALE = "QuantizeLinear DequantizeLinear DynamicQuantizeLinear HardSigmoid"
_CURVE = "Exp Log Sigmoid Tanh Erf Gelu Softplus Softsign Mish Elu Selu Celu Sin Cos Tan Pow Swish"

_RULES: dict[str, Rule] = {
    "Conv": _conv(), "ConvInteger": _conv(), "QLinearConv": _conv(0, 3), "ConvTranspose": _conv_transpose,
    "MatMul": _matmul(), "MatMulInteger": _matmul(), "QLinearMatMul": _matmul(0, 3), "Gemm": _gemm,
    "Einsum": _einsum, "Gather": _gather, "Slice": _part, "GatherElements": _part, "GatherND": _part,
    "Resize": _resize, "Upsample": _resize,
    **_all(_pool, _POOL),
    **_all(_reduce, _REDUCE),
    **_all(_each(2.0, "norm"), "BatchNormalization"),  # scale, shift
    **_all(_each(4.0, "norm"), _NORM),  # mean, variance, scale, shift
    **_all(_each(5.0, "norm"), "Softmax LogSoftmax"),  # maximum, difference, exponential, sum, division
    **_all(_each(0.0), _MOVE),
    **_all(_each(1.0), _PLAIN),
    **_all(_each(2.0), _SCALE),
    **_all(_each(3.0), "HardSwish"),
    **_all(_each(5.0), _CURVE),  # an exponential or the like, and the few operations around it
}  # fmt: skip
