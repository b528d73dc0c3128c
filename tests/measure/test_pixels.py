"""Rates of vision models beside predictions: which rows are answered and as what; how software differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tierwise as tw
from tierwise.core.errors import BadField
from tierwise.core.numerics import fmt
from tierwise.measure.ops import accuracy, read
from tierwise.measure.pixels import engine_of, predict, refused_as_100, seconds
from tierwise.report.validation.pixels import validate
from tierwise.scenario.types import Plan

onnx = pytest.importorskip("onnx")
parquet = pytest.importorskip("pyarrow.parquet")

ROW: dict[str, Any] = {
    "model": "toy.tag", "family": "toy", "machine": "rtx-3090", "framework": "pytorch-240", "compiler": "eager",
    "precision": "amp-fp16", "layout": "nchw", "phase": "infer", "batch": 256, "img_h": 32, "img_w": 32, "n_devices": 1,
    "throughput_per_s": 1e5, "latency_ms": 2.56,
}  # fmt: skip
OTHER = ({"phase": "train"}, {"model": "nobody"}, {"machine": "nowhere"},
         {"compiler": "xla", "framework": "tensorflow"}, {"batch": None}, {"precision": "not stated"},
         {"img_w": 64})  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    import pyarrow
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Conv", ["x", "onnx::Conv_1", "onnx::Conv_2"], ["a"], pads=[1, 1, 1, 1]),
             helper.make_node("Relu", ["a"], ["b"]), helper.make_node("GlobalAveragePool", ["b"], ["y"])]  # fmt: skip
    weights = [numpy_helper.from_array(np.zeros(s, np.float32), n)
               for n, s in (("onnx::Conv_1", (64, 3, 3, 3)), ("onnx::Conv_2", (64,)))]  # fmt: skip
    value = helper.make_tensor_value_info
    graph = helper.make_graph(nodes, "g", [value("x", TensorProto.FLOAT, ["batch", 3, 32, 32])],
                              [value("y", TensorProto.FLOAT, None)], weights)  # fmt: skip
    (tmp_path / "graphs").mkdir()
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), tmp_path / "graphs/toy.op17.onnx")
    rows = [ROW, ROW | {"compiler": "torch.compile(inductor)"}, ROW | {"img_h": 64, "img_w": 64},
            ROW | {"model": "resnet50", "img_h": 224, "img_w": 224}, *(ROW | o for o in OTHER)]  # fmt: skip
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "rows.parquet")
    return tmp_path


def test_rows_that_can_be_are_answered_and_others_count_in_full(folder: Path) -> None:
    table = read(folder / "rows.parquet")
    p = predict(table, folder / "graphs")
    assert np.isfinite(p.predicted).tolist() == [True] * 4 + [False] * len(OTHER)
    eager, compiled, large, _ = p.predicted[:4]
    assert compiled < eager < large
    assert large == pytest.approx(4.0 * eager, rel=0.3)
    assert np.all((p.low <= p.predicted) & (p.predicted <= p.high) | ~np.isfinite(p.predicted))
    assert accuracy(refused_as_100(p), np.arange(4, 4 + len(OTHER))).median == 1.0
    assert seconds(table)[0] == pytest.approx(2.56e-3)


def test_the_command_prints_each_group(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    validate([folder / "rows.parquet"], Path("-"))
    said = capsys.readouterr().out
    assert '"torch-compile"' in said and '"refused as 100 %' not in said and "refused as 100 %" in said
    import pyarrow

    parquet.write_table(pyarrow.Table.from_pylist([{"model": "toy", "phase": "infer"}]), folder / "few.parquet")
    with pytest.raises(BadField, match="columns"):
        validate([folder / "few.parquet"], None)


def test_software_by_the_names_people_write() -> None:
    def of(framework: str, compiler: str = "", layout: str = "") -> str:
        return engine_of({"framework": framework, "compiler": compiler, "layout": layout})

    assert of("pytorch-113 cu117", "eager", "nhwc") == "torch-channels-last"
    assert of("pytorch-240", "torch.compile(inductor)", "nchw") == "torch-compile"
    assert of("TensorRT 10.2.0, CUDA 12.4", "vendor") == "tensorrt"
    assert of("ONNX") == "onnxruntime" and of("tensorflow2", "xla") == ""


@pytest.mark.parametrize("model", ["resnet-50", "vit-base-patch16-224"])
def test_software_runs_the_same_work_in_its_own_way(model: str) -> None:
    def run(engine: str, batch: float = 256.0, acts: str = "fp16") -> tw.Result:
        plan = Plan(activations=fmt(acts), weights=fmt(acts) if engine == "tensorrt" else None)
        return tw.evaluate(tw.Scenario(model, "rtx-4090", tw.Batch(1.0, 1.0, batch), plan, engine=engine))

    eager, last, compiled, trt = (run(e) for e in ("torch", "torch-channels-last", "torch-compile", "tensorrt"))
    assert trt.time <= compiled.time < last.time <= eager.time
    products = [sum(float(x.segment.repeat * x.op.flops) for x in r.phases[0].ops if x.op.kind in ("conv", "matmul"))
                for r in (eager, compiled, trt)]  # fmt: skip
    assert products[0] == pytest.approx(products[1], rel=0.02) and products[0] == pytest.approx(products[2], rel=0.02)
    # A single image is paced by the host that starts the kernels, in eager code.
    one = run("torch", 1.0)
    assert one.phases[0].bound_by == "launch" and one.time < run("torch", 64.0).time
    assert all(0.0 < r.mfu <= 1.0 for r in (eager, last, compiled, trt))
