"""What families arrange: caches as published, patterns of layers, and the physics of any small decoder."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.models.config import Config
from tierwise.models.hf import from_config
from tierwise.models.load import load_model, model_names
from tierwise.models.lower import lower, state_bytes
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import Plan


def kv_per_token(model: Model, context: float = 4096.0) -> float:
    """Cache bytes of one sequence over its tokens."""
    return float(state_bytes(Step(model, Plan(), 1.0, context, 0.0, "prefill"))[0]) / context


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("llama-2-7b", 2 * 32 * 4096 * 2),  # 524288: keys and values of 32 layers, fp16
        ("llama-3.1-8b", 2 * 32 * 1024 * 2),
        ("llama-3.1-70b", 2 * 80 * 1024 * 2),
        ("falcon-7b", 2 * 32 * 64 * 2),  # one KV head
        ("deepseek-v3", 61 * 576 * 2),  # the latent and the rotary key
        ("qwen3-30b-a3b", 2 * 48 * 512 * 2),
    ],
)
def test_kv_bytes_per_token(name: str, expected: float) -> None:
    assert kv_per_token(load_model(name)) == expected


def test_sliding_layers_keep_their_window() -> None:
    # gpt-oss-20b: half of 24 layers keep 128 tokens, half keep all; 2 x 8 heads x 64 x 2 bytes a token.
    model, context, token = load_model("gpt-oss-20b"), 8192.0, 2 * 8 * 64 * 2
    assert kv_per_token(model, context) * context == token * 12 * (context + 128)


def test_window_of_mistral_bounds_its_cache() -> None:
    model = load_model("mistral-7b-v0.1")
    assert kv_per_token(model, 32768.0) == kv_per_token(model, 4096.0) / 8


@pytest.mark.parametrize(
    ("name", "kinds", "pattern"),
    [
        ("llama-4-scout", ["chunked+moe", "attention+moe"], (0, 0, 0, 1)),
        ("llama-4-maverick", ["chunked+mlp", "chunked+moe", "attention+moe"], (0, 1, 0, 2)),
        ("gemma-3-27b", ["sliding", "attention"], (0, 0, 0, 0, 0, 1)),
        ("gemma-2-9b", ["sliding", "attention"], (0, 1)),
        ("deepseek-v3", ["mla+mlp", "mla+moe"], (0, 0, 0, 1, 1)),
        ("glm-5.2", ["mla+mlp", "mla-shared+moe", "mla+moe"], (0, 0, 0, 1, 1, 1, 2, 1)),
    ],
)
def test_patterns_of_layers(name: str, kinds: list[str], pattern: tuple[int, ...]) -> None:
    stack = load_model(name).stack("decoder")
    assert [k.name for k in stack.kinds] == kinds
    assert stack.pattern[: len(pattern)] == pattern


def test_prediction_modules_are_stored_but_not_counted_or_run() -> None:
    model = load_model("deepseek-v3")
    mtp = model.stack("mtp")
    assert not mtp.active
    # DeepSeek-V3's model card: 14 B for the module, of which embedding and head are shared with the model.
    shared = 2 * 129280 * 7168
    assert mtp.parameters + shared == pytest.approx(13.5e9, rel=0.02)


def test_mimo_with_its_prediction_module_is_the_published_size() -> None:
    model = load_model("mimo-7b")
    assert model.parameters + model.stack("mtp").parameters == pytest.approx(7.83e9, rel=0.001)


def test_searched_layers_add_up_to_the_published_size() -> None:
    """Llama-Nemotron Super: attention missing in many layers, MLPs of seven widths (model card: 49.9 B)."""
    path = Path(__file__).parents[3] / "shared/data/configs/nvidia--Llama-3_3-Nemotron-Super-49B-v1"
    if not path.is_dir():
        pytest.skip("the recorded configuration is not here")
    model = load_model(path)
    assert model.parameters == pytest.approx(49.9e9, rel=0.002)
    assert len(model.stack("decoder").kinds) > 5


def test_one_indexer_serves_four_layers_of_glm_5_2() -> None:
    full, shared = load_model("glm-5.1"), load_model("glm-5.2")
    assert kv_per_token(full) - kv_per_token(shared) == (78 - 21) * 132  # 128 of one byte each, and a scale


def test_compressed_attention_keeps_a_window_and_entries() -> None:
    model, context = load_model("deepseek-v4-pro"), 65536.0
    csa, hca = 30, 31  # layers of ratio 4 (with index keys of 128, one byte each) and of ratio 128
    whole = (csa + hca) * 128 * 512 * 2
    entries = context / 4 * csa * (512 * 2 + 128) + context / 128 * hca * 512 * 2
    assert kv_per_token(model, context) * context == pytest.approx(whole + entries)


dims = st.fixed_dictionaries(
    {
        "head_dim": st.integers(4, 64).map(lambda n: 2 * n),
        "num_key_value_heads": st.integers(1, 8),
        "group": st.integers(1, 8),
        "intermediate_size": st.integers(1, 4096),
        "hidden_size": st.integers(1, 4096),
        "num_hidden_layers": st.integers(1, 12),
        "vocab_size": st.integers(1, 100_000),
        "tie_word_embeddings": st.booleans(),
        "attention_bias": st.booleans(),
        "mlp_bias": st.booleans(),
    }
)


def built(d: dict[str, Any]) -> Model:
    heads = d["group"] * d["num_key_value_heads"]
    return from_config({"model_type": "llama", "torch_dtype": "bfloat16", **d, "num_attention_heads": heads}, "x")


@given(dims)
@settings(max_examples=60, deadline=None)
def test_parameters_grow_with_every_dimension(d: dict[str, Any]) -> None:
    base = built(d).parameters
    assert base > 0
    for field in (
        "head_dim",
        "num_key_value_heads",
        "intermediate_size",
        "hidden_size",
        "num_hidden_layers",
        "vocab_size",
    ):
        assert built({**d, field: d[field] * 2}).parameters > base, field


@given(dims, st.integers(1, 64))
@settings(max_examples=60, deadline=None)
def test_prefill_multiplies_every_token_with_every_linear_weight(d: dict[str, Any], tokens: int) -> None:
    """Matmul FLOPs are 2 x linear parameters x tokens; the head sees one token a sequence."""
    model = built(d)
    graph = lower(Step(model, Plan(), 1.0, float(tokens), 0.0, "prefill"))
    matmuls = sum(float(s.repeat * op.flops) for s, op in graph.walk() if op.kind == "matmul")
    linear = sum(
        float(w.elements) * n
        for layer, n in model.stacks[0].runs()
        for w in layer.weights()
        if w.role in ("attn", "mlp") and not w.name.endswith(".bias")
    )
    head = d["hidden_size"] * d["vocab_size"]
    assert matmuls == pytest.approx(2.0 * (linear * tokens + head))


def test_prefill_flops_of_a_real_model() -> None:
    """About two FLOP per parameter and token (Kaplan et al., arXiv:2001.08361), attention and embedding apart."""
    model = load_model("llama-3.1-8b")
    flops = lower(Step(model, Plan(), 1.0, 512.0, 0.0, "prefill")).flops
    body = model.parameters - 2 * 128256 * 4096
    assert flops / (2 * body * 512) == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", [n for n in model_names() if "whisper" not in n])
def test_every_text_model_lowers_with_arrays(name: str) -> None:
    """A sweep over batch and context gives the same numbers as its points one by one."""
    model = load_model(name)
    if not any(s.stream == "text" for s in model.stacks):
        pytest.skip("no text stack")
    seqs, past = np.array([1.0, 8.0]), np.array([128.0, 100_000.0])
    for phase, new, before in (("prefill", past, 0.0 * past), ("decode", 1.0, past)):
        swept = lower(Step(model, Plan(), seqs, new, before, phase))
        for i in range(2):
            one = Step(model, Plan(), float(seqs[i]), float(np.broadcast_to(new, 2)[i]), float(before[i]), phase)
            alone = lower(one)
            assert np.broadcast_to(swept.flops, 2)[i] == pytest.approx(float(alone.flops))
            moved = np.broadcast_to(swept.bytes_of("kv"), 2)[i]
            assert moved == pytest.approx(float(alone.bytes_of("kv")))


def test_the_page_on_adding_a_model_is_true() -> None:
    """Its family is built as written, and the session below it shows what comes out."""
    page = (Path(__file__).parents[2] / "docs" / "adding-a-model.md").read_text()
    _, family, session = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    space: dict[str, Any] = {}
    exec(family, space)
    fields = ast.literal_eval(re.search(r"from_config\((\{.*?\})", session.replace("...", ""), re.DOTALL)[1])  # type: ignore[index]
    model = space["build"](Config(fields, "zigzag.json"), "zigzag")
    assert f"'{model.parameters:,.0f}'" in session
    assert str([(layer.name, n) for layer, n in model.stack("decoder").runs()]) in session
