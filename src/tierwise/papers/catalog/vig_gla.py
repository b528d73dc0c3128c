"""ViG (arXiv:2405.18425): an image classifier of gated linear attention with a decay for each direction, both scanned
in one kernel, and a depthwise convolution for local detail."""

from __future__ import annotations

import tierwise as tw
from tierwise.core.num import Num
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper
from tierwise.result import PricedOp
from tierwise.techniques import unfuse_attention


def run(model: str, size: float) -> tw.Result:
    """One image of ``size`` pixels through a classifier in fp32; DeiT's attention writes its scores."""
    traffic = tw.Batch(prompt=1, output=1, batch=1, image_size=size)
    base = scenario(model, "1xrtx-4090", traffic, under=[unfuse_attention()] if model.startswith("deit") else [])
    return tw.evaluate(base.with_plan(weights="fp32", activations="fp32"))


def flops(model: str, size: float, seen: bool = False) -> float:
    """Arithmetic of the matrix products, convolutions and scans of one image.

    ``seen``: only what the authors' counter sees, which is not the down projection of ViG's MLP.
    """
    missed = {"mlp.down"} if seen and model.startswith("vig") else set()

    def work(p: PricedOp) -> Num:
        return 0.0 if p.op.kind in ("elementwise", "norm") or p.op.name in missed else p.op.flops

    return float(run(model, size).phases[0].total(work))


def _parameters() -> float:
    small, big = (run(m, 224).scenario.model.parameters for m in (contrast("deit-base", "vig-small"), "deit-base"))
    return 100.0 * float(small / big)


def _memory() -> float:
    small, big = (run(m, 1024).memory.activations for m in (contrast("deit-tiny", "vig-tiny"), "deit-tiny"))
    return 100.0 * float(1.0 - small / big)


COUNTER = (
    "The authors count with a tool that follows PyTorch operators, and the MLP's down projection runs inside a "
    "function of their own that it does not enter; without that product the published number comes out."
)

PAPER = Paper(
    slug="vig-gla",
    title="ViG: Linear-complexity Visual Sequence Learning with Gated Linear Attention",
    source="arXiv:2405.18425",
    mechanism="Bidirectional gated linear attention in place of softmax attention over image patches.",
    claims=(
        Claim("parameters of ViG-S over DeiT-B", 27.0, "%", "count", "abstract", _parameters),
        Claim("FLOPs of ViG-S over DeiT-B, 224 × 224", 20.0, "%", "count", "abstract",
              lambda: 100.0 * flops(contrast("deit-base", "vig-small"), 224) / flops("deit-base", 224), why=COUNTER),
        Claim("ViG-S over DeiT-B, 224 × 224", 2.0, "x", "ratio", "abstract", missing=NEEDS_SETUP,
              why="GPU and batch not found; on an RTX 4090 the engine gives 2.0x at a batch of 1 and 3.2x at 128."),
        Claim("FLOPs of DeiT-T over ViG-T, 1024 × 1024", 5.2, "x", "count", "abstract",
              lambda: flops("deit-tiny", 1024) / flops(contrast("deit-tiny", "vig-tiny"), 1024), why=COUNTER),
        Claim("GPU memory ViG-T saves over DeiT-T, 1024 × 1024", 90.0, "%", "memory", "abstract", _memory,
              why="Activations; the weights are a hundredth of them."),
        Claim("ViG-T over DeiT-T, 1024 × 1024", 4.8, "x", "ratio", "abstract", missing=NEEDS_SETUP,
              why="GPU and batch not found (the figure in the authors' repository says 4.0x); on an RTX 4090 the "
                  "engine gives 6x from a batch of 32 on."),
        Claim("FLOPs of ViG-S over DeiT-B, as the authors' counter sees them", 20.0, "%", "count", "abstract",
              lambda: 100.0 * flops(contrast("deit-base", "vig-small"), 224, True) / flops("deit-base", 224),
              extra=True, why=COUNTER),
        Claim("FLOPs of DeiT-T over ViG-T, as the authors' counter sees them", 5.2, "x", "count", "abstract",
              lambda: flops("deit-tiny", 1024) / flops(contrast("deit-tiny", "vig-tiny"), 1024, True), extra=True,
              why=COUNTER),
    ),
    assumptions=(
        "Shapes of the published configurations; FLOPs of matrix products, convolutions and scans, as counters count.",
        "fp32 (mixed precision is off in the published configurations) and scores written to memory: DeiT's published "
        "memory curve is quadratic.",
        "The figure in the repository says 85 % of memory saved, the abstract 90 %.",
    ),
)  # fmt: skip
