"""AutoLife-Lite study (arXiv:2504.00002): one application of a language model on phones, at the edge and in clouds."""

from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

_WHY = "Phones, models, formats, runtimes and the lengths of prompts and answers are not in the abstract"

PAPER = Paper(
    slug="autolife-lite-study",
    title="Are We There Yet? A Measurement Study of Efficiency for LLM Applications on Mobile Devices",
    source="arXiv:2504.00002",
    mechanism="Weights must fit a phone's memory and cross it once a token.",
    claims=(
        Claim("largest class of models that runs on a phone", 4.0, "B", "at-most", "abstract", missing=NEEDS_SETUP,
              why=_WHY + "."),
        Claim("latency on a phone, meaningful output", 30.0, "s", "at-least", "abstract", missing=NEEDS_SETUP,
              why=_WHY + "; the latency is that of one answer of unknown length."),
        Claim("latency of cloud services", 10.0, "s", "at-most", "abstract", missing=NEEDS_SETUP,
              why="Whose model, on what and for how many tokens is not known."),
    ),
)  # fmt: skip
