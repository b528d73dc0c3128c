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
              why="An author's fork of EAGLE logs LLaMA-2-chat 7B at 40.0 tokens/s in 16 bits, 8.9 in bitsandbytes' "
                  "int8, 8.6 and, the drafter quantized too, 5.3 in its NF4: 7.6x. The GPU is not named, and how fast "
                  "that library writes weights out in 16 bits before each product was not measured."),
        Claim("speed of the Phi-3 model over quantized EAGLE", (1.4, 2.0), "x", "ratio", "abstract",
              missing=NEEDS_SETUP,
              why="layers skipped and tokens accepted of both, and the GPU; the paper's tables could not be read, and "
                  "no code of S3D is public where we looked"),
    ),
    assumptions=("EAGLE's logs: output-awq.tsv of w32zhong/EAGLE.",),
)  # fmt: skip
