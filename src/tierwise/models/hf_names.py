"""The names under which checkpoints store a weight: what a quantization section's expressions are written against."""

from __future__ import annotations

from functools import lru_cache

_LAYERS = ("model.layers.{}.", "model.language_model.layers.{}.", "language_model.model.layers.{}.",
           "backbone.layers.{}.", "transformer.h.{}.")  # fmt: skip
# Where a layer keeps the weights of a role.
_INSIDE = {
    "attn": ("self_attn.", "attention.", "attn.", "mixer."),
    "mlp": ("mlp.", "feed_forward.", "mixer."),
    "expert": ("mlp.experts.0.", "mlp.experts.", "block_sparse_moe.experts.0.", "feed_forward.experts.",
               "mixer.experts.0."),
    "shared_expert": ("mlp.shared_expert.", "mlp.shared_experts.", "feed_forward.shared_expert.",
                      "mixer.shared_experts."),
    "ssm": ("linear_attn.", "mixer.", "mamba."),
}  # fmt: skip
_ROUTERS = ("mlp.gate", "block_sparse_moe.gate", "mlp.router", "feed_forward.router", "mixer.gate")
_ENDS = {
    "head": ("lm_head", "language_model.lm_head", "model.lm_head"),
    "embed": ("model.embed_tokens", "model.language_model.embed_tokens", "embed_tokens"),
}
# Other spellings of a projection, alone or fused with others.
_ALSO = {
    "q_proj": ("qkv_proj",), "k_proj": ("qkv_proj",), "v_proj": ("qkv_proj",), "o_proj": ("out_proj",),
    "gate_proj": ("gate_up_proj", "w1"), "up_proj": ("gate_up_proj", "w3"), "down_proj": ("w2",),
    "kv_a_proj": ("kv_a_proj_with_mqa",), "in_proj": ("in_proj_qkv", "in_proj_z", "in_proj_qkvz"),
}  # fmt: skip


@lru_cache(maxsize=65536)
def spellings(layer: int, role: str, name: str) -> tuple[str, ...]:
    """Full names of a weight of a layer, -1 outside the layers."""
    if layer < 0:
        return _ENDS.get(role, ())
    names = (name, *_ALSO.get(name, ()))
    inside: tuple[str, ...]
    if role == "router":
        inside = ("mlp.shared_expert_gate",) if name == "shared_gate" else _ROUTERS
    else:
        inside = tuple(where + n for where in _INSIDE.get(role, ()) for n in names)
    return tuple(prefix.format(layer) + rest for prefix in _LAYERS for rest in inside)
