"""CompAct (arXiv:2410.15352): inputs of linear maps are kept for the backward pass as random projections."""

from __future__ import annotations

from functools import cache

from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

BATCH = Layout(micro_batch=256.0, global_batch=256.0, seq=256.0)


@cache
def peak(compact: float) -> float:
    """Bytes at the worst moment, everything in 16 bits."""
    step = trained("llama-65b", "1xa100-sxm-80gb", BATCH, "fsdp", parameters=2.0, gradients=2.0, master=0.0,
                   optimizer="adamw-bf16", lines=1.0, compact=compact)  # fmt: skip
    return float(step.memory.peak)


def saved(share: float) -> float:
    """Percent of peak memory."""
    return 100.0 * (1.0 - peak(contrast(1.0, share)) / peak(1.0))


PAPER = Paper(
    slug="compact-activations",
    title="CompAct: Compressed Activations for Memory-Efficient LLM Training",
    source="arXiv:2410.15352",
    mechanism="Each linear map keeps a random projection of its input; gradient and optimizer states are as thin.",
    claims=(
        Claim("peak memory saved in pretraining, Llama-65B at an eighth of the width", (25.0, 30.0), "%", "memory",
              "abstract; introduction", lambda: saved(1.0 / 8.0),
              why="33 before what norms and activations of `transformers` keep was counted"),
        Claim("peak memory saved in fine-tuning, RoBERTa-Base", 50.0, "%", "memory", "abstract; table 4",
              missing=NEEDS_SETUP, why="lengths of RTE's sequences, cut at 512 (authors' script): 24 to 36 by length"),
    ),
    assumptions=(
        "The range is the authors' estimate for Llama-65B at a rank of an eighth of the width (introduction, Figure "
        "1): batch 256, 256 tokens a sequence (appendix B.1).",
        "Weights, gradients and both moments in 16 bits (table 3: 0.65, 0.65 and 1.3 GB for 350 million parameters); "
        "fused attention, no recomputation (appendix B.2).",
        "Every linear map of a layer but attention's output has a projection of its own (appendices B.2 and E).",
        "Models are those of GaLore's repository, whose norms and activations are lines of PyTorch, as in "
        "`transformers` (peft_pretraining/modeling_llama.py).",
    ),
)  # fmt: skip
