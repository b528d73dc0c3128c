"""Ladder Residual: a block reads the residual stream as it was one block earlier.

So the all-reduce of one block runs beside the next block's arithmetic instead of before it.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from tierwise import Batch, Plan, Scenario, evaluate, techniques
from tierwise.models.blocks.ends import Head
from tierwise.models.load import load_model
from tierwise.models.types import Block
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

# Tokens a second of the standard and of the ladder model, by requests and GPUs (tools/plot-70b.py of the authors'
# repository, NVLink on): every point of the plot.
PLOT = {
    (1, 2): (35.42, 36.69), (1, 4): (59.41, 67.51), (1, 8): (77.39, 101.22),
    (4, 2): (120.58, 126.09), (4, 4): (185.01, 204.30), (4, 8): (258.56, 331.45),
    (16, 4): (585.23, 635.98), (16, 8): (843.15, 1003.52),
    (64, 4): (1249.67, 1358.65), (64, 8): (1940.99, 2242.10),
}  # fmt: skip


def _whole(block: Block) -> Block:
    return replace(block, split="none") if isinstance(block, Head) else block


def dense(batch: float, devices: int = 8) -> Scenario:
    """The authors' baseline: NCCL all-reduces, and the whole output head on every device."""
    model = load_model("llama-3-70b").map_blocks(_whole)
    traffic, plan = Batch(prompt=1024, output=512, batch=batch), Plan(tp=float(devices))
    return scenario(model, f"{devices}xh100-sxm", traffic, plan, under=[techniques.library_collectives()])


@cache
def rates(batch: float, devices: int = 8) -> tuple[float, float]:
    """Generated tokens a second, standard and ladder."""
    base = dense(batch, devices)
    standard, ladder = (evaluate(s) for s in (base, base.apply(techniques.ladder_residual())))
    return batch * 512.0 / float(standard.time), batch * 512.0 / float(ladder.time)


def gain(batch: float, devices: int = 8) -> float:
    """Percent more tokens a second."""
    standard, ladder = rates(batch, devices)
    return 100.0 * (ladder / standard - 1.0)


_SLOW = (
    "At many requests a step takes up to half the published time here: the authors' attention first copies the grouped "
    "keys and values of the whole static cache to one set a query head, which the engine's kernels do not. So what is "
    "hidden is a larger part of a step."
)
_PLOT = "tools/plot-70b.py of the authors' repository"


def _point(batch: int, devices: int) -> tuple[Claim, Claim]:
    standard, ladder = PLOT[batch, devices]
    where = f"{batch} request{'s' if batch > 1 else ''} on {devices} GPUs"
    return (
        Claim(f"faster, {where}", 100.0 * (ladder / standard - 1.0), "%", "ratio", _PLOT,
              lambda: gain(batch, devices), extra=True, why=_SLOW),
        Claim(f"standard model, {where}", standard, "tokens/s", "absolute", _PLOT,
              lambda: rates(batch, devices)[0], extra=True, why=_SLOW),
    )  # fmt: skip


PAPER = Paper(
    slug="ladder-residual",
    title="Ladder-Residual: Parallelism-Aware Architecture for Accelerating Large Model Inference with "
    "Communication Overlapping",
    source="arXiv:2501.06589",
    mechanism="Rewired residual connections let tensor-parallel all-reduces overlap with arithmetic.",
    claims=(
        Claim("speedup of a 70B model on 8 GPUs, one request", 30.0, "%", "ratio", "abstract", lambda: gain(1.0)),
        *(claim for point in PLOT for claim in _point(*point)),
    ),
    assumptions=(
        "Llama-3 70B shapes, 16-bit, 1024 prompt and 512 generated tokens (throughput-70B.sh of the authors' "
        "repository); the abstract's 30 % is read at one request, the first of the plot's panels",
        "All-reduces by NCCL: the script of the commit that uploads the logs sets NCCL_NVLS_ENABLE and nothing else, "
        "and the ladder calls the process group's asynchronous all-reduce; the framework's one-shot kernels "
        "(ENABLE_INTRA_NODE_COMM) came to the script a month later",
        "embedding and output head whole on every device: the module listing in the logs",
        "H100 SXM with NVSwitch: as recalled, not re-checked",
        "the tolerance is taken on the gain, not on 1 + gain, which would accept almost no gain at all",
    ),
)  # fmt: skip
