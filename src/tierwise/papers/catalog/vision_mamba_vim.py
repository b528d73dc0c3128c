"""Vision Mamba (arXiv:2401.09417): an image classifier whose blocks scan the patches forwards and backwards with a
selective state space, so that work and activations grow linearly with the patches, not with their square."""

from __future__ import annotations

import tierwise as tw
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import Claim, Paper
from tierwise.techniques import unfuse_attention

BATCH = 32.0


def vim(size: float) -> tw.Scenario:
    """Vim-Tiny on square images of ``size`` pixels, in fp32."""
    traffic = tw.Batch(prompt=1, output=1, batch=BATCH, image_size=size)
    return scenario("vim-tiny", "1xa100-sxm-80gb", traffic).with_plan(weights="fp32", activations="fp32")


def deit(size: float) -> tw.Scenario:
    """DeiT-Tiny likewise, its attention scores written to memory."""
    traffic = tw.Batch(prompt=1, output=1, batch=BATCH, image_size=size)
    base = scenario("deit-tiny", "1xa100-sxm-80gb", traffic, under=[unfuse_attention()])
    return base.with_plan(weights="fp32", activations="fp32")


def saved(size: float) -> float:
    """Per cent of DeiT's activations that Vim does not need."""
    mine, theirs = (tw.evaluate(s).memory.activations for s in (contrast(deit, vim)(size), deit(size)))
    return 100.0 * float(1.0 - mine / theirs)


PAPER = Paper(
    slug="vision-mamba-vim",
    title="Vision Mamba: Efficient Visual Representation Learning with Bidirectional State Space Model",
    source="arXiv:2401.09417",
    mechanism="Bidirectional selective scans in place of attention over image patches.",
    claims=(
        Claim("feature extraction over DeiT, 1248 × 1248", 2.8, "x", "ratio", "abstract; figure 1",
              lambda: float(tw.compare(contrast(deit, vim)(1248), deit(1248)).time.value),
              why="Both sides run slower than priced (18 and 51 images a second in the figure, 35 and 140 here), and "
                  "Vim more so: its scan is priced at its memory roofline, and its many small kernels at a width of "
                  "192 with it. Missing: the latency of a scan that walks 6000 tokens, its exponentials on their own "
                  "unit (about a tenth of the time), and kernels a framework does not fuse."),
        Claim("GPU memory saved over DeiT, 1248 × 1248", 86.8, "%", "memory", "abstract; figure 1",
              lambda: saved(1248),
              why="Activations alone; what both share (weights, workspace, the allocator's spare blocks) lowers it."),
        Claim("GPU memory saved over DeiT, 1024 × 1024", 79.7, "%", "memory", "figure 1 (8.13 of 40.09 GB)",
              lambda: saved(1024), extra=True,
              why="The parts both sides share weigh more at lower resolution. Figure 1 is of the backbones alone, so "
                  "they are no feature pyramid: workspace and what the framework keeps alive beyond one layer's "
                  "tensors are missing here."),
    ),
    assumptions=(
        "Vim-Tiny against DeiT-Tiny (figure 1); DeiT's attention as in the pinned timm 0.4.12, which keeps the scores "
        "and their softmax.",
        "fp32 on both sides: the authors' scripts switch mixed precision off; the figure does not say.",
        "Batch of 32: not stated, and it cancels from the activations' ratio. The experiments ran on A800 cards "
        "(section 4.1), whose rates and memory are the A100's; figure 1 is of the backbones, figures 3 and 4 add a "
        "feature pyramid (section 4.2).",
        "DeiT's 84 GB at 1248 is itself extrapolated: the figure marks it out of memory.",
    ),
)  # fmt: skip
