"""Nemotron-H (arXiv:2504.03624) and Nemotron 3: Mamba-2, attention, MLP and expert layers in any order.

Shapes after `transformers` (models/nemotron_h): one norm and one block a layer; ``hybrid_override_pattern``
has a letter per layer (M: Mamba-2, ``*``: attention, ``-``: MLP, E: experts); squared ReLU, no gates; experts
may work in a narrower latent width.
"""

from __future__ import annotations

from tierwise.core.errors import BadField
from tierwise.core.numerics import fmt
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.blocks.ssm import Mamba2
from tierwise.models.config import Config
from tierwise.models.families._common import attention, decoder, modules, mtp_stack, pre_norm
from tierwise.models.types import Block, Layer, Model, Stack

TYPES = ("nemotron_h",)
# Usual fields that no count follows from here (or that others say again).
ASIDE = ("intermediate_size", "num_hidden_layers", "expand", "n_shared_experts")

_LETTERS = {"M": "mamba", "*": "attention", "-": "mlp", "E": "moe"}
_NAMES = {
    "mamba": "mamba",
    "linear_attention": "mamba",
    "attention": "attention",
    "full_attention": "attention",
    "mlp": "mlp",
    "moe": "moe",
}


def build(c: Config, name: str) -> Model:
    kinds = _kinds(c, "hybrid_override_pattern", "layers_block_type")
    layers = [_layer(c, kind) for kind in kinds]
    # The class shares no weights, whatever the field says.
    return decoder(c.but(tie_word_embeddings=False), name, layers, other=_mtp(c))


def _kinds(c: Config, pattern: str, names: str) -> list[str]:
    """The kind of every layer, from a list of names or a string of letters."""
    if c.has(names):
        found = c.items(names)
        if not all(isinstance(k, str) and k in _NAMES for k in found):
            raise BadField(c.where, c.path + names, found, ", ".join(_NAMES))
        return [_NAMES[k] for k in found]
    letters = c.raw(pattern, default=None)
    if not isinstance(letters, str) or not letters or len(letters) > 10_000 or any(k not in _LETTERS for k in letters):
        raise BadField(c.where, c.path + pattern, letters,
                       f"letters M, *, - and E, one a layer (or {names}: a list of names)")  # fmt: skip
    return [_LETTERS[k] for k in letters]


def _layer(c: Config, kind: str) -> Layer:
    return pre_norm(kind, c.size("hidden_size"), _block(c, kind))


def _block(c: Config, kind: str) -> Block:
    hidden = c.size("hidden_size")
    if kind == "mamba":
        return Mamba2(
            hidden,
            c.size("mamba_num_heads", default=128.0),
            c.size("mamba_head_dim", default=64.0),
            c.size("ssm_state_size", default=128.0),
            c.size("n_groups", "mamba_n_groups", default=8.0),
            c.size("conv_kernel", "mamba_d_conv", default=4.0),
            c.size("chunk_size", "mamba_chunk_size", default=128.0),
            conv_bias=c.flag("use_conv_bias", default=True),
            bias=c.flag("use_bias"),
            state_format=fmt(c.text("mamba_ssm_cache_dtype", default="float32")),
        )
    if kind == "attention":
        return attention(c, window=c.size("sliding_window", default=None))
    if kind == "mlp":
        return MLP(hidden, c.size("intermediate_size"), gated=False, bias=c.flag("mlp_bias"))
    return MoE(
        hidden,
        c.size("n_routed_experts"),
        c.size("num_experts_per_tok"),
        c.size("moe_intermediate_size"),
        gated=False,
        shared_inner=c.size("moe_shared_expert_intermediate_size", default=0.0, least=0),
        latent=c.size("moe_latent_size", default=None),
    )


def _mtp(c: Config) -> list[Stack]:
    n = modules(c, "num_nextn_predict_layers")
    if not n:
        return []
    given = c.has("mtp_hybrid_override_pattern") or c.has("mtp_layers_block_type")
    kinds = _kinds(c, "mtp_hybrid_override_pattern", "mtp_layers_block_type") if given else ["attention", "moe"]
    blocks = tuple(b for kind in kinds for b in _layer(c, kind).blocks)
    return [mtp_stack(c.size("hidden_size"), c.size("vocab_size"), [Layer("+".join(kinds), blocks)] * n)]
