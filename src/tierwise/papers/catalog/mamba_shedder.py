"""Mamba-Shedder (arXiv:2501.17088): whole Mamba blocks, or only the scans inside them, are taken out one by one where
a calibration set misses them least."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import tierwise as tw
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.ssm import Mamba2
from tierwise.models.types import Block, Layer, Model, Stack
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper
from tierwise.techniques import drop_scans, prune_layers

Technique = Callable[[tw.Scenario], tw.Scenario]


def _gains(model: str | Model, *techniques: Technique) -> tuple[float, float]:
    """Per cent faster in (prefill, decode), as tables 6 to 8 measure them: as a ratio 1.1x would pass for 1.4x."""
    base = scenario(model, "1xv100-sxm-32gb", tw.Batch(prompt=512, output=16, batch=1))
    before, after = tw.evaluate(base), tw.evaluate(base.apply(*techniques))
    return 100.0 * float(before.ttft / after.ttft - 1.0), 100.0 * float(before.tpot / after.tpot - 1.0)


WIDTH, INNER, VOCAB = 2560.0, 10240.0, 32000.0
HYBRID = (6, 12, 18, 24, 30, 36, 42, 47, 51)  # layers of the 54 that begin with a shared transformer block
# Of each of these its MLP's channels that stay (0: no MLP), and the layers that lose their scan: the published
# configuration of Zamba2-2.7B at a ratio of 10.
KEPT = (3072.0, 4096.0, 8192.0, 10240.0, 6144.0, 9216.0, 0.0, 0.0, 0.0)
SCANS = (47, 42, 48, 43, 45, 37, 51, 40, 44, 46, 38, 41, 53, 49, 33, 31, 34, 50)


def zamba2() -> Model:
    """Zamba2-2.7B: Mamba-2 layers, nine of which first run a transformer block over their input and the embedding side
    by side. The blocks' few weights for each place (rank 128) are left out."""
    mixer = (Norm(WIDTH), Mamba2(WIDTH, 80.0, 64.0, 64.0, 1.0, 4.0, 256.0))
    attention = (
        Norm(2.0 * WIDTH),
        # Queries of both halves of the input: those of the embedding are added to the attention's own.
        Projection(Linear("q_proj_embedding", WIDTH, 2.0 * WIDTH, role="attn")),
        Attention(WIDTH, 32.0, 32.0, 160.0, kv_hidden=2.0 * WIDTH),
        Norm(WIDTH),
    )
    after = (Projection(Linear("linear", WIDTH, WIDTH, role="attn")), *mixer)
    plain = Layer("mamba", mixer)
    # A kind of its own for each place, so that each may keep other channels.
    shared = [Layer(f"hybrid {i}", (*attention, MLP(WIDTH, INNER, name=f"mlp{i}"), *after)) for i in range(len(HYBRID))]
    pattern = tuple(1 + HYBRID.index(i) if i in HYBRID else 0 for i in range(54))
    ends: tuple[tuple[Block, ...], tuple[Block, ...]] = (
        (Embedding(VOCAB, WIDTH),),
        (Norm(WIDTH), Head(WIDTH, VOCAB, tied=True)),
    )
    stack = Stack("decoder", (plain, *shared), pattern, *ends)
    return Model("zamba2-2.7b", "zamba2", WIDTH, VOCAB, (stack,))


def _narrowed(s: tw.Scenario) -> tw.Scenario:
    """The MLPs of the transformer blocks with the channels that stay."""

    def change(block: Block) -> Block | None:
        if not isinstance(block, MLP):
            return block
        kept = KEPT[int(block.name.removeprefix("mlp"))]
        return replace(block, inner=kept) if kept else None

    return replace(s, model=s.resolved().model.map_blocks(change), techniques=(*s.techniques, "narrower MLPs"))


def _zamba2(phase: int) -> float:
    return _gains(zamba2(), _narrowed, drop_scans(layers=SCANS))[phase]


def _blocks(count: int) -> tuple[float, float]:
    return _gains("mamba-2.8b", prune_layers(count))


def _scans(count: int) -> tuple[float, float]:
    return _gains("mamba2-2.7b", drop_scans(count))


def _parameters() -> float:
    return float(scenario("mamba-2.8b", "v100-sxm-32gb").apply(prune_layers(14)).resolved().model.parameters) / 1e9


_SHARE = "The share of equal blocks that is gone, whatever a block takes."
_SMALL = (
    "The scan is a tenth of a block's time here and four tenths there: on a V100 the published kernel runs its small "
    "products far below the matrix engine's rate, as five kernels, and eager launches bound one-token steps. Missing: "
    "the efficiency of small chained products, and the kernels a block really launches."
)

PAPER = Paper(
    slug="mamba-shedder",
    title="Mamba-Shedder: Post-Transformer Compression for Efficient Selective Structured State Space Models",
    source="arXiv:2501.17088",
    mechanism="Removal of Mamba blocks, or of the scans inside them.",
    claims=(
        Claim("inference after removal faster by", 40.0, "%", "up-to",
              "abstract (1.4x); table 8: Zamba2-2.7B decodes 1.39x",
              lambda: _zamba2(1), why=_SMALL),
        Claim("parameters of mamba-2.8b without 14 blocks", 2.2, "B", "count", "the authors' repository",
              _parameters, extra=True),
        Claim("mamba-2.8b without 14 of 64 blocks, prefill faster by", 31.0, "%", "ratio", "table 6 (1.31x)",
              lambda: _blocks(14)[0],
              extra=True, blind=True, why=_SHARE),
        Claim("mamba-2.8b without 14 of 64 blocks, decode faster by", 29.0, "%", "ratio", "table 6 (1.29x)",
              lambda: _blocks(14)[1],
              extra=True, blind=True, why=_SHARE),
        Claim("mamba-2.8b without 7 of 64 blocks, decode faster by", 13.0, "%", "ratio", "table 6 (1.13x)",
              lambda: _blocks(7)[1],
              extra=True, blind=True, why=_SHARE),
        Claim("mamba2-2.7b without 24 of 64 scans, prefill faster by", 20.0, "%", "ratio", "table 7 (1.20x)",
              lambda: _scans(24)[0], extra=True, why=_SMALL),
        Claim("mamba2-2.7b without 24 of 64 scans, decode faster by", 18.0, "%", "ratio", "table 7 (1.18x)",
              lambda: _scans(24)[1], extra=True, why=_SMALL),
    ),
    assumptions=(
        "One V100 32GB, read as the SXM2 card; 1 request, 512 tokens in, 16 out (section 4.4; table 6).",
        "Which blocks of mamba-2.8b go does not matter to cost.",
        "Zamba2-2.7B: no block or attention goes, three MLPs and 18 scans do, six MLPs keep some of their channels "
        "(Mamba-Shedder/hybrid/Zamba2-Pruning/results/zamba2-2.7b/ratio_10/pruning_config.json of the authors' "
        "repository; the channels of places whose MLP stays are read as those kept, since those of the three that go "
        "are all listed); 54 layers of width 2560, 80 heads of 64 (published configuration, the heads as recalled).",
    ),
)  # fmt: skip
