"""Configurations as people have them: fields left out, quantization by pattern, types nobody knows yet, names."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

import tierwise as tw
from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.numerics import fmt
from tierwise.models.hf import from_config
from tierwise.models.load import CATALOG, load_model, spelled_as
from tierwise.models.lower import state_bytes
from tierwise.models.mixtures import stored_as
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import Plan

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32,
    "num_attention_heads": 32, "num_key_value_heads": 8, "vocab_size": 128256, "torch_dtype": "bfloat16",
    "tie_word_embeddings": False,
}  # fmt: skip
ATTN, MLP, END = 32 * 2 * (4096 * 4096 + 4096 * 1024), 32 * 3 * 4096 * 14336, 128256 * 4096


def entry(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((CATALOG / f"{name}.json").read_text())["config"]
    return found


def weight_bytes(model: Model, *roles: str) -> float:
    total = 0.0
    for stack in model.stacks:
        if stack.stream != "text" or not stack.active:
            continue
        blocks = [(b, 1.0) for b in (*stack.before, *stack.after)] + [(b, n) for k, n in stack.runs() for b in k.blocks]
        total += sum(float(n * w.elements * model.format_of(w.role).bytes) for b, n in blocks for w in b.weights()
                     if not roles or w.role in roles)  # fmt: skip
    return total


def cached(model: Model, tokens: float, plan: Plan | None = None) -> float:
    return float(state_bytes(Step(model, plan or Plan(), 1.0, 1.0, tokens - 1.0, "decode"))[0])


# --- fields left out -------------------------------------------------------------------------------------------


def test_an_absent_field_is_its_class_default() -> None:
    """Qwen3-0.6B without head_dim is not 1024/16 wide: the class says 128 (596,049,920 in `transformers` 5.24)."""
    given = entry("qwen3-0.6b")
    assert from_config({k: v for k, v in given.items() if k != "head_dim"}, "x").parameters == 596049920


def test_the_other_name_of_a_number_of_experts_counts_where_the_class_takes_it() -> None:
    """GLM-5's class overwrites ``n_routed_experts`` by ``num_experts``: half the experts, half their weights."""
    given = entry("glm-5.1")
    layers = given["num_hidden_layers"] - given["first_k_dense_replace"]
    each = layers * given["hidden_size"] * (3 * given["moe_intermediate_size"] + 1)
    half = given["n_routed_experts"] // 2
    lost = from_config(given, "x").parameters - from_config({**given, "num_experts": half}, "x").parameters
    assert lost == pytest.approx(half * each, rel=1e-6)


def test_a_pattern_of_layers_that_nobody_gives_is_asked_for_by_both_names() -> None:
    given = entry("nemotron-3-ultra-550b-a55b")
    with pytest.raises(BadField, match=r"hybrid_override_pattern.*layers_block_type"):
        from_config({k: v for k, v in given.items() if k != "layers_block_type"}, "x")
    module = {k: v for k, v in given.items() if k != "mtp_layers_block_type"}
    assert from_config(module, "x").stack("mtp").parameters == from_config(given, "x").stack("mtp").parameters


def test_an_error_names_a_field_as_the_file_spells_it() -> None:
    gpt2 = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}
    with pytest.raises(BadField, match="n_embd: found -5"):
        from_config({**gpt2, "n_embd": -5}, "x")
    with pytest.raises(BadField, match="hidden_size: found -5"):
        from_config({**{k: v for k, v in gpt2.items() if k != "n_embd"}, "hidden_size": -5}, "x")


def test_a_tower_has_the_biases_and_positions_that_its_code_has() -> None:
    """CLIP's tower has biases and a row for each of 576 patches; Pixtral's neither, and MLPs of three maps."""
    vision = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 2, "num_attention_heads": 16,
              "patch_size": 14, "image_size": 336}  # fmt: skip

    def names(kind: str) -> set[str]:
        llava = {"model_type": "llava", "text_config": LLAMA, "vision_config": {**vision, "model_type": kind}}
        tower = next(s for s in from_config(llava, "x").stacks if s.stream == "vision")
        blocks = [*tower.before, *(b for k in tower.kinds for b in k.blocks)]
        return {w.name for b in blocks for w in b.weights()}

    assert {"position", "q_proj.bias"} <= names("clip_vision_model") and "gate_proj" not in names("clip_vision_model")
    assert "gate_proj" in names("pixtral") and not {"position", "q_proj.bias"} & names("pixtral")


def test_null_is_not_absent() -> None:
    """Mistral's class has a window of 4096; a configuration that says null has none."""
    mistral = {**LLAMA, "model_type": "mistral"}
    assert cached(from_config(mistral, "x"), 9000) < cached(from_config({**mistral, "sliding_window": None}, "x"), 9000)


def test_sections_have_the_defaults_of_their_class() -> None:
    given = entry("qwen3-vl-8b")
    vision = {k: v for k, v in given["vision_config"].items() if k != "deepstack_visual_indexes"}
    assert from_config({**given, "vision_config": vision}, "x").parameters == from_config(given, "x").parameters


def test_a_tower_has_the_key_value_heads_it_says() -> None:
    """Gemma 4's image tower: keys and values of half as many heads are half as wide."""
    tower = {"model_type": "gemma4_vision", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
             "num_attention_heads": 16, "num_key_value_heads": 16, "head_dim": 72, "patch_size": 16,
             "position_embedding_size": 10240}  # fmt: skip
    text = {"model_type": "gemma4_text", "hidden_size": 512, "num_hidden_layers": 2, "num_attention_heads": 8,
            "intermediate_size": 1024, "vocab_size": 1000}  # fmt: skip

    def count(**vision: int) -> float:
        return float(from_config({"model_type": "gemma4", "text_config": text, "vision_config": {**tower, **vision}},
                                 "x").parameters)  # fmt: skip

    assert count() - count(num_key_value_heads=8) == 27 * 2 * 1152 * 8 * 72


def test_a_flat_configuration_has_the_defaults_of_its_text_class() -> None:
    """Step-3.7's class has 8 groups of keys 128 wide, and a shared expert, where a flat configuration is silent."""
    said = {"num_key_value_heads": 8, "head_dim": 128, "share_expert_dim": 1280}
    step = {"model_type": "step3p7", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 64,
            "intermediate_size": 1024, "moe_intermediate_size": 1280, "num_experts": 16, "num_experts_per_tok": 2,
            "vocab_size": 1000}  # fmt: skip
    assert from_config(step, "x").parameters == from_config({**step, **said}, "x").parameters
    assert any("num_experts" in n for n in from_config(step, "x").notes)


def test_what_nobody_understands_is_named() -> None:
    model = from_config({**LLAMA, "num_gizmos": 7, "rms_norm_eps": 1e-5, "gizmo_dropout": 0.1}, "x")
    assert any("num_gizmos" in n and "rms" not in n and "dropout" not in n for n in model.notes)


# --- quantization ----------------------------------------------------------------------------------------------


def quantized(**section: Any) -> Model:
    return from_config({**LLAMA, "quantization_config": section}, "x")


def test_gptq_layers_of_their_own_width() -> None:
    """GPTQModel's ``dynamic``: layers 10-15 in 8 bits, 16-21 in 8 bits of group 64, 22-23 left alone."""
    dynamic = {r".*\.(?:1[0-5])\..*": {"bits": 8}, r"+:.*\.(?:1[6-9]|20|21)\..*": {"bits": 8, "group_size": 64},
               r"-:.*\.(?:22|23)\..*": {}}  # fmt: skip
    model = quantized(quant_method="gptq", bits=4, group_size=128, dynamic=dynamic)
    assert not any("not understood" in n for n in model.notes)
    told = quantized(quant_method="gptq", bits=4, dynamic={"x": {"bits": 8, "sym": True, "gizmo": 1}}).notes
    assert any("gizmo" in n for n in told) and not any("sym" in n for n in told)
    per_layer = (ATTN + MLP) / 32 / 8
    expected = per_layer * (18 * (4 + 20 / 128) + 6 * (8 + 24 / 128) + 6 * (8 + 24 / 64) + 2 * 16)
    assert weight_bytes(model, "attn", "mlp") == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("field", ["ignored_layers", "modules_to_not_convert"])
def test_fp8_leaves_listed_modules_alone(field: str) -> None:
    listed = [f"model.layers.{i}.self_attn.{p}_proj" for i in range(32) for p in "qkvo"]
    model = quantized(quant_method="fp8", **{field: listed})
    assert weight_bytes(model, "attn") == 2 * ATTN and weight_bytes(model, "mlp") == MLP


def test_the_first_group_that_matches_counts_and_expressions_have_choices() -> None:
    fp8 = {"num_bits": 8, "type": "float", "strategy": "channel"}
    fp4 = {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}
    groups = {
        "group_0": {"targets": [r"re:.*self_attn\.(q|k|v|o)_proj$", "lm_head",
                                r"re:.*layers\.(2[4-9]|3[01])\.mlp\.(gate|up|down)_proj$"], "weights": fp8},
        "group_1": {"targets": [r"re:.*mlp\.(gate|up|down)_proj$"], "weights": fp4},
    }  # fmt: skip
    model = quantized(quant_method="compressed-tensors", config_groups=groups, ignore=["model.embed_tokens"])
    assert weight_bytes(model, "attn", "head", "embed") == ATTN + 3 * END
    assert weight_bytes(model, "mlp") == pytest.approx(MLP * (8 * 1.0 + 24 * 4.5 / 8) / 32)


def test_a_broken_expression_and_an_unknown_key() -> None:
    with pytest.raises(TierwiseError, match="no regular expression"):
        quantized(quant_method="gptq", bits=4, dynamic={"(": {"bits": 8}})
    told = quantized(quant_method="gptq", bits=4, desc_act=True, shrink_ray=3).notes
    assert any("shrink_ray" in n for n in told) and not any("desc_act" in n for n in told)


def test_one_projection_of_every_expert_is_a_third_of_them() -> None:
    own = {r".*experts\..*down_proj": {"bits": 8}}
    section = {"quant_method": "gptq", "bits": 4, "group_size": 128, "dynamic": own}
    model = from_config({**entry("qwen3-30b-a3b"), "quantization_config": section}, "x")
    expected = (2 * (4 + 20 / 128) + 8 + 24 / 128) / 3
    assert float(model.format_of("expert").bytes) * 8 == pytest.approx(expected)


# --- what layers cache -----------------------------------------------------------------------------------------


def test_values_that_start_as_keys_are_cached_beside_them() -> None:
    """Gemma 4: keys are normed and rotated, values are not, so both are kept though one matrix makes them."""
    text = {"model_type": "gemma4_text", "hidden_size": 5376, "num_hidden_layers": 6, "num_attention_heads": 32,
            "num_key_value_heads": 16, "head_dim": 256, "global_head_dim": 512, "num_global_key_value_heads": 4,
            "attention_k_eq_v": True, "intermediate_size": 21504, "vocab_size": 262144, "sliding_window": 1024,
            "layer_types": ["sliding_attention"] * 5 + ["full_attention"], "torch_dtype": "bfloat16"}  # fmt: skip
    model = from_config(text, "x")
    per_token = cached(model, 200001) - cached(model, 200000)
    assert per_token == 2 * 4 * 512 * 2
    weights = [w.name for k in model.stacks[0].kinds if k.name == "attention" for b in k.blocks for w in b.weights()]
    assert "v_proj" not in weights


def test_a_million_prediction_modules_are_refused_at_once() -> None:
    with pytest.raises(BadField, match="num_nextn_predict_layers"):
        from_config({**entry("nemotron-3-nano-30b-a3b"), "num_nextn_predict_layers": 3_000_000}, "x")


# --- types nobody knows yet ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "within"),
    [("llama-3.1-8b", 0.0), ("qwen3-30b-a3b", 1e-5), ("deepseek-v3", 0.0), ("glm-4.5-air", 1e-4), ("mixtral-8x7b", 0.0),
     ("minimax-m2", 1e-5), ("nemotron-3-nano-30b-a3b", 0.0), ("gpt-oss-20b", 1e-3), ("qwen3-next-80b-a3b", 2e-3)],
)  # fmt: skip
def test_an_unknown_type_is_read_by_its_fields(name: str, within: float) -> None:
    given = entry(name)
    if name == "gpt-oss-20b":
        given["layer_types"] = ["sliding_attention", "full_attention"] * 12
    own = from_config(given, name)
    found = from_config({**given, "model_type": "brand_new"}, name)
    assert float(found.parameters) == pytest.approx(float(own.parameters), rel=within, abs=0)
    assert cached(found, 5000) == cached(own, 5000)
    assert "generic decoder" in found.family and "generic decoder" in found.notes[0]


def test_a_window_without_a_pattern_is_no_small_cache() -> None:
    model = from_config({**LLAMA, "model_type": "brand_new", "sliding_window": 128}, "x")
    assert cached(model, 5000) == cached(from_config(LLAMA, "x"), 5000) and any("window" in n for n in model.notes)


def test_the_text_model_of_an_unknown_wrapper_is_read_as_what_it_is() -> None:
    given = entry("qwen3.5-27b")
    model = from_config({**given, "model_type": "brand_new_vl"}, "x")
    whole = from_config(given, "x")
    assert model.stack("decoder").parameters == whole.stack("decoder").parameters
    # The tower by its fields, with a projector of its own guess.
    assert float(model.parameters) == pytest.approx(float(whole.parameters), rel=1e-3)
    assert any("qwen3_5_text" in n for n in model.notes) and any("vision_config" in n for n in model.notes)


def test_fields_that_do_not_suffice_are_refused() -> None:
    with pytest.raises(TierwiseError, match="do not suffice"):
        from_config({"model_type": "brand_new", "hidden_size": 64, "vocab_size": 100}, "x")


def test_a_type_is_chosen_by_hand(tmp_path: Any) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**entry("qwen3-8b"), "model_type": "brand_new"}))
    assert load_model(spelled_as(str(path), "qwen3")).parameters == load_model("qwen3-8b").parameters
    assert "generic" in load_model(spelled_as(str(path), "generic")).family
    with pytest.raises(UnknownName, match="did you mean 'qwen3'"):
        load_model(spelled_as(str(path), "qwen33"))


# --- names -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "entry", "form"),
    [
        ("Qwen3-30B-A3B-Instruct-2507", "qwen3-30b-a3b", "bf16"), ("qwen3:30b-a3b", "qwen3-30b-a3b", "bf16"),
        ("bartowski/Meta-Llama-3.1-8B-Instruct-GGUF", "llama-3.1-8b", "bf16"), ("llama3.1:8b", "llama-3.1-8b", "bf16"),
        ("hugging-quants/Meta-Llama-3.1-8B-Instruct-AWQ-INT4", "llama-3.1-8b", "int4-g128"),
        ("RedHatAI/Meta-Llama-3.1-8B-Instruct-FP8-dynamic", "llama-3.1-8b", "fp8"),
        ("Qwen/Qwen2.5-7B-Instruct-GPTQ-Int4", "qwen2.5-7b", "int4-g128"), ("mistral:7b", "mistral-7b-v0.1", "bf16"),
        ("nvidia/Llama-3.3-70B-Instruct-NVFP4", "llama-3.3-70b", "nvfp4"), ("phi4:14b", "phi-4", "bf16"),
        ("mlx-community/Qwen3-8B-4bit", "qwen3-8b", "int4-g64-z16"), ("deepseek-r1:671b", "deepseek-r1", "fp8-block"),
        ("Qwen/Qwen3-8B-FP8", "qwen3-8b", "fp8-block"),
        ("Qwen3-32B-FP8", "qwen3-32b-fp8", "fp8-block"), ("Qwen3-4B-Instruct-2507-AWQ-4bit", "qwen3-4b", "int4-g128"),
        ("x/Qwen3-8B-GPTQ-8bit", "qwen3-8b", "int8-g128"), ("deepseek-r1:8b", "qwen3-8b", "bf16"),
        ("x/Qwen3-Coder-30B-A3B-Instruct-AWQ", "qwen3-30b-a3b", "int4-g128"),
        ("deepseek-r1:70b", "llama-3.3-70b", "bf16"),
        ("deepseek-r1-distill-llama-8b", "llama-3.1-8b", "bf16"), ("Qwen2.5-Coder-32B-GGUF", "qwen2.5-32b", "bf16"),
    ],
)  # fmt: skip
def test_names_people_use(name: str, entry: str, form: str) -> None:
    model = load_model(name)
    assert model.name == entry
    assert str(model.format_of("mlp" if "mlp" in model.formats else "attn")) == form


def test_what_was_taken_is_told() -> None:
    assert "qwen3-1.7b" in load_model("qwen3").notes[0] and "smallest" in load_model("qwen3").notes[0]
    assert "not applied" in load_model("nvidia/DeepSeek-R1-NVFP4").notes[0]
    assert "gguf" in load_model("unsloth/Qwen3-8B-GGUF").notes[0]
    assert "ud-q4_k_xl" in load_model("unsloth/Qwen3-8B-UD-Q4_K_XL").notes[0]


@pytest.mark.parametrize("name", ["deepseek-r1:9b", "deepseek-r1-distill-gemma-8b", "qwen3-31b", "llama", "gpt-5"])
def test_names_of_other_models_stay_unknown(name: str) -> None:
    with pytest.raises(UnknownName):
        load_model(name)


# --- files of llama.cpp ----------------------------------------------------------------------------------------

GIB = 2**30


@pytest.mark.parametrize(
    ("name", "kind", "size"),
    [
        # Published files of Llama-3.1-8B-Instruct, GB.
        *(("llama-3.1-8b", k, gb * 1e9) for k, gb in (
            ("q2_k", 3.18), ("q3_k_m", 4.02), ("q4_k_m", 4.92), ("q5_k_m", 5.73), ("q6_k", 6.60), ("q8_0", 8.54),
            ("iq4_xs", 4.45))),
        # Sizes that llama-bench printed, GiB.
        *(("llama-3.1-8b", k, gib * GIB) for k, gib in (
            ("q4_0", 4.35), ("q4_k_s", 4.36), ("q5_0", 5.22), ("q5_k_s", 5.21), ("q3_k_s", 3.41), ("q2_k_s", 2.78),
            ("iq3_xxs", 3.04), ("iq2_xxs", 2.23), ("iq2_m", 2.74))),
        ("llama-3.3-70b", "q4_k_m", 39.593 * GIB), ("llama-2-7b", "q4_k_m", 3.80 * GIB), ("phi-2", "q4_0", 1.49 * GIB),
        ("tinyllama-1.1b", "q4_k_m", 0.621 * GIB), ("llama-3.2-1b", "q4_0", 0.713 * GIB),
        ("llama-3.2-3b", "q4_k_m", 1.87 * GIB), ("qwen3-30b-a3b", "q8_0", 30.25 * GIB),
        ("qwen2.5-7b", "q8_0", 7.54 * GIB), ("mistral-7b-v0.1", "q4_0", 3.83 * GIB),
    ],
)  # fmt: skip
def test_files_have_their_published_sizes(name: str, kind: str, size: float) -> None:
    assert weight_bytes(stored_as(load_model(name), fmt(kind))) == pytest.approx(size, rel=0.02)


@pytest.mark.parametrize(("name", "gib"), [("gpt-oss-20b", 11.27), ("gpt-oss-120b", 59.02)])
def test_experts_that_were_trained_in_four_bits_stay_so_in_a_file(name: str, gib: float) -> None:
    """Sizes that llama-bench prints of the published files (llama.cpp, benches/dgx-spark). Where nobody names a format
    it is that file which llama.cpp runs; other engines run the checkpoint, whose other weights have 16 bits."""
    assert weight_bytes(stored_as(load_model(name), fmt("MXFP4_MOE"))) == pytest.approx(gib * GIB, rel=0.003)
    base = tw.Scenario(name, "dgx-spark", tw.Batch(batch=1, prompt=64, output=4), engine="llama.cpp")

    def held(scenario: tw.Scenario) -> float:
        return sum(float(size) for size in tw.evaluate(scenario).memory.weights.values())

    assert held(base) == pytest.approx(gib * GIB, rel=0.003)
    assert held(replace(base, engine="vllm")) > 1.02 * held(base)


def test_a_name_of_a_file_is_a_format_in_any_case_and_one_format_stays_one() -> None:
    model = load_model("llama-3.1-8b")
    assert stored_as(model, fmt("bf16")) is model and stored_as(model, None) is model
    assert str(fmt("Q4_K_M")) == "q4_k_m"
    assert str(stored_as(model, fmt("Q4_K_M")).format_of("head")) == "q6_k"
    linear = stored_as(model, fmt("q4_k_m"))
    average = weight_bytes(linear, "attn", "mlp") * 8 / (ATTN + MLP)
    assert float(fmt("q4_k_m").bits) == pytest.approx(average, abs=2e-3), "what holds where no model is at hand"
