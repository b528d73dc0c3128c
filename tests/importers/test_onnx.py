"""ONNX: FLOPs and parameters against counts by hand; liveness edges; damage is named."""

from __future__ import annotations

import builtins
import importlib.util
import random
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.errors import BadField, TierwiseError, Truncated
from tierwise.core.num import Num
from tierwise.models.importers.onnx import read
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.program import Program
from tierwise.scenario.types import Plan

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def example() -> ModuleType:
    """examples/make_resnet50_onnx.py, as a module."""
    path = Path(__file__).parents[2] / "examples" / "make_resnet50_onnx.py"
    spec = importlib.util.spec_from_file_location("make_resnet50_onnx", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


EXAMPLE = example()
Writer = EXAMPLE.Writer


def load(path: Path, proto: Any, **more: Any) -> Model:
    onnx.save(proto, path / "m.onnx")
    return read(str(path / "m.onnx"), **more)


def ops(model: Model, seqs: Num = 1.0, new: Num = 1.0, plan: Plan | None = None) -> Program:
    phase = {"vision": "vision", "encode": "encode"}[model.stacks[0].stream]
    return lower(Step(model, plan or Plan(), seqs, new, 0.0, phase))


def macs(graph: Program) -> Num:
    return sum((op.flops for _, op in graph.walk() if op.kind in ("conv", "matmul")), 0.0) / 2.0


# --- whole networks ---------------------------------------------------------------------------------------

RESNET50_MACS = 4_089_184_256  # 4.09 GMAC at 224 × 224, as published for this variant
RESNET50_PARAMETERS = 25_557_032
RESNET50_STATISTICS = 2 * 26_560  # running mean and variance, stored but not trained


@pytest.mark.parametrize("batch", ["N", 1, 4])
def test_resnet50_has_its_published_size_and_work(tmp_path: Path, batch: str | int) -> None:
    model = load(tmp_path, EXAMPLE.resnet50(batch))
    assert model.parameters - RESNET50_STATISTICS == RESNET50_PARAMETERS
    assert model.stored_bytes == 4 * model.parameters
    assert model.task == "classify"
    for seqs in (1.0, 8.0):
        assert macs(ops(model, seqs)) == RESNET50_MACS * seqs
    swept = macs(ops(model, np.array([1.0, 2.0, 64.0])))
    assert swept.tolist() == [RESNET50_MACS * n for n in (1, 2, 64)]  # type: ignore[union-attr]
    assert [n for n in model.notes if "not priced" in n] == []
    assert any("fixed batch" in n for n in model.notes) == (batch != "N")


def test_resnet50_weights_are_read_once_whatever_the_batch(tmp_path: Path) -> None:
    model = load(tmp_path, EXAMPLE.resnet50())
    one, eight = ops(model, 1.0), ops(model, 8.0)
    assert one.bytes_of("weight") == eight.bytes_of("weight") == 4 * model.parameters
    assert eight.bytes_of("act") == 8 * one.bytes_of("act")


def test_depthwise_separable_net(tmp_path: Path) -> None:
    g = Writer()
    x = g.conv_bn("x", 3, 32, 3, stride=2)
    x = g.conv_bn(x, 32, 32, 3, groups=32)
    x = g.conv_bn(x, 32, 64, 1)
    g.node("Relu", [x], out="y")
    model = load(tmp_path, g.model([("x", ["N", 3, 64, 64])], [("y", ["N", 64, 32, 32])]))
    by_hand = 32 * 32 * (32 * 3 * 9 + 32 * 9 + 32 * 64)
    assert macs(ops(model, 5.0)) == 5 * by_hand
    depthwise = [op for _, op in ops(model).walk() if op.kind == "conv"][1]
    assert (depthwise.dims["groups"], depthwise.dims["c_in"], depthwise.dims["c_out"]) == (32, 32, 32)


def encoder(hidden: int = 64, heads: int = 4, inner: int = 256, vocab: int = 100, layers: int = 2) -> Any:
    """A small post-norm transformer encoder as exporters write it: shapes computed in the graph."""
    g = Writer()
    whole = {"split": [0, 0, heads, -1], "join": [0, 0, -1], "one": 1, "axes": [0]}
    g.weights += [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in whole.items()]
    g.weights.append(numpy_helper.from_array(np.float32((hidden // heads) ** -0.5), "scale"))

    def linear(x: str, d_in: int, d_out: int) -> str:
        return g.node("Add", [g.node("MatMul", [x, g.weight([d_in, d_out])]), g.weight([d_out])])

    def norm(x: str) -> str:
        return g.node("LayerNormalization", [x, g.weight([hidden]), g.weight([hidden])], axis=-1)

    length = g.node("Gather", [g.node("Shape", ["ids"]), "one"])
    table = g.weight([512, hidden])
    g.weights.append(numpy_helper.from_array(np.arange(512), "positions"))
    ends = g.node("Unsqueeze", [length, "axes"])
    g.weights.append(numpy_helper.from_array(np.array([0]), "starts"))
    at = g.node("Gather", [table, g.node("Slice", ["positions", "starts", ends])])
    x = norm(g.node("Add", [g.node("Gather", [g.weight([vocab, hidden]), "ids"]), at]))
    for _ in range(layers):
        q, k, v = (g.node("Reshape", [linear(x, hidden, hidden), "split"]) for _ in range(3))
        q, v = (g.node("Transpose", [t], perm=[0, 2, 1, 3]) for t in (q, v))
        scores = g.node("MatMul", [q, g.node("Transpose", [k], perm=[0, 2, 3, 1])])
        p = g.node("Softmax", [g.node("Mul", [scores, "scale"])], axis=-1)
        o = g.node("Transpose", [g.node("MatMul", [p, v])], perm=[0, 2, 1, 3])
        x = norm(g.node("Add", [x, linear(g.node("Reshape", [o, "join"]), hidden, hidden)]))
        x = norm(g.node("Add", [x, linear(g.node("Gelu", [linear(x, hidden, inner)]), inner, hidden)]))
    g.node("Identity", [x], out="y")
    proto = g.model([("ids", ["batch", "sequence"])], [("y", ["batch", "sequence", hidden])], opset=20)
    proto.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return proto


def test_transformer_encoder_scales_with_batch_and_tokens(tmp_path: Path) -> None:
    h, inner, layers = 64, 256, 2
    model = load(tmp_path, encoder())
    assert model.task == "encode"
    assert model.stacks[0].stream == "encode"
    per_layer = 4 * (h * h + h) + 2 * h * inner + inner + h + 4 * h
    assert model.parameters == layers * per_layer + 100 * h + 512 * h + 2 * h + 1
    for batch, n in ((1, 7), (3, 128), (2, 500)):
        by_hand = batch * layers * (4 * n * h * h + 2 * n * h * inner + 2 * n * n * h)
        assert macs(ops(model, float(batch), float(n))) == by_hand
    swept = macs(ops(model, 2.0, np.array([16.0, 32.0])))
    assert swept.shape == (2,)  # type: ignore[union-attr]
    assert model.notes == ()


def test_encoder_rereads_scores_and_gathers_rows(tmp_path: Path) -> None:
    graph = ops(load(tmp_path, encoder()), 2.0, 10.0)
    softmax = next(op for _, op in graph.walk() if op.name.startswith("softmax"))
    assert softmax.reads[0].elements == 2 * 4 * 10 * 10
    tables = [op for _, op in graph.walk() if op.kind == "embedding"]
    assert [op.bytes_of("table") for op in tables] == [2 * 10 * 64 * 4]


def test_edges_follow_names_through_reshapes(tmp_path: Path) -> None:
    """Every activation read is the graph's input or was written before under the same name."""
    for proto in (encoder(), EXAMPLE.resnet50()):
        inputs = {i.name for i in proto.graph.input}
        written: dict[str, str] = {}
        for _, op in ops(load(tmp_path, proto)).walk():
            for operand in op.reads:
                if operand.role == "act" and operand.name not in inputs:
                    assert written[operand.name] in op.after
            written |= {operand.name: op.name for operand in op.writes}


def test_the_plan_changes_weights_and_activations(tmp_path: Path) -> None:
    from tierwise.core.numerics import fmt

    model = load(tmp_path, encoder())
    halved = ops(model, 1.0, 16.0, Plan(activations=fmt("fp16"), weights=fmt("fp16")))
    whole = ops(model, 1.0, 16.0)
    linear = [o for g in (whole, halved) for _, o in g.walk() if o.kind == "matmul"]
    assert linear[0].bytes == 2 * linear[len(linear) // 2].bytes
    assert linear[len(linear) // 2].arithmetic == "fp16"


# --- single nodes -----------------------------------------------------------------------------------------


def one(
    tmp_path: Path,
    op: str,
    x: list[Any],
    weights: list[list[int]],
    *,
    opset: int = 17,
    kind: int = 1,
    **attributes: Any,
) -> Any:
    """The priced op of a graph of one node."""
    g = Writer()
    g.node(op, ["x", *(g.weight(s, kind) for s in weights)], out="y", **attributes)
    model = load(tmp_path, g.model([("x", x)], [("y", None)], opset))
    return next(o for _, o in ops(model, 2.0).walk())


def test_transposed_convolution(tmp_path: Path) -> None:
    op = one(tmp_path, "ConvTranspose", ["N", 16, 10, 10], [[16, 8, 4, 4]], strides=[2, 2], pads=[1, 1, 1, 1])
    assert op.flops == 2 * 2 * 16 * 10 * 10 * 8 * 4 * 4
    assert op.writes[0].elements == 2 * 8 * 20 * 20
    assert op.options["transposed"]


def test_grouped_dilated_and_3d_convolutions(tmp_path: Path) -> None:
    op = one(tmp_path, "Conv", ["N", 16, 20, 20], [[32, 4, 3, 3]], group=4, dilations=[2, 2], pads=[2, 2, 2, 2])
    assert op.flops == 2 * 2 * 20 * 20 * 32 * 4 * 9
    op = one(tmp_path, "Conv", ["N", 3, 8, 32, 32], [[10, 3, 2, 4, 4]], strides=[2, 4, 4])
    assert op.flops == 2 * 2 * 4 * 8 * 8 * 10 * 3 * 32
    op = one(tmp_path, "Conv", ["N", 3, 100], [[10, 3, 5]])
    assert op.flops == 2 * 2 * 96 * 10 * 3 * 5


def test_gemm_transposes_and_batched_weights(tmp_path: Path) -> None:
    op = one(tmp_path, "Gemm", ["N", 20], [[30, 20], [30]], transB=1)
    assert (op.dims["m"], op.dims["n"], op.dims["k"]) == (2, 30, 20)
    op = one(tmp_path, "MatMul", ["N", 6, 5, 20], [[6, 20, 30]])
    assert op.flops == 2 * 2 * 6 * 5 * 20 * 30
    assert (op.dims["batch"], op.dims["m"]) == (12, 5)
    op = one(tmp_path, "MatMul", ["N", 20], [[20]])
    assert op.flops == 2 * 2 * 20


def test_einsum_is_a_matmul(tmp_path: Path) -> None:
    op = one(tmp_path, "Einsum", ["N", 7, 20], [[20, 3, 5]], equation="bnd,dhk->bhnk")
    assert op.kind == "matmul"
    assert op.flops == 2 * (2 * 7) * (3 * 5) * 20


def test_pooling_reads_every_window(tmp_path: Path) -> None:
    op = one(tmp_path, "MaxPool", ["N", 4, 8, 8], [], kernel_shape=[2, 2], strides=[2, 2])
    assert op.flops == 2 * 4 * 4 * 4 * 4
    assert (op.reads[0].elements, op.writes[0].elements) == (2 * 4 * 64, 2 * 4 * 16)


def test_half_precision_graph(tmp_path: Path) -> None:
    g = Writer()
    g.node("MatMul", ["x", g.weight([20, 30], TensorProto.FLOAT16)], out="y")
    proto = g.model([("x", ["N", 20])], [("y", ["N", 30])])
    for value in (*proto.graph.input, *proto.graph.output):
        value.type.tensor_type.elem_type = TensorProto.FLOAT16
    model = load(tmp_path, proto)
    op = next(o for _, o in ops(model).walk())
    assert str(model.activations) == "fp16"
    assert (op.arithmetic, op.bytes) == ("fp16", 2 * (20 + 600 + 30))


def test_int8_weights_that_are_expanded_on_the_fly(tmp_path: Path) -> None:
    g = Writer()
    q = g.weight([20, 30], TensorProto.INT8)
    scale = g.weight([])
    g.node("MatMul", ["x", g.node("DequantizeLinear", [q, scale])], out="y")
    model = load(tmp_path, g.model([("x", ["N", 20])], [("y", ["N", 30])]))
    assert model.parameters == 601
    assert model.stored_bytes == 604
    [op] = [o for _, o in ops(model).walk()]
    assert op.bytes_of("weight") == pytest.approx(600, rel=0.01)


def test_padding_computed_in_the_graph_is_followed(tmp_path: Path) -> None:
    """Exporters turn a list of paddings into a chain of shape arithmetic that ends in a Pad."""
    g = Writer()
    given = {
        "pads": [2, 2, 1, 1],
        "more": [4],
        "last": [-1],
        "least": [-(1 << 62)],
        "zero": [0],
        "two": [-1, 2],
        "flat": [-1],
    }
    g.weights += [numpy_helper.from_array(np.array(v, np.int64), n) for n, v in given.items()]
    zeros = g.node("ConstantOfShape", ["more"], value=helper.make_tensor("v", TensorProto.INT64, [1], [0]))
    pairs = g.node("Reshape", [g.node("Concat", ["pads", zeros], axis=0), "two"])
    turned = g.node("Transpose", [g.node("Slice", [pairs, "last", "least", "zero", "last"])], perm=[1, 0])
    pads = g.node("Cast", [g.node("Reshape", [turned, "flat"])], to=TensorProto.INT64)
    g.node("Conv", [g.node("Pad", ["x", pads]), g.weight([8, 3, 3, 3])], out="y")
    model = load(tmp_path, g.model([("x", ["N", 3, 20, 20])], [("y", None)]))
    assert model.notes == ()
    assert macs(ops(model)) == (20 + 2 - 2) * (20 + 4 - 2) * 8 * 27


# --- what cannot be priced --------------------------------------------------------------------------------


def test_unpriced_ops_are_listed_and_keep_their_weights(tmp_path: Path) -> None:
    g = Writer()
    x = g.conv_bn("x", 3, 8, 3)
    shape = numpy_helper.from_array(np.array([0, -1], np.int64), "flat")
    g.weights.append(shape)
    flat = g.node("Reshape", [x, "flat"])
    y = g.node("FancyAttention", [flat, g.weight([5, 7])], domain="com.example")
    z = g.node("Relu", [y])
    g.node(
        "LSTM", [g.node("Unsqueeze", [flat, "axis"]), g.weight([1, 40, 8 * 64]), g.weight([1, 40, 10])], hidden_size=10
    )
    g.weights.append(numpy_helper.from_array(np.array([0], np.int64), "axis"))
    branch = helper.make_graph(
        [helper.make_node("Add", [flat, g.weight([11])], ["b"])], "b", [], [helper.make_tensor_value_info("b", 1, None)]
    )
    g.node("ReduceSum", [flat], keepdims=0)
    g.node("Cast", [g.nodes[-1].output[0]], to=TensorProto.BOOL)
    g.node("If", [g.nodes[-1].output[0]], out="out", then_branch=branch, else_branch=branch)
    proto = g.model([("x", ["N", 3, 8, 8])], [("out", None)])
    proto.opset_import.append(helper.make_opsetid("com.example", 1))
    model = load(tmp_path, proto)
    [unpriced] = [n for n in model.notes if n.startswith("not priced:")]
    assert unpriced == "not priced: FancyAttention ×1, If ×1, LSTM ×1"
    [shapeless] = [n for n in model.notes if "could not be inferred" in n]
    assert "Relu ×1" in shapeless
    assert z
    assert model.parameters == 8 * 3 * 9 + 4 * 8 + 35 + 40 * 512 + 400 + 11
    assert [op.kind for _, op in ops(model).walk()][:3] == ["conv", "norm", "elementwise"]


def test_open_dimension_is_named_and_can_be_given(tmp_path: Path) -> None:
    g = Writer()
    g.node("Conv", ["x", g.weight([8, 3, 3, 3])], out="y")
    proto = g.model([("x", ["N", 3, "height", 32])], [("y", None)])
    with pytest.raises(BadField, match=r"graph\.input x: dimension 2: found 'height'"):
        load(tmp_path, proto)
    model = load(tmp_path, proto, sizes={"height": 18})
    assert macs(ops(model)) == 16 * 30 * 8 * 27


def test_growth_that_fits_no_polynomial_is_noted(tmp_path: Path) -> None:
    g = Writer()
    g.weights.append(numpy_helper.from_array(np.array([48], np.int64), "most"))
    g.weights.append(numpy_helper.from_array(np.array([0], np.int64), "first"))
    g.weights.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))
    g.node("Slice", ["x", "first", "most", "axis"], out="y")  # at most 48 tokens
    model = load(tmp_path, g.model([("x", ["N", "seq", 8])], [("y", None)]))
    assert any("1 nodes grow" in n and "y" in n for n in model.notes)


# --- damage -----------------------------------------------------------------------------------------------


def test_truncation_anywhere_is_an_error_with_its_byte(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    onnx.save(encoder(layers=1), path)
    whole = path.read_bytes()
    random.seed(0)
    for cut in [*range(12), *random.sample(range(12, len(whole)), 150), len(whole) - 1]:
        path.write_bytes(whole[:cut])
        with pytest.raises(Truncated, match=f"truncated at byte {cut}:"):
            read(str(path))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=300))
def test_random_bytes_are_an_error_not_a_crash(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "m.onnx"
        path.write_bytes(data)
        with pytest.raises(TierwiseError):
            read(str(path))


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_flipped_bytes_never_crash(data: st.DataObject) -> None:
    whole = bytearray(encoder(layers=1).SerializeToString())
    for at in data.draw(st.lists(st.integers(0, len(whole) - 1), min_size=1, max_size=4)):
        whole[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "m.onnx"
        path.write_bytes(whole)
        try:
            model = read(str(path))
            ops(model, 2.0, 16.0)
        except TierwiseError:
            pass


def test_another_format_is_refused(tmp_path: Path) -> None:
    for data in (b"PK\x03\x04zip", b"hello world", b"\x89PNG\r\n"):
        (tmp_path / "m.onnx").write_bytes(data)
        with pytest.raises(TierwiseError, match="not an ONNX file"):
            read(str(tmp_path / "m.onnx"))


def test_more_than_2_gb_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "m.onnx").open("wb") as file:
        file.truncate(2**31)  # a hole: takes no space
    with pytest.raises(TierwiseError, match="external data"):
        read(str(tmp_path / "m.onnx"))


def test_missing_package_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **more: Any) -> Any:
        if name.split(".", maxsplit=1)[0] == "onnx":
            raise ImportError(name)
        return real(name, *args, **more)

    onnx.save(EXAMPLE.resnet50(), tmp_path / "m.onnx")
    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(TierwiseError, match=r"pip install 'tierwise\[onnx\]'"):
        read(str(tmp_path / "m.onnx"))


def test_a_window_larger_than_its_image_is_no_work_and_alone_no_model(tmp_path: Path) -> None:
    """Nine by nine on eight by eight leaves nothing: said by name, and what stands beside it is priced as without."""
    image = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 3, 8, 8])
    kernel = numpy_helper.from_array(np.zeros((4, 3, 9, 9), np.float32), "k")
    small = numpy_helper.from_array(np.zeros((4, 3, 3, 3), np.float32), "s")
    large = helper.make_node("Conv", ["x", "k"], ["a"], kernel_shape=[9, 9])
    usual = helper.make_node("Conv", ["x", "s"], ["b"], kernel_shape=[3, 3])
    outs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in "ab"]
    with pytest.raises(TierwiseError, match=r"a dimension comes out as 0.*Conv ×1"):
        load(tmp_path, helper.make_model(helper.make_graph([large], "g", [image], outs[:1], [kernel])))
    both = load(tmp_path, helper.make_model(helper.make_graph([large, usual], "g", [image], outs, [kernel, small])))
    assert any("a dimension comes out as 0" in note for note in both.notes)
    assert float(macs(ops(both))) == 6 * 6 * 4 * 3 * 3 * 3
