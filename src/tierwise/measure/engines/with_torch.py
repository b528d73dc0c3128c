"""PyTorch, running models of `transformers` eagerly, as most people first run a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from tierwise.core.numerics import fmt
from tierwise.machines.profile import Products
from tierwise.measure.engines import EnginePass, MeasureSettings, ModelPiece, curves, shapes
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.mlp import MLP
from tierwise.models.step import Step
from tierwise.scenario.types import Batch, Plan

NAME = "torch"
PACKAGES = ("torch", "transformers")
FORMATS = ("fp32", "bf16")

# Calls into the engine, and passes over the operands, of each op class as `transformers` writes it.
CALLS = {
    "*": 3.0, "embedding": 25.0, "norm.rms": 9.0, "norm.centered": 3.0, "rope_cache": 20.0, "split": 7.0, "act": 3.0,
    "topk": 9.0, "merge": 3.0, "attention": 8.0, "scan.prefill": 6.0, "scan.decode": 20.0, "moe": 14.0,
    "conv.causal": 6.0, "conv.wide": 5.0, "conv.pointwise": 5.0, "attention.prefill": 8.0, "attention.decode": 8.0,
    "attention.full": 8.0,
}  # fmt: skip
PASSES = {"*": 1.5, "norm.rms": 3.0, "rope_cache": 3.0, "act": 2.0, "scan.prefill": 6.0, "moe": 2.0}


@cache
def setup(threads: int) -> None:
    """Threads of the CPU kernels; silence; an allocator that has settled.

    glibc gives memory back to the system after every step until a large block has been freed once (malloc's
    dynamic thresholds, mallopt(3)): any process that has run for a while is past that, so this one should be too.
    """
    import torch
    import transformers

    torch.set_num_threads(threads)
    transformers.logging.set_verbosity_error()
    torch.ones(30 * 2**20, dtype=torch.uint8).sum()


def wait(device: str) -> Callable[[], None] | None:
    """What to call before reading the clock: devices other than the CPU run behind the host."""
    import torch

    found: Any = None
    if device.startswith("cuda"):  # also ROCm, which PyTorch calls cuda
        found = torch.cuda.synchronize
    elif device.startswith("mps"):
        found = torch.mps.synchronize
    return found  # type: ignore[no-any-return]


# ---------------------------------------------------------------- matrix products


def product_probes(bench: MeasureSettings) -> Iterator[tuple[str, Callable[[dict[str, float]], float]]]:
    """Named measurements, in order; each is given the results so far."""
    for form in FORMATS:
        yield f"{form}.call", lambda _, f=form: _call(bench, f)  # type: ignore[misc]
        yield f"{form}.rate", lambda seen, f=form: _rate(bench, f)  # type: ignore[misc]
        for size in curves.sizes(bench.quick):
            yield f"{form}.one.{size:.0f}", lambda seen, f=form, s=size: _stream(bench, f, 1, s, seen)  # type: ignore[misc]
            yield f"{form}.many.{size:.0f}", lambda seen, f=form, s=size: _stream(bench, f, 4, s, seen)  # type: ignore[misc]


def products(seen: dict[str, float]) -> dict[str, Products]:
    """Coefficients from the results of the probes."""
    return curves.products(seen, FORMATS)


def copy_bandwidth(bench: MeasureSettings, size: float) -> float:
    """Bytes per second of an elementwise kernel that makes its output anew, as eager code does at every step."""
    import torch

    setup(bench.threads)
    x, tiny = (torch.ones(max(int(n / 8), 16), device=bench.device) for n in (size, 0))
    with torch.inference_mode():
        time = bench.timer(lambda: x * 2.0).median - bench.timer(lambda: tiny * 2.0).median
    return float(8.0 * len(x) / max(time, 8.0 * len(x) / 1e13))


def _linear(bench: MeasureSettings, form: str, rows: int, wide: int, deep: int, count: int) -> float:
    """Seconds of one of ``count`` linear layers run one after the other, no two sharing weights."""
    import torch

    setup(bench.threads)
    dtype = _dtype(form)
    layers = [torch.nn.Linear(deep, wide, bias=False, device=bench.device, dtype=dtype) for _ in range(count)]
    x = torch.randn(rows, deep, device=bench.device, dtype=dtype)

    def work() -> None:
        for layer in layers:
            layer(x)

    with torch.inference_mode():
        return bench.timer(work).median / count


def _call(bench: MeasureSettings, form: str) -> float:
    """Seconds of a linear layer beyond reading its weights: two sizes that stay in cache, extended to none."""
    small, large = (_linear(bench, form, 1, side, side, 1) for side in (96, 288))
    return max(small - (large - small) * 96**2 / (288**2 - 96**2), 0.2 * small)


def _rate(bench: MeasureSettings, form: str) -> float:
    """FLOP/s of rows beyond the first 64: what a row costs once the weights are packed."""
    few, many = _linear(bench, form, 64, 768, 768, 1), _linear(bench, form, 448, 768, 768, 1)
    return 2.0 * 768 * 768 * (448 - 64) / max(many - few, 1e-9)


def _stream(bench: MeasureSettings, form: str, rows: int, size: float, seen: dict[str, float]) -> float:
    """Bytes per second at which weights of a working set are read: with one row, or packed for several."""
    element = float(fmt(form).bytes)
    count = max(round(size / (element * 640 * 640)), 1)
    side = 640 if count > 1 else max(int((size / element) ** 0.5) // 16 * 16, 32)
    bytes_each = element * side * side
    time = _linear(bench, form, rows, side, side, count) - seen[f"{form}.call"]
    if rows > 1:
        time -= 2.0 * rows * side * side / seen[f"{form}.rate"]
    return float(bytes_each / max(time, bytes_each / 1e12))


def _dtype(form: str) -> Any:
    import torch

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[form]


# ---------------------------------------------------------------- models


def runs(purpose: str, bench: MeasureSettings) -> Iterator[EnginePass]:
    """Models to run: ``calibrate`` or ``validate``."""
    yield from (_calibrate if purpose == "calibrate" else _validate)(bench)


def _calibrate(b: MeasureSettings) -> Iterator[EnginePass]:
    for dtype in ("float32", "bfloat16"):
        tag = {"float32": "", "bfloat16": "-bf16"}[dtype]
        yield from _decoder(b, f"decoder-a{tag}", shapes.llama(96, 208, 3, 6, 2, 500, dtype), [(24, 1)],
                            [(16, 1), (24, 3)])  # fmt: skip
        yield from _decoder(b, f"decoder-b{tag}", shapes.llama(288, 768, 2, 6, 3, 1000, dtype),
                            [(48, 1), (384, 1), (160, 2)], [(64, 1), (768, 1), (320, 6)])  # fmt: skip
        yield from _decoder(b, f"decoder-c{tag}", shapes.llama(640, 1728, 4, 10, 10, 1500, dtype), [(224, 1), (700, 1)],
                            [(200, 2), (1200, 1)])  # fmt: skip
    yield from _decoder(b, "experts-a", shapes.qwen_moe(96, 64, 3, 6, 2, 6, 2, 96, 500), [(24, 1)], [(16, 1), (16, 3)])
    yield from _decoder(b, "experts-b", shapes.qwen_moe(320, 224, 3, 5, 5, 12, 3, 448, 2000), [(40, 1), (320, 1)],
                        [(64, 1), (128, 6)])  # fmt: skip
    yield from _decoder(b, "states-a", shapes.mamba(80, 3, 16, 500), [(12, 1), (48, 1)], [(12, 1)])
    yield from _decoder(b, "states-b", shapes.mamba(320, 3, 16, 1500), [(48, 1), (192, 1), (96, 3)], [(32, 1), (32, 6)])
    yield from _encoder(b, "encoder-a", shapes.bert(80, 320, 3, 5, 500), [(16, 1)])
    yield from _encoder(b, "encoder-b", shapes.bert(320, 1280, 3, 5, 2000), [(48, 1), (352, 1), (160, 3)])
    yield from _images(b, "patches-a", shapes.vit(80, 320, 3, 5, 64, 16), [1])
    yield from _images(b, "patches-b", shapes.vit(320, 1280, 3, 5, 192, 16), [1, 3])
    yield from _images(b, "convs-a", shapes.resnet(16, [16, 32], [2, 2], "basic"), [1], 32)
    yield from _images(b, "convs-b", shapes.resnet(48, [48, 96, 192], [2, 2, 2], "basic"), [1, 3], 128)
    yield from _images(b, "convs-c", shapes.resnet(32, [128, 256, 512], [2, 2, 2], "bottleneck"), [1, 3], 128)


def _validate(b: MeasureSettings) -> Iterator[EnginePass]:
    yield from _decoder(b, "llama-25m", shapes.llama(512, 1376, 6, 8, 2, 8000), [(32, 1), (128, 1), (512, 1), (96, 4)],
                        [(32, 1), (512, 1), (128, 4)])  # fmt: skip
    yield from _decoder(b, "llama-4m", shapes.llama(192, 512, 8, 4, 4, 2000), [(64, 1), (256, 2)], [(64, 1), (256, 8)])
    yield from _decoder(b, "llama-25m-bf16", shapes.llama(512, 1376, 6, 8, 2, 8000, "bfloat16"), [(128, 1), (512, 1)],
                        [(128, 1), (128, 4)])  # fmt: skip
    yield from _decoder(b, "qwen-moe-20m", shapes.qwen_moe(256, 320, 4, 8, 2, 16, 4, 640, 4000), [(32, 1), (256, 1)],
                        [(64, 1), (64, 4)])  # fmt: skip
    yield from _decoder(b, "mamba-4m", shapes.mamba(256, 5, 16, 4000), [(32, 1), (128, 1)], [(64, 1), (64, 4)])
    yield from _encoder(b, "bert-12m", shapes.bert(384, 1536, 6, 6, 4000), [(64, 1), (256, 1), (128, 4)])
    yield from _images(b, "vit-11m", shapes.vit(384, 1536, 6, 6, 224, 16), [1, 2])
    yield from _images(b, "resnet-18-half", shapes.resnet(32, [32, 64, 128, 256], [2, 2, 2, 2], "basic"), [1, 2], 224)
    yield from _images(b, "resnet-50-half", shapes.resnet(32, [128, 256, 512, 1024], [3, 4, 6, 3], "bottleneck"),
                       [1, 2], 160)  # fmt: skip


def pieces(bench: MeasureSettings) -> Iterator[ModelPiece]:
    """Norms and activations by themselves, as a layer calls them, on few rows and on many."""
    for dtype in ("float32", "bfloat16"):
        config = shapes.llama(448, 1200, 1, 7, 7, 64, dtype)
        model, plan = shapes.model(config, "piece"), _plan(config)
        for rows in (1, 40, 280):
            step = Step(model, plan, 1.0, float(rows), 0.0, "prefill")
            size = (rows, 448)
            yield ModelPiece(f"norm-rms-{dtype}-{rows}", tuple(Norm(448.0).ops(step)),
                        lambda s=size, d=dtype: _norm(bench, "rms", s, d))  # type: ignore[misc]  # fmt: skip
            if dtype == "float32":
                yield ModelPiece(f"norm-centered-{rows}", tuple(Norm(448.0, bias=True).ops(step)),
                            lambda s=size, d=dtype: _norm(bench, "centered", s, d))  # type: ignore[misc]  # fmt: skip
            act = tuple(op for op in MLP(448.0, 1200.0).ops(step) if op.name.endswith(".act"))
            yield ModelPiece(f"act-{dtype}-{rows}", act, lambda n=rows, d=dtype: _act(bench, n, 1200, d))  # type: ignore[misc]


def _norm(b: MeasureSettings, kind: str, size: tuple[int, int], dtype: str) -> Callable[[], object]:
    """A norm and the residual addition before it."""
    import torch
    from transformers.models.llama.modeling_llama import LlamaRMSNorm

    setup(b.threads)
    module = LlamaRMSNorm(size[1]) if kind == "rms" else torch.nn.LayerNorm(size[1])
    module = module.to(device=b.device, dtype=getattr(torch, dtype))
    x, y = (torch.randn(size, device=b.device, dtype=getattr(torch, dtype)) for _ in range(2))
    return _inference(lambda: module(x + y))


def _act(b: MeasureSettings, rows: int, wide: int, dtype: str) -> Callable[[], object]:
    import torch

    setup(b.threads)
    gate, up = (torch.randn(rows, wide, device=b.device, dtype=getattr(torch, dtype)) for _ in range(2))
    return _inference(lambda: torch.nn.functional.silu(gate) * up)


def _plan(config: shapes.Config) -> Plan:
    form = fmt(config["torch_dtype"])
    return Plan(weights=form, activations=form)


def _decoder(
    b: MeasureSettings,
    name: str,
    config: shapes.Config,
    prompts: list[tuple[int, int]],
    contexts: list[tuple[int, int]],
) -> Iterator[EnginePass]:
    """A causal language model: passes over whole prompts, then single tokens after some context."""
    model, plan = shapes.model(config, name), _plan(config)
    for tokens, batch in prompts:
        yield EnginePass(f"{name}/prefill-{tokens}x{batch}", model, Batch(float(tokens), 1.0, float(batch)), "prefill",
                  lambda t=tokens, n=batch: _prefill(b, config, t, n), plan)  # type: ignore[misc]  # fmt: skip
    for context, batch in contexts:
        yield EnginePass(f"{name}/decode-{context}x{batch}", model, Batch(float(context), 2.0, float(batch)), "decode",
                  lambda t=context, n=batch: _decode(b, config, t, n), plan)  # type: ignore[misc]  # fmt: skip


def _encoder(
    b: MeasureSettings, name: str, config: shapes.Config, inputs: list[tuple[int, int]]
) -> Iterator[EnginePass]:
    model, plan = shapes.model(config, name), _plan(config)
    for tokens, batch in inputs:
        yield EnginePass(f"{name}/encode-{tokens}x{batch}", model, Batch(float(tokens), 1.0, float(batch)), "encode",
                  lambda t=tokens, n=batch: _encode(b, config, t, n), plan)  # type: ignore[misc]  # fmt: skip


def _images(
    b: MeasureSettings, name: str, config: shapes.Config, batches: list[int], side: int | None = None
) -> Iterator[EnginePass]:
    model, plan = shapes.model(config, name), _plan(config)
    pixels = side or int(config["image_size"])
    for batch in batches:
        traffic = Batch(1.0, 1.0, float(batch), image_size=float(pixels))
        yield EnginePass(f"{name}/image-{pixels}x{batch}", model, traffic, "vision",
                  lambda n=batch: _look(b, config, pixels, n), plan)  # type: ignore[misc]  # fmt: skip


def build(b: MeasureSettings, config: shapes.Config) -> Any:
    """A model of `transformers` with random weights, in evaluation mode."""
    import torch
    import transformers

    setup(b.threads)
    torch.manual_seed(0)
    made = {k: v for k, v in config.items() if k not in ("architectures", "torch_dtype", "model_type")}
    made = transformers.AutoConfig.for_model(config["model_type"], **made)
    kind = getattr(transformers, config["architectures"][0])
    return kind(made).to(device=b.device, dtype=getattr(torch, config["torch_dtype"])).eval()


def _inference(work: Callable[[], object]) -> Callable[[], object]:
    """The same work without what training would need."""
    import torch

    def quiet() -> object:
        with torch.inference_mode():
            return work()

    return quiet


def _prefill(b: MeasureSettings, config: shapes.Config, tokens: int, batch: int) -> Callable[[], object]:
    import torch

    model = build(b, config)
    ids = torch.randint(0, config["vocab_size"], (batch, tokens), device=b.device)

    def work() -> object:
        return model(input_ids=ids, use_cache=True, logits_to_keep=1).logits[:, -1].argmax(-1)

    return _inference(work)


def _decode(b: MeasureSettings, config: shapes.Config, context: int, batch: int) -> Callable[[], object]:
    import torch

    model = build(b, config)
    recurrent = config["model_type"] == "mamba"
    ids = torch.randint(0, config["vocab_size"], (batch, context), device=b.device)
    with torch.inference_mode():
        first = model(input_ids=ids, use_cache=True, logits_to_keep=1)
    cache = first.cache_params if recurrent else first.past_key_values
    key = "cache_params" if recurrent else "past_key_values"
    last = ids[:, :1]

    def work() -> object:
        logits = model(input_ids=last, use_cache=True, **{key: cache}).logits
        if not recurrent:
            cache.crop(-1)  # the next step sees the same context
        return logits[:, -1].argmax(-1)

    return _inference(work)


def _encode(b: MeasureSettings, config: shapes.Config, tokens: int, batch: int) -> Callable[[], object]:
    import torch

    model = build(b, config)
    ids = torch.randint(0, config["vocab_size"], (batch, tokens), device=b.device)

    def work() -> object:
        return model(input_ids=ids)

    return _inference(work)


def _look(b: MeasureSettings, config: shapes.Config, side: int, batch: int) -> Callable[[], object]:
    import torch

    model = build(b, config)
    pixels = torch.randn(batch, 3, side, side, device=b.device, dtype=getattr(torch, config["torch_dtype"]))

    def work() -> object:
        return model(pixel_values=pixels)

    return _inference(work)
