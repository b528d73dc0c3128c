"""A small model and a plain machine that the tests reason about by hand."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import settings

from tierwise.machines import system
from tierwise.machines.types import System
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.types import Layer, Model, Stack

# Where nobody watches, generated cases are the same in every run: a failure there is one anybody can have again. By
# hand they are new each time, which is how new faults are found.
if os.environ.get("CI"):
    settings.register_profile("ci", derandomize=True)
    settings.load_profile("ci")

HIDDEN, HEADS, KV_HEADS, HEAD_DIM, INNER, VOCAB, LAYERS = 1024.0, 16.0, 4.0, 64.0, 2816.0, 32000.0, 4


def decoder(*feed_forward: object) -> Model:
    """Four layers of grouped-query attention and the given feed-forward block."""
    block = feed_forward[0] if feed_forward else MLP(HIDDEN, INNER)
    layer = Layer("layer", (Norm(HIDDEN), Attention(HIDDEN, HEADS, KV_HEADS, HEAD_DIM), Norm(HIDDEN), block))  # type: ignore[arg-type]
    ends = ((Embedding(VOCAB, HIDDEN),), (Norm(HIDDEN), Head(HIDDEN, VOCAB)))
    return Model("small", "test", HIDDEN, VOCAB, (Stack("decoder", (layer,), (0,) * LAYERS, *ends),))


@pytest.fixture
def dense() -> Model:
    return decoder()


@pytest.fixture
def experts() -> Model:
    return decoder(MoE(HIDDEN, 16.0, 2.0, 512.0, shared_inner=256.0))


@pytest.fixture
def machine() -> Callable[..., System]:
    """``machine("8xh100-sxm", memory=...)``: a catalog system, its main memory's fields replaced."""

    def make(name: str = "h100-sxm", **memory: float) -> System:
        found = system(name)
        if not memory:
            return found
        tiers = tuple(replace(t, **memory) if t is found.device.memory else t for t in found.device.tiers)
        return replace(found, device=replace(found.device, tiers=tiers))

    return make


@pytest.fixture(autouse=True)
def unhurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Logs of commands say nothing of what lasts: whether something does is the computer's affair."""
    from tierwise.cli import _progress

    monkeypatch.setattr(_progress, "FIRST_S", threading.TIMEOUT_MAX)
