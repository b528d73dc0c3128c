"""MatMul-free LM: ternary weights turn products into sums, and an elementwise recurrence replaces attention.

A layer is a gated recurrence of the model's width (four square projections) and a gated MLP; there is no cache
that grows.
"""

from tierwise import fmt
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.linear_attention import LinearAttention
from tierwise.models.blocks.mlp import MLP
from tierwise.models.family import pre_norm, stack
from tierwise.models.types import Model
from tierwise.papers.types import NEEDS_FEATURE, NEEDS_SETUP, Claim, Paper


def build(width: float, layers: int, inner: float, vocab: float = 32000.0) -> Model:
    """Heads of width one make linear attention an elementwise recurrence: forget, candidate, gate and output."""
    mixer = LinearAttention(width, heads=width, key_dim=1.0, value_dim=1.0, gate=False)
    layer = pre_norm("recurrence+mlp", width, mixer, MLP(width, inner))
    ends = (Norm(width, name="final_norm"), Head(width, vocab))
    decoder = stack("decoder", [layer] * layers, before=(Embedding(vocab, width),), after=ends)
    ternary = fmt("ternary")
    return Model("matmul-free", "hgrn-bit", width, vocab, (decoder,),
                 formats={"*": fmt("bf16"), "attn": ternary, "mlp": ternary})  # fmt: skip


PAPER = Paper(
    slug="matmul-free-lm",
    title="Scalable MatMul-free Language Modeling",
    source="arXiv:2406.02528",
    mechanism="Ternary weights and an elementwise gated recurrence leave no matrix multiplication.",
    claims=(
        Claim("parameters of the largest model", 2.7, "B", "count", "abstract",
              lambda: float(build(2560.0, 32, 6912.0).parameters) / 1e9),
        Claim("parameters of the middle model", 1.3, "B", "count", "README of the authors' repository",
              lambda: float(build(2048.0, 24, 5632.0).parameters) / 1e9, extra=True),
        Claim("training memory saved by the fused implementation", 61.0, "%", "up-to", "abstract",
              missing=NEEDS_FEATURE, why="activations kept for the backward pass, fused and unfused, are not modelled"),
        Claim("inference memory, unoptimized model over optimized kernel", 10.0, "x", "at-least", "abstract",
              metric="memory",
              missing=NEEDS_SETUP, why="what the unoptimized model stores is not stated; a 16-bit transformer of the "
              "same size over two-bit weights is 6 to 7x, a 32-bit one 13x"),
        Claim("power on an FPGA", 13.0, "W", "absolute", "abstract", metric="energy", missing=NEEDS_SETUP,
              why="the card's shell, clock and utilisation are needed"),
    ),
    assumptions=(
        "32 layers of width 2560, 24 of 2048; inner widths 6912 and 5632 (8/3 of the width, rounded up to 256); "
        "vocabulary 32000 (repository)",
    ),
)  # fmt: skip
