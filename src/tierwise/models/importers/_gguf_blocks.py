"""What the tensors of one layer of a GGUF file are: attention, latent attention, recurrences, MLPs and experts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from tierwise.core.errors import BadField
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Linear, Projection
from tierwise.models.blocks.delta_net import GatedDeltaNet
from tierwise.models.blocks.mla import MLA, Indexer
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.blocks.short_conv import ShortConv
from tierwise.models.blocks.ssm import Mamba, Mamba2
from tierwise.models.importers._gguf_config import Meta
from tierwise.models.importers._gguf_header import GgufTensor
from tierwise.models.types import Block


@dataclass
class Parts:
    """The tensors of a layer, by name without ``blk.N.``, and which of them were asked for.

    Attributes:
        index: of the layer. ``window``: of its attention, as fields of :class:`Attention`.
        shared: it reads an earlier layer's cache.
    """

    meta: Meta
    index: int
    tensors: Mapping[str, GgufTensor]
    hidden: float
    window: Mapping[str, Any]
    shared: bool
    asked: set[str] = field(default_factory=set)

    def has(self, name: str) -> bool:
        self.asked.add(name)
        return name in self.tensors

    def width(self, name: str, axis: int) -> float:
        """A dimension of a tensor's weight (0: inputs, 1: outputs, 2: experts)."""
        full = f"{name}.weight"
        if not self.has(full) or len(self.tensors[full].shape) <= axis:
            allowed = f"a tensor of {axis + 1} dimensions or more"
            raise BadField(self.meta.where, f"blk.{self.index}.{full}", None, allowed)
        return float(self.tensors[full].shape[axis])

    def size(self, key: str, default: Any = None, required: bool = False) -> Any:
        """A number of the metadata, this layer's where every layer has its own."""
        full = f"{self.meta.arch}.{key}"
        value = self.meta.data.get(full)
        if isinstance(value, list):
            if self.index >= len(value):
                raise BadField(self.meta.where, full, f"{len(value)} numbers", "one for every layer")
            value = value[self.index]
            if isinstance(value, bool) or not isinstance(value, int) or value < 0:
                raise BadField(self.meta.where, full, value, "whole numbers")
            return value
        return self.meta.size(key, default, required)

    def unused(self) -> list[str]:
        """Tensors nobody asked for."""
        return [n for n in self.tensors if n not in self.asked and "norm" not in n and not n.endswith(".bias")]


def mixers(p: Parts) -> Iterator[tuple[str, Block]]:
    """(label, block) of what mixes tokens: one of them, or two side by side (Falcon-H1)."""
    if p.has("attn_kv_a_mqa.weight"):
        yield "mla", _latent(p)
    elif p.has("ssm_beta.weight") or p.has("ssm_ba.weight") or p.has("ssm_alpha.weight"):
        yield "delta", _delta(p)
        return
    elif p.has("attn_qkv.weight") or p.has("attn_q.weight"):
        yield "sliding" if p.window else "attention", _attention(p)
    elif p.has("attn_output.weight"):
        d_in, d_out = p.width("attn_output", 0), p.width("attn_output", 1)
        yield "linear", Projection(Linear("attn.linear", d_in, d_out))
    if p.has("ssm_in.weight"):
        yield "mamba", _mamba(p)
    if p.has("shortconv.in_proj.weight"):
        p.has("shortconv.out_proj.weight")
        yield "conv", ShortConv(p.hidden, p.width("shortconv.conv", 0), p.has("shortconv.conv.bias"))


def feed_forward(p: Parts) -> Iterator[tuple[str, Block]]:
    """(label, block) of MLPs and experts, which may stand beside each other (Gemma 4)."""
    if p.has("ffn_down.weight"):
        inner, up = p.width("ffn_down", 0), p.width("ffn_up", 1)
        gated = p.has("ffn_gate.weight") or up == 2.0 * inner
        yield "mlp", MLP(p.hidden, inner, gated, p.has("ffn_up.bias") or p.has("ffn_down.bias"))
    if p.has("ffn_down_exps.weight"):
        yield "moe", _experts(p)


def _experts(p: Parts) -> MoE:
    fused = p.has("ffn_gate_up_exps.weight")
    gated = p.has("ffn_gate_exps.weight") or fused
    p.has("ffn_up_exps.weight"), p.has("ffn_gate_inp.weight")
    shared = p.has("ffn_down_shexp.weight")
    for name in ("ffn_gate_shexp", "ffn_up_shexp", "ffn_latent_up"):
        p.has(f"{name}.weight")
    latent = p.has("ffn_latent_down.weight")
    return MoE(
        p.hidden,
        p.width("ffn_down_exps", 2),
        float(p.size("expert_used_count", required=True)),
        p.width("ffn_down_exps", 0),
        gated,
        bias=p.has("ffn_down_exps.bias"),
        shared_inner=p.width("ffn_down_shexp", 0) if shared else 0.0,
        shared_gate=p.has("ffn_gate_inp_shexp.weight"),
        router_bias=p.has("exp_probs_b.bias") or p.has("exp_probs_b") or p.has("ffn_gate_inp.bias"),
        latent=p.width("ffn_latent_down", 1) if latent else None,
    )


def _attention(p: Parts) -> Attention:
    heads = float(p.size("attention.head_count", required=True))
    kv = float(p.size("attention.head_count_kv", int(heads)) or heads)
    if not heads:
        raise BadField(p.meta.where, f"{p.meta.arch}.attention.head_count", heads, "heads, where a layer has attn_q")
    if p.has("attn_qkv.weight"):
        d = p.width("attn_qkv", 1) / (heads + 2.0 * kv)
        v, same, gate = d, False, False
    else:
        keys, values = p.has("attn_k.weight"), p.has("attn_v.weight")
        q = p.width("attn_q", 1)
        d = p.width("attn_k", 1) / kv if keys else float(p.size("attention.key_length", int(q / heads)))
        v = p.width("attn_v", 1) / kv if values else d
        same, gate = keys and not values, q == 2.0 * heads * d
    if d != int(d) or v != int(v):
        raise BadField(p.meta.where, f"blk.{p.index}.attn_q.weight", d, f"a whole width for each of {kv:.0f} KV heads")
    norm = ""
    if p.has("attn_q_norm.weight"):
        norm = "head" if p.width("attn_q_norm", 0) == d else "full"
    p.has("attn_output.weight"), p.has("attn_k_norm.weight"), p.has("attn_gate.weight")
    return Attention(
        p.hidden, heads, kv, d, None if v == d else v,
        qkv_bias=p.has("attn_q.bias") or p.has("attn_qkv.bias"), out_bias=p.has("attn_output.bias"), qk_norm=norm,
        gate=gate, k_eq_v=same, source="shared" if p.shared else "self",
        extra=float(heads) if p.has("attn_sinks.weight") else 0.0, **p.window,
    )  # fmt: skip


def _latent(p: Parts) -> MLA:
    rope, rank = p.size("rope.dimension_count", required=True), p.size("attention.kv_lora_rank", required=True)
    key = p.size("attention.key_length_mla") or p.size("attention.key_length", required=True)
    value = p.size("attention.value_length_mla") or p.size("attention.value_length", required=True)
    for name in ("attn_q_b", "attn_q", "attn_kv_b", "attn_k_b", "attn_v_b", "attn_output"):
        p.has(f"{name}.weight")
    index = None
    if p.has("indexer.attn_k.weight"):
        p.has("indexer.attn_q_b.weight"), p.has("indexer.proj.weight")
        index = Indexer(float(p.size("attention.indexer.head_count", required=True)),
                        float(p.size("attention.indexer.key_length", required=True)),
                        float(p.size("attention.indexer.top_k", required=True)))  # fmt: skip
    q_rank = p.width("attn_q_a", 1) if p.has("attn_q_a.weight") else 0.0
    heads = float(p.size("attention.head_count", required=True))
    return MLA(p.hidden, heads, q_rank, float(rank), float(key - rope), float(rope), float(value), indexer=index)


def _delta(p: Parts) -> GatedDeltaNet:
    for name in ("attn_qkv", "attn_gate", "ssm_in", "ssm_ba", "ssm_alpha", "ssm_beta", "ssm_out", "ssm_conv1d"):
        p.has(f"{name}.weight")
    p.has("ssm_a")
    heads, inner = (float(p.size(f"ssm.{k}", required=True)) for k in ("time_step_rank", "inner_size"))
    keys, width = (float(p.size(f"ssm.{k}", required=True)) for k in ("group_count", "state_size"))
    if not heads or inner % heads:
        field_name, allowed = f"{p.meta.arch}.ssm.time_step_rank", f"a divisor of inner_size = {inner:.0f}"
        raise BadField(p.meta.where, field_name, heads, allowed)
    return GatedDeltaNet(p.hidden, keys, heads, width, inner / heads, float(p.size("ssm.conv_kernel", 4)))


def _mamba(p: Parts) -> Mamba | Mamba2:
    inner, state = (float(p.size(f"ssm.{k}", required=True)) for k in ("inner_size", "state_size"))
    conv, rank = float(p.size("ssm.conv_kernel", 4)), float(p.size("ssm.time_step_rank", required=True))
    for name in ("ssm_out", "ssm_conv1d", "ssm_dt"):
        p.has(f"{name}.weight")
    p.has("ssm_a"), p.has("ssm_d")
    bias = p.has("ssm_conv1d.bias")
    if p.has("ssm_x.weight"):
        normed = p.has("ssm_dt_norm.weight")
        return Mamba(p.hidden, inner, state, rank, conv, conv_bias=bias, inner_norm=normed)
    if not rank or inner % rank:
        field_name, allowed = f"{p.meta.arch}.ssm.time_step_rank", f"a divisor of inner_size = {inner:.0f}"
        raise BadField(p.meta.where, field_name, rank, allowed)
    return Mamba2(p.hidden, rank, inner / rank, state, float(p.size("ssm.group_count", 1)), conv, conv_bias=bias)
