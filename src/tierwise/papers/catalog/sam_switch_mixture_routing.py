"""SAM routing (arXiv:2110.07431): a token first picks one group of experts, all on one device, then several experts
inside it, so that more active experts do not mean more copies of the token between devices."""

from __future__ import annotations

import numpy as np

import tierwise as tw
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.moe import MoE
from tierwise.models.types import Layer, Model, Stack
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper

DEVICES = 128.0
EXPERTS_TOGETHER = np.array([1.0, 2.0, 4.0, 8.0])


def mixture(top_k: float, ranks: float = float("inf")) -> Model:
    """A layer of 8 experts on each of the devices."""
    moe = MoE(1024.0, 8.0 * DEVICES, top_k, 4096.0, gated=False, ranks=ranks)
    return Model("sam", "sam", 1024.0, 0.0, (Stack("decoder", (Layer("moe", (Norm(1024.0), moe)),), (0,)),))


def exchanged(model: Model) -> float:
    """Bytes one device sends in the all-to-all exchanges of a pass."""
    requests, plan = tw.Batch(prompt=1024, output=1, batch=DEVICES), tw.Plan(dp=DEVICES, ep=DEVICES)
    traffic = tw.evaluate(scenario(model, "128xa100-sxm-80gb", requests, plan)).phase("prefill").traffic
    return float(traffic.get("link", 0.0) + traffic.get("network", 0.0))


def exponent(ranks: float) -> float:
    """Growth of the exchange with the experts a token visits."""
    sent = [exchanged(mixture(float(k), ranks)) for k in EXPERTS_TOGETHER]
    return float(np.polyfit(np.log(EXPERTS_TOGETHER), np.log(sent), 1)[0])


PAPER = Paper(
    slug="sam-switch-mixture-routing",
    title="Towards More Effective and Economic Sparsely-Activated Model",
    source="arXiv:2110.07431",
    mechanism="All experts of a token on one device of the expert-parallel group.",
    claims=(
        Claim("all-to-all volume over active experts, one group a token", 0.0, "exponent", "exponent",
              "abstract: experts on one device need no further copies", lambda: exponent(1.0), extra=True,
              identity=True,
              why="one group a token is the input"),
        Claim("all-to-all volume over active experts, top-k over all devices", 1.0, "exponent", "exponent",
              "abstract: communication limits the active experts", lambda: exponent(float("inf")), extra=True,
              identity=True,
              why="A little below 1 because two of a token's experts may share a device, to which one copy goes."),
    ),
    assumptions=(
        "The abstract states no number; that volume does not grow is exponent 0 by definition.",
        "128 devices of 8 experts each: not stated; the exponents hold for any number of devices well above k.",
    ),
)  # fmt: skip
