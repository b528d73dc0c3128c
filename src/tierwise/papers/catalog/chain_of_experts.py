"""Chain-of-Experts (arXiv:2506.18945): tokens pass through the experts of a layer more than once, each time with a new
router, so that fewer experts or fewer layers reach the same loss."""

from __future__ import annotations

import tierwise as tw
from tierwise.core.numerics import fmt
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mla import MLA
from tierwise.models.blocks.moe import MoE
from tierwise.models.types import Layer, Model, Stack
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import Claim, Paper

# AdamW in fp32: a weight, its gradient and two moments, 4 bytes each, for every parameter.
TRAINED = fmt("128bit")


def model(layers: int, experts: float, top_k: float, iterations: int) -> Model:
    """The authors' small DeepSeek-V2: one of the experts is shared, all layers have experts."""
    width, vocab = 1024.0, 102400.0
    attention = MLA(width, 8.0, 0.0, 512.0, 128.0, 64.0, 128.0)
    experts_ = MoE(width, experts - 1.0, top_k, 704.0, shared_inner=704.0, iterations=iterations)
    layer = Layer("attention+moe", (Norm(width), attention, Norm(width), experts_))
    stack = Stack("decoder", (layer,), (0,) * layers, (Embedding(vocab, width),), (Norm(width), Head(width, vocab)))
    return Model("coe", "deepseek_v2", width, vocab, (stack,), {"*": TRAINED})


COE48 = (4, 48.0, 4.0, 2)
COE64 = (4, 64.0, 8.0, 2)
MOE64 = (4, 64.0, 8.0, 1)
DEEP = (8, 64.0, 8.0, 1)


def training_bytes(shape: tuple[int, float, float, int]) -> float:
    """Weights, gradients and optimizer state."""
    return float(tw.evaluate(scenario(model(*shape), "1xh100-sxm")).memory.weight_bytes)


def saved(small: tuple[int, float, float, int], big: tuple[int, float, float, int]) -> float:
    """Per cent of the larger model's training memory."""
    return 100.0 * (1.0 - training_bytes(contrast(big, small)) / training_bytes(big))


def inner(shape: tuple[int, float, float, int]) -> float:
    """Parameters beside the two embedding tables, in units of 2**20."""
    whole = model(*shape)
    return float(whole.parameters - 2.0 * whole.vocab * whole.hidden) / 2**20


MEMORY = "section on resource efficiency; plot scripts of the authors' repository"

PAPER = Paper(
    slug="chain-of-experts",
    title="Chain-of-Experts: Unlocking the Communication Power of Mixture-of-Experts Models",
    source="arXiv:2506.18945",
    mechanism="Two passes through the experts of a layer, each with its own router.",
    claims=(
        Claim("memory saved: 2 × 4 of 48 experts against 8 of 64", 17.6, "%", "memory", "abstract; " + MEMORY,
              lambda: saved(COE48, MOE64)),
        Claim("memory saved: 2 × 8 of 64 experts in 4 layers against 8 of 64 in 8 layers", 42.0, "%", "memory",
              "abstract; " + MEMORY, lambda: saved(COE64, DEEP)),
        Claim("parameters beside embeddings, chain over 48 experts", 412.63, "Mi", "count", MEMORY,
              lambda: inner(COE48), extra=True),
        Claim("parameters beside embeddings, chain over 64 experts", 544.75, "Mi", "count", MEMORY,
              lambda: inner(COE64), extra=True),
        Claim("training memory, 8 layers", 20.21, "GiB", "memory", MEMORY, lambda: training_bytes(DEEP) / 2**30,
              extra=True),
    ),
    assumptions=(
        "Width 1024, 4 layers, 8 heads of latent attention (rank 512), 63 routed experts and a shared one of inner "
        "width 704, vocabulary 102400 with two tables (published configuration).",
        "Memory is that of training on one GPU with a micro-batch of 1: fp32 weights, gradients and two AdamW moments "
        "(the repository's trainer); activations are left out.",
    ),
)  # fmt: skip
