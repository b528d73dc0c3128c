"""ONNX Runtime on its CPU provider: graphs written node by node, optimised by the runtime."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from tierwise.core.numerics import fmt
from tierwise.machines.profile import Products
from tierwise.measure.engines import EnginePass, MeasureSettings, curves, onnx_graphs, shapes
from tierwise.scenario.types import Batch, Plan

NAME = "onnxruntime"
PACKAGES = ("onnxruntime", "onnx")
CALLS = {"*": 1.0, "norm.centered": 2.0, "split": 4.0, "attention.full": 5.0}
PASSES = {"*": 1.0, "act": 2.0}

_PLAN = Plan(weights=fmt("fp32"), activations=fmt("fp32"))
_SIDE = 640


def product_probes(bench: MeasureSettings) -> Iterator[tuple[str, Callable[[dict[str, float]], float]]]:
    """Named measurements, in order; each is given the results so far."""
    yield "fp32.call", lambda _: _chain(bench, 1, 32, 33) / 33
    yield "fp32.rate", lambda _: 2.0 * 768**2 * 384 / max(_chain(bench, 448, 768, 1) - _chain(bench, 64, 768, 1), 1e-9)
    for size in curves.sizes(bench.quick):
        yield f"fp32.one.{size:.0f}", lambda seen, s=size: _stream(bench, 1, s, seen)  # type: ignore[misc]
        yield f"fp32.many.{size:.0f}", lambda seen, s=size: _stream(bench, 4, s, seen)  # type: ignore[misc]


def products(seen: dict[str, float]) -> dict[str, Products]:
    """Coefficients from the results of the probes."""
    return curves.products(seen, ("fp32",))


def _chain(bench: MeasureSettings, rows: int, side: int, count: int) -> float:
    """Seconds of ``count`` products one after the other, no two sharing weights."""
    return bench.timer(session(bench, onnx_graphs.chain(rows, side, count))).median


def _stream(bench: MeasureSettings, rows: int, size: float, seen: dict[str, float]) -> float:
    count = max(round(size / (4 * _SIDE**2)), 1)
    side = _SIDE if count > 1 else max(int((size / 4) ** 0.5) // 16 * 16, 32)
    time = _chain(bench, rows, side, count) / count - seen["fp32.call"]
    if rows > 1:
        time -= 2.0 * rows * side * side / seen["fp32.rate"]
    return float(4.0 * side * side / max(time, 4.0 * side * side / 1e12))


def session(bench: MeasureSettings, graph: onnx_graphs.Built) -> Callable[[], object]:
    """A loaded graph, ready to run on random inputs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = bench.threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    made = onnxruntime.InferenceSession(graph.model, options, providers=["CPUExecutionProvider"])
    return lambda: made.run(None, graph.inputs)


def runs(purpose: str, bench: MeasureSettings) -> Iterator[EnginePass]:
    """Models to run: ``calibrate`` or ``validate``."""
    if purpose == "calibrate":
        yield from _encoder(bench, "encoder-a", shapes.bert(64, 256, 3, 1, 500), [(16, 1)])
        yield from _encoder(bench, "encoder-b", shapes.bert(320, 1280, 3, 5, 2000), [(48, 1), (352, 1), (160, 3)])
        yield from _images(bench, "convs-a", shapes.resnet(16, [16, 32], [2, 2], "basic"), [1], 32)
        yield from _images(bench, "convs-b", shapes.resnet(48, [48, 96, 192], [2, 2, 2], "basic"), [1, 3], 128)
        yield from _images(bench, "convs-c", shapes.resnet(32, [128, 256, 512], [2, 2, 2], "bottleneck"), [1, 3], 128)
        return
    yield from _encoder(bench, "ort-bert-12m", shapes.bert(384, 1536, 6, 6, 4000), [(64, 1), (256, 1), (128, 4)])
    yield from _images(bench, "ort-resnet-18-half", shapes.resnet(32, [32, 64, 128, 256], [2, 2, 2, 2], "basic"),
                       [1, 2], 224)  # fmt: skip
    yield from _images(bench, "ort-resnet-50-half",
                       shapes.resnet(32, [128, 256, 512, 1024], [3, 4, 6, 3], "bottleneck"), [1, 2], 160)  # fmt: skip


def _encoder(
    b: MeasureSettings, name: str, config: shapes.Config, inputs: list[tuple[int, int]]
) -> Iterator[EnginePass]:
    model = shapes.model(config, name)
    for tokens, batch in inputs:
        yield EnginePass(f"{name}/encode-{tokens}x{batch}", model, Batch(float(tokens), 1.0, float(batch)), "encode",
                  lambda t=tokens, n=batch: session(b, onnx_graphs.encoder(config, t, n)),  # type: ignore[misc]
                  _PLAN)  # fmt: skip


def _images(
    b: MeasureSettings, name: str, config: shapes.Config, batches: list[int], side: int
) -> Iterator[EnginePass]:
    model = shapes.model(config, name)
    for batch in batches:
        traffic = Batch(1.0, 1.0, float(batch), image_size=float(side))
        yield EnginePass(f"{name}/image-{side}x{batch}", model, traffic, "vision",
                  lambda n=batch: session(b, onnx_graphs.resnet(config, side, n)), _PLAN)  # type: ignore[misc]  # fmt: skip
