"""ScMoE (arXiv:2404.05019): experts see the layer before, so that their exchanges run beside what stands between."""

from __future__ import annotations

from functools import cache, partial

from tierwise import Batch, Plan, evaluate
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.family import pre_norm, stack
from tierwise.models.types import Model
from tierwise.papers.base import contrast, scenario
from tierwise.papers.types import NEEDS_FEATURE, NEEDS_SETUP, Claim, Paper
from tierwise.result import Phase

VOCAB = 51200.0


# Table 8: layers, width, heads, those of keys, experts of a layer that has them, layers to one of these, inner width.
# LLaMA2's feed-forward has a gate and, as 6.7 billion parameters say, 8/3 of the width inside.
GPT2_MEDIUM = (24, 1024.0, 16.0, 16.0, 16.0, 2, 4096.0)
LLAMA2 = (24, 2048.0, 16.0, 4.0, 8.0, 1, 5461.0)
SWIN_STAGE = (18, 384.0, 12.0, 12.0, 8.0, 2, 1536.0)
Shape = tuple[int, float, float, float, float, int, float]


@cache
def mixture(shape: Shape, gated: bool = False, shared: bool = False) -> Model:
    """Layers with experts, of which a token visits two, or one beside one that all visit."""
    layers, width, heads, keys, experts, every, inner = shape
    attention = Attention(width, heads, keys, width / heads, qkv_bias=not gated, out_bias=not gated)
    routed = MoE(width, experts, 1.0 if shared else 2.0, inner, gated=gated, shared_inner=shared * inner)
    dense, sparse = (
        pre_norm(name, width, attention, block, bias=True)
        for name, block in (("dense", MLP(width, inner, gated=gated, bias=not gated)), ("sparse", routed))
    )
    ends = {"before": (Embedding(VOCAB, width),), "after": (Head(width, VOCAB, tied=not gated),)}
    kinds = [sparse if i % every == every - 1 else dense for i in range(layers)]
    return Model("moe", "gpt", width, VOCAB, (stack("decoder", kinds, **ends),))


def prefill(machine: str, model: Model, tokens: float, sequences: float) -> Phase:
    traffic = Batch(prompt=tokens, output=1, batch=sequences)
    return evaluate(scenario(model, machine, traffic, Plan(dp=8.0, ep=8.0))).phase("prefill")


def share(machine: str, model: Model, tokens: float, sequences: float) -> float:
    """Percent of the time of the layers' experts, router and exchanges included, that exchanges take."""
    phase = prefill(machine, model, tokens, sequences)
    sent = float(phase.total(lambda p: p.cost.time if p.op.kind == "collective" else 0.0))
    worked = float(phase.total(lambda p: p.cost.time if p.op.role == "moe" and p.op.kind != "collective" else 0.0))
    return 100.0 * sent / (sent + worked)


def gained(shape: Shape, gated: bool) -> float:
    """Speed of a pass with one expert routed and one shared over that with two routed."""
    plain, changed = (
        float(prefill("8xa800-sxm", mixture(shape, gated, shared), 2048.0, 8.0).time)
        for shared in (False, contrast(False, True))
    )
    return plain / changed


_SWIN = "whole SwinV2, whose windows and merged patches no family of models builds; and the shortcut, as above"
_SHORTCUT = (
    "the shortcut: exchanges of one layer's experts beside attention and dense layers up to the next; a schedule that "
    "reads collectives late hides them behind any compute"
)


# Speed over two routed experts, training and inference. Table 1, 8 A30 over PCIe: 1.49 and 1.82 are the abstract's.
SWIN = {"one routed expert": (1.27, 1.39), "a shared expert and a routed one": (1.24, 1.35), "shortcut, first position":
        (1.36, 1.54), "shortcut, second position": (1.43, 1.66), "shortcut, third position": (1.49, 1.82)}  # fmt: skip
# Table 2, 8 A800 over NVLink: a shared expert and a routed one; the shortcut.
NVLINK = (("GPT2-MoE", GPT2_MEDIUM, False, (1.04, 1.06), (1.12, 1.17)),
          ("LLaMA2-MoE", LLAMA2, True, (1.06, 1.11), (1.14, 1.21)))  # fmt: skip


def _speeds() -> list[Claim]:
    out = []
    for how, both in SWIN.items():
        for what, published in zip(("training", "inference"), both, strict=True):
            first = published in (1.49, 1.82)
            out.append(Claim(f"{what} over two routed experts, {how}", published, "x", "ratio",
                             "abstract; table 1" if first else "table 1", missing=NEEDS_FEATURE, why=_SWIN,
                             extra=not first))  # fmt: skip
    for name, shape, gated, (trained, answered), behind in NVLINK:
        what = f"over two routed experts, {name}, a shared expert and a routed one"
        out += [
            Claim(f"training {what}", trained, "x", "ratio", "table 2", missing=NEEDS_SETUP, extra=True,
                  why="the batch is not stated, and with small ones the host's launches decide"),
            Claim(f"inference {what}", answered, "x", "ratio", "table 2", partial(gained, shape, gated), extra=True,
                  blind=True, why="so near to 1 that any engine comes near it"),
        ]  # fmt: skip
        for kind, published in zip(("training", "inference"), behind, strict=True):
            out.append(Claim(f"{kind} over two routed experts, {name}, shortcut", published, "x", "ratio", "table 2",
                             missing=NEEDS_FEATURE, why=_SHORTCUT, extra=True))  # fmt: skip
    return out


PAPER = Paper(
    slug="scmoe-shortcut-expert-parallelism",
    title="Shortcut-connected Expert Parallelism for Accelerating Mixture-of-Experts",
    source="arXiv:2404.05019",
    mechanism="Experts see what the layer before computed, so that their exchanges run beside the layers between.",
    claims=(
        Claim("exchanges hidden", (70.0, 100.0), "%", "ratio", "abstract", missing=NEEDS_FEATURE, why=_SHORTCUT),
        *_speeds(),
        Claim("share of exchanges in the experts' time, 8 A30 over PCIe", 60.0, "%", "ratio", "figure 1",
              lambda: share("8xa30", mixture(SWIN_STAGE), 144.0, 1024.0), extra=True,
              why="an exchange moves about 2 GB/s a device here, as eight L40S were measured to that go through their "
              "host's memory; eight RTX PRO 6000 whose host lets them reach each other were measured at 12 to 15, "
              "which would make it three quarters. The authors' host is not described"),
        Claim("share of exchanges in the experts' time, 8 A800 over NVLink", 15.0, "%", "ratio", "figure 1",
              lambda: share("8xa800-sxm", mixture(SWIN_STAGE), 144.0, 1024.0), extra=True,
              why="gate, encoding and decoding are a part of the published time, and how much is not known"),
        Claim("share of exchanges in the experts' time, 8 A800 over NVLink, GPT2-MoE", 15.0, "%", "ratio",
              "section 4.2.2", lambda: share("8xa800-sxm", mixture(GPT2_MEDIUM), 2048.0, 8.0), extra=True,
              why="with one sequence a device; with eight it is 17: latency counts for less. The batch is not stated "
              "(table 8)"),
    ),
    assumptions=(
        "Figure 1: stage 3 of SwinV2-MoE-S, width 384, 8 experts, 1024 images of 12 x 12 tokens over 8 devices (table "
        "9; 192 pixels a side at a sixteenth). GPT2-MoE-Medium: 24 layers, width 1024, 16 experts, sequences of 2048 "
        "(table 8), one a device.",
        "Experts four times as wide inside, no gate; two a token, routed evenly; a forward pass in 16 bits.",
        "A capacity factor pads what is sent and what is computed alike, so it is left out.",
    ),
)  # fmt: skip
