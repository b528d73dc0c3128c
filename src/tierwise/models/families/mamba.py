"""Mamba (arXiv:2312.00752), Falcon Mamba (arXiv:2410.05355) and Mamba-2 (arXiv:2405.21060) language models.

Shapes after `transformers` (models/mamba, falcon_mamba, mamba2): one norm and one mixer a layer, no MLP.
"""

from __future__ import annotations

import math
from typing import Any

from tierwise.models.blocks.ssm import Mamba, Mamba2
from tierwise.models.config import Config
from tierwise.models.families._common import decoder, depth, pre_norm
from tierwise.models.types import Model

TYPES = ("mamba", "falcon_mamba", "mamba2")


def build(c: Config, name: str) -> Model:
    second = c.text("model_type") == "mamba2"
    falcon = c.text("model_type") == "falcon_mamba"
    block = _mamba2(c) if second else selective(c, inner_norm=falcon, inner_affine=False)
    return decoder(c, name, [pre_norm("mamba", c.size("hidden_size"), block)] * depth(c), tied=not second)


def selective(c: Config, **style: Any) -> Mamba:
    """A Mamba block by its fields' names here or in hybrid models (``mamba_...``); ``style``: of its norms."""
    hidden, ranks = c.size("hidden_size"), ("time_step_rank", "mamba_dt_rank")
    return Mamba(
        hidden,
        hidden * c.size("expand", "mamba_expand", default=2.0),
        c.size("state_size", "mamba_d_state", default=16.0),
        float(math.ceil(hidden / 16)) if c.raw(*ranks, default="auto") == "auto" else c.size(*ranks),
        c.size("conv_kernel", "mamba_d_conv", default=4.0),
        conv_bias=c.flag("use_conv_bias", "mamba_conv_bias", default=True),
        bias=c.flag("use_bias", "mamba_proj_bias"),
        **style,
    )


def _mamba2(c: Config) -> Mamba2:
    return Mamba2(
        c.size("hidden_size"),
        c.size("num_heads", default=128.0),
        c.size("head_dim", default=64.0),
        c.size("state_size", default=128.0),
        c.size("n_groups", default=8.0),
        c.size("conv_kernel", default=4.0),
        c.size("chunk_size", default=256.0),
        conv_bias=c.flag("use_conv_bias", default=True),
        bias=c.flag("use_bias"),
    )
