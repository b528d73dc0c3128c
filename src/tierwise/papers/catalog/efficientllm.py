"""EfficientLLM (arXiv:2505.13840): a benchmark of attention variants, mixtures of experts, adapters and int4 inference
on one cluster."""

from __future__ import annotations

import tierwise as tw
from tierwise.memory.account import weight_bytes
from tierwise.papers.types import NEEDS_SETUP, Claim, Paper
from tierwise.techniques import quantize_weights

MODELS = ("qwen2.5-14b", "qwen2.5-32b", "yi-34b")  # of section 5.5


def smaller(model: str) -> float:
    """How often a model with linear weights in 4 bits fits into the same model in 16."""
    base = tw.Scenario(model, "1xgh200")
    coded = base.apply(quantize_weights("int4"))
    sizes = [sum(weight_bytes(r.model, r.plan).values()) for r in (base.resolved(), coded.resolved())]
    return float(sizes[0] / sizes[1])


PAPER = Paper(
    slug="efficientllm",
    title="EfficientLLM: Efficiency in Large Language Models",
    source="arXiv:2505.13840",
    mechanism="Measurements of published techniques; no mechanism of its own.",
    claims=(
        Claim("VRAM of a mixture of experts over a dense model, more by", 40.0, "%", "memory", "abstract",
              missing=NEEDS_SETUP,
              why="Experts, batch and parallel layout of the training runs were not found. Table 5 has 76.5 GB for "
                  "8 experts of the 1.5B model and 43.9 to 44.8 GB without: 71 % more, not 40."),
        Claim("memory at int4", 3.9, "x", "up-to", "abstract", lambda: max(map(smaller, MODELS)),
              why="The abstract's number is a compression rate of table 9, which the paper defines as the ratio of "
                  "sizes times the share of the task score that is kept (equation 9); here the sizes alone."),
        Claim("energy at int4", 3.9, "x", "up-to", "abstract", missing=NEEDS_SETUP,
              why="Table 9 has no such ratio: mean power falls from 279 to 215 W for Qwen2.5-32B. Batch, lengths and "
                  "engine were not found."),
        Claim("size from which RSLoRA is better than LoRA", 14.0, "B", "at-least", "abstract", missing=NEEDS_SETUP,
              why="A result of training, not of cost: both have the same parameters and arithmetic."),
    ),
    assumptions=(
        "Linear weights with a scale a group, embeddings in 16 bits, as weight-only quantizers do: the quantizer was "
        "not found. Table 9's rates would need every parameter in 4 bits and no scales (3.69 × 0.5523 / 0.5095 = 4.00 "
        "for Qwen2.5-32B). Measured memory falls by less (71.3 to 48.3 GB there, cache and runtime included).",
        "Tables 5 and 9 as quoted in a summary of the paper; medium confidence.",
    ),
)  # fmt: skip
