"""Llama 4: chunked attention in three of four layers, one routed expert and a shared one, an image tower.

Shapes after `transformers` (models/llama4). Layers without rotary positions attend to everything.
"""

from __future__ import annotations

from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.moe import MoE
from tierwise.models.blocks.patch import PatchEmbed
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, layer_types, mlp, pre_norm
from tierwise.models.families._tower import grid, tower
from tierwise.models.types import Layer, Model, Stack

TYPES = ("llama4", "llama4_text")


def build(c: Config, name: str) -> Model:
    text = c.section("text_config") if c.has("text_config") else c
    vision, notes = [], []
    if c.has("vision_config"):
        vision = [_tower(c.section("vision_config"), text.size("hidden_size"))]
    elif c.text("model_type") == "llama4":
        notes = ["the configuration describes no image tower: left out"]
    return decoder(text, name, _layers(text), other=vision, top=c, notes=notes)


def _layers(c: Config) -> list[Layer]:
    n, hidden = depth(c), c.size("hidden_size")
    interval = int(c.size("no_rope_layer_interval", default=4.0))
    rotary = c.items("no_rope_layers", default=None) or [(i + 1) % interval != 0 for i in range(n)]
    kinds = layer_types(c, n, ["chunked_attention" if r else "full_attention" for r in rotary])
    step = int(c.size("interleave_moe_layer_step", default=1.0))
    routed = set(c.sizes("moe_layers", least=0)) if c.has("moe_layers") else set(range(step - 1, n, step))
    inner = c.size("intermediate_size")
    experts = MoE(
        hidden, c.size("num_local_experts"), c.size("num_experts_per_tok"), inner, shared_inner=inner
    )  # fmt: skip
    dense = mlp(c, "intermediate_size_mlp") if len(routed) < n else None
    chunk, bias = c.size("attention_chunk_size", default=None), c.flag("attention_bias")
    layers = []
    for i, kind in enumerate(kinds):
        chunked = kind == "chunked_attention" and chunk is not None
        attn = attention(c, chunk=chunk if chunked else None, qkv_bias=bias, out_bias=bias)
        ffn = experts if i in routed or dense is None else dense
        label = ("chunked" if chunked else "attention") + ("+moe" if ffn is experts else "+mlp")
        layers.append(pre_norm(label, hidden, attn, ffn))
    return layers


def _tower(v: Config, width: float) -> Stack:
    """Patches and a class token; a pixel shuffle makes one token of each square, then two maps."""
    hidden, (_, patch, patches) = v.size("hidden_size"), grid(v)
    inner, out = v.size("intermediate_size"), v.size("projector_output_dim")
    part = v.ratio("pixel_shuffle_ratio", default=0.5) ** 2
    embed = PatchEmbed(v.size("num_channels", default=3.0), patch, hidden, patches + 1.0, extra=1.0, bias=False)
    return tower(
        hidden,
        v.size("num_attention_heads"),
        inner,
        depth(v),
        before=[embed, Norm(hidden, True, "pre_norm", residual=False)],
        after=[
            Norm(hidden, True, "final_norm"),
            Projection(Linear("adapter.1", inner, v.size("projector_input_dim"), role="vision"), part),
            Projection(Linear("adapter.2", v.size("projector_input_dim"), out, role="vision"), part),
            Projection(Linear("projector", v.size("vision_output_dim"), width, role="vision"), part),
        ],
        tokens=patches + 1.0,
        patch=patch,
        extra_tokens=1.0,
    )
