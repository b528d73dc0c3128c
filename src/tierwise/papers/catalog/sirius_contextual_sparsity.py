"""Sirius (arXiv:2409.03856): most tokens are written with half of the neurons of each feed-forward layer; after every
fifteen of them the whole model looks over what was written, and rewrites what it would not have."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache

import tierwise as tw
from tierwise.models.blocks.mlp import MLP
from tierwise.models.load import load_model
from tierwise.models.types import Block, Model
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import Claim, Paper
from tierwise.techniques import offload_weights

NEURONS = 0.5  # of a feed-forward layer, chosen from the prompt
SPARSE, ACCEPTED = 15.0, 15.22  # sparse tokens between two looks of the whole model; tokens that stay, a round
PROMPT, OUTPUT = 900.0, 100.0  # eight worked examples and a question; what is timed is writing alone


@dataclass(frozen=True)
class Row:
    """A GPU of the table of latencies: milliseconds a token of the whole model, with half its neurons, and of both."""

    name: str
    machine: str
    full: float
    sparse: float
    sirius: float


ROWS = (
    Row("A40", "1xa40", 30.9, 20.7, 24.1),
    Row("L40", "1xl40", 23.2, 15.6, 18.2),
    Row("A100", "1xa100-sxm-80gb", 13.3, 9.6, 11.1),
)
AWAY = Row("70B, weights in host memory", "1xl40", 5720.0, 3570.0, 3680.0)


def few(model: Model) -> Model:
    """The model as its sparse tokens see it."""

    def change(block: Block) -> Block:
        return replace(block, inner=NEURONS * block.inner) if isinstance(block, MLP) else block

    return model.map_blocks(change)


@cache
def base(row: Row, tokens: float = 0.0) -> tw.Scenario:
    """The whole model writing a token, or looking over so many."""
    traffic = tw.Batch(tokens, 1, 1) if tokens else tw.Batch(PROMPT, OUTPUT, 1)
    if row is AWAY:
        return scenario("llama-3-70b", row.machine, traffic, under=[offload_weights(1.0)])
    return scenario("llama-3-8b", row.machine, traffic)


@cache
def full(row: Row) -> float:
    """Seconds a token of the whole model."""
    return float(tw.evaluate(base(row)).tpot)


@cache
def sparse(row: Row) -> float:
    """Seconds a token with few neurons."""
    whole = base(row)
    model = load_model(str(whole.model))
    return float(tw.evaluate(replace(whole, model=contrast(model, few(model)))).tpot)


@cache
def sirius(row: Row) -> float:
    """Seconds a token that stays: a round is its sparse tokens and one look of the whole model at all of them."""
    look = float(tw.evaluate(base(row, SPARSE + 1.0)).ttft)
    return (SPARSE * sparse(row) + look) / ACCEPTED


def saved(row: Row) -> float:
    """Percent of the whole model's time."""
    return 100.0 * (1.0 - sirius(row) / full(row))


def density(name: str) -> float:
    """Parameters that a sparse token reads, of all."""
    model = load_model(name)
    return float(contrast(model, few(model)).parameters / model.parameters)


_LINK = "Both sides wait for the same link, so that its rate cancels; milliseconds a token are below."
_ROUND = (
    "Whole steps come within 15 % of the authors'. Their rounds take 7 % more than fifteen of their sparse tokens and "
    "one whole (24.1 against 22.4 ms on the A40), for what is taken back, and on an A100 a sparse token takes 0.72 of "
    "a whole one, where 0.65 of the weights are read: time of their compiled PyTorch that does not shrink with them. "
    "The engine prices tuned kernels in a recorded graph; as PyTorch compiles them (their script's torch.compile, with "
    "heads expanded and a cache of 900 tokens) they come out faster yet, 8.5 ms on an A100 for 13.3, 19 on an L40 for "
    "23: its products of one token were measured in no recording."
)


def _row(row: Row) -> tuple[Claim, ...]:
    """The claims of one line."""
    place = "README of the authors' repository"
    return (
        Claim(f"{row.name}, whole model", row.full, "ms", "absolute", place, lambda: 1e3 * full(row), extra=True,
              why=_ROUND),
        Claim(f"{row.name}, half of the neurons", row.sparse, "ms", "absolute", place, lambda: 1e3 * sparse(row),
              extra=True, why=_ROUND),
        Claim(f"{row.name}, Sirius", row.sirius, "ms", "absolute", place, lambda: 1e3 * sirius(row), extra=True,
              why=_ROUND),
        Claim(f"{row.name}, Sirius less than the whole model", 100.0 * (1.0 - row.sirius / row.full), "%", "ratio",
              place, lambda: saved(row), extra=True, blind=row is AWAY,
              why=_LINK if row is AWAY else _ROUND),
    )  # fmt: skip


PAPER = Paper(
    slug="sirius-contextual-sparsity",
    title="Sirius: Contextual Sparsity with Correction for Efficient LLMs",
    source="arXiv:2409.03856",
    mechanism="Tokens are written with half of the neurons, and the whole model looks over them from time to time.",
    claims=(
        Claim("latency of an 8B model on one GPU, less by", 20.0, "%", "ratio", "abstract",
              lambda: sum(saved(r) for r in ROWS) / len(ROWS), why=_ROUND),
        Claim("latency of a 70B model with weights in host memory, less by", 35.0, "%", "ratio", "abstract",
              lambda: saved(AWAY), blind=True,
              why=_LINK),
        *(claim for row in (*ROWS, AWAY) for claim in _row(row)),
        Claim("parameters a sparse token of Llama-3-8B reads", 0.65, "of all", "count",
              "README of the authors' repository", lambda: density("llama-3-8b"), extra=True),
    ),
    assumptions=(
        "Half of the neurons of each feed-forward layer, the default of coarse-grained sparsity; Llama-3-8B on an A40, "
        "L40 and A100, Llama-3-70B with all weights crossing PCIe at 25 GB/s (README); 16-bit weights, one sequence.",
        "Rounds of 16 tokens of which 15.22 stay (README, GSM8K with Llama-3-8B): 15 sparse tokens and one look of the "
        "whole model, which is what its effective density of 0.706 says. The same for the 70B, whose own is not given.",
        "The A100 is taken for an SXM of 80 GB and the 70B's GPU for an L40, on a slot of PCIe 4.0.",
        "A look is a step over 16 tokens; the few hundred tokens before them, half a percent of the weights, are left "
        "out of it. Prompts of about 900 tokens: eight worked examples.",
        "20 % is read as the mean of the three GPUs.",
    ),
)  # fmt: skip
