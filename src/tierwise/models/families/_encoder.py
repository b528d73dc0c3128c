"""What image and text encoders share: bidirectional layers around attention and an MLP with biases."""

from __future__ import annotations

from typing import Any

from tierwise.core.errors import BadField
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.types import Layer


def encoder_layer(
    hidden: float,
    heads: float,
    inner: float,
    *,
    role: str = "attn",
    post_norm: bool = False,
    gated: bool = False,
    **changes: Any,
) -> Layer:
    """LayerNorm, attention, LayerNorm, MLP, all with biases; the norms last when ``post_norm``.

    Args:
        role: ``attn`` or ``vision``; the MLP's follows from it.
        gated: the MLP has a gate, and no biases.
        changes: of the attention (``causal=True``, ...).
    """
    style: dict[str, Any] = {"causal": False, "qkv_bias": True, "out_bias": True, "role": role, **changes}
    attn = Attention(hidden, heads, heads, hidden / heads, **style)
    mlp = MLP(hidden, inner, gated, not gated, role="vision" if role == "vision" else "mlp")
    norm = Norm(hidden, bias=True)
    blocks = (attn, norm, mlp, norm) if post_norm else (norm, attn, norm, mlp)
    return Layer("attention+mlp", blocks)


def labels(c: Config) -> float:
    """Classes of a classifier: ``num_labels``, or the length of ``id2label`` (`transformers` defaults to 2)."""
    named = c.raw("id2label", default=None)
    return c.size("num_labels", default=float(len(named)) if isinstance(named, dict) and named else 2.0)


def architecture(c: Config) -> str:
    """The first of ``architectures``, or nothing."""
    names = c.items("architectures", default=[])
    return names[0] if names and isinstance(names[0], str) else ""


def patches(c: Config, side: float, patch: float) -> float:
    """Patches of a square image of so many pixels a side."""
    if patch > side:
        raise BadField(c.where, c.path + "patch_size", patch, f"at most image_size = {side:.0f}")
    return (side // patch) ** 2


def side(c: Config, name: str, default: float) -> float:
    """A side in pixels that may be written once or for both sides."""
    value = c.raw(name, default=default)
    if isinstance(value, list) and value and all(v == value[0] for v in value):
        value = value[0]
    return Config({name: value}, c.where, c.path).size(name)


def local_window(c: Config, index: int) -> float:
    """Tokens that one of a Longformer's sees, itself among them: half of its layer's window on each side."""
    value = c.raw("attention_window", default=512)
    if isinstance(value, list):
        if index >= len(value):
            raise BadField(c.where, c.path + "attention_window", value, "a number, or one for each layer")
        value = value[index]
    return c.but(attention_window=value).size("attention_window") + 1.0


def block_sparse(c: Config) -> float | None:
    """Tokens that one of BigBird's sees: three blocks around it, random ones, the first and the last; None for all."""
    if c.text("attention_type", default="block_sparse") != "block_sparse":
        return None
    return (5.0 + c.size("num_random_blocks", default=3.0, least=0)) * c.size("block_size", default=64.0)
