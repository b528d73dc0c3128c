"""A decoder read from its fields alone, for a ``model_type`` that no family builds.

Understood: grouped-query or latent attention, MLP or experts (shared ones, dense layers first or in between), patterns
of layers (``layer_types`` and the like), sliding windows, Mamba-2, Gated DeltaNet and short-convolution layers,
prediction modules, and a text model inside a multimodal configuration. What a field does not say is taken as most
decoders have it: pre-norms, no biases, gated MLPs, a head of its own. Where `transformers` has code for the type, what
that adds (``style`` in ``_counted.json``: norms of queries, gates, biases) is read off its tensors' names and shapes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tierwise.core.errors import BadField
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.delta_net import GatedDeltaNet
from tierwise.models.blocks.mla import MLA
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.blocks.short_conv import ShortConv
from tierwise.models.blocks.ssm import Mamba2
from tierwise.models.config import Config
from tierwise.models.defaults import counted
from tierwise.models.families import nemotron_h
from tierwise.models.families._common import attention, decoder, depth, every, modules, mtp_stack, stack
from tierwise.models.families.deepseek import indexer, latent_attention
from tierwise.models.types import Block, Layer, Model, Stack

TYPES = ()

TEXT = ("text_config", "llm_config", "language_config", "language_model_config", "thinker_config")
THINKER = ("thinker_config",)
_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_routed_experts")
_TOP_K = ("num_experts_per_tok", "moe_topk", "moe_top_k", "moe_k", "top_k_experts", "num_experts_per_token",
          "experts_per_token", "num_selected_experts")  # fmt: skip
_INNER = ("moe_intermediate_size", "expert_ffn_hidden_size", "moe_ffn_hidden_size", "expert_intermediate_size")
_SHARED = ("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", "num_shared_expert")
_SHARED_INNER = ("shared_expert_intermediate_size", "moe_shared_expert_intermediate_size", "shared_intermediate_size",
                 "share_expert_dim", "shared_experts_intermediate_size")  # fmt: skip
_MLP = ("block_ff_dim", "intermediate_size", "ffn_hidden_size", "ffn_dim", "n_inner", "dense_intermediate_size",
        "mlp_hidden_size", "ff_intermediate_size")
_DENSE_FIRST = ("first_k_dense_replace", "num_dense_layers", "moe_layer_start_index", "n_dense_layers")
_ROUTER_BIAS = ("use_expert_bias", "use_routing_bias", "moe_router_enable_expert_bias", "use_moe_router_bias")
_QK_NORM = ("use_qk_norm", "qk_norm", "qk_layernorm", "use_qk_layernorm")
_UNGATED = {"relu", "relu2", "gelu_new", "gelu_fast", "squared_relu", "xielu"}
_LAYER_NORM = ("layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "norm_epsilon")
_RMS_NORM = ("rms_norm_eps", "rms_norm", "layer_norm_type")
_WINDOWED = {"sliding_attention", "sliding_window", "sliding", "local", "local_attention", "swa"}
_FULL = {"full_attention", "attention", "global", "global_attention", "full"}
_WINDOW = ("sliding_window", "sliding_window_size", "window_size")
_LISTS = ("layer_types", "layers_block_type", "block_types", "attn_layer_types")
_PATTERNS = (*_LISTS, "hybrid_layer_pattern", "sliding_window_pattern", "global_attn_every_n_layers")
_NO_PATTERN = "no field says which layers have the sliding window: all are taken to attend to everything"
_MTP = ("num_nextn_predict_layers", "num_mtp_layers", "num_mtp_modules", "mtp_num_hidden_layers", "mtp_num_layers")
# Values that say how routing is done, not what there is.
ASIDE = ("num_hash_layers", "full_attn_idxs", "block_mlp_init_scale", "block_norm_eps", "block_use_swiglu",
         "block_use_xavier_init", "block_dim", "num_heads", "conv_dim", "conv_dim_out", "conv_use_xavier_init",
         "head_dim", "num_key_value_heads", "qk_head_dim", "intermediate_size", "sliding_window", "mlp_bias",
         "max_window_layers", "num_hidden_layers", "expand", "n_shared_experts")  # fmt: skip


def enough(c: Config) -> bool:
    """Whether the fields describe a decoder: its width, depth, heads, vocabulary, and what follows attention."""
    inner = any(c.given(n) for n in (*_MLP, *_INNER, "intermediate_size", "ffn_hidden_size"))
    width = any(c.given(n) for n in ("hidden_size", "n_embd", "d_model"))
    layers = _one_block_layers(c) or any(c.given(n) for n in ("num_hidden_layers", "n_layer", "n_layers", "num_layers"))
    heads = any(c.given(n) for n in ("num_attention_heads", "n_head", "n_heads", "num_heads"))
    return width and layers and heads and inner and c.given("vocab_size")


def build(c: Config, name: str) -> Model:
    """The decoder its fields describe; ``c`` is the text model's configuration."""
    if _one_block_layers(c):
        return nemotron_h.build(c, name)
    layers = [_layer(_own(c, i), kind, i) for i, kind in enumerate(_kinds(c, depth(c)))]
    if c.has("num_layers_per_stack"):  # two stacks, run in turns until all layers have run (HRM)
        layers = [replace(one, copies=len(layers) / (2.0 * c.size("num_layers_per_stack"))) for one in layers]
    n = modules(c, *_MTP)
    hidden, vocab = c.size("hidden_size", "n_embd", "d_model"), c.size("vocab_size")
    other = [mtp_stack(hidden, vocab, [layers[-1]] * n)] if n else []
    notes = [_NO_PATTERN] if _window(c) and not any(c.has(f) for f in _PATTERNS) else []
    if seen := _image_experts(c, [b for layer in layers for b in layer.blocks if isinstance(b, MoE)]):
        other.append(seen)
    style = _style(c)
    tied = c.flag("weight_tying", "tie_embeddings")
    if not any(c.has(f) for f in ("tie_word_embeddings", "weight_tying", "tie_embeddings")):
        notes.append(f"no field says whether embedding and head are one table: two are taken (another would be "
                     f"{hidden * vocab / 1e9:.2g} B parameters less)")  # fmt: skip
    return decoder(c, name, layers, tied=tied, other=other, notes=notes, norm_bias=style.get("norm_bias", False),
                   norm_affine=style.get("norms") != 0, head_bias=style.get("head_bias", False))  # fmt: skip


def _style(c: Config) -> dict[str, Any]:
    """What the code of a type adds to what its fields say; empty for a type that `transformers` has not."""
    found: dict[str, Any] = counted().get(c.text("model_type", default=""), {}).get("style", {})
    return found


def _image_experts(c: Config, routed: list[MoE]) -> Stack | None:
    """Experts of their own for image tokens, of the second of two widths (ERNIE 4.5 VL): no text visits them."""
    widths = c.raw("moe_intermediate_size", default=None)
    if not isinstance(widths, list) or len(widths) < 2 or not routed:
        return None
    inner = c.but(moe_intermediate_size=widths[1]).size("moe_intermediate_size")
    layers = [Layer("image_experts", (replace(b, inner=inner, shared_inner=0.0),)) for b in routed]
    return stack("image_experts", layers, stream="clip")


def _window(c: Config) -> float:
    if not c.flag("use_sliding_window", default=True):
        return 0.0
    return max(c.size(*_WINDOW, default=0.0, least=-1), 0.0)


def _one_block_layers(c: Config) -> bool:
    """Layers of one block each, by letters or by names (Nemotron-H's way)."""
    named = c.raw("layers_block_type", default=None)
    kinds = {str(k) for k in named} if isinstance(named, list) else set()
    return c.has("hybrid_override_pattern") or bool({"moe", "mlp"} & kinds)


def _kinds(c: Config, n: int) -> list[str]:
    """The mixer of each layer, by whichever field tells."""
    for field in _LISTS:
        if c.has(field):
            found = c.items(field)
            if not found or not all(isinstance(k, str) for k in found):
                raise BadField(c.where, c.path + field, found, f"{n} names")
            return [found[i % len(found)] for i in range(n)]
    if c.has("hybrid_layer_pattern"):
        found = c.items("hybrid_layer_pattern")
        if len(found) < n or any(k not in (0, 1) for k in found):
            raise BadField(c.where, c.path + "hybrid_layer_pattern", found, f"{n} times 0 (full) or 1 (sliding)")
        return ["sliding_attention" if k else "full_attention" for k in found[:n]]
    sparse = c.raw("full_attn_idxs", "attn_layer_indices", "full_attention_layers", default=None)
    if isinstance(sparse, list):
        other = "conv" if c.has("conv_L_cache") else "mamba" if _mambas(c) else "linear_attention"
        return ["full_attention" if i in sparse else other for i in range(n)]
    if c.has("full_attention_interval"):
        return every(n, int(c.size("full_attention_interval")), "full_attention", "linear_attention")
    if _window(c):
        pattern = c.raw("sliding_window_pattern", "global_attn_every_n_layers", default=None)
        if isinstance(pattern, int) and pattern > 1:
            return every(n, pattern, "full_attention", "sliding_attention")
    return ["full_attention"] * n


def _own(c: Config, index: int) -> Config:
    """With what ``per_layer_config`` says of one layer; its keys are numbers of layers, with zeros before them."""
    own = c.raw("per_layer_config", default=None)
    if not isinstance(own, Mapping):
        return c
    found = next((v for k, v in own.items() if str(k).isdecimal() and int(k) == index), None)
    return c.but(**found) if isinstance(found, Mapping) else c


def _mambas(c: Config) -> bool:
    return any(c.has(f) for f in ("mamba_num_heads", "mamba_n_heads", "mamba_d_state", "ssm_state_size"))


def _layer(c: Config, kind: str, index: int) -> Layer:
    hidden = c.size("hidden_size", "n_embd", "d_model")
    label, mixer = _mixer(c, kind, hidden, index)
    group = int(c.size("cla_share_factor", default=1.0)) if c.flag("use_cla") else 1
    if index % group and isinstance(mixer, Attention):  # keys and values of the group's first layer
        label, mixer = label + "-shared", replace(mixer, source="shared")
    ffn, style = _feed_forward(c, index), _style(c)
    label += "+moe" if isinstance(ffn, MoE) else "+mlp"
    gate, first = style.get("gate"), [mixer]
    # Of each head, or of what latent attention gives out; plain attention has gates of its own.
    if isinstance(mixer, (Attention, MLA)) and (gate == "head" or (gate and isinstance(mixer, MLA))):
        width = mixer.heads * (1.0 if gate == "head" else c.size("v_head_dim"))
        first.insert(0, Projection(Linear("gate_proj", hidden, width, role="attn", split="out")))
    norm = Norm(hidden, style.get("norm_bias", False), affine=style.get("norms") != 0)
    if style.get("norms") == 1:
        return Layer(label, (norm, *first, ffn))
    behind = [replace(norm, name="post_norm", residual=False)] if style.get("norms") == 4 else []
    return Layer(label, (norm, *first, *behind, norm, ffn, *behind))


def _mixer(c: Config, kind: str, hidden: float, index: int) -> tuple[str, Block]:
    latent = c.has("kv_lora_rank")
    if kind in _WINDOWED:
        window = c.size(*_WINDOW)
        return "sliding", replace(_latent(c, None), window=window) if latent else _attention(_sliding(c), window=window)
    if kind == "chunked_attention":
        return "chunked", _attention(c, chunk=c.size("attention_chunk_size"))
    if latent and (kind in _FULL or (kind.endswith("_attention") and kind != "linear_attention")):
        return "attention", _latent(c, index)
    if kind in _FULL:
        return "attention", _attention(c)
    if kind == "linear_attention" and c.has("linear_num_key_heads"):
        delta = GatedDeltaNet(hidden, c.size("linear_num_key_heads"), c.size("linear_num_value_heads"),
                              c.size("linear_key_head_dim"), c.size("linear_value_head_dim"),
                              c.size("linear_conv_kernel_dim", default=4.0))  # fmt: skip
        return "delta", delta
    if kind in ("mamba", "mamba2", "linear_attention", "m") and _mambas(c):
        return "mamba", _mamba2(c, hidden)
    if kind in ("conv", "short_conv"):
        return "conv", ShortConv(hidden, c.size("conv_L_cache", "conv_kernel", default=3.0), c.flag("conv_bias"))
    known = sorted({*_FULL, *_WINDOWED, "chunked_attention", "linear_attention", "mamba", "conv"})
    raise BadField(c.where, c.path + "layer_types", kind, f"for a generic decoder: {', '.join(known)}")


def _latent(c: Config, index: int | None) -> MLA:
    """Latent attention, with the indexer of a layer, which may go by an earlier one's choice (``indexer_types``)."""
    if index is None or not c.has("index_topk"):
        return latent_attention(c)
    kinds = c.items("indexer_types", default=[])
    return latent_attention(c, indexer(c, full=index >= len(kinds) or kinds[index] == "full"))


def _attention(c: Config, **changes: Any) -> Attention:
    own = _style(c)
    bias = c.flag("attention_bias", "qkv_bias", "use_qkv_bias", "add_qkv_bias", "use_bias",
                  default=own.get("qkv_bias", False))  # fmt: skip
    out = c.flag("attention_out_bias", default=c.flag("attention_bias", "use_bias", default=own.get("out_bias", False)))
    said = c.raw(*_QK_NORM, default=own.get("qk_norm", False))
    norm = own.get("qk_norm", "head") if said not in (False, "none") else ""
    style: dict[str, Any] = {"qkv_bias": bias, "out_bias": out, "qk_norm": norm,
                             "v_dim": c.size("v_head_dim", default=None, least=0) or None, **changes}  # fmt: skip
    gate = c.flag("attn_output_gate", "attention_output_gate", default=own.get("gate") == "full")
    return attention(_usual(c), gate=gate, **style)


def _sliding(c: Config) -> Config:
    """With the sizes that sliding layers have of their own."""
    names = ("num_attention_heads", "num_key_value_heads", "head_dim", "v_head_dim")
    return c.but(**{n: c.size("swa_" + n) for n in names if c.has("swa_" + n)})


def _usual(c: Config) -> Config:
    """With heads by their usual names."""
    heads = c.size("num_attention_heads", "n_head", "n_heads", "num_heads")
    kv = c.size("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv", "num_attention_groups",
                "multi_query_group_num", default=heads)  # fmt: skip
    width = c.size("head_dim", "kv_channels", "attention_head_dim", default=None)
    return c.but(num_attention_heads=heads, num_key_value_heads=kv, head_dim=width)


def _mamba2(c: Config, hidden: float) -> Mamba2:
    heads = c.size("mamba_num_heads", "mamba_n_heads", default=128.0)
    inner = hidden * c.size("mamba_expand", "expand", default=2.0)
    width = c.raw("mamba_head_dim", "mamba_d_head", default="auto")
    d = inner / heads if width == "auto" else c.size("mamba_head_dim", "mamba_d_head")
    return Mamba2(hidden, heads, d, c.size("ssm_state_size", "mamba_d_state", default=128.0),
                  c.size("n_groups", "mamba_n_groups", default=1.0), c.size("conv_kernel", "mamba_d_conv", default=4.0),
                  c.size("chunk_size", "mamba_chunk_size", default=256.0))  # fmt: skip


def _feed_forward(c: Config, index: int) -> MLP | MoE:
    hidden = c.size("hidden_size", "n_embd", "d_model")
    experts = c.size(*_EXPERTS, default=0.0, least=0)
    act = c.text("hidden_act", "hidden_activation", "activation_function", "mlp_hidden_act", default="silu")
    gated = c.flag("mlp_gated", default=act not in _UNGATED and not _classic(c, act))
    if experts <= 1 or not c.flag("is_moe", default=True) or not _routes(c, index):
        inner = c.size(*(("intermediate_size_mlp",) if c.has("intermediate_size_mlp") else ()), *_MLP)
        return MLP(hidden, _adjusted(c, inner), gated, bias=c.flag("mlp_bias", "use_mlp_bias",
                   default=_style(c).get("mlp_bias", False)))  # fmt: skip
    widths = c.raw("moe_intermediate_size", default=None)
    if isinstance(widths, list) and widths:
        c = c.but(moe_intermediate_size=widths[0])
    # A class's own width of experts goes before a width that the file gives of MLPs.
    inner = c.size(*_INNER, default=None) or c.size("intermediate_size", "ffn_hidden_size")
    shared = c.size(*_SHARED_INNER, default=0.0, least=0)
    if not shared or c.has("moe_shared_expert_intermediate_size"):
        shared = (shared or inner) * c.size(*_SHARED, default=1.0 if shared else 0.0, least=0)
    if c.flag("parallel_attn_mlp_res", "use_residual"):  # Arctic: a dense MLP as wide as the model beside the experts
        shared += hidden
    style = _style(c)
    bias = c.text("topk_method", default="") == "noaux_tc" or c.flag(*_ROUTER_BIAS,
                                                                     default=style.get("router_bias", False))
    named = c.has("shared_expert_intermediate_size")
    return MoE(hidden, experts, c.size(*_TOP_K), inner, gated, shared_inner=shared, router_bias=bias,
               shared_gate=style.get("shared_gate", named),
               latent=c.size("moe_latent_size", "moe_hidden_size", default=None))  # fmt: skip


def _classic(c: Config, act: str) -> bool:
    """Whether fields of a type that `transformers` has not are those of a GPT: LayerNorm, GELU and MLPs of four times
    the width. So are 24 decoders of transformers 5.24 with two maps to an MLP, and none with three (RMS norms, SiLU
    or another width)."""
    if c.defaults.fields:
        return False
    layer_norm = any(c.given(f) for f in _LAYER_NORM) and not any(c.given(f) for f in _RMS_NORM)
    inner = c.size(*_MLP, default=0.0, least=0)
    return layer_norm and act.startswith("gelu") and inner == 4.0 * c.size("hidden_size", "n_embd", "d_model")


def _adjusted(c: Config, inner: float) -> float:
    """The inner width where fields derive it: two thirds, times a factor, rounded up (Llama 1's rule; LFM2)."""
    if not c.flag("block_auto_adjust_ff_dim"):
        return inner
    multiple = c.size("block_multiple_of", default=256.0)
    narrow = int(c.ratio("block_ffn_dim_multiplier", default=1.0) * int(2.0 * inner / 3.0))
    return -(-narrow // multiple) * multiple


def _routes(c: Config, index: int) -> bool:
    """Whether a layer has experts: a list of kinds, or first dense layers and a step."""
    kinds = c.items("mlp_layer_types", default=[])
    if index < len(kinds):
        return bool(kinds[index] != "dense")
    freq = c.raw("moe_layer_freq", default=None)
    if isinstance(freq, list):
        return bool(freq[index]) if index < len(freq) else True
    listed = c.raw("moe_layers_enum", default=None)
    if isinstance(listed, str) and listed:  # Step3: layers by number, with commas
        return str(index) in [part.strip() for part in listed.split(",")]
    if index < c.size(*_DENSE_FIRST, default=0.0, least=0) or index in c.items("mlp_only_layers", default=[]):
        return False
    if freq is not None:
        return index % int(c.size("moe_layer_freq")) == 0
    step = int(c.size("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval", "moe_every_n_layers",
                      default=1.0))  # fmt: skip
    return (index + 1) % step == 0
