"""S3D (arXiv:2405.20314): the model drafts several tokens at once with its own outer layers, so that no second model
takes memory on a small GPU."""

from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

PAPER = Paper(
    slug="s3d-self-speculative",
    title="S3D: A Simple and Cost-Effective Self-Speculative Decoding Scheme for Low-Memory GPUs",
    source="arXiv:2405.20314",
    mechanism="Middle layers are skipped and mask tokens filled in one pass to draft; all layers verify.",
    claims=(
        Claim("slow-down of a fast model once quantized for a small GPU", 7.0, "x", "up-to", "abstract",
              missing=NEEDS_SETUP,
              why="which model, GPUs and quantizer; the kernels of 4- and 8-bit libraries of that time, under an eager "
                  "framework, were not measured"),
        Claim("speed of the Phi-3 model over quantized EAGLE", (1.4, 2.0), "x", "ratio", "abstract",
              missing=NEEDS_SETUP,
              why="layers skipped, tokens accepted of both, and the quantizer of EAGLE; the paper's tables could not "
                  "be read and no code of it is public where we looked"),
    ),
)  # fmt: skip
