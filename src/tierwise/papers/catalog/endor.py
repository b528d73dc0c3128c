"""Endor (arXiv:2406.11674): pruned weights lie on the disk as their nonzero values and one bit for each place, and are
spread out on the GPU."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import tierwise as tw
from tierwise import techniques
from tierwise.core.numerics import fmt
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

MACHINE = "rtx-a6000 + 256GB ddr4 + nvme-gen4"
ZEROS = 0.5
# A nonzero value and the two bits of the map that come to it.
BITMAP = replace(fmt("fp16"), name="fp16 with a bitmap", meta=1.0 / (1.0 - ZEROS))
MODELS = ("opt-66b", "llama-2-70b")


def base(model: str) -> tw.Scenario:
    """Before the disk: a model of which no weight is on the GPU, one sequence."""
    return scenario(model, MACHINE, tw.Batch(prompt=128, output=32, batch=1), tw.Plan())


@cache
def accelerate(model: str) -> float:
    """Seconds a token, dense weights read through the host's page cache."""
    return float(tw.evaluate(base(model).apply(techniques.read_from_disk(1.0))).tpot)


def sparse(model: str) -> tw.Scenario:
    """Pruned weights in Endor's format."""
    return base(model).apply(techniques.sparsify_weights(ZEROS), techniques.quantize_weights(BITMAP))


@cache
def endor(model: str) -> float:
    """Seconds a token of these, read in the same way."""
    return float(tw.evaluate(sparse(model).apply(techniques.read_from_disk(1.0))).tpot)


@cache
def direct(model: str) -> float:
    """Seconds a token of these, copied from the disk without the page cache."""
    return float(tw.evaluate(sparse(model).apply(techniques.offload_weights(1.0, to="nvme"))).tpot)


_BYTES = "Bytes of the format alone: both sides are read in the same way, at whatever rate."
_CACHE = (
    "The direct way is worth 1.3x to the authors and 2.1x here, where reads through a page cache come to 3.2 GB/s of a "
    "drive's 7.45: with a slower drive, or layers in the host's memory, it is worth less, and theirs is not known."
)

PAPER = Paper(
    slug="endor",
    title="Endor: Hardware-Friendly Sparse Format for Offloaded LLM Inference",
    source="arXiv:2406.11674",
    mechanism="Pruned weights leave the slow memory as their nonzero values and one bit for each place.",
    claims=(
        Claim("OPT-66B over Accelerate", 1.70, "x", "ratio", "abstract",
              lambda: accelerate("opt-66b") / endor("opt-66b"), blind=True, why=_BYTES),
        Claim("Llama-2-70B over Accelerate", 1.78, "x", "ratio", "abstract",
              lambda: accelerate("llama-2-70b") / endor("llama-2-70b"), blind=True, why=_BYTES),
        Claim("OPT-66B over Accelerate, from disk to GPU directly", 2.25, "x", "ratio", "abstract",
              lambda: accelerate("opt-66b") / direct("opt-66b"), why=_CACHE),
        Claim("Llama-2-70B over Accelerate, from disk to GPU directly", 2.37, "x", "ratio", "abstract",
              lambda: accelerate("llama-2-70b") / direct("llama-2-70b"), why=_CACHE),
    ),
    assumptions=(
        "Half of the weights of linear layers are zero, the usual of unstructured pruning (recalled, not re-checked); "
        "16-bit values.",
        "The machine was not found: an A6000, host memory of DDR4 and one drive of PCIe 4.0. All weights are read from "
        "the drive for each token; whatever share the authors' host kept in its memory gains nothing from the direct "
        "way.",
        "Spreading values out on the GPU is not priced: it takes a fortieth of the copy.",
    ),
)  # fmt: skip
