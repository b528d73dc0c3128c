"""ZAYA1 (arXiv:2511.17127): a mixture of experts with convolved attention, trained on AMD's devices."""

from __future__ import annotations

from functools import cache

from tierwise.models.load import load_model
from tierwise.models.types import Model
from tierwise.papers.types import Claim, Paper


@cache
def model() -> Model:
    return load_model("zaya1-8b")


def table() -> float:
    """Parameters of the embedding, which is the head too."""
    return float(sum(w.elements for block in model().stack("decoder").before for w in block.weights()))


PAPER = Paper(
    slug="zaya1-amd",
    title="Training Foundation Models on a Full-Stack AMD Platform: Compute, Networking, and System Design",
    source="arXiv:2511.17127",
    mechanism="Attention works on queries and keys of half the width; one expert of sixteen works on a token.",
    claims=(
        Claim("active parameters, the embedding left out", 760.0, "M", "count", "abstract",
              lambda: (float(model().active_parameters) - table()) / 1e6),
        Claim("parameters, the embedding left out", 8.3, "B", "count", "abstract",
              lambda: (float(model().parameters) - table()) / 1e9),
    ),
    assumptions=(
        "Shapes of the published model (ZayaConfig of transformers 5.24).",
        "The embedding, 537 million, is counted in neither number: what a token is multiplied with beside it is 754 "
        "million already. A token that skips the experts has fewer.",
        "The abstract has no number of time or memory.",
    ),
)  # fmt: skip
