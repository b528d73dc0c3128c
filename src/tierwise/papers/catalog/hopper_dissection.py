"""Hopper dissection (arXiv:2402.13499): latencies and rates of Hopper, Ada and Ampere GPUs by microbenchmarks."""

from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

PAPER = Paper(
    slug="hopper-dissection",
    title="Benchmarking and Dissecting the Nvidia Hopper GPU Architecture",
    source="arXiv:2402.13499",
    mechanism="Measured latencies and rates of caches, memory and matrix instructions.",
    claims=(
        Claim("8-bit over 16-bit time of a large linear layer on the H100", 2.0, "x", "up-to",
              "section on the Transformer Engine, as recalled", missing=NEEDS_SETUP, extra=True,
              why="Sizes and the exact number are not at hand. The abstract has no number; the paper's latencies are "
                  "inputs of the catalog (machines/catalog: `luo2024`), not results to reproduce."),
    ),
)  # fmt: skip
