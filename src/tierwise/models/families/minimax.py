"""MiniMax-M2 (experts in every layer) and M3 (block-sparse attention, an image tower).

Shapes after `transformers` (models/minimax_m2, minimax_m3_vl).
"""

from __future__ import annotations

from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.blocks.patch import PatchEmbed
from tierwise.models.blocks.sparse import BlockSparseAttention
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, depth, layer_types, modules, mtp_stack, pre_norm
from tierwise.models.families._tower import grid, tower
from tierwise.models.types import Layer, Model, Stack

TYPES = ("minimax_m2", "minimax_m3_vl", "minimax_m3_vl_text")
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("use_qk_norm", "mtp_transformer_layers", "n_shared_experts", "projection_dim", "vocab_size",
         "img_token_compression_config", "multimodal_projector_bias")  # fmt: skip


def build(c: Config, name: str) -> Model:
    if c.text("model_type") == "minimax_m2":
        return _m2(c, name)
    text = c.section("text_config") if c.has("text_config") else c
    layers = _m3_layers(text)
    n = modules(text, "num_mtp_modules")
    mtp = [mtp_stack(text.size("hidden_size"), text.size("vocab_size"), [layers[-1]] * n)] if n else []
    # One table where either section says so.
    top = c.but(tie_word_embeddings=True) if text.flag("tie_word_embeddings") else c
    if not c.has("vision_config"):
        return decoder(text, name, layers, other=mtp, top=top)
    hidden = text.size("hidden_size")
    vision, notes = _tower(c.section("vision_config"), hidden, c.size("projector_hidden_size", default=hidden))
    return decoder(text, name, layers, other=[vision, *mtp], top=top, notes=notes)


def _m2(c: Config, name: str) -> Model:
    attn = attention(c, qk_norm="full")
    experts = MoE(
        c.size("hidden_size"),
        c.size("num_local_experts"),
        c.size("num_experts_per_tok"),
        c.size("intermediate_size"),
        shared_inner=c.size("shared_intermediate_size", default=0.0, least=0),
        router_bias=c.flag("use_routing_bias", default=True),
    )
    layer = pre_norm("attention+moe", attn.hidden, attn, experts)
    n = modules(c, "num_mtp_modules") if c.flag("use_mtp") else 0
    mtp = [mtp_stack(c.size("hidden_size"), c.size("vocab_size"), [layer] * n)] if n else []
    return decoder(c, name, [layer] * depth(c), other=mtp)


def _m3_layers(c: Config) -> list[Layer]:
    n, hidden, index = depth(c), c.size("hidden_size"), c.section("sparse_attention_config")
    sparse = index.items("sparse_attention_freq", default=None) or [
        k != "full_attention" for k in layer_types(c, n)
    ]  # fmt: skip
    expert = c.items("moe_layer_freq", default=None) or [
        k != "dense" for k in c.items("mlp_layer_types", default=["sparse"] * n)
    ]  # fmt: skip
    attn = attention(c, qk_norm="head")
    chosen = BlockSparseAttention(
        attn,
        index.size("sparse_num_index_heads", default=c.size("index_n_heads", default=4.0)),
        index.size("sparse_index_dim", default=c.size("index_head_dim", default=128.0)),
        index.size("sparse_block_size", default=c.size("index_block_size", default=128.0)),
        index.size("sparse_topk_blocks", default=c.size("index_topk_blocks", default=16.0)),
    )
    experts = MoE(
        hidden,
        c.size("num_local_experts"),
        c.size("num_experts_per_tok"),
        c.size("intermediate_size"),
        shared_inner=c.size("shared_intermediate_size", default=0.0, least=0),
        router_bias=c.flag("use_routing_bias", default=True),
    )
    dense = MLP(hidden, c.size("dense_intermediate_size"))
    layers = []
    for i in range(n):
        mixer, ffn = (chosen if sparse[i] else attn), (experts if expert[i] else dense)
        label = ("sparse" if sparse[i] else "attention") + ("+moe" if expert[i] else "+mlp")
        layers.append(pre_norm(label, hidden, mixer, ffn))
    return layers


def _tower(v: Config, width: float, inner: float) -> tuple[Stack, list[str]]:
    """Patches of two frames; a projector on every patch, then one on each merged square of patches. And notes on what
    a section of the vendor's own says otherwise than the class.

    Args:
        width: of the language model; ``inner``: between the two products of a projector.
    """
    hidden, (_, patch, patches) = v.size("hidden_size"), grid(v)
    pack, notes = v.section("img_token_compression_config"), []
    sizes = {}
    for name in ("spatial_merge_size", "temporal_patch_size"):
        plain = v.size(name, default=2.0)
        sizes[name] = pack.size(name, default=plain)
        if sizes[name] != plain:
            notes.append(f"{name} is taken from {pack.path[:-1]}, which transformers leaves aside")
    embed = PatchEmbed(v.size("num_channels", default=3.0), patch, hidden, frames=sizes["temporal_patch_size"],
                       bias=False)  # fmt: skip
    wide = width * sizes["spatial_merge_size"] ** 2
    part = width / wide
    stack = tower(
        hidden,
        v.size("num_attention_heads"),
        v.size("intermediate_size"),
        depth(v),
        before=(embed, Norm(hidden, True, "pre_norm", residual=False)),
        after=(
            Projection(Linear("projector.1", hidden, inner, True, "vision")),
            Projection(Linear("projector.2", inner, width, True, "vision")),
            Projection(Linear("merge.1", wide, inner, True, "vision"), part),
            Projection(Linear("merge.2", inner, width, True, "vision"), part),
        ),
        tokens=patches,
        patch=patch,
    )
    return stack, notes
