"""Models of known arithmetic for the tests of training."""

from __future__ import annotations

from tierwise.machines.load import system
from tierwise.machines.types import System
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.types import Layer, Model, Stack


def gpt(layers: int, hidden: float, heads: float, vocab: float = 51200.0, tied: bool = True) -> Model:
    """A GPT as Megatron trains it: an MLP four times as wide, no gate."""
    blocks = (
        Norm(hidden, bias=True),
        Attention(hidden, heads, heads, hidden / heads),
        Norm(hidden, bias=True),
        MLP(hidden, 4.0 * hidden, gated=False),
    )
    stack = Stack(
        "decoder",
        (Layer("decoder", blocks),),
        (0,) * layers,
        (Embedding(vocab, hidden),),
        (Norm(hidden, bias=True, name="final_norm"), Head(hidden, vocab, tied=tied)),
    )
    return Model("gpt", "gpt", hidden, vocab, (stack,))


def a100s(count: int = 8) -> System:
    return system(f"{count}xa100-sxm-80gb")
