"""DReSD (arXiv:2502.15572): drafts are looked up by the nearest contexts' embeddings, not by matching strings."""

from tierwise.papers.types import NEEDS_SETUP, Claim, Paper

PAPER = Paper(
    slug="dresd",
    title="DReSD: Dense Retrieval for Speculative Decoding",
    source="arXiv:2502.15572",
    mechanism="A nearest-neighbour search an index holds replaces string matching; longer drafts turn out right.",
    claims=(
        Claim("drafts accepted over REST", 87.0, "%", "ratio", "abstract", missing=NEEDS_SETUP,
              why="what a search finds is behaviour of the text and the data store; neither table nor logs are in the "
                  "repository"),
        Claim("accepted length over REST", 65.0, "%", "ratio", "abstract", missing=NEEDS_SETUP,
              why="as above; only the ratio is published where we could read it, not either length"),
        Claim("generation speed over REST", 19.0, "%", "ratio", "abstract", missing=NEEDS_SETUP,
              why="Follows from both lengths and the time of a search (serving/drafts.py prices the verification of "
                  "the repository's 10 drafts of 10 tokens); lengths, search times and GPU are not in it."),
    ),
    assumptions=(
        "Llama-2-Chat-7B, embeddings cut to 64 dimensions, 10 drafts of 10 tokens, 128 tokens generated (README of "
        "huawei-noah/HEBO, branch DReSD).",
    ),
)  # fmt: skip
