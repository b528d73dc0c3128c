"""InstInfer, later InstAttention (arXiv:2409.04992): keys and values lie on computational drives, which compute the
attention of decoding at the rate of their flash and read a part of it."""

from __future__ import annotations

from functools import cache

import tierwise as tw
from tierwise import techniques
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

BOX = "rtx-a6000 + 96GB ddr4 + "
FLEXGEN, LARGEST = 64, 256
# Of a step of sparse attention: half of the pages of keys and values, and of a second copy of the keys, an eighth of
# whose channels are chosen, the pages of two channels each that hold one.
PAGES, CHANNELS, A_PAGE = 0.5, 1.0 / 8.0, 2.0
SELECTOR = 16.0 * (1.0 - (1.0 - CHANNELS) ** A_PAGE)


def _base(drive: str, batch: float) -> tw.Scenario:
    return scenario("opt-13b", BOX + drive, tw.Batch(prompt=1024, output=1024, batch=batch), tw.Plan())


@cache
def flexgen() -> float:
    """Tokens a second with the cache in files of a plain drive."""
    there = techniques.offload_kv(1.0, to="nvme", mapped=True)
    return float(tw.evaluate(_base("nvme-gen4", FLEXGEN).apply(there)).throughput)


@cache
def dense() -> float:
    """Tokens a second with attention in the drive."""
    return float(tw.evaluate(_base("csd-8ch", LARGEST).apply(techniques.compute_in("nvme"))).throughput)


@cache
def sparse() -> float:
    """The same, a part of the cache read."""
    part = techniques.sparse_attention(read=PAGES, selector_bits=SELECTOR)
    return float(tw.evaluate(_base("csd-8ch", LARGEST).apply(part, techniques.compute_in("nvme"))).throughput)


_FILES = (
    "With attention in the drive as here, FlexGen would have to read its files at 1.4 GB/s; those of such a "
    "drive give 3.2 GB/s here. Its copies from file to pinned memory to the GPU by threads of Python are not priced."
)

PAPER = Paper(
    slug="instinfer",
    title="InstInfer: In-Storage Attention Offloading for Cost-Effective Long-Context LLM Inference",
    source="arXiv:2409.04992",
    mechanism="Keys and values lie on computational drives, which compute attention of decoding at their flash's rate.",
    claims=(
        Claim("throughput over FlexGen with drives, 13B on an A6000", 11.1, "x", "up-to", "abstract; section VI",
              lambda: sparse() / flexgen(), why=_FILES),
        Claim("the same, all of the cache read", 6.85, "x", "ratio", "section VI", lambda: dense() / flexgen(),
              extra=True, why=_FILES),
        Claim("sparse over dense attention in the drive", 2.08, "x", "up-to", "section VI",
              lambda: sparse() / dense(), extra=True, blind=True,
              why="which pages hold nothing that is chosen decides it; the text says half of them"),
    ),
    assumptions=(
        "OPT-13B in 16 bits, 1024 tokens read and 1024 written, an A6000 with 96 GB of DDR4; FlexGen at 64 requests, "
        "its most, attention in the drive at 256 (section VI, as notes on the published version give it).",
        "A drive of eight channels of 1.4 GB/s behind PCIe 4.0 x4 (section V); the plain one is a 990 PRO for the "
        "authors' 980 PRO, its files read through the page cache, which is smaller than they are.",
        "Half of the pages are read, one in eight channels is chosen. Two to eight channels lie in a page of 4 kB, by "
        "the length of a prompt, so that a page holds 1024 tokens or 256 (section IV-C): two for prompts of 1024. Four "
        "were assumed before that section was read, which gave 1.40 in place of 1.60.",
    ),
)  # fmt: skip
