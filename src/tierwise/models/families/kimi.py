"""Kimi-K2: a DeepSeek-V3 of other sizes; K2.5 puts an image tower in front of it.

Shapes after `transformers` (models/deepseek_v3, kimi_k25).
"""

from __future__ import annotations

from tierwise.core.errors import BadField
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.patch import Merger, PatchEmbed
from tierwise.models.config import Config
from tierwise.models.families import deepseek
from tierwise.models.families._common import decoder, depth
from tierwise.models.families._tower import tower
from tierwise.models.types import Model, Stack

TYPES = ("kimi_k2", "kimi_k25")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("num_key_value_heads", "head_dim", "qk_head_dim")

_PUBLISHED = {"vt_hidden_size": "hidden_size", "vt_num_attention_heads": "num_attention_heads",
              "vt_intermediate_size": "intermediate_size", "vt_num_hidden_layers": "num_hidden_layers",
              "init_pos_emb_height": "pos_emb_height", "init_pos_emb_width": "pos_emb_width"}  # fmt: skip


def build(c: Config, name: str) -> Model:
    text = c.section("text_config") if c.has("text_config") else c
    layers = deepseek.text_layers(text)
    vision = [_tower(c.section("vision_config"), text.size("hidden_size"))] if c.has("vision_config") else []
    notes = [*deepseek.spacing(text), *_renamed(c.section("vision_config"))]
    return decoder(text, name, layers, other=[*vision, *deepseek.mtp(text, layers)], top=c, notes=notes)


def _renamed(v: Config) -> list[str]:
    """A note on sizes that the published code calls otherwise than `transformers`, which takes its own defaults."""
    usual = {**v.defaults.fields, **v.data}
    found = [n for n, own in _PUBLISHED.items() if v.given(n) and usual.get(own, v.data[n]) != v.data[n]]
    return [f"{v.path}{', '.join(found)}: read as the published code names them"] if found else []


def _tower(v: Config, width: float) -> Stack:
    """Patches with a learned position grid; squares of them merged and projected."""
    hidden, patch = v.size("vt_hidden_size", "hidden_size"), v.size("patch_size")
    positions = v.size("init_pos_emb_height", "pos_emb_height") * v.size("init_pos_emb_width", "pos_emb_width")
    kernel = v.sizes("merge_kernel_size") if v.has("merge_kernel_size") else [2.0, 2.0]
    if len(kernel) != 2 or kernel[0] != kernel[1]:
        raise BadField(v.where, v.path + "merge_kernel_size", kernel, "two equal whole numbers")
    merge = kernel[0]
    return tower(
        hidden,
        v.size("vt_num_attention_heads", "num_attention_heads"),
        v.size("vt_intermediate_size", "intermediate_size"),
        depth(v, "vt_num_hidden_layers", "num_hidden_layers"),
        before=[PatchEmbed(3.0, patch, hidden, positions)],
        after=[
            Norm(hidden, True, "final_norm"),
            Norm(hidden, True, "merger_norm"),
            Merger(hidden, merge, width),
        ],
        tokens=positions,
        patch=patch,
    )
