"""From GGUF metadata to the configuration the same model has on Hugging Face.

Metadata keys: the GGUF specification (ggml, docs/gguf.md) and llama.cpp's gguf-py constants. Widths that a
tensor's shape states are taken from the shape.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from tierwise.core.errors import BadField
from tierwise.models.importers._gguf_header import GgufTensor, Header, Skipped

Config = dict[str, Any]


def to_config(header: Header, where: str) -> Config:
    """The fields of a ``config.json`` for the model in a GGUF file.

    Raises:
        BadField: a key is missing or holds something it cannot hold.
    """
    meta = Meta(header, where)
    kind, more = ARCHITECTURES[meta.arch]
    config = _common(meta)
    config["model_type"] = kind
    config |= more(meta)
    return {k: v for k, v in config.items() if v is not None}


def described(header: Header, where: str) -> bool:
    """Whether an architecture has a description here and the file's layers are all alike."""
    meta = Meta(header, where)
    sizes = ("attention.head_count", "attention.head_count_kv", "feed_forward_length")
    lists = [v for s in sizes if isinstance(v := meta.data.get(f"{meta.arch}.{s}"), list)]
    alike = not any(v and any(x != v[0] for x in v) for v in lists) or not meta.has("blk.*.attn_norm.weight")
    return meta.arch in ARCHITECTURES and alike


def legacy_latents(header: Header) -> bool:
    """A file of latent attention converted before llama.cpp could cache latents: it says the expanded widths only
    (llama.cpp, src/llama-model.cpp: ``n_embd_head_k_mla`` decides)."""
    arch = header.metadata.get("general.architecture")
    latent = isinstance(header.metadata.get(f"{arch}.attention.kv_lora_rank"), int)
    return latent and f"{arch}.attention.key_length_mla" not in header.metadata


class Meta:
    """Typed look-ups in the metadata, under the architecture's prefix."""

    def __init__(self, header: Header, where: str) -> None:
        self.data, self.tensors, self.where = header.metadata, header.tensors, where
        arch = self.data.get("general.architecture")
        if not isinstance(arch, str) or not arch:
            raise BadField(where, "general.architecture", arch, "the name of an architecture")
        self.arch = arch

    def size(self, key: str, default: Any = None, required: bool = False) -> Any:
        """A whole number; a list of equal ones counts as one."""
        field = f"{self.arch}.{key}"
        value = self.data.get(field)
        if isinstance(value, list) and value and all(v == value[0] for v in value):
            value = value[0]
        if value is None and not required:
            return default
        if isinstance(value, (list, Skipped)):
            raise BadField(self.where, field, value, "one number: sizes that differ by layer are not described")
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise BadField(self.where, field, value, "a whole number")
        return value

    def tensor(self, name: str) -> GgufTensor | None:
        """The tensor of a name, or the first layer that has it (for ``blk.*.NAME``)."""
        if not name.startswith("blk.*."):
            return self.tensors.get(name)
        suffix = name[5:]
        return next((t for n, t in self.tensors.items() if n.startswith("blk.") and n.endswith(suffix)), None)

    def has(self, name: str) -> bool:
        return self.tensor(name) is not None

    def width(self, name: str, axis: int) -> int | None:
        """A dimension of a tensor (0: inputs, 1: outputs, 2: experts), when the tensor is there."""
        t = self.tensor(name)
        return t.shape[axis] if t is not None and len(t.shape) > axis else None


def _common(m: Meta) -> Config:
    """What nearly every architecture says."""
    heads = m.size("attention.head_count")
    hidden = m.size("embedding_length", required=True)
    words = m.data.get("tokenizer.ggml.tokens")
    listed = words.length if isinstance(words, Skipped) else None
    vocab = m.width("token_embd.weight", 1) or m.size("vocab_size", listed)
    if vocab is None:
        raise BadField(m.where, "token_embd.weight", None, f"a token embedding, or {m.arch}.vocab_size")
    return {
        "hidden_size": hidden,
        "num_hidden_layers": m.size("block_count", required=True),
        "intermediate_size": m.width("blk.*.ffn_down.weight", 0) or m.size("feed_forward_length") or None,
        "num_attention_heads": heads or None,
        "num_key_value_heads": m.size("attention.head_count_kv", heads) or None,
        "head_dim": m.size("attention.key_length", hidden // heads if heads else None),
        "vocab_size": vocab,
        "max_position_embeddings": m.size("context_length"),
        "sliding_window": m.size("attention.sliding_window") or None,
        "tie_word_embeddings": not m.has("output.weight"),
        "torch_dtype": "float16",
    }


def _biases(m: Meta) -> Config:
    return {"attention_bias": m.has("blk.*.attn_q.bias"), "mlp_bias": m.has("blk.*.ffn_up.bias")}


def _nothing(_: Meta) -> Config:
    return {}


def _llama(m: Meta) -> Config:
    if not m.size("expert_count", 0):
        return _biases(m)
    # Mixtral goes by the name llama; its experts are as wide as feed_forward_length says.
    return {
        "model_type": "mixtral",
        "num_local_experts": m.size("expert_count"),
        "num_experts_per_tok": m.size("expert_used_count", required=True),
        "intermediate_size": m.width("blk.*.ffn_up_exps.weight", 1) or m.size("feed_forward_length", required=True),
    }


def _experts(m: Meta) -> Config:
    return {
        "num_experts": m.size("expert_count", required=True),
        "num_experts_per_tok": m.size("expert_used_count", required=True),
        "moe_intermediate_size": m.width("blk.*.ffn_up_exps.weight", 1) or m.size("expert_feed_forward_length"),
        "shared_expert_intermediate_size": m.width("blk.*.ffn_up_shexp.weight", 1)
        or m.size("expert_shared_feed_forward_length"),
        "intermediate_size": m.width("blk.*.ffn_down.weight", 0) or m.size("feed_forward_length", 1),
        "decoder_sparse_step": 1,
    }


def _olmoe(m: Meta) -> Config:
    inner = m.width("blk.*.ffn_up_exps.weight", 1) or m.size("feed_forward_length", required=True)
    return _experts(m) | {"intermediate_size": inner}


def _gpt_oss(m: Meta) -> Config:
    inner = m.width("blk.*.ffn_up_exps.weight", 1) or m.size("expert_feed_forward_length", required=True)
    return {
        "num_local_experts": m.size("expert_count", required=True),
        "num_experts_per_tok": m.size("expert_used_count", required=True),
        "intermediate_size": inner,
    }


def _deepseek2(m: Meta) -> Config:
    rope = m.size("rope.dimension_count", required=True)
    # With *_mla keys, key_length describes the latent; without, the expanded key.
    key = m.size("attention.key_length_mla") or m.size("attention.key_length", required=True)
    value = m.size("attention.value_length_mla") or m.size("attention.value_length", required=True)
    scored = m.has("blk.*.exp_probs_b.bias")
    return {
        "model_type": "deepseek_v3" if scored else "deepseek_v2",
        "topk_method": "noaux_tc" if scored else None,
        "q_lora_rank": m.size("attention.q_lora_rank") or None,
        "kv_lora_rank": m.size("attention.kv_lora_rank", required=True),
        "qk_rope_head_dim": rope,
        "qk_nope_head_dim": key - rope,
        "v_head_dim": value,
        "head_dim": None,
        "num_key_value_heads": m.size("attention.head_count", required=True),
        "n_routed_experts": m.size("expert_count", required=True),
        "num_experts_per_tok": m.size("expert_used_count", required=True),
        "n_shared_experts": m.size("expert_shared_count"),
        "moe_intermediate_size": m.width("blk.*.ffn_up_exps.weight", 1) or m.size("expert_feed_forward_length"),
        "first_k_dense_replace": m.size("leading_dense_block_count", 0),
        "moe_layer_freq": 1,
        "num_nextn_predict_layers": 0,
    }


def _gpt2(m: Meta) -> Config:
    return {
        "n_embd": m.size("embedding_length"),
        "n_layer": m.size("block_count"),
        "n_head": m.size("attention.head_count", required=True),
        "n_positions": m.width("position_embd.weight", 1) or m.size("context_length", required=True),
        "n_inner": m.width("blk.*.ffn_up.weight", 1) or m.size("feed_forward_length"),
    }


def _falcon(m: Meta) -> Config:
    kv = m.size("attention.head_count_kv", 1)
    return {
        "num_kv_heads": kv,
        "multi_query": kv == 1,
        "new_decoder_architecture": m.has("blk.*.attn_norm_2.weight"),
        "parallel_attn": True,
        "bias": m.has("blk.*.attn_qkv.bias"),
        "alibi": False,
        "ffn_hidden_size": m.width("blk.*.ffn_up.weight", 1),
    }


def _mamba(m: Meta) -> Config:
    inner = m.size("ssm.inner_size", required=True)
    return {
        "state_size": m.size("ssm.state_size", required=True),
        "conv_kernel": m.size("ssm.conv_kernel", required=True),
        "intermediate_size": inner,
        "expand": inner // m.size("embedding_length", required=True),
        "time_step_rank": m.size("ssm.time_step_rank", required=True),
        "use_conv_bias": m.has("blk.*.ssm_conv1d.bias"),
        "use_bias": m.has("blk.*.ssm_in.bias"),
        "num_attention_heads": None,
        "num_key_value_heads": None,
        "head_dim": None,
    }


def _mamba2(m: Meta) -> Config:
    heads = m.size("ssm.time_step_rank", required=True)  # llama.cpp keeps the number of heads here
    inner = m.size("ssm.inner_size", required=True)
    if not heads or inner % heads:
        raise BadField(m.where, f"{m.arch}.ssm.time_step_rank", heads, f"a divisor of ssm.inner_size = {inner}")
    return _mamba(m) | {
        "time_step_rank": None,
        "num_heads": heads,
        "head_dim": inner // heads,
        "n_groups": m.size("ssm.group_count", 1),
    }


def _bloom(m: Meta) -> Config:
    return {"n_layer": m.size("block_count"), "n_head": m.size("attention.head_count", required=True)}


def _gptneox(m: Meta) -> Config:
    parallel = m.data.get(f"{m.arch}.use_parallel_residual", True)
    return {"use_parallel_residual": parallel is not False, "attention_bias": m.has("blk.*.attn_qkv.bias")}


# GGUF architecture: (model_type, what the common fields leave out).
ARCHITECTURES: Mapping[str, tuple[str, Callable[[Meta], Config]]] = {
    "llama": ("llama", _llama),
    "qwen2": ("qwen2", _nothing),
    "qwen3": ("qwen3", _biases),
    "qwen2moe": ("qwen2_moe", _experts),
    "qwen3moe": ("qwen3_moe", _experts),
    "gemma": ("gemma", _nothing),
    "gemma2": ("gemma2", _nothing),
    "gemma3": ("gemma3_text", _nothing),
    "phi2": ("phi", _nothing),
    "phi3": ("phi3", _nothing),
    "deepseek2": ("deepseek_v2", _deepseek2),
    "gpt-oss": ("gpt_oss", _gpt_oss),
    "gpt2": ("gpt2", _gpt2),
    "gptneox": ("gpt_neox", _gptneox),
    "falcon": ("falcon", _falcon),
    "bloom": ("bloom", _bloom),
    "olmo": ("olmo", _nothing),
    "olmo2": ("olmo2", _nothing),
    "olmoe": ("olmoe", _olmoe),
    "mamba": ("mamba", _mamba),
    "mamba2": ("mamba2", _mamba2),
}
