"""BitNet b1.58 (arXiv:2504.12285): gated MLPs with a squared ReLU, and a norm before each second projection.

Shapes after `transformers` (models/bitnet).
"""

from __future__ import annotations

from tierwise.models.blocks.common import Norm
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, mlp
from tierwise.models.types import Layer, Model

TYPES = ("bitnet",)


def build(c: Config, name: str) -> Model:
    hidden, inner = c.size("hidden_size"), c.size("intermediate_size")
    inside = [Norm(width, name="sub_norm", residual=False) for width in (hidden, inner)]
    layer = Layer("attention+mlp", (Norm(hidden), attention(c), inside[0], Norm(hidden), mlp(c), inside[1]))
    return decoder(c, name, [layer] * depth(c), tied=True)
