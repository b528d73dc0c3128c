"""The class that a file's ``architectures`` names: heads in place of the one that writes text, parts by themselves."""

from __future__ import annotations

from typing import Any

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.models.hf import from_config
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import Plan
from tierwise.workloads import usual

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 16,
    "num_key_value_heads": 4, "intermediate_size": 4096, "vocab_size": 32000, "tie_word_embeddings": False,
}  # fmt: skip
MLLAMA: dict[str, Any] = {
    "model_type": "mllama", "vision_config": {"hidden_size": 1280, "image_size": 448, "patch_size": 14},
    "text_config": {**LLAMA, "model_type": "mllama_text_model", "num_hidden_layers": 6, "cross_attention_layers": [3]},
}  # fmt: skip
WHISPER: dict[str, Any] = {
    "model_type": "whisper", "d_model": 384, "vocab_size": 51865, "encoder_layers": 4, "decoder_layers": 4,
    "encoder_attention_heads": 6, "decoder_attention_heads": 6, "encoder_ffn_dim": 1536, "decoder_ffn_dim": 1536,
}  # fmt: skip


def named(config: dict[str, Any], name: str, **more: Any) -> Model:
    return from_config({**config, **more, "architectures": [name]}, "x")


def flops(model: Model, phase: str, **step: float) -> dict[str, float]:
    graph = lower(Step(model, Plan(), 1.0, 100.0, 0.0, phase, **step))  # type: ignore[arg-type]
    out: dict[str, float] = {}
    for segment, op in graph.walk():
        out[op.name] = out.get(op.name, 0.0) + float(segment.repeat * op.flops)
    return out


@pytest.mark.parametrize(("name", "head"), [
    ("LlamaForCausalLM", 32000 * 1024),
    ("LlamaModel", 0),
    ("LlamaForSequenceClassification", 5 * 1024),
    ("LlamaForTokenClassification", 5 * 1024 + 5),
    ("LlamaForQuestionAnswering", 2 * 1024 + 2),
    ("LlamaForRewardModel", 5 * 1024),
])  # fmt: skip
def test_a_head_is_that_of_the_class(name: str, head: int) -> None:
    attention = 2 * 1024 * 1024 + 2 * 1024 * 256
    body = 32000 * 1024 + 4 * (attention + 3 * 1024 * 4096 + 2 * 1024) + 1024
    model = named(LLAMA, name, num_labels=5)
    assert float(model.parameters) == body + head
    assert (model.task == "generate") == name.endswith("CausalLM")
    assert name.endswith("CausalLM") or any(name in note for note in model.notes)


def test_a_classifier_of_texts_runs_once_and_classifies_once() -> None:
    """A pass over 100 tokens: every layer's products on each, one row of the classifier; what reads is what writes."""
    writes, sorts = named(LLAMA, "LlamaForCausalLM"), named(LLAMA, "LlamaForSequenceClassification", num_labels=5)
    ours, theirs = flops(sorts, "encode"), flops(writes, "prefill")
    assert ours["head"] == 2 * 1024 * 5
    del ours["head"], theirs["head"], theirs["sample"]
    assert ours == theirs
    assert flops(named(LLAMA, "LlamaForTokenClassification", num_labels=5), "encode")["head"] == 100 * 2 * 1024 * 5
    assert usual(sorts) == "encode" and usual(writes) == "generate"


def test_a_model_that_writes_with_published_code_keeps_its_head() -> None:
    """GLM-4's own code calls what writes text ``ChatGLMModel``: only names of `transformers` are known to be bare."""
    other = named(LLAMA, "MyLlamaModel")
    assert other.task == "generate" and float(other.parameters) == float(named(LLAMA, "LlamaForCausalLM").parameters)


def test_a_text_model_by_itself_has_no_tower_and_nothing_to_look_at() -> None:
    """Llama 3.2 Vision's text model; Whisper's decoder: maps of cross attention are stored and do nothing."""
    whole, text = named(MLLAMA, "MllamaForConditionalGeneration"), named(MLLAMA, "MllamaForCausalLM")
    assert {s.stream for s in text.stacks} == {"text"} and float(text.parameters) < float(whole.parameters)
    assert sum(float(s.parameters) for s in whole.stacks if s.stream == "text") > float(text.parameters)  # of tiles
    assert not any("cross" in op for op in flops(text, "prefill"))
    assert any("cross" in op for op in flops(whole, "prefill", encoder=1600.0))
    spoken, written = named(WHISPER, "WhisperForConditionalGeneration"), named(WHISPER, "WhisperForCausalLM")
    audio = next(s for s in spoken.stacks if s.stream == "audio")
    assert float(written.parameters) == float(spoken.parameters) - float(audio.parameters)
    assert not any("cross" in op for op in flops(written, "prefill"))
    clips = named(WHISPER, "WhisperForAudioClassification", num_labels=7)
    assert float(clips.parameters) == float(audio.parameters) + 384 * 256 + 256 + 256 * 7 + 7


def test_an_encoder_by_itself_is_what_image_generators_read_prompts_with() -> None:
    t5 = {"model_type": "t5", "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_heads": 64, "num_layers": 24,
          "vocab_size": 32128, "feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}  # fmt: skip
    model = named(t5, "T5EncoderModel")
    layer = 4 * 4096 * 4096 + 3 * 4096 * 10240 + 2 * 4096
    assert float(model.parameters) == 32128 * 4096 + 24 * layer + 32 * 64 + 4096
    assert [s.stream for s in model.stacks] == ["encode"] and model.task == "encode"


def test_a_classifier_behind_an_encoder_reads_the_text_twice() -> None:
    bart = {"model_type": "bart", "d_model": 1024, "encoder_layers": 12, "decoder_layers": 12, "vocab_size": 50265,
            "encoder_attention_heads": 16, "decoder_attention_heads": 16, "encoder_ffn_dim": 4096,
            "decoder_ffn_dim": 4096, "max_position_embeddings": 1024}  # fmt: skip
    writes = named(bart, "BartForConditionalGeneration")
    sorts = named(bart, "BartForSequenceClassification", num_labels=3)
    dense = 1024 * 1024 + 1024 + 3 * 1024 + 3
    assert float(sorts.parameters) == float(writes.parameters) + dense
    work = flops(sorts, "encode", encoder=100.0)
    assert work["cross.core"] == 2.0 * 2 * 12 * 100 * 100 * 1024  # scores and sum of every pair, in every layer
    assert named(bart, "BartModel").task == "generate"  # shares its table with the head that writes


def test_towers_that_meet_may_be_read_one_at_a_time() -> None:
    v = {"hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27, "num_attention_heads": 16,
         "image_size": 384, "patch_size": 14}  # fmt: skip
    whole = {"model_type": "siglip", "vision_config": v, "text_config": {**v, "vocab_size": 32000}}
    both, seen = named(whole, "SiglipModel"), from_config({**v, "model_type": "siglip_vision_model"}, "x")
    (tower,) = [s for s in both.stacks if s.stream == "vision"]
    assert float(seen.parameters) == float(tower.parameters)
    layer = 4 * (1152**2 + 1152) + 2 * 1152 * 4304 + 4304 + 1152 + 4 * 1152
    pool = 1152 + 4 * (1152**2 + 1152) + 2 * 1152 + 2 * 1152 * 4304 + 4304 + 1152
    assert float(seen.parameters) == 3 * 14**2 * 1152 + 1152 + 27**2 * 1152 + 27 * layer + 2 * 1152 + pool


@pytest.mark.parametrize("kind", ["beit", "layoutlmv3", "dpr"])
def test_what_writes_no_text_is_no_generic_decoder(kind: str) -> None:
    with pytest.raises(TierwiseError, match=r"No class of this type writes text.*ONNX"):
        from_config({**LLAMA, "model_type": kind}, "x")


def test_an_encoder_of_usual_fields_sees_both_ways() -> None:
    model = named({**LLAMA, "model_type": "eurobert"}, "EuroBertForMaskedLM")
    work = flops(model, "encode")
    assert work["attn.core"] == 4 * 2.0 * 2 * 100 * 100 * 1024 and work["head"] == 100 * 2.0 * 1024 * 32000
    causal = flops(named(LLAMA, "LlamaModel"), "encode")["attn.core"]
    assert causal == pytest.approx(work["attn.core"] * 101 / 200)


def test_a_reward_model_of_gpt_s_fields_has_plain_mlps_and_one_output() -> None:
    """OpenAssistant's oasst-rm-2.1-pythia-1.4b: its published index counts 5,246,377,988 bytes in fp32."""
    fields = {"model_type": "gpt_neox_reward_model", "hidden_act": "gelu", "hidden_size": 2048,
              "intermediate_size": 8192, "layer_norm_eps": 1e-05, "num_attention_heads": 16, "num_hidden_layers": 24,
              "vocab_size": 50288,
              "attention_bias": True, "torch_dtype": "float32", "tie_word_embeddings": False}  # fmt: skip
    model = named(fields, "GPTNeoXRewardModel")
    assert 4.0 * float(model.parameters) == pytest.approx(5246377988, rel=1e-3)
    assert model.task == "encode"


def test_fields_of_a_text_model_beside_its_tower_are_those_of_a_section() -> None:
    """Qwen2-VL's files are flat, and leave its tower to its class: 8,291,375,616 parameters (a published index of its
    7B in fp32 counts 33,165,502,464 bytes)."""
    flat = {"model_type": "qwen2_vl", "hidden_size": 3584, "intermediate_size": 18944, "num_attention_heads": 28,
            "num_hidden_layers": 28, "num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False,
            "vision_config": {"in_chans": 3, "model_type": "qwen2_vl", "spatial_patch_size": 14}}  # fmt: skip
    model = from_config(flat, "x")
    assert float(model.parameters) == pytest.approx(8291375616, rel=1e-6)
    assert [s.stream for s in model.stacks] == ["vision", "text"]
    nested = {"model_type": "qwen2_vl", "vision_config": flat["vision_config"], "tie_word_embeddings": False,
              "text_config": {k: v for k, v in flat.items() if k not in ("vision_config", "model_type")}}  # fmt: skip
    assert float(from_config(nested, "x").parameters) == float(model.parameters)


def test_latent_attention_that_a_file_turns_off_is_none() -> None:
    """DeepSeek-OCR writes widths of 0 for it."""
    off = {**LLAMA, "model_type": "unheard_of", "use_mla": False, "kv_lora_rank": None, "qk_nope_head_dim": 0,
           "qk_rope_head_dim": 0, "v_head_dim": 0}  # fmt: skip
    plain = {**LLAMA, "model_type": "unheard_of"}
    assert float(from_config(off, "x").parameters) == float(from_config(plain, "x").parameters)
