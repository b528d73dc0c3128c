"""Encoders and decoders: what an encoder sees both ways, decoders by themselves, two types in one configuration.

Counts of parameters are those of `transformers` 5.24 on the meta device; ``tests/truth`` builds them anew.
"""

from __future__ import annotations

from typing import Any

import pytest

from tierwise.core.errors import BadField
from tierwise.models.blocks.attention import Attention
from tierwise.models.hf import from_config
from tierwise.models.lower import running
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import Plan

LONG: dict[str, Any] = {"d_model": 1024, "encoder_layers": 12, "decoder_layers": 12, "encoder_attention_heads": 16,
                        "decoder_attention_heads": 16, "encoder_ffn_dim": 4096, "decoder_ffn_dim": 4096,
                        "vocab_size": 50265}  # fmt: skip
VIT = {"model_type": "vit", "hidden_size": 768, "image_size": 384, "qkv_bias": False}
TROCR = {**{k: v for k, v in LONG.items() if "encoder" not in k}, "model_type": "trocr",
         "cross_attention_hidden_size": 768, "max_position_embeddings": 512}  # fmt: skip


def two(encoder: dict[str, Any], decoder: dict[str, Any], kind: str = "vision-encoder-decoder") -> Model:
    return from_config({"model_type": kind, "encoder": encoder, "decoder": decoder}, "x")


def pairs(attn: Attention, tokens: int) -> float:
    """Query-key pairs of one sequence, from the FLOPs of the scores and the sum."""
    model = from_config({**LONG, "model_type": "bart"}, "x")
    (core,) = [op for op in attn.ops(Step(model, Plan(), 1.0, float(tokens), 0.0, "encode")) if op.kind == "attention"]
    return float(core.flops) / float(2.0 * attn.heads * 2.0 * attn.head_dim)


@pytest.mark.parametrize("tokens", [1, 5, 8, 9, 200])
def test_a_window_both_ways_is_counted_pair_by_pair(tokens: int) -> None:
    attn = Attention(64.0, 2.0, 2.0, 32.0, causal=False, window=9.0)
    by_hand = sum(abs(i - j) <= 4 for i in range(tokens) for j in range(tokens))
    assert pairs(attn, tokens) == pytest.approx(by_hand)


def test_an_encoder_for_long_inputs_attends_to_a_share_of_them() -> None:
    """16,384 tokens: a Longformer's window of 1,024 and itself, PEGASUS-X's block and its global tokens."""
    for kind, most in (("led", 1025.0), ("pegasus_x", 544.0), ("bigbird_pegasus", 512.0), ("bart", 16384.0)):
        sizes = {"attention_window": 1024, "max_position_embeddings": 16384}
        (encoder,) = running(from_config({**LONG, **sizes, "model_type": kind}, "x"), "encode")
        attn = next(b for k in encoder.kinds for b in k.blocks if isinstance(b, Attention))
        assert 0.95 * most < pairs(attn, 16384) / 16384 <= most


def test_blocks_that_are_summed_are_attended_to_beside_the_window() -> None:
    t5 = {"model_type": "longt5", "d_model": 768, "d_kv": 64, "d_ff": 2048, "num_heads": 12, "num_layers": 12,
          "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}  # fmt: skip
    seen, counts = {}, {}
    for kind in ("local", "transient-global"):
        model = from_config({**t5, "encoder_attention_type": kind}, "x")
        attn = next(b for k in model.stack("encoder").kinds for b in k.blocks if isinstance(b, Attention))
        seen[kind], counts[kind] = pairs(attn, 4096) / 4096, model.parameters
    assert seen["transient-global"] - seen["local"] == pytest.approx(4096 / 16)
    assert counts["transient-global"] - counts["local"] == 12 * 768 + 32 * 12
    with pytest.raises(BadField, match="transient-global"):
        from_config({**t5, "encoder_attention_type": "global"}, "x")


def test_a_decoder_by_itself_has_no_encoder_and_attends_to_none() -> None:
    """BartForCausalLM: 254,084,096 parameters; those of cross-attention are stored and not read."""
    bart = {**LONG, "model_type": "bart", "max_position_embeddings": 1024, "architectures": ["BartForCausalLM"]}
    model = from_config(bart, "x")
    assert model.parameters == 254084096
    assert [s.name for s in model.stacks] == ["decoder"]
    assert not [b for k in model.stacks[0].kinds for b in k.blocks if getattr(b, "source", "") == "cross"]


def test_a_picture_encoder_in_front_of_a_decoder() -> None:
    """TrOCR's base model has 333,921,792 parameters; its decoder attends to the picture's 577 tokens."""
    model = two(VIT, TROCR)
    assert model.parameters == 333921792
    (tower,) = running(model, "audio")
    assert tower.tokens == (384 // 16) ** 2 + 1
    cross = next(b for k in model.stack("decoder").kinds for b in k.blocks if getattr(b, "source", "") == "cross")
    assert cross.kv_hidden == 768


def test_a_text_model_becomes_a_decoder_by_attention_to_the_encoder() -> None:
    """BERT2BERT at base size: 247,363,386 parameters, of which each layer's cross-attention is h (4 h + 6)."""
    bert = {"model_type": "bert", "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12,
            "intermediate_size": 3072, "vocab_size": 30522}  # fmt: skip
    model = two(bert, bert, "encoder-decoder")
    assert model.parameters == 247363386
    alone = from_config({**bert, "architectures": ["BertForMaskedLM"]}, "x")
    assert model.stack("decoder").parameters - alone.parameters == 12 * 768 * (4 * 768 + 6)


def test_widths_that_differ_are_joined_by_a_map() -> None:
    gpt2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}
    narrow = {**VIT, "hidden_size": 384, "num_attention_heads": 6}
    names = [b.linear.name for b in two(narrow, gpt2).stacks[0].after if hasattr(b, "linear")]
    assert "enc_to_dec_proj" in names
    assert "enc_to_dec_proj" not in [b.linear.name for b in two(VIT, gpt2).stacks[0].after if hasattr(b, "linear")]


def test_a_side_that_no_family_reads_is_refused_by_its_name() -> None:
    with pytest.raises(BadField, match=r"encoder\.model_type: found 'donut-swin'.*vit"):
        two({"model_type": "donut-swin", "hidden_size": 1024}, TROCR)
    with pytest.raises(BadField, match="decoder: found None"):
        from_config({"model_type": "vision-encoder-decoder", "encoder": VIT}, "x")
