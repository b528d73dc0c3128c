"""GPipe (arXiv:1811.06965): micro-batches flow through stages on different accelerators, forward, then backward."""

from __future__ import annotations

from tierwise.models.hf import from_config
from tierwise.papers.base import contrast
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

# Layers of the encoder and as many of the decoder, width inside a feed-forward, heads.
SMALLEST, DEEP, WIDE, LARGE, LARGEST = (6, 8192, 16), (24, 8192, 16), (12, 16384, 32), (32, 16384, 32), (64, 16384, 32)


def parameters(shape: tuple[int, int, int]) -> float:
    """Parameters of a translation model, in 1e9."""
    layers, inner, heads = shape
    config = {
        "model_type": "t5", "d_model": 1024, "d_ff": inner, "d_kv": 64, "num_heads": heads, "num_layers": layers,
        "num_decoder_layers": layers, "vocab_size": 64000, "feed_forward_proj": "relu",
        "relative_attention_num_buckets": 32, "tie_word_embeddings": False,
    }  # fmt: skip
    return float(from_config(config, "gpipe").parameters) / 1e9


_TIME = (
    "On TPU v3, for which no training framework has coefficients; and GPipe's schedule, where the account of training "
    "lays out 1F1B."
)

PAPER = Paper(
    slug="gpipe",
    title="GPipe: Efficient Training of Giant Neural Networks using Pipeline Parallelism",
    source="arXiv:1811.06965",
    mechanism="Micro-batches fill a pipeline of stages; layers are computed again for their backward pass.",
    claims=(
        Claim("parameters of the translation model of 128 layers", 6.0, "B", "count", "abstract",
              lambda: parameters(contrast(SMALLEST, LARGEST))),
        Claim("parameters of the image model", 557.0, "M", "count", "abstract", missing=NEEDS_FEATURE,
              why="AmoebaNet, whose cells no family of models builds"),
        Claim("parameters of 6 + 6 layers", 0.4, "B", "count", "section 5", lambda: parameters(SMALLEST), extra=True),
        Claim("parameters of 24 + 24 layers", 1.3, "B", "count", "section 5", lambda: parameters(DEEP), extra=True),
        Claim("parameters of 12 + 12 layers, wider", 1.3, "B", "count", "section 5", lambda: parameters(WIDE),
              extra=True),
        Claim("parameters of 32 + 32 layers, wider", 3.0, "B", "count", "section 5", lambda: parameters(LARGE),
              extra=True),
        *(
            Claim(f"throughput of 48 layers on {k} stages, {m} micro-batches, over 2 and 1", x, "x", "ratio", "table 2",
                  missing=NEEDS_FEATURE, extra=True, why=_TIME)
            for (k, m), x in {(4, 1): 1.07, (8, 1): 1.3, (2, 4): 1.7, (4, 4): 3.2, (8, 4): 4.8, (2, 32): 1.8,
                              (4, 32): 3.4, (8, 32): 6.3}.items()
        ),
    ),
    assumptions=(
        "T(L, H, A): L layers of encoder and L of decoder, 1,024 wide, H inside feed-forwards, A heads, vocabulary 64k "
        "(section 5 and its footnote).",
        "Heads of 64, as 16 of them are in Transformer Big, which the smallest model is; more heads widen attention, "
        "as the text says. One table embeds both languages, the output head has its own.",
    ),
)  # fmt: skip
