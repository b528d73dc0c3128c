"""SKIP (arXiv:2504.11750): eager inference is bound by the host until a batch is large enough; the faster the GPU, the
larger that batch."""

from __future__ import annotations

from functools import cache

import numpy as np

import tierwise as tw
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import Claim, Paper
from tierwise.techniques import eager

LENGTH, BATCHES = 512.0, np.asarray(2.0 ** np.arange(8))
LARGE = 16.0
LOOSE, CLOSE = ("a100-pcie-80gb", "h100-pcie"), "gh200"
MODELS = ("llama-3.2-1b", "bert-base")


@cache
def prefill(model: str, machine: str) -> tw.Result:
    """Prompts of 512 tokens in eager `transformers`, at every batch."""
    traffic = tw.Batch(prompt=LENGTH, output=1, batch=BATCHES)
    return tw.evaluate(scenario(model, f"1x{machine}", traffic, under=[eager("transformers")]))


def speedup(over: str) -> float:
    """Prefill time of Llama-3.2-1B over the GH200's, mean of the large batches."""
    there, here = (np.asarray(prefill(MODELS[0], m).time)[BATCHES >= LARGE] for m in (over, contrast(over, CLOSE)))
    return float(np.mean(there / here))


def turning(model: str, machine: str) -> float:
    """The smallest batch that the GPU bounds, not the host."""
    bound = np.asarray(prefill(model, machine).phases[0].bound_by)
    return float(BATCHES[bound != "launch"][0])


def longer() -> float:
    """How many times larger that batch is on the GH200, at most."""
    return max(turning(m, contrast(loose, CLOSE)) / turning(m, loose) for m in MODELS for loose in LOOSE)


PAPER = Paper(
    slug="skip-tklqt",
    title="Characterizing and Optimizing LLM Inference Workloads on CPU-GPU Coupled Architectures",
    source="arXiv:2504.11750",
    mechanism="Launches queue up on the GPU; below a batch the host sets the pace, above it the GPU.",
    claims=(
        Claim("prefill of Llama-3.2-1B at large batch, A100 over GH200", 2.7, "x", "ratio", "abstract (the higher)",
              lambda: speedup("a100-pcie-80gb"), blind=True,
              why="A ratio of two machines, from which an error of both cancels."),
        Claim("prefill of Llama-3.2-1B at large batch, H100 PCIe over GH200", 1.9, "x", "ratio", "abstract (the lower)",
              lambda: speedup("h100-pcie"), blind=True,
              why="A ratio of two machines, from which an error of both cancels. Half by rates, half by the clock that "
                  "350 W leave the PCIe card in dense products: 87 % here; 80 % were seen (the catalog's note)."),
        Claim("batch up to which the host bounds, GH200 over PCIe systems", 4.0, "x", "up-to", "abstract", longer,
              why="On the GPU's speed alone: the engine gives all hosts one pace. The paper adds the Grace CPU's."),
    ),
    assumptions=(
        "PCIe A100 and H100 against GH200 (abstract); prompts of 512 tokens, batches in powers of two, 16 and more "
        "read as large, `transformers` in eager mode, its attention fused: as recalled, not re-checked. With scores "
        "written the three come to 2.2, 1.5 and 2x.",
        "Llama-3.2-1B and BERT-base of the paper's models.",
    ),
)  # fmt: skip
