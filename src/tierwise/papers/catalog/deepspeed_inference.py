"""DeepSpeed Inference (arXiv:2207.00032): fused kernels and parallelism of every kind for models in GPU memory; for
those that are not, layers streamed from host memory and disk."""

from __future__ import annotations

import tierwise as tw
from tierwise.papers.base import scenario
from tierwise.papers.catalog._gpt import gpt
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

REAL_TIME = 0.1  # seconds a token, faster than anyone reads


TRILLION = gpt("24B with 128 experts", 30, 8192.0, 64.0, 128.0)
# The dense models of the evaluation, from the smallest.
DENSE = (
    gpt("GPT-J-like 6.7B", 32, 4096.0, 32.0), gpt("13B", 40, 5120.0, 40.0), gpt("20B", 44, 6144.0, 64.0),
    gpt("50B", 62, 8192.0, 64.0), gpt("87B", 48, 12288.0, 96.0), gpt("175B", 96, 12288.0, 96.0),
    gpt("530B", 105, 20480.0, 128.0),
)  # fmt: skip


def served() -> float:
    """Trillions of parameters on 256 GPUs, if they fit and a token takes no longer than a reader."""
    plan = tw.Plan(tp=8.0, dp=32.0, ep=128.0)
    r = tw.evaluate(scenario(TRILLION, "256xa100-sxm-40gb", tw.Batch(prompt=128, output=128, batch=32), plan))
    return float(r.scenario.model.parameters) / 1e12 if r.fits and r.tpot <= REAL_TIME else 0.0


def larger() -> float:
    """The largest model that disk holds over the largest that one GPU does."""
    traffic = tw.Batch(prompt=1024, output=64, batch=1)
    runs = [tw.evaluate(scenario(m, "1xrtx-a6000", traffic, tw.Plan())) for m in DENSE]
    on_gpu = max(float(r.scenario.model.parameters) for r in runs if r.fits)
    return max(float(r.scenario.model.parameters) for r in runs if float(r.memory.weight_bytes) <= DISK) / on_gpu


DISK = 2e12

_STREAM = (
    "Model, batch and phase of the best point are not known. Arithmetic alone gives {} on this GPU in eight prompts of "
    "2048 tokens, which take longer than their layers over PCIe."
)

PAPER = Paper(
    slug="deepspeed-inference",
    title="DeepSpeed Inference: Enabling Efficient Inference of Transformer Models at Unprecedented Scale",
    source="arXiv:2207.00032",
    mechanism="Fused kernels and mixed parallelism in GPU memory; beyond it, layers streamed in while others run.",
    claims=(
        Claim("latency against the state of the art", 7.3, "x", "up-to", "abstract", missing=NEEDS_SETUP,
              why="Of mixtures over a distributed PyTorch implementation of the time, whose kernels and exchanges are "
                  "not described."),
        Claim("throughput against the state of the art", 1.5, "x", "at-least", "abstract", missing=NEEDS_SETUP,
              metric="time",
              why="Over FasterTransformer; which model, schedule and batch is not known."),
        Claim("parameters served on hundreds of GPUs in real time", 1.0, "T", "count", "abstract", served,
              identity=True,
              why="a model of that size is built and counted; that it fits 256 GPUs is all the engine adds"),
        Claim("larger models than one GPU alone holds", 25.0, "x", "memory", "abstract", larger, metric="capacity"),
        Claim("throughput with streamed weights, A6000", 84.0, "TFLOP/s", "absolute", "abstract", missing=NEEDS_SETUP,
              why=_STREAM.format("108 TFLOP/s")),
        Claim("share of the A6000's peak", 50.0, "%", "at-least", "abstract", missing=NEEDS_SETUP, metric="time",
              why=_STREAM.format("70 % of the peak")),
    ),
    assumptions=(
        "A trillion parameters: 30 layers of 8192, every other one a mixture of 128 experts, tensor parallel by 8 and "
        "expert parallel by 128 on 256 A100 40GB (as recalled, not re-checked); a tenth of a second a token is read as "
        "real time.",
        "One A6000 with 2 TB of NVMe (a workstation, as recalled), models of 6.7 to 530 billion parameters in 16 bits: "
        "the largest on the GPU is the 20B, the largest on disk the 530B.",
    ),
)  # fmt: skip
