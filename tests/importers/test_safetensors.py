"""safetensors: bytes and formats are the file's, the architecture is config.json's."""

from __future__ import annotations

import contextlib
import json
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.errors import BadField, TierwiseError, Truncated
from tierwise.models.importers.safetensors import read, read_tensors, role

BITS = {"F32": 32, "BF16": 16, "F8_E4M3": 8, "I32": 32, "U8": 8, "I64": 64}
H, INNER, V, LAYERS = 64, 192, 320, 2
CONFIG = {
    "model_type": "llama", "hidden_size": H, "intermediate_size": INNER, "num_hidden_layers": LAYERS,
    "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": V, "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
}  # fmt: skip
LINEARS = {
    "self_attn.q_proj": (H, H), "self_attn.k_proj": (H // 2, H), "self_attn.v_proj": (H // 2, H),
    "self_attn.o_proj": (H, H), "mlp.gate_proj": (INNER, H), "mlp.up_proj": (INNER, H), "mlp.down_proj": (H, INNER),
}  # fmt: skip

Tensors = dict[str, tuple[tuple[int, ...], str]]


def nbytes(shape: tuple[int, ...], dtype: str) -> int:
    n = BITS[dtype] // 8
    for width in shape:
        n *= width
    return n


def total(tensors: Tensors) -> int:
    return sum(nbytes(*t) for t in tensors.values())


def content(tensors: Tensors) -> bytes:
    """A file of zeros."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    at = 0
    for name, (shape, dtype) in tensors.items():
        end = at + nbytes(shape, dtype)
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [at, end]}
        at = end
    return packed(header) + bytes(at)


def packed(header: Any) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text


def llama(linear: str = "BF16", scaled: bool = False) -> Tensors:
    out: Tensors = {"model.embed_tokens.weight": ((V, H), "BF16"), "lm_head.weight": ((V, H), "BF16")}
    for i in range(LAYERS):
        for name, shape in LINEARS.items():
            out[f"model.layers.{i}.{name}.weight"] = (shape, linear)
            if scaled:
                out[f"model.layers.{i}.{name}.weight_scale_inv"] = ((1, 1), "F32")
        for norm in ("input_layernorm", "post_attention_layernorm"):
            out[f"model.layers.{i}.{norm}.weight"] = ((H,), "F32")
    return out | {"model.norm.weight": ((H,), "F32")}


def folder(path: Path, tensors: Tensors, config: Any = CONFIG) -> str:
    (path / "config.json").write_text(json.dumps(config))
    (path / "model.safetensors").write_bytes(content(tensors))
    return str(path / "model.safetensors")


def test_formats_are_those_of_the_tensors(tmp_path: Path) -> None:
    tensors = llama()
    model = read(folder(tmp_path, tensors, CONFIG | {"torch_dtype": "float32"}))
    assert model.parameters == sum(nbytes(s, "U8") for s, _ in tensors.values())
    assert model.stored_bytes == total(tensors)
    assert {r: str(model.format_of(r)) for r in ("attn", "mlp", "embed", "head")} == dict.fromkeys(
        ("attn", "mlp", "embed", "head"), "bf16"
    )
    assert str(model.format_of("norm")) == "fp32"
    assert model.notes == ()


def test_scales_count_as_bits_of_the_weights_they_scale(tmp_path: Path) -> None:
    tensors = llama("F8_E4M3", scaled=True)
    model = read(folder(tmp_path, tensors))
    attention = [s for n, s in LINEARS.items() if "attn" in n]
    elements = LAYERS * sum(a * b for a, b in attention)
    assert model.format_of("attn").bytes * elements == pytest.approx(elements + LAYERS * len(attention) * 4)
    assert model.stored_bytes == total(tensors)


def test_packed_weights_are_counted_by_the_description(tmp_path: Path) -> None:
    """GPTQ packs eight 4-bit weights into an int32 and adds scales and zeros per group."""
    tensors: Tensors = {n: t for n, t in llama().items() if "_proj" not in n}
    for i in range(LAYERS):
        for name, (d_out, d_in) in LINEARS.items():
            stem = f"model.layers.{i}.{name}"
            tensors[f"{stem}.qweight"] = ((d_in // 8, d_out), "I32")
            tensors[f"{stem}.scales"] = ((d_in // 32, d_out), "BF16")
            tensors[f"{stem}.qzeros"] = ((d_in // 32, d_out // 8), "I32")
    model = read(folder(tmp_path, tensors))
    assert model.format_of("mlp").bytes == pytest.approx((4 + (16 + 4) / 32) / 8)
    assert model.stored_bytes == total(tensors)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("model.layers.3.mlp.gate.weight", "router"),
        ("model.layers.3.mlp.gate.e_score_correction_bias", "router"),
        ("model.layers.3.mlp.experts.17.down_proj.weight", "expert"),
        ("model.layers.3.mlp.experts.gate_up_proj_blocks", "expert"),
        ("model.layers.3.mlp.shared_experts.up_proj.weight", "shared_expert"),
        ("model.layers.3.mlp.shared_expert_gate.weight", "router"),
        ("model.layers.3.block_sparse_moe.gate.weight", "router"),
        ("model.layers.3.self_attn.q_norm.weight", "norm"),
        ("model.layers.3.self_attn.q_proj.bias", "attn"),
        ("model.layers.3.mlp.gate_proj.weight", "mlp"),
        ("transformer.h.0.ln_1.bias", "norm"),
        ("transformer.h.0.attn.c_attn.weight", "attn"),
        ("transformer.h.0.attn.c_attn.bias", "attn"),
        ("transformer.h.0.attn.bias", "(none)"),
        ("transformer.h.0.mlp.c_fc.weight", "mlp"),
        ("transformer.wte.weight", "embed"),
        ("transformer.ln_f.weight", "norm"),
        ("backbone.layers.0.mixer.in_proj.weight", "ssm"),
        ("backbone.layers.0.mixer.conv1d.weight", "conv"),
        ("backbone.layers.0.mixer.A_log", "norm"),
        ("backbone.embeddings.weight", "embed"),
        ("visual.blocks.0.attn.qkv.weight", "vision"),
        ("bert.encoder.layer.0.attention.self.query.weight", "attn"),
        ("bert.encoder.layer.0.intermediate.dense.weight", "mlp"),
        ("bert.embeddings.LayerNorm.weight", "norm"),
        ("lm_head.weight", "head"),
    ],
)
def test_roles(name: str, expected: str) -> None:
    assert role(name) == expected


def test_absent_prediction_modules_are_no_difference(tmp_path: Path) -> None:
    """A stack that is not run by default may or may not be in the file; either way the rest adds up."""
    from dataclasses import replace

    from tierwise.core.numerics import fmt
    from tierwise.models.importers._stored import Stored, with_stored

    model = read(folder(tmp_path, llama()))
    model = replace(model, notes=(), stacks=(*model.stacks, replace(model.stacks[0], name="mtp", active=False)))
    once = [Stored(n, role(n), nbytes(s, "U8"), nbytes(s, d), fmt("bf16")) for n, (s, d) in llama().items()]
    assert with_stored(model, once).notes == ()
    assert with_stored(model, [*once, *once]).notes == ()
    assert "differ" in with_stored(model, once[:-5]).notes[0]


# --- shards -----------------------------------------------------------------------------------------------


def shards(path: Path, *, leave_out: int = 0) -> tuple[Path, Tensors]:
    tensors = llama()
    names = list(tensors)
    parts = {f"model-{i + 1:05d}-of-00003.safetensors": names[i::3] for i in range(3)}
    for file, held in list(parts.items())[leave_out:]:
        (path / file).write_bytes(content({n: tensors[n] for n in held}))
    index = path / "model.safetensors.index.json"
    where = {n: file for file, held in parts.items() for n in held}
    index.write_text(json.dumps({"metadata": {"total_size": total(tensors)}, "weight_map": where}))
    (path / "config.json").write_text(json.dumps(CONFIG))
    return index, tensors


def test_index_and_any_shard_read_all_shards(tmp_path: Path) -> None:
    index, tensors = shards(tmp_path)
    model = read(str(index))
    assert model.stored_bytes == total(tensors)
    assert str(model.format_of("norm")) == "fp32"
    assert read(str(tmp_path / "model-00002-of-00003.safetensors")).formats == model.formats
    index.unlink()
    assert read(str(tmp_path / "model-00002-of-00003.safetensors")).stored_bytes == total(tensors)
    (tmp_path / "model-00001-of-00003.safetensors").unlink()
    with pytest.raises(TierwiseError, match="1 of 3 shards missing"):
        read(str(tmp_path / "model-00002-of-00003.safetensors"))


def test_index_without_shards_gives_its_total(tmp_path: Path) -> None:
    index, tensors = shards(tmp_path, leave_out=1)
    model = read(str(index))
    assert model.stored_bytes == total(tensors)
    assert any("1 of 3 shards are not here" in n for n in model.notes)


def test_index_that_disagrees_is_noted(tmp_path: Path) -> None:
    index, tensors = shards(tmp_path)
    data = json.loads(index.read_text())
    data["metadata"]["total_size"] += 1
    index.write_text(json.dumps(data))
    model = read(str(index))
    assert model.stored_bytes == total(tensors)
    assert any("promises" in n for n in model.notes)


@pytest.mark.parametrize(
    "change",
    [{"weight_map": {}}, {"weight_map": {"a": "../b"}}, {"weight_map": {"a": ""}}, {"metadata": {"total_size": -1}}],
)
def test_bad_index_is_named(tmp_path: Path, change: dict[str, Any]) -> None:
    index, _ = shards(tmp_path)
    index.write_text(json.dumps(json.loads(index.read_text()) | change))
    with pytest.raises(BadField, match=r"index\.json"):
        read(str(index))


# --- damage -----------------------------------------------------------------------------------------------


def test_missing_config_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "m.safetensors").write_bytes(content(llama()))
    with pytest.raises(TierwiseError, match=r"no config\.json beside it"):
        read(str(tmp_path / "m.safetensors"))


def test_truncation_anywhere_says_where(tmp_path: Path) -> None:
    path = Path(folder(tmp_path, llama()))
    whole = path.read_bytes()
    header = 8 + int.from_bytes(whole[:8], "little")
    random.seed(0)
    for cut in [*range(0, header, 37), *random.sample(range(header, len(whole)), 40)]:
        path.write_bytes(whole[:cut])
        with pytest.raises(Truncated, match=f"truncated at byte {cut}:"):
            read(str(path))


@pytest.mark.parametrize(
    "header",
    [
        [],
        {"a": 3},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [0, 15]}},
        {"a": {"dtype": "F32", "shape": [4], "data_offsets": [16, 0]}},
        {"a": {"dtype": "F32", "shape": [-4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}},
        {"a": {"dtype": "Q9", "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": ["F32"], "shape": [4], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [1 << 61, 1 << 61], "data_offsets": [0, 16]}},
        {"a": {"dtype": "F32", "shape": [1e400], "data_offsets": [0, 16]}},
    ],
)
def test_impossible_headers_are_refused(tmp_path: Path, header: Any) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes(packed(header) + bytes(16))
    with pytest.raises(BadField):
        read_tensors(str(path))


def test_absurd_header_length_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    path.write_bytes((1 << 62).to_bytes(8, "little") + bytes(100))
    with pytest.raises(BadField, match="at most 100000000 bytes"):
        read_tensors(str(path))


@settings(max_examples=150, deadline=None)
@given(st.one_of(st.binary(max_size=300), st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda s: st.lists(s, max_size=3) | st.dictionaries(
        st.sampled_from(["dtype", "shape", "data_offsets", "a", "F32"]), s, max_size=3), max_leaves=8,
).map(packed)))  # fmt: skip
def test_random_content_never_crashes(data: bytes) -> None:
    with tempfile.TemporaryDirectory() as home:
        path = Path(home) / "m.safetensors"
        path.write_bytes(data)
        with contextlib.suppress(TierwiseError):
            read_tensors(str(path))
