"""InternEvo (arXiv:2401.09149): optimizer states are shared over a group of their own, smaller than all replicas."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

GPUS = (8, 16, 32, 64, 128, 256, 512, 1024)
ALL = float("inf")
# Tokens a second and GPU by (tensor parallel degree, devices that share optimizer states), over GPUS; two sequences of
# a micro-batch for each tensor parallel device, four micro-batches.
THROUGHPUT = {
    (1, ALL): (4062, 3842, 3752, 3690, 3571, 3209, 2861, 2271),
    (1, 8.0): (4078, 3939, 3919, 3944, 3928, 3920, 3835, 3625),
    (2, ALL): (3822, 3595, 3475, 3438, 3308, 3094, 2992, 2785),
    (2, 4.0): (3761, 3658, 3655, 3650, 3651, 3653, 3589, 3486),
}


@dataclass(frozen=True)
class Run:
    """A run: GPUs, sequences of a micro-batch, micro-batches, tensor parallel degree, devices that share optimizer
    states, whether layers are computed again, and the tokens a second and GPU that were measured."""

    gpus: int
    sequences: float
    micro_batches: float
    tp: int
    shared: float
    again: bool
    rate: float


# The tests of FLOP/s: states shared over eight; layers computed again, and not.
AGAIN = ((8, 8, 1, 3314), (16, 8, 1, 3268), (32, 8, 1, 3323), (64, 8, 1, 3217), (128, 8, 1, 3260), (256, 8, 1, 3215),
         (512, 8, 1, 3199), (1024, 8, 1, 3163), (512, 4, 1, 2963), (1024, 2, 1, 2341), (1024, 4, 1, 2796))  # fmt: skip
KEPT = ((8, 2, 4, 4103), (16, 2, 4, 3939), (32, 2, 4, 3919), (64, 2, 4, 3944), (128, 2, 4, 3928), (256, 2, 4, 3920),
        (512, 2, 4, 3900), (1024, 2, 4, 3625), (512, 2, 2, 3084), (1024, 2, 1, 2346), (1024, 2, 2, 2817))  # fmt: skip


def rate(run: Run) -> float:
    """Tokens a second and GPU."""
    dp = run.gpus / run.tp
    x = Layout(tp=float(run.tp), dp=dp, micro_batch=run.sequences, global_batch=dp * run.sequences * run.micro_batches,
               seq=2048.0, zero=1.0, shard=contrast(ALL, run.shared), recompute=2.0 * run.again)  # fmt: skip
    step = trained("internlm-7b", f"{run.gpus // 8}xaws-p4de.24xlarge", x, "nanotron", gradients=2.0, reduced=2.0,
                   turns=1.0)  # fmt: skip
    return float(step.tokens) / run.gpus


def runs() -> Iterator[tuple[str, Run]]:
    """What each is, and the run."""
    for (tp, shared), rates in THROUGHPUT.items():
        over = "all" if shared == ALL else f"{shared:.0f}"
        for gpus, measured in zip(GPUS, rates, strict=True):
            yield f"states over {over}, TP {tp}", Run(gpus, 2.0 * tp, 4.0, tp, shared, False, measured)
    for again, rows in ((True, AGAIN), (False, KEPT)):
        what = "layers computed again" if again else "packed samples"
        for gpus, sequences, count, measured in rows:
            yield f"{what}, {count} of {sequences}", Run(gpus, sequences, count, 1, 8.0, again, measured)


_WIRE = (
    "Devices of this generation come out about 11 % too fast with coefficients of a framework that was recorded on the "
    "next one. With one or two micro-batches more of the gradients' traffic shows than the share that runs of other "
    "frameworks left unhidden."
)
_WHERE = "authors' repository, doc/en/train_performance.md"


def _claim(what: str, run: Run) -> Claim:
    return Claim(f"7B on {run.gpus} GPUs, {what}", run.rate, "tokens/s", "absolute", _WHERE, lambda: rate(run),
                 extra=True, why=_WIRE)  # fmt: skip


PAPER = Paper(
    slug="internevo-buff",
    title="InternEvo: Efficient Long-sequence Large Language Model Training via Hybrid Parallelism and Redundant "
    "Sharding",
    source="arXiv:2401.09149",
    mechanism="Parameters, gradients and states are shared over groups of sizes of their own.",
    claims=(
        *(_claim(what, run) for what, run in runs()),
        Claim("memory of a GPU, 7B on three in a pipeline", 75.0, "GB", "memory", _WHERE, missing=NEEDS_SETUP,
              extra=True, why="what was read, the allocator's bytes or the driver's, is not said; so 15 other rows"),
    ),
    assumptions=(
        "The authors' own tables of their framework, InternLM-7B on A100 SXM 80 GB with four ports of 100 Gb/s a "
        "server (the paper's were not found as text); the rented server of that network stands for theirs.",
        "Layers, widths and the vocabulary of configs/7B_sft.py of InternLM/InternEvo; 2,048 tokens; bf16 with "
        "gradients in it, kept and sent, and parameters that every device broadcasts in turn after the update, which "
        "nothing runs beside (internlm/solver/optimizer/hybrid_zero_optim.py; overlap_sync_param is off in that "
        "configuration), fused attention.",
        "The framework is not measured; nanotron is the nearest that is: plain PyTorch with FlashAttention-2, tensor "
        "parallelism and shared optimizer states.",
    ),
)  # fmt: skip
