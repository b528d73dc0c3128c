"""ScMoE (arXiv:2404.05019): experts see the layer before, so that their exchanges run beside what stands between."""

from __future__ import annotations

from tierwise import Batch, Plan, evaluate
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.family import pre_norm, stack
from tierwise.models.types import Model
from tierwise.papers.base import scenario
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper

VOCAB = 51200.0


def mixture(name: str, layers: int, width: float, heads: float, experts: float) -> Model:
    """Every second layer has experts, of which a token visits two."""
    attention = Attention(width, heads, heads, width / heads, qkv_bias=True, out_bias=True)
    dense = pre_norm("dense", width, attention, MLP(width, 4.0 * width, gated=False, bias=True), bias=True)
    sparse = pre_norm("sparse", width, attention, MoE(width, experts, 2.0, 4.0 * width, gated=False), bias=True)
    ends = {"before": (Embedding(VOCAB, width),), "after": (Head(width, VOCAB, tied=True),)}
    kinds = [sparse if i % 2 else dense for i in range(layers)]
    return Model(name, "gpt", width, VOCAB, (stack("decoder", kinds, **ends),))



def share(machine: str, model: Model, tokens: float, sequences: float) -> float:
    """Percent of the time of the layers' experts, router and exchanges included, that exchanges take."""
    plan = Plan(dp=8.0, ep=8.0)
    phase = evaluate(scenario(model, machine, Batch(prompt=tokens, output=1, batch=sequences), plan)).phase("prefill")
    sent = float(phase.total(lambda p: p.cost.time if p.op.kind == "collective" else 0.0))
    worked = float(phase.total(lambda p: p.cost.time if p.op.role == "moe" and p.op.kind != "collective" else 0.0))
    return 100.0 * sent / (sent + worked)


GPT2_MEDIUM = mixture("gpt2-moe-medium", 24, 1024.0, 16.0, 16.0)
SWIN_STAGE = mixture("swinv2-moe-s-stage-3", 18, 384.0, 12.0, 8.0)
_SHORTCUT = (
    "the shortcut: exchanges of one layer's experts beside attention and dense layers up to the next; a schedule that "
    "reads collectives late hides them behind any compute"
)


def _missing(what: str, published: float | tuple[float, float]) -> Claim:
    return Claim(what, published, "%", "ratio", "abstract", missing=NEEDS_FEATURE, why=_SHORTCUT)


PAPER = Paper(
    slug="scmoe-shortcut-expert-parallelism",
    title="Shortcut-connected Expert Parallelism for Accelerating Mixture-of-Experts",
    source="arXiv:2404.05019",
    mechanism="Experts see what the layer before computed, so that their exchanges run beside the layers between.",
    claims=(
        Claim("share of exchanges in the experts' time, 8 A30 over PCIe", 60.0, "%", "ratio", "abstract",
              lambda: share("8xa30", SWIN_STAGE, 144.0, 1024.0),
              why="an exchange moves about 2 GB/s a device here, as eight L40S were measured to that go through their "
              "host's memory; eight RTX PRO 6000 whose host lets them reach each other were measured at 12 to 15, "
              "which would make it two thirds. The authors' host is not described"),
        Claim("share of exchanges in the experts' time, 8 A800 over NVLink", 15.0, "%", "ratio", "abstract",
              lambda: share("8xa800-sxm", GPT2_MEDIUM, 2048.0, 8.0),
              why="with one sequence a device; with eight it is 17: latency counts for less. The batch is not stated"),
        _missing("exchanges hidden", (70.0, 100.0)),
        _missing("training gained over two routed experts, PCIe", 30.0),
        _missing("inference gained over two routed experts, PCIe", 40.0),
        _missing("training gained over two routed experts, NVLink", 11.0),
        _missing("inference gained over two routed experts, NVLink", 15.0),
    ),
    assumptions=(
        "PCIe: stage 3 of SwinV2-MoE-S, width 384, 8 experts, 1024 images of 12 x 12 tokens over 8 devices (section "
        "4.2.1, table 9; 192 pixels a side at a sixteenth). NVLink: GPT2-MoE-Medium, 24 layers, width 1024, 16 "
        "experts, sequences of 2048 (section 4.2.2, table 8), one a device.",
        "Experts four times as wide inside, no gate; two a token, routed evenly; a forward pass in 16 bits.",
        "A capacity factor pads what is sent and what is computed alike, so it is left out.",
    ),
)  # fmt: skip
