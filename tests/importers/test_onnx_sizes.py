"""ONNX inputs: the batch wherever it stands, batches fixed inside, image sizes from outside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tierwise.core.errors import BadField, TierwiseError
from tierwise.evaluation import evaluate
from tierwise.models.importers.onnx import read
from tierwise.models.load import load_model
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import Batch, Plan, Scenario

onnx = pytest.importorskip("onnx")
from onnx import TensorProto, helper, numpy_helper  # noqa: E402


def saved(path: Path, nodes: list[Any], shape: list[Any], weights: dict[str, Any], opset: int = 17) -> str:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    stored = [numpy_helper.from_array(np.asarray(v), n) for n, v in weights.items()]
    proto = helper.make_model(helper.make_graph(nodes, "g", [x], [y], stored),
                              opset_imports=[helper.make_opsetid("", opset)])  # fmt: skip
    onnx.save(proto, path / "m.onnx")
    return str(path / "m.onnx")


def flops(model: Model, seqs: float, new: float = 1.0) -> float:
    phase = model.stacks[0].stream
    return float(sum(op.flops for _, op in lower(Step(model, Plan(), seqs, new, 0.0, phase)).walk()))  # type: ignore[arg-type]


def classifier(path: Path, held: int, opset: int = 17, size: Any = 8) -> str:
    """A convolution, a reshape to a fixed batch or to as many as there are (-1), and a linear layer."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("GlobalAveragePool", ["c"], ["p"]),
        helper.make_node("Reshape", ["p", "shape"], ["r"]),
        helper.make_node("MatMul", ["r", "v"], ["y"]),
    ]
    weights = {"w": np.zeros((4, 3, 3, 3), np.float32), "v": np.zeros((4, 10), np.float32),
               "shape": np.asarray([held, 4], np.int64)}  # fmt: skip
    return saved(path, nodes, ["N", 3, size, size], weights, opset)


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize("held", [1, 4])
def test_a_batch_fixed_behind_an_open_one_scales_every_layer(tmp_path: Path, held: int, opset: int) -> None:
    free, fixed = (read(classifier(tmp_path, h, opset)) for h in (-1, held))
    for batch in (1.0, 8.0, 64.0):
        assert flops(fixed, batch) == pytest.approx(flops(free, batch)) == pytest.approx(batch * flops(free, 1.0))
    assert f"fixed batch of {held}" in " ".join(fixed.notes) and "fixed batch" not in " ".join(free.notes)


def test_a_stored_tensor_of_negative_size_is_refused(tmp_path: Path) -> None:
    path = classifier(tmp_path, -1)
    proto = onnx.load(path)
    proto.graph.initializer[0].dims[0] = -4
    onnx.save(proto, path)
    with pytest.raises(BadField, match=r"w: dimension.*-4"):
        read(path)


def test_the_batch_is_the_dimension_of_that_name(tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "v"], ["y"])]
    model = read(saved(tmp_path, nodes, ["time", "batch", 16], {"v": np.zeros((16, 4), np.float32)}))
    assert flops(model, 3.0, 5.0) == 2.0 * 3 * 5 * 16 * 4


@pytest.mark.parametrize("size", [8, "side"])
def test_an_image_size_from_outside(tmp_path: Path, size: Any) -> None:
    path = classifier(tmp_path, -1, size=size)
    large, small = (flops(load_model(f"{path}:image={n}"), 1.0) for n in (16, 8))
    head = 2.0 * 4 * 10
    assert large - head == pytest.approx(4.0 * (small - head), rel=0.01)
    result = evaluate(Scenario(path, "rtx-4090", Batch(1.0, 1.0, 1.0, image_size=16.0), Plan()))
    assert result.phases[0].flops == large


def test_sizes_that_cannot_be_are_refused(tmp_path: Path) -> None:
    open_sided = classifier(tmp_path, -1, size="side")
    with pytest.raises(BadField, match="--image-size"):
        load_model(open_sided)
    assert flops(load_model(f"{open_sided}:side=8"), 1.0) == flops(load_model(f"{open_sided}:image=8"), 1.0)
    with pytest.raises(BadField, match="width=8"):
        load_model(f"{open_sided}:side=8,width=8")
    with pytest.raises(TierwiseError, match="NAME=SIZE"):
        load_model(f"{open_sided}:side=eight")
    # A table of positions is as long as the image was when the file was written.
    nodes = [helper.make_node("Add", ["x", "positions"], ["a"]), helper.make_node("Relu", ["a"], ["y"])]
    fixed = saved(tmp_path, nodes, ["N", 3, 8, 8], {"positions": np.zeros((1, 3, 8, 8), np.float32)})
    assert load_model(f"{fixed}:image=8").task == "encode"
    with pytest.raises(BadField, match="exported with"):
        load_model(f"{fixed}:image=16")
