"""S²FT (arXiv:2412.06289): whole heads and channels are picked, moved together into dense slices, and alone trained."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from tierwise.papers.base import Layout, TrainStep, contrast, trained
from tierwise.papers.types import Claim, Paper

# Shares of attention's and of the feed-forward's last map that are trained.
SLICES: dict[str, Any] = {"slices": (("o_proj", 0.052), ("down", 0.02))}
# Adapters of queries, keys and values, of the feed-forward's map up (not its gate) and of the one down.
LORA: dict[str, Any] = {"rank": 32.0, "adapted": (("qkv_proj", 3.0), ("up", 1.0), ("down", 1.0))}
FULL: dict[str, Any] = {}
# Tokens of a sequence, sequences.
POINTS = ((512.0, 1.0), (512.0, 2.0), (1024.0, 1.0), (1024.0, 2.0))


@cache
def step(way: str, seq: float, batch: float) -> TrainStep:
    recipe = {"full": FULL, "lora": LORA, "sliced": SLICES}[way]
    x = Layout(seq=seq, micro_batch=batch, global_batch=batch)
    return trained("llama-2-7b", "1xa100-sxm-80gb", x, "fsdp", parameters=2.0, gradients=2.0, master=0.0,
                   optimizer="adamw-bf16", transient=1.0, lines=1.0, **contrast(FULL, recipe))  # fmt: skip


def times(way: str, against: str) -> list[float]:
    """A step's time over that of slices, at each point."""
    return [float(step(against, *p).time) / float(step(way, *p).time) for p in POINTS]


def memories(way: str, against: str) -> list[float]:
    return [float(step(against, *p).memory.peak) / float(step(way, *p).memory.peak) for p in POINTS]


def below(ratios: Callable[[str, str], list[float]]) -> float:
    """Per cent less than adapters take, on average."""
    found = ratios("sliced", "lora")
    return 100.0 * (1.0 - sum(1.0 / x for x in found) / len(found))


_LORA = (
    "7 % less memory and 15 % less time here. The script also drops 5 % of adapters' inputs out, of which copies "
    "and masks are kept and made; whether the figure's LoRA did is not said, and it would add to both."
)

PAPER = Paper(
    slug="s2ft",
    title="S²FT: Efficient, Scalable and Generalizable LLM Fine-tuning by Structured Sparsity",
    source="arXiv:2412.06289",
    mechanism="Whole heads and channels are picked, moved together into dense slices, and alone trained.",
    claims=(
        Claim("training memory, full fine-tuning over this", 3.0, "x", "up-to", "abstract",
              lambda: max(memories("sliced", "full")), metric="memory"),
        Claim("latency, full fine-tuning over this, least", 1.5, "x", "ratio", "abstract",
              lambda: min(times("sliced", "full")), blind=True,
              why="both sides are the same products: what is wrong of one is of the other"),
        Claim("latency, full fine-tuning over this, most", 2.7, "x", "up-to", "abstract",
              lambda: max(times("sliced", "full"))),
        Claim("training memory below that of LoRA, mean", 10.0, "%", "ratio", "abstract", lambda: below(memories),
              metric="memory", why=_LORA),
        Claim("latency below that of LoRA, mean", 10.0, "%", "ratio", "abstract", lambda: below(times), why=_LORA),
    ),
    assumptions=(
        "Llama-2-7B in sequences of 512 and 1,024 tokens, one and two of them (figure of training efficiency); the "
        "same figure's 13B does not fit one card in full. One A100 80 GB: the device is not in what we could read.",
        "5.2 % of the heads of attention's last map and 2 % of the channels of the feed-forward's (README of the "
        "authors' code, efficiency/); everything in 16 bits, AdamW's moments with it (efficiency/memory.py and "
        "s2ft.py), no recomputation, gradients freed after every step. Adapters of rank 32 on the five maps of the "
        "authors' training script (finetune_commensense_llama2_lora.sh).",
        "Norms and activations are those of `transformers` (efficiency/latency.py). Coefficients are those of the "
        "nearest framework measured, PyTorch's FSDP.",
    ),
)  # fmt: skip
