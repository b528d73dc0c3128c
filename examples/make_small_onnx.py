"""Write three small graphs as ONNX: a transformer block, a U-Net, and cells as network search finds them.

    python examples/make_small_onnx.py FOLDER
    tierwise allocate FOLDER/nas-cells.onnx --on npu-1MB-sram --activations int8

The block is one of LLaMA's shape (arXiv:2302.13971) at 128 tokens and width 512, the U-Net that of arXiv:1505.04597
with four levels at 128 pixels a side, the cells DARTS's second-order normal cell (arXiv:1806.09055) at 32 pixels and 36
channels, three and six in a row. Weights are declared and never written. Needs ``pip install 'tierwise[onnx]'``.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper


class Writer:
    """Nodes and weights, as they are added."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []

    def node(self, op: str, inputs: list[str], out: str = "", **attributes: object) -> str:
        out = out or f"{op.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [out], name=f"node_{out}", **attributes))
        return out

    def weight(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        t = TensorProto(name=name, data_type=TensorProto.FLOAT, dims=shape, data_location=TensorProto.EXTERNAL)
        t.external_data.add(key="location", value="weights.bin")
        self.weights.append(t)
        return name

    def linear(self, x: str, wide: int, out: int) -> str:
        return self.node("MatMul", [x, self.weight(wide, out)])

    def conv(self, x: str, c: int, out: int, k: int = 3, groups: int = 1, dilation: int = 1) -> str:
        pad = [dilation * (k // 2)] * 4
        return self.node("Conv", [x, self.weight(out, c // groups, k, k)], kernel_shape=[k, k], pads=pad, group=groups,
                         dilations=[dilation, dilation])  # fmt: skip

    def model(self, x: list[int], out: str, y: list[int]) -> onnx.ModelProto:
        ends = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", x), (out, y)))
        first, last = ends
        graph = helper.make_graph(self.nodes, "graph", [first], [last], self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def transformer_block(tokens: int = 128, wide: int = 512, heads: int = 8) -> onnx.ModelProto:
    """Attention and a gated MLP, each with a norm before and a sum behind."""
    g, inner = Writer(), 4 * wide
    normed = g.node("LayerNormalization", ["x", g.weight(wide)])
    q, k, v = (g.linear(normed, wide, wide) for _ in range(3))
    for_heads = onnx.numpy_helper.from_array(np.array([1, tokens, heads, wide // heads]), "for_heads")
    back = onnx.numpy_helper.from_array(np.array([1, tokens, wide]), "back")
    g.weights += [for_heads, back]
    q, k, v = (g.node("Reshape", [t, "for_heads"]) for t in (q, k, v))
    q, v = (g.node("Transpose", [t], perm=[0, 2, 1, 3]) for t in (q, v))
    k = g.node("Transpose", [k], perm=[0, 2, 3, 1])
    mixed = g.node("MatMul", [g.node("Softmax", [g.node("MatMul", [q, k])], axis=-1), v])
    mixed = g.node("Reshape", [g.node("Transpose", [mixed], perm=[0, 2, 1, 3]), "back"])
    x = g.node("Add", ["x", g.linear(mixed, wide, wide)])
    normed = g.node("LayerNormalization", [x, g.weight(wide)])
    gate, up = g.linear(normed, wide, inner), g.linear(normed, wide, inner)
    gated = g.node("Mul", [g.node("Mul", [gate, g.node("Sigmoid", [gate])]), up])
    g.node("Add", [x, g.linear(gated, inner, wide)], out="y")
    return g.model([1, tokens, wide], "y", [1, tokens, wide])


def u_net(side: int = 128, base: int = 32, levels: int = 4) -> onnx.ModelProto:
    """Two convolutions a level down and up, with what each level found given to the way up."""
    g, x, c, kept = Writer(), "x", 3, []
    for level in range(levels):
        for _ in range(2):
            x, c = g.node("Relu", [g.conv(x, c, base << level)]), base << level
        kept.append(x)
        x = g.node("MaxPool", [x], kernel_shape=[2, 2], strides=[2, 2])
    for _ in range(2):
        x, c = g.node("Relu", [g.conv(x, c, base << levels)]), base << levels
    for level in reversed(range(levels)):
        wide = base << level
        x = g.node("ConvTranspose", [x, g.weight(c, wide, 2, 2)], kernel_shape=[2, 2], strides=[2, 2])
        x, c = g.node("Concat", [kept[level], x], axis=1), 2 * wide
        for _ in range(2):
            x, c = g.node("Relu", [g.conv(x, c, wide)]), wide
    g.node("Conv", [x, g.weight(2, c, 1, 1)], out="y", kernel_shape=[1, 1])
    return g.model([1, 3, side, side], "y", [1, 2, side, side])


def nas_cells(cells: int = 3, side: int = 32, c: int = 36) -> onnx.ModelProto:
    """Normal cells: each on the last two, four nodes that add two operators, joined along the channels."""
    g = Writer()

    def squeezed(x: str, wide: int) -> str:
        return g.conv(g.node("Relu", [x]), wide, c, 1)

    def separable(x: str, dilation: int = 1) -> str:
        for _ in range(1 if dilation > 1 else 2):
            x = g.conv(g.conv(g.node("Relu", [x]), c, c, 3, c, dilation), c, c, 1)
        return x

    two = last = g.conv("x", 3, 3 * c)
    wides = [3 * c, 3 * c]
    for _ in range(cells):
        a, b = squeezed(two, wides[0]), squeezed(last, wides[1])
        n1 = g.node("Add", [separable(a), separable(b)])
        n2 = g.node("Add", [separable(a), separable(b)])
        n3 = g.node("Add", [separable(b), a])
        n4 = g.node("Add", [a, separable(n1, 2)])
        two, last = last, g.node("Concat", [n1, n2, n3, n4], axis=1)
        wides = [wides[1], 4 * c]
    pooled = g.node("Flatten", [g.node("GlobalAveragePool", [last])])
    g.node("Gemm", [pooled, g.weight(10, 4 * c)], out="y", transB=1)
    return g.model([1, 3, side, side], "y", [1, 10])


def write(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    made = {"transformer-block": transformer_block(), "u-net": u_net(), "nas-cells": nas_cells(),
            "nas-cells-6": nas_cells(6)}  # fmt: skip
    for name, model in made.items():
        onnx.save(model, folder / f"{name}.onnx")


if __name__ == "__main__":
    write(Path(sys.argv[1] if len(sys.argv) > 1 else "."))
