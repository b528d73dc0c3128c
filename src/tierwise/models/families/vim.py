"""Vision Mamba (arXiv:2401.09417): a plain image classifier of bidirectional Mamba blocks.

Shapes from the paper (table 1, section 3) and its published model file: no MLP; both directions share the
input and output projections; a class token in the middle. The configuration's fields are named as ViT's.
"""

from __future__ import annotations

import math

from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.ends import Head
from tierwise.models.blocks.patch import PatchEmbed
from tierwise.models.blocks.ssm import Mamba
from tierwise.models.config import Config
from tierwise.models.families._common import depth, pre_norm, stack
from tierwise.models.families._encoder import labels, patches, side
from tierwise.models.types import Model

TYPES = ("vim",)


def build(c: Config, name: str) -> Model:
    hidden, patch = c.size("hidden_size"), side(c, "patch_size", 16.0)
    tokens = patches(c, side(c, "image_size", 224.0), patch) + 1.0
    block = Mamba(
        hidden,
        hidden * c.size("expand", default=2.0),
        c.size("state_size", default=16.0),
        float(math.ceil(hidden / 16)),
        c.size("conv_kernel", default=4.0),
        directions=2,
    )
    tower = stack(
        "vision",
        [pre_norm("mamba", hidden, block)] * depth(c),
        before=(PatchEmbed(c.size("num_channels", default=3.0), patch, hidden, tokens, 1.0),),
        after=(Norm(hidden, name="final_norm"), Head(hidden, labels(c), bias=True, pooled=True)),
        stream="vision",
        tokens=tokens,
        patch=patch,
        extra_tokens=1.0,
    )
    return Model(name, "vim", hidden, 0.0, (tower,), task="classify")
