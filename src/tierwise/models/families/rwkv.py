"""RWKV-4 (arXiv:2305.13048).

Shapes after `transformers` (models/rwkv): a norm after the embedding, then time mixing and channel mixing.
"""

from __future__ import annotations

import math
from dataclasses import replace

from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.rwkv import ChannelMix, TimeMix
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth, pre_norm
from tierwise.models.types import Model

TYPES = ("rwkv",)


def build(c: Config, name: str) -> Model:
    hidden = c.size("hidden_size")
    mix = TimeMix(hidden, c.size("attention_hidden_size", default=hidden))
    channel = ChannelMix(hidden, c.size("intermediate_size", default=4.0 * hidden))
    layer = pre_norm("rwkv", hidden, mix, channel, bias=True)
    first = Norm(hidden, bias=True, name="embedding_norm", residual=False)
    model = decoder(c, name, [layer] * depth(c), norm_bias=True, after_embedding=(first,))
    return replace(model, max_context=math.inf)  # a recurrence has none; context_length is what it was trained on
