"""FedNano (arXiv:2506.14824): clients keep an encoder of images and adapters, a server the language model."""

from __future__ import annotations

from functools import cache

from tierwise.models.blocks.common import Linear, Projection
from tierwise.models.blocks.mlp import MLP
from tierwise.models.family import stack
from tierwise.models.load import load_model
from tierwise.models.types import Layer, Model
from tierwise.papers.base import contrast
from tierwise.papers.types import Claim, Paper

VISION, WIDTH, RANK = 1024.0, 4096.0, 64.0


@cache
def whole() -> Model:
    """LLaVA-1.5-7B: the tower, two maps that connect it, and the language model."""
    tower, text = load_model("clip-vit-large-patch14-336").stack("vision"), load_model("llama-2-7b")
    widths = ((VISION, WIDTH), (WIDTH, WIDTH))
    maps = tuple(Projection(Linear(f"connector{i}", a, b, True, "vision")) for i, (a, b) in enumerate(widths))
    connector = stack("connector", [Layer("connector", maps)], stream="vision", tokens=576.0)
    return Model("llava-1.5-7b", "llava", WIDTH, text.vocab, (tower, connector, *text.stacks))


@cache
def adapters() -> Model:
    """One between the connector and the language model, one behind its embedding."""
    pair = tuple(MLP(WIDTH, RANK, gated=False, name=name) for name in ("image", "text"))
    return Model("adapters", "adapters", WIDTH, 0.0, (stack("adapters", [Layer("adapters", pair)]),))


@cache
def client() -> Model:
    """What a client keeps."""
    return Model("client", "llava", WIDTH, 0.0, (whole().stack("vision"), *adapters().stacks))


def millions(model: Model) -> float:
    return float(model.parameters) / 1e6


def share(part: Model) -> float:
    """Percent of the whole model's parameters."""
    return 100.0 * millions(part) / millions(whole())


PAPER = Paper(
    slug="fednano",
    title="FedNano: Toward Lightweight Federated Tuning for Pretrained Multimodal Large Language Models",
    source="arXiv:2506.14824",
    mechanism="Only adapters at the model's inputs are trained and sent; the language model stays with the server.",
    claims=(
        Claim("client storage saved", 95.0, "%", "memory", "abstract",
              lambda: 100.0 - share(contrast(whole(), client()))),
        Claim("sent over the model's parameters", (0.005, 0.015), "%", "count", "abstract: 0.01 %",
              lambda: share(contrast(whole(), adapters())), identity=True,
              why="a rank of 64, which the million parameters of the table say too, over the model's 7 billion"),
        Claim("parameters that a client keeps, LLaVA-1.5-7B", 304.55, "M", "count", "table of costs",
              lambda: millions(contrast(whole(), client())), extra=True, unread=True),
        Claim("parameters that a client sends, LLaVA-1.5-7B", 1.05, "M", "count", "table of costs",
              lambda: millions(adapters()), extra=True, identity=True, why="two adapters of two maps, rank by width"),
    ),
    assumptions=(
        "LLaVA-1.5-7B: CLIP ViT-L/14 at 336 pixels, a connector of two maps, Vicuna-7B, which is shaped as Llama-2-7B. "
        "Two adapters of rank 64 on its width.",
        "Storage is counted in parameters. A client's number in the table is the tower and the adapters, without the "
        "connector; the tower here has CLIP's projection too (0.8 M).",
        "0.01 % is printed with two decimals, so that it stands for what rounds to it.",
        "Rank and table as remembered, written down before running; the paper's text was not at hand.",
    ),
)  # fmt: skip
