"""vAttention (arXiv:2405.04437): keys and values stay contiguous in virtual memory, pages are mapped as a request
grows, so that attention kernels made for contiguous caches serve unchanged, in place of kernels that look up blocks."""

from __future__ import annotations

from functools import cache

import tierwise as tw
from tierwise.models.hf import from_config
from tierwise.models.types import Model
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

# How much longer vLLM's decode kernel takes than FlashAttention's, Yi-6B, 16 requests of 16K tokens (figure 9).
KERNEL = 2.85
LONG = 16 * 1024


@cache
def yi_6b() -> Model:
    """Yi-6B, from the config.json its authors published (a Llama with 4 key-value heads)."""
    return from_config({
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 4, "vocab_size": 64000, "max_position_embeddings": 200000,
        "tie_word_embeddings": False, "torch_dtype": "bfloat16",
    }, "Yi-6B")  # fmt: skip


def decode_gain(requests: float, kernel: float = KERNEL) -> float:
    """Decode steps per second with FlashAttention's kernel over one whose attention takes ``kernel`` times as long."""
    s = scenario(yi_6b(), "1xa100-sxm-80gb", tw.Batch(prompt=LONG, output=2, batch=requests), engine="vllm")
    step = tw.evaluate(s).phase("decode")
    attention = float(step.total(lambda p: p.cost.time if p.op.kind == "attention" else 0.0))
    whole = float(step.pass_time)
    return (whole + (contrast(1.0, kernel) - 1.0) * attention) / whole


def kv_token(model: Model | str) -> float:
    """KiB of keys and values of one token."""
    s = scenario(model, "1xa100-sxm-80gb", tw.Batch(prompt=1023, output=1, batch=1))
    return float(tw.evaluate(s).memory.per_sequence) / 1024 / 1024


_PAGED = (
    "The engine prices one attention kernel for paged and contiguous caches alike; what looking up blocks costs one "
    "that computes prompts, in chunks of 2048 queries, is not in it, nor is a ratio of the two kernels in the text."
)

PAPER = Paper(
    slug="vattention",
    title="vAttention: Dynamic Memory Management for Serving LLMs without PagedAttention",
    source="arXiv:2405.04437",
    mechanism="Physical pages are mapped behind contiguous virtual memory, so the best contiguous kernels can be used.",
    claims=(
        Claim("tokens per second of decoding, over vLLM", 1.97, "x", "up-to", "abstract",
              lambda: max(decode_gain(b) for b in (1.0, 2.0, 4.0, 8.0, 12.0, 16.0)),
              blind=True,
              why="the ratio of the two attention kernels is an input (figure 9); how much of a step they are, is not"),
        Claim("prompts, over the paged kernel of FlashAttention", 3.92, "x", "up-to", "abstract",
              missing=NEEDS_FEATURE, why=_PAGED),
        Claim("prompts, over the paged kernel of FlashInfer", 1.45, "x", "up-to", "abstract", missing=NEEDS_FEATURE,
              why=_PAGED),
        Claim("keys and values of a token, Yi-6B", 64.0, "KiB", "count", "section 5, as recalled",
              lambda: kv_token(yi_6b()), extra=True),
        Claim("keys and values of a token, Yi-34B", 240.0, "KiB", "count", "section 5, as recalled",
              lambda: kv_token("yi-34b"), extra=True),
    ),
    assumptions=(
        "vLLM 0.2.7's own decode kernel takes 2.85 times as long as FlashAttention's, Yi-6B, 16 requests of 16K tokens "
        "each (figure 9); the same at fewer requests",
        "one A100 of 80 GB for Yi-6B, contexts of 16K tokens (section 7.2)",
        "the rest of a step is the same on both sides; host time of the block tables is left out",
    ),
)  # fmt: skip
