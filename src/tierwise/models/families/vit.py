"""ViT (arXiv:2010.11929) and DeiT (arXiv:2012.12877): image classifiers and feature extractors.

Shapes after `transformers` (models/vit, models/deit). The published non-distilled DeiT checkpoints are of
type ``vit``; ``deit`` has a distillation token and, with its teacher, a second head.
"""

from __future__ import annotations

from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.ends import Head
from tierwise.models.blocks.patch import PatchEmbed
from tierwise.models.config import Config
from tierwise.models.families._common import depth, stack
from tierwise.models.families._encoder import architecture, encoder_layer, labels, patches, side
from tierwise.models.types import Block, Model

TYPES = ("vit", "deit")


def build(c: Config, name: str) -> Model:
    hidden, heads = c.size("hidden_size", default=768.0), c.size("num_attention_heads", default=12.0)
    inner = c.size("intermediate_size", default=3072.0)
    image, patch = side(c, "image_size", 224.0), side(c, "patch_size", 16.0)
    distilled = c.text("model_type") == "deit"
    extra = 2.0 if distilled else 1.0
    tokens = patches(c, image, patch) + extra
    bias = c.flag("qkv_bias", default=True)
    layer = encoder_layer(hidden, heads, inner, role="vision", qkv_bias=bias)
    tower = stack(
        "vision",
        [layer] * depth(c),
        before=(PatchEmbed(c.size("num_channels", default=3.0), patch, hidden, tokens, extra),),
        after=(Norm(hidden, bias=True, name="final_norm"), *_ends(c, hidden)),
        stream="vision",
        tokens=tokens,
        patch=patch,
        extra_tokens=extra,
    )
    return Model(name, c.text("model_type"), hidden, 0.0, (tower,), task="classify")


def _ends(c: Config, hidden: float) -> tuple[Block, ...]:
    """Classifier heads, or the pooler of a bare model."""
    kind = architecture(c)
    if "ImageClassification" not in kind:
        return (Projection(Linear("pooler", hidden, hidden, True, "vision"), once=True),)
    head = Head(hidden, labels(c), bias=True, pooled=True)
    return (head, Head(hidden, labels(c), bias=True, pooled=True, name="teacher")) if "Teacher" in kind else (head,)
