"""CompAct (arXiv:2410.15352): inputs of linear maps are kept for the backward pass as random projections."""

from __future__ import annotations

from functools import cache, partial
from typing import Any

from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.catalog._llama import SIZES, llama
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

GiB = 2.0**30
# Table 2, Llama-350M: share of its width in which a map keeps its input, peak memory. GaLore's rank is Figure 3's.
TABLE = (("no compression", 1.0, 39.97), ("half", 1.0 / 2.0, 37.94), ("a quarter", 1.0 / 4.0, 34.71),
         ("an eighth", 1.0 / 8.0, 33.03))  # fmt: skip
GALORE, RANK = 39.24, 256.0


@cache
def peak(name: str, batch: float, compact: float, **recipe: Any) -> float:
    """Bytes at the worst moment, everything in 16 bits."""
    shape = Layout(micro_batch=batch, global_batch=batch, seq=256.0)
    kept = {"optimizer": "adamw-bf16", **recipe}
    model = llama(name) if name in SIZES else name
    step = trained(model, "1xa100-sxm-80gb", shape, "fsdp", parameters=2.0, gradients=2.0, master=0.0, lines=1.0,
                   casts=0.0, compact=compact, **kept)  # fmt: skip
    return float(step.memory.peak)


def saved(share: float) -> float:
    """Percent of peak memory."""
    return 100.0 * (1.0 - peak("llama-65b", 256.0, contrast(1.0, share)) / peak("llama-65b", 256.0, 1.0))


def small(share: float) -> float:
    """GiB of Llama-350M."""
    return peak("350M", 128.0, contrast(1.0, share)) / GiB


def projected() -> float:
    return peak("350M", 128.0, 1.0, optimizer=contrast("adamw-bf16", "galore-bf16"), projection=RANK) / GiB


# The other sizes of table 2, GB.
ROWS = ("no compression", "GaLore", "half", "a quarter", "an eighth")
OTHERS = {"60M": (11.59, 11.56, 11.32, 10.80, 10.54), "130M": (18.66, 18.48, 17.97, 16.78, 16.19),
          "1B": (None, 75.40, 72.82, 65.57, 61.88)}  # fmt: skip
_BATCH = (
    "sequences a device are not stated: 512 in all (appendix B.1), and the scripts that the setup is said to follow "
    "have 256 (60M, 130M) and 16 (1B), of which the published memory is half and several times"
)

PAPER = Paper(
    slug="compact-activations",
    title="CompAct: Compressed Activations for Memory-Efficient LLM Training",
    source="arXiv:2410.15352",
    mechanism="Each linear map keeps a random projection of its input; gradient and optimizer states are as thin.",
    claims=(
        Claim("peak memory saved in pretraining, Llama-65B at an eighth of the width", (25.0, 30.0), "%", "memory",
              "abstract; introduction", lambda: saved(1.0 / 8.0)),
        Claim("peak memory saved in fine-tuning, RoBERTa-Base", 50.0, "%", "memory", "abstract; table 4",
              missing=NEEDS_SETUP, why="lengths of RTE's sequences, cut at 512 (appendix C): 24 to 36 by length"),
        *(
            Claim(f"peak memory of Llama-350M, {how}", published, "GB", "memory", "table 2", partial(small, share),
                  extra=True)
            for how, share, published in TABLE
        ),
        Claim("peak memory of Llama-350M, GaLore", GALORE, "GB", "memory", "table 2", projected, extra=True),
        *(
            Claim(f"peak memory of Llama-{size}, {how}", published, "GB", "memory", "table 2", missing=NEEDS_SETUP,
                  extra=True, why=_BATCH)
            for size, row in OTHERS.items() for how, published in zip(ROWS, row, strict=True) if published
        ),
    ),
    assumptions=(
        "The range is the authors' estimate for Llama-65B at a rank of an eighth of the width (introduction, Figure "
        "1): batch 256, 256 tokens a sequence (appendix B.1). Llama-350M: 128 sequences a device, as GaLore's script "
        "of that size (scripts/benchmark_c4/llama_350m.sh), whose setup the paper takes over; GB as PyTorch's GiB.",
        "Weights, gradients and both moments in 16 bits (table 3: 0.65, 0.65 and 1.3 GB for 350 million parameters); "
        "fused attention, no recomputation (appendix B.2).",
        "Every linear map of a layer but attention's output has a projection of its own (appendices B.2 and E).",
        "Models are those of GaLore's repository, whose norms and activations are lines of PyTorch "
        "(peft_pretraining/modeling_llama.py); norms work in 16 bits (appendix B.3).",
    ),
)  # fmt: skip
