"""Encoders, encoder-decoders, towers, state-space models: published sizes, and arrays through every family."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.errors import BadField
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.moe import MoE
from tierwise.models.hf import from_config
from tierwise.models.load import CATALOG, load_model
from tierwise.models.lower import lower, state_bytes
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import Plan

# Parameters in millions as published: papers' tables (BERT: 110 and 340 rounded; T5 section 3.7; Switch table 9;
# DeiT table 5; Vim table 1; ViG table 2; Jamba, Nemotron-H and Qwen model cards; Whisper's model card table;
# RWKV-6: 15.3 GB of 16-bit weights).
PUBLISHED = {
    "bert-base": (110, 0.01), "bert-large": (340, 0.02), "roberta-large": (355, 0.01),
    "t5-small": (60, 0.02), "t5-base": (220, 0.02), "t5-large": (770, 0.05), "t5-3b": (2_800, 0.03),
    "t5-11b": (11_000, 0.03), "t5-v1.1-base": (248, 0.01), "switch-c-2048": (1_571_000, 0.002),
    "switch-base-128": (7_410, 0.01), "switch-large-128": (26_300, 0.01), "deit-tiny": (5.7, 0.02),
    "deit-small": (22, 0.02), "deit-base": (86.6, 0.001), "vit-large-patch16-224": (304.3, 0.001),
    "vit-huge-patch14-224": (632, 0.001), "resnet-18": (11.69, 0.001), "resnet-50": (25.56, 0.001),
    "resnet-152": (60.19, 0.001), "vim-tiny": (7, 0.03), "vim-small": (26, 0.02), "vig-tiny": (6, 0.03),
    "vig-small": (23, 0.02), "vig-base": (89, 0.01), "whisper-tiny": (39, 0.04), "whisper-large-v3": (1_550, 0.01),
    "clip-vit-large-patch14": (428, 0.002), "mamba-2.8b": (2_768, 0.001), "mamba2-2.7b": (2_700, 0.002),
    "mamba-codestral-7b": (7_285, 0.001), "jamba-v0.1": (52_000, 0.01), "jamba-1.5-large": (398_000, 0.002),
    "rwkv-4-7b": (7_393, 0.001), "rwkv-6-7b": (7_650, 0.004),
    "nemotron-h-8b": (8_100, 0.001), "nemotron-3-nano-30b-a3b": (31_600, 0.001),
    "qwen3-next-80b-a3b": (80_000, 0.01), "qwen3.5-397b-a17b": (397_000, 0.002),
    "minimax-text-01": (456_000, 0.001), "falcon-mamba-7b": (7_270, 0.001), "bamba-9b": (9_780, 0.001),
}  # fmt: skip

ACTIVE = {
    "jamba-v0.1": (12_000, 0.02), "jamba-1.5-large": (94_000, 0.01), "nemotron-3-nano-30b-a3b": (3_600, 0.01),
    "qwen3-next-80b-a3b": (3_900, 0.02),
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_parameters_are_the_published_ones(name: str) -> None:
    millions, tolerance = PUBLISHED[name]
    assert load_model(name).parameters == pytest.approx(millions * 1e6, rel=tolerance)


# RWKV-7: the paper's formula (arXiv:2503.14456, appendix on parameters) at its ranks; 168M is in the name of the first.
@pytest.mark.parametrize(("hidden", "layers", "vocab", "ranks", "millions"), [
    (768, 12, 50304, (64, 64, 32, 128), 168), (768, 12, 65536, (64, 64, 32, 128), 191),
    (2560, 32, 65536, (96, 96, 64, 320), 2948),
])  # fmt: skip
def test_rwkv_7_has_the_parameters_of_its_paper(
    hidden: int, layers: int, vocab: int, ranks: tuple[int, ...], millions: int
) -> None:
    names = ("decay_low_rank_dim", "a_low_rank_dim", "v_low_rank_dim", "gate_low_rank_dim")
    data = {"model_type": "rwkv7", "hidden_size": hidden, "num_hidden_layers": layers, "vocab_size": vocab,
            "torch_dtype": "bfloat16", **dict(zip(names, ranks, strict=True))}  # fmt: skip
    model = from_config(data, "rwkv7")
    layer = hidden * (12 * hidden + 2 * sum(ranks) + 19)
    assert model.parameters == 2 * hidden * vocab + 4 * hidden + layers * layer - (2 * hidden * ranks[2] + hidden)
    assert model.parameters == pytest.approx(millions * 1e6, rel=0.003)
    assert not model.notes
    # A matrix of 64 by 64 numbers of 32 bits a head, and two tokens before: nothing that grows with the context.
    for past in (100.0, 1e6):
        kv, state, _ = state_bytes(Step(model, Plan(), 1.0, 1.0, past, "decode"))
        assert (kv, state) == (0.0, layers * hidden * (64 * 4 + 2 * 2))


def test_a_shared_block_is_stored_once_and_cached_at_each_return() -> None:
    """Zamba2: nine hybrid layers take two shared transformer blocks in turn, each return with a cache of its own."""
    shape = {"hidden_size": 2560, "num_hidden_layers": 54, "num_attention_heads": 32, "n_mamba_heads": 80,
             "vocab_size": 32000, "num_mem_blocks": 2}  # fmt: skip
    one, two = (from_config({"model_type": "zamba2", **shape, "num_mem_blocks": n}, "zamba2") for n in (1, 2))
    hidden, inner = 2560.0, 10240.0
    assert two.parameters - one.parameters == 3 * (2 * hidden) ** 2 + 2 * hidden**2 + 3 * hidden * inner + 3 * hidden
    kv = [state_bytes(Step(m, Plan(), 1.0, 1.0, 999.0, "decode"))[0] for m in (one, two)]
    assert kv[0] == kv[1] == 9 * 2 * 1000 * 2 * hidden * 2.0


@pytest.mark.parametrize("name", ACTIVE)
def test_active_parameters_are_the_published_ones(name: str) -> None:
    millions, tolerance = ACTIVE[name]
    assert load_model(name).active_parameters == pytest.approx(millions * 1e6, rel=tolerance)


def test_switch_c_has_experts_in_every_layer_and_base_in_every_other() -> None:
    def sparse(name: str) -> list[bool]:
        s = load_model(name).stack("encoder")
        return [any(isinstance(b, MoE) for b in s.kinds[i].blocks) for i in s.pattern]

    assert all(sparse("switch-c-2048"))
    assert sparse("switch-base-8") == [False, True] * 6


def test_a_letter_per_layer_is_read_in_order() -> None:
    config = entry("nemotron-h-8b")
    model = from_config({**config, "hybrid_override_pattern": "M-*M", "num_hidden_layers": 4}, "test")
    s = model.stack("decoder")
    assert [s.kinds[i].name for i in s.pattern] == ["mamba", "mlp", "attention", "mamba"]
    with pytest.raises(BadField, match="hybrid_override_pattern"):
        from_config({**config, "hybrid_override_pattern": "M-X"}, "test")


def test_jamba_attends_in_one_layer_of_eight() -> None:
    s = load_model("jamba-v0.1").stack("decoder")
    attends = [any(isinstance(b, Attention) for b in s.kinds[i].blocks) for i in s.pattern]
    assert [i for i, yes in enumerate(attends) if yes] == [4, 12, 20, 28]


def test_only_attention_layers_of_a_hybrid_keep_a_cache() -> None:
    model = load_model("qwen3-next-80b-a3b")
    kv, state, _ = state_bytes(Step(model, Plan(), 1.0, 1.0, 9_999.0, "decode"))
    assert kv == 12 * 10_000 * 2 * 2 * 256 * 2.0
    per_layer = 32 * 128 * 128 + (2 * 16 * 128 + 32 * 128) * 3
    assert state == 36 * per_layer * 2.0


def test_a_pure_state_space_model_decodes_in_constant_memory() -> None:
    model = load_model("mamba-2.8b")
    short, long = (state_bytes(Step(model, Plan(), 1.0, 1.0, past, "decode")) for past in (10.0, 1e6))
    assert short == long
    assert (short[0], short[1]) == (0.0, 64 * 5120 * (16 + 3) * model.activations.bytes)


def test_a_decoder_reads_the_encoder_s_keys_and_computes_them_once() -> None:
    model = load_model("t5-base")
    prompt = Step(model, Plan(), 2.0, 16.0, 0.0, "prefill", 1.0, 100.0, fresh_encoder=True)
    token = Step(model, Plan(), 2.0, 1.0, 16.0, "decode", 1.0, 100.0)
    names = {op.name for _, op in lower(prompt).walk()} - {op.name for _, op in lower(token).walk()}
    assert names == {"cross.kv_proj"}
    cross = next(op for _, op in lower(token).walk() if op.name == "cross.core")
    assert cross.bytes_of("kv") == 2 * 100 * 2 * 768 * model.activations.bytes
    kv, _, _ = state_bytes(token)
    assert kv == 12 * 2 * 768 * (17 + 100) * model.activations.bytes


@pytest.mark.parametrize(
    ("name", "broken", "field"),
    [
        ("t5-base", {"d_model": -3}, "d_model"),
        ("vit-base-patch16-224", {"image_size": [224, 256]}, "image_size"),
        ("vit-base-patch16-224", {"num_hidden_layers": 10**9}, "num_hidden_layers"),
        ("resnet-50", {"depths": [3, 4]}, "depths"),
        ("resnet-50", {"hidden_sizes": [256, "x", 1024, 2048]}, "hidden_sizes"),
        ("mamba-2.8b", {"time_step_rank": "some"}, "time_step_rank"),
        ("whisper-small", {"encoder_layers": True}, "encoder_layers"),
        ("nemotron-3-ultra-550b-a55b", {"layers_block_type": ["mamba", "magic"]}, "layers_block_type"),
    ],
)
def test_a_bad_field_is_named(name: str, broken: dict[str, Any], field: str) -> None:
    with pytest.raises(BadField, match=field):
        from_config({**entry(name), **broken}, "test.json")


def entry(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((CATALOG / f"{name}.json").read_text())["config"]
    return config


def one_a_family() -> Iterator[str]:
    """The first catalog entry of every ``model_type``."""
    seen: set[str] = set()
    for path in sorted(CATALOG.glob("*.json")):
        kind = entry(path.stem)["model_type"]
        if kind not in seen:
            seen.add(kind)
            yield path.stem


model_of = cache(load_model)

PHASES = {"text": ("prefill", "decode"), "encode": ("encode",), "vision": ("vision",), "audio": ("audio",)}

points = st.lists(
    st.tuples(st.integers(1, 300), st.integers(2, 5000), st.integers(0, 100_000), st.sampled_from([1, 2, 8])),
    min_size=2,
    max_size=3,
)


@pytest.mark.parametrize("name", list(one_a_family()))
@given(points=points)
@settings(max_examples=4, deadline=None)
def test_a_sweep_is_what_its_points_are(name: str, points: list[tuple[int, int, int, int]]) -> None:
    model = model_of(name)
    seqs, new, past, tp = (np.array(column, dtype=float) for column in zip(*points, strict=True))
    for phase in sorted({p for s in model.stacks for p in PHASES[s.stream]}):
        many = at(model, phase, seqs, new, past, tp)
        for i in range(len(points)):
            one = at(model, phase, seqs[i], new[i], past[i], tp[i])
            assert_point(one, many, i, len(points))


def at(model: Model, phase: str, seqs: Any, new: Any, past: Any, tp: Any) -> Step:
    before = 0.0 * past if phase in ("encode", "vision", "audio") else past
    return Step(model, Plan(tp=tp), seqs, new, before, phase, 1.0, new, fresh_encoder=phase == "prefill")


def assert_point(one: Step, many: Step, i: int, n: int) -> None:
    """Element ``i`` of the swept graph is the graph of the point; collectives of one device are absent there."""

    def pick(x: Any) -> float:
        return float(np.broadcast_to(x, n)[i])

    swept = {(s.name, op.name): (s, op) for s, op in lower(many).walk()}
    for segment, op in lower(one).walk():
        other_segment, other = swept[segment.name, op.name]
        assert pick(other_segment.repeat) == segment.repeat
        assert pick(other.flops) == pytest.approx(op.flops, rel=1e-9), op.name
        assert pick(other.bytes) == pytest.approx(op.bytes, rel=1e-9), op.name
        assert {k: pick(v) for k, v in other.dims.items()} == pytest.approx(dict(op.dims), rel=1e-9), op.name
    absent = swept.keys() - {(s.name, op.name) for s, op in lower(one).walk()}
    assert all(swept[k][1].kind == "collective" for k in absent)
    for a, b in zip(state_bytes(one), state_bytes(many), strict=True):
        assert pick(b) == pytest.approx(a, rel=1e-9)
