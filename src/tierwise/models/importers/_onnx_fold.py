"""Values of small tensors that are known before a pass: shape arithmetic, evaluated in NumPy.

ONNX's own shape inference propagates such values through few operators; exporters compute the ends of slices,
the targets of reshapes and the sizes of expansions with many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.models.importers._onnx_nodes import OnnxNode, Shape

SMALL = 4096  # elements of a value worth knowing: shapes, and the positions of a long context
Value = NDArray[Any]

# Element types of Cast, from onnx.proto.
_DTYPES = {1: np.float32, 6: np.int32, 7: np.int64, 9: np.bool_, 10: np.float16, 11: np.float64}


def fold(
    nodes: Iterable[OnnxNode],
    known: Mapping[str, Value],
    shapes: Mapping[str, Shape],
    number: Callable[[Any], Value | None],
) -> dict[str, Value]:
    """Values of node outputs that follow from ``known`` values and ``shapes``.

    Args:
        number: the array in a tensor attribute, or None when it is not small.
    """
    out: dict[str, Value] = {}
    for node in nodes:
        if len(node.outputs) != 1 or node.outputs[0] in known or node.op not in _RULES:
            continue
        if node.op in ("Shape", "Size"):
            if node.inputs[0] not in shapes:
                continue
            args: list[Value | None] = [np.array(shapes[node.inputs[0]], dtype=np.int64)]
        else:
            args = [out.get(n, known.get(n)) if n else None for n in node.inputs]
            if any(a is None and n for a, n in zip(args, node.inputs, strict=True)):
                continue
        try:
            with np.errstate(all="ignore"):
                value = _RULES[node.op](node, args, number)
        except (TypeError, ValueError, IndexError, KeyError, ArithmeticError):
            continue  # not what a valid node of this kind has: inference will tell what it can
        if value is not None and value.size <= SMALL:
            out[node.outputs[0]] = value
    return out


Rule = Callable[[OnnxNode, list[Any], Callable[[Any], Value | None]], Value | None]


def _plain(f: Callable[..., Any]) -> Rule:
    return lambda node, args, number: np.asarray(f(*args))


def _constant(node: OnnxNode, args: list[Any], number: Callable[[Any], Value | None]) -> Value | None:
    a = node.attributes
    if "value" in a:
        return number(a["value"])
    for name, dtype in (("value_int", np.int64), ("value_ints", np.int64), ("value_float", np.float32)):
        if name in a:
            return np.asarray(a[name], dtype=dtype)
    return None


def _filled(node: OnnxNode, args: list[Any], number: Callable[[Any], Value | None]) -> Value | None:
    shape = [int(n) for n in args[0]]
    if math.prod(shape) > SMALL:
        return None
    value = number(node.attributes["value"]) if "value" in node.attributes else np.zeros(1, np.float32)
    return None if value is None else np.full(shape, value.reshape(-1)[0], dtype=value.dtype)


def _range(node: OnnxNode, args: list[Any], number: Callable[[Any], Value | None]) -> Value | None:
    start, limit, delta = (a.reshape(-1)[0] for a in args)
    return np.arange(start, limit, delta) if abs((limit - start) / delta) <= SMALL else None


def _expand(node: OnnxNode, args: list[Any], number: Callable[[Any], Value | None]) -> Value | None:
    shape = np.broadcast_shapes(args[0].shape, tuple(int(n) for n in args[1]))
    return np.broadcast_to(args[0], shape) if math.prod(shape) <= SMALL else None


def _shape(node: OnnxNode, args: list[Any], number: Callable[[Any], Value | None]) -> Value:
    end = node.attributes.get("end")
    part: Value = args[0][node.int("start", 0) : end if isinstance(end, int) else None]
    return part


def _axes(node: OnnxNode, args: list[Any]) -> list[int]:
    return [int(n) for n in (args[1] if len(args) > 1 and args[1] is not None else node.ints("axes", []))]


def _unsqueeze(node: OnnxNode, args: list[Any], number: Callable[[Any], Value | None]) -> Value:
    return np.expand_dims(args[0], tuple(_axes(node, args)))


def _squeeze(node: OnnxNode, args: list[Any], number: Callable[[Any], Value | None]) -> Value:
    value: Value = np.squeeze(args[0], tuple(_axes(node, args)) or None)
    return value


def _slice(node: OnnxNode, args: list[Any], number: Callable[[Any], Value | None]) -> Value:
    if len(args) == 1:
        starts, ends, axes, steps = node.ints("starts", []), node.ints("ends", []), node.ints("axes", []), []
    else:
        more = [[] if a is None else [int(n) for n in a] for a in args[1:]] + [[], []]
        starts, ends, axes, steps = more[:4]
    index: list[slice] = [slice(None)] * args[0].ndim
    for i, (start, end) in enumerate(zip(starts, ends, strict=True)):
        step = steps[i] if steps else 1
        # An end before the first element, when stepping back, is NumPy's None.
        stop = None if step < 0 and end < -args[0].shape[axes[i] if axes else i] else end
        index[axes[i] if axes else i] = slice(start, stop, step)
    part: Value = args[0][tuple(index)]
    return part


def _reshape(node: OnnxNode, args: list[Any], number: Callable[[Any], Value | None]) -> Value:
    shape = [args[0].shape[i] if n == 0 else int(n) for i, n in enumerate(args[1])]
    value: Value = args[0].reshape(shape)
    return value


def _clip(node: OnnxNode, args: list[Any], number: Callable[[Any], Value | None]) -> Value:
    """Bounds are inputs, or attributes before opset 11; each may be missing."""
    low, high = (args[i] if len(args) > i else node.attributes.get(name) for i, name in ((1, "min"), (2, "max")))
    value: Value = args[0]
    value = value if low is None else np.maximum(value, low).astype(value.dtype)
    return value if high is None else np.minimum(value, high).astype(value.dtype)


def _divide(a: Value, b: Value) -> Value:
    """Integers are divided towards zero."""
    exact = a / b
    return np.trunc(exact).astype(a.dtype) if np.issubdtype(a.dtype, np.integer) else exact


_RULES: dict[str, Rule] = {
    "Constant": _constant, "ConstantOfShape": _filled, "Range": _range, "Expand": _expand, "Shape": _shape,
    "Size": _plain(lambda a: np.int64(math.prod(a.tolist()))), "Identity": _plain(lambda a: a),
    "Gather": lambda node, args, _: np.take(args[0], args[1].astype(np.int64), axis=node.int("axis", 0)),
    "Concat": lambda node, args, _: np.concatenate(args, axis=node.int("axis", 0)),
    "Cast": lambda node, args, _: args[0].astype(_DTYPES[node.int("to", 0)]),
    "Transpose": lambda node, args, _: np.transpose(args[0], node.ints("perm", []) or None),
    "Unsqueeze": _unsqueeze, "Squeeze": _squeeze, "Slice": _slice, "Reshape": _reshape,
    "Add": _plain(np.add), "Sub": _plain(np.subtract), "Mul": _plain(np.multiply), "Div": _plain(_divide),
    "Min": _plain(np.minimum), "Max": _plain(np.maximum), "Neg": _plain(np.negative), "Floor": _plain(np.floor),
    "Ceil": _plain(np.ceil), "Equal": _plain(np.equal), "Less": _plain(np.less), "Greater": _plain(np.greater),
    "LessOrEqual": _plain(np.less_equal), "GreaterOrEqual": _plain(np.greater_equal), "And": _plain(np.logical_and),
    "Or": _plain(np.logical_or), "Abs": _plain(np.abs), "Relu": _plain(lambda a: np.maximum(a, 0)), "Clip": _clip,
    "Pow": _plain(np.power), "Round": _plain(np.round), "Not": _plain(np.logical_not),
    "Where": _plain(np.where), "Mod": _plain(np.mod), "Sqrt": _plain(np.sqrt),
}  # fmt: skip
