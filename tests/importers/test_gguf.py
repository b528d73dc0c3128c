"""GGUF: sizes and formats are the file's; damage is named, never a crash."""

from __future__ import annotations

import contextlib
import math
import random
import struct
import tempfile
from pathlib import Path
from typing import Any

import gguf_writer as w
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.errors import BadField, TierwiseError, Truncated
from tierwise.models.importers._gguf_config import ARCHITECTURES as SUPPORTED
from tierwise.models.importers._gguf_header import Skipped, read_header
from tierwise.models.importers._gguf_layers import by_tensors
from tierwise.models.importers.gguf import read
from tierwise.models.lower import state_bytes
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import Plan


def described_bytes(model: Model) -> float:
    """What the description says the parameters take, every stack included."""
    total = 0.0
    for stack in model.stacks:
        blocks = [(b, 1.0) for b in (*stack.before, *stack.after)]
        blocks += [(b, n) for k, n in stack.runs() for b in k.blocks]
        total += sum(n * wt.elements * model.format_of(wt.role).bytes for b, n in blocks for wt in b.weights())
    return total


def experts_of(model: Model) -> set[float]:
    return {b.experts for s in model.stacks for k in s.kinds for b in k.blocks if hasattr(b, "experts")}


def test_llama_has_the_files_shapes_and_bytes(tmp_path: Path) -> None:
    metadata, tensors = w.llama()
    model = read(w.write(tmp_path / "m.gguf", metadata, tensors))
    assert model.name == "tiny llama"
    assert model.family == "llama"
    assert (model.hidden, model.vocab, model.stack("decoder").depth) == (w.H, w.V, w.LAYERS)
    stored = {n: t for n, t in tensors.items() if n != "rope_freqs.weight"}
    by_hand = 2 * w.H * w.V + w.H + w.LAYERS * (2 * w.H * w.H + 2 * w.H * w.H // 2 + 3 * w.H * w.INNER + 2 * w.H)
    assert model.parameters == by_hand
    assert model.stored_bytes == w.total(tensors)
    assert described_bytes(model) == pytest.approx(w.total(stored), rel=1e-9)
    assert str(model.format_of("embed")) == "q4_k"
    assert model.format_of("head").bytes == 210 / 256
    assert str(model.format_of("attn")) == "q4_k+q6_k"
    assert str(model.format_of("norm")) == "fp32"
    assert model.notes == ()


def test_tied_head_reads_the_embedding_in_its_format(tmp_path: Path) -> None:
    tensors = w.ends("Q8_0", head=None) | w.layers(w.gqa() | w.ffn())
    model = read(w.write(tmp_path / "m.gguf", w.meta("llama", **w.DENSE), tensors))
    assert model.format_of("head") == model.format_of("embed")
    assert str(model.format_of("head")) == "q8_0"
    assert described_bytes(model) == pytest.approx(w.total(tensors), rel=1e-9)


MOE = w.DENSE | {"expert_count": 8, "expert_used_count": 2}
MLA = w.DENSE | {
    "attention__q_lora_rank": 64, "attention__kv_lora_rank": 32, "rope__dimension_count": 16,
    "attention__key_length": 48, "attention__value_length": 32, "expert_count": 8, "expert_used_count": 2,
    "expert_shared_count": 1, "expert_feed_forward_length": 256, "leading_dense_block_count": 1,
}  # fmt: skip
MLA_LAYER = {
    "attn_norm.weight": ((w.H,), "F32"), "attn_q_a.weight": ((w.H, 64), "Q4_K"), "attn_q_a_norm.weight": ((64,), "F32"),
    "attn_q_b.weight": ((64, w.HEADS * 48), "Q8_0"), "attn_kv_a_mqa.weight": ((w.H, 48), "Q4_K"),
    "attn_kv_a_norm.weight": ((32,), "F32"), "attn_kv_b.weight": ((32, w.HEADS * 64), "Q8_0"),
    "attn_output.weight": ((w.HEADS * 32, w.H), "Q8_0"), "ffn_norm.weight": ((w.H,), "F32"),
}  # fmt: skip
SHARED = {f"ffn_{n}_shexp.weight": ((w.H, 256), "Q4_K") for n in ("gate", "up", "down")}
QK_NORM = {f"attn_{n}_norm.weight": ((w.H // w.HEADS,), "F32") for n in "qk"}
MAMBA = {
    "attn_norm.weight": ((w.H,), "F32"), "ssm_in.weight": ((w.H, 1024), "Q8_0"), "ssm_conv1d.weight": ((4, 512), "F32"),
    "ssm_conv1d.bias": ((512,), "F32"), "ssm_x.weight": ((512, 16 + 32), "Q8_0"), "ssm_dt.weight": ((16, 512), "F32"),
    "ssm_dt.bias": ((512,), "F32"), "ssm_a": ((16, 512), "F32"), "ssm_d": ((512,), "F32"),
    "ssm_out.weight": ((512, w.H), "Q8_0"),
}  # fmt: skip
LN = {f"{n}_norm.bias": ((w.H,), "F32") for n in ("attn", "ffn")}
GPT2 = {
    "attn_norm.weight": ((w.H,), "F32"), "ffn_norm.weight": ((w.H,), "F32"), **LN,
    "attn_qkv.weight": ((w.H, 3 * w.H), "Q4_K"), "attn_qkv.bias": ((3 * w.H,), "F32"),
    "attn_output.weight": ((w.H, w.H), "Q4_K"), "attn_output.bias": ((w.H,), "F32"),
    "ffn_up.weight": ((w.H, w.INNER), "Q4_K"), "ffn_up.bias": ((w.INNER,), "F32"),
    "ffn_down.weight": ((w.INNER, w.H), "Q4_K"), "ffn_down.bias": ((w.H,), "F32"),
}  # fmt: skip
FALCON = {
    "attn_norm.weight": ((w.H,), "F32"), "attn_norm.bias": ((w.H,), "F32"),
    "attn_qkv.weight": ((w.H, w.H + 2 * 64), "Q4_K"), "attn_output.weight": ((w.H, w.H), "Q4_K"),
    "ffn_up.weight": ((w.H, 4 * w.H), "Q4_K"), "ffn_down.weight": ((4 * w.H, w.H), "Q4_K"),
}  # fmt: skip
PHI3 = {
    "attn_norm.weight": ((w.H,), "F32"), "attn_qkv.weight": ((w.H, 2 * w.H), "Q4_K"),
    "attn_output.weight": ((w.H, w.H), "Q4_K"), "ffn_norm.weight": ((w.H,), "F32"),
    "ffn_up.weight": ((w.H, 2 * w.INNER), "Q4_K"), "ffn_down.weight": ((w.INNER, w.H), "Q4_K"),
}  # fmt: skip
NORM_BIAS = {"output_norm.bias": ((w.H,), "F32")}
SANDWICH = {f"post_{n}_norm.weight": ((w.H,), "F32") for n in ("attention", "ffw")}

MAMBA2 = {
    "attn_norm.weight": ((w.H,), "F32"), "ssm_in.weight": ((w.H, 2 * 512 + 2 * 64 + 8), "Q8_0"),
    "ssm_conv1d.weight": ((4, 512 + 2 * 64), "F32"), "ssm_conv1d.bias": ((512 + 2 * 64,), "F32"),
    "ssm_dt.bias": ((8,), "F32"), "ssm_a": ((1, 8), "F32"), "ssm_d": ((1, 8), "F32"),
    "ssm_norm.weight": ((512, 1), "F32"), "ssm_out.weight": ((512, w.H), "Q8_0"),
}  # fmt: skip
SSM = {
    "block_count": 3, "embedding_length": w.H, "context_length": 1 << 20, "feed_forward_length": 0,
    "attention__head_count": 0, "ssm__conv_kernel": 4, "ssm__inner_size": 512, "ssm__state_size": 16,
    "ssm__time_step_rank": 16,
}  # fmt: skip
BIASED = {f"attn_{n}.bias": ((width,), "F32") for n, width in (("q", w.H), ("k", w.H // 2), ("v", w.H // 2))}
OSS = w.gqa() | BIASED | w.experts(8, 256, "MXFP4") | {
    "attn_output.bias": ((w.H,), "F32"), "attn_sinks.weight": ((w.HEADS,), "F32"), "ffn_gate_inp.bias": ((8,), "F32"),
    "ffn_gate_exps.bias": ((256, 8), "F32"), "ffn_up_exps.bias": ((256, 8), "F32"),
    "ffn_down_exps.bias": ((w.H, 8), "F32"),
}  # fmt: skip
OSS["post_attention_norm.weight"] = OSS.pop("ffn_norm.weight")
FULL_NORM = {"attn_q_norm.weight": ((w.H,), "F32"), "attn_k_norm.weight": ((w.H // 2,), "F32")}
PRE = ("attn_norm.weight", "ffn_norm.weight")
POST = {n: t for n, t in (w.gqa() | SANDWICH | FULL_NORM | w.ffn()).items() if n not in PRE}
WIDE = w.DENSE | {"attention__head_count_kv": w.HEADS}

# architecture: (metadata, tensors, model_type).
ARCHITECTURES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "llama": (MOE, w.ends() | w.layers(w.gqa() | w.experts(8, w.INNER)), "mixtral"),
    "qwen2": (w.DENSE, w.ends() | w.layers(w.gqa(bias=True) | w.ffn()), "qwen2"),
    "qwen3": (w.DENSE, w.ends() | w.layers(w.gqa() | QK_NORM | w.ffn()), "qwen3"),
    "qwen2moe": (
        MOE,
        w.ends()
        | w.layers(w.gqa(bias=True) | w.experts(8, 256) | SHARED | {"ffn_gate_inp_shexp.weight": ((w.H,), "F32")}),
        "qwen2_moe",
    ),
    "qwen3moe": (MOE, w.ends() | w.layers(w.gqa() | QK_NORM | w.experts(8, 256)), "qwen3_moe"),
    "gemma2": (
        w.DENSE | {"attention__key_length": 128, "attention__value_length": 128, "attention__sliding_window": 512},
        w.ends(head=None) | w.layers(w.gqa(d=128) | w.ffn() | SANDWICH),
        "gemma2",
    ),
    "gemma3": (
        w.DENSE | {"attention__key_length": 128, "attention__value_length": 128, "attention__sliding_window": 512},
        w.ends(head=None)
        | w.layers(w.gqa(d=128) | {f"attn_{n}_norm.weight": ((128,), "F32") for n in "qk"} | w.ffn() | SANDWICH),
        "gemma3_text",
    ),
    "phi3": (w.DENSE, w.ends() | w.layers(PHI3), "phi3"),
    "deepseek2": (
        MLA,
        w.ends()
        | {f"blk.0.{n}": t for n, t in (MLA_LAYER | w.ffn()).items()}
        | {f"blk.{i}.{n}": t for i in (1, 2) for n, t in (MLA_LAYER | w.experts(8, 256) | SHARED).items()},
        "deepseek_v2",
    ),
    "gpt2": (
        w.DENSE | {"attention__head_count_kv": w.HEADS},
        w.ends(head=None) | NORM_BIAS | {"position_embd.weight": ((w.H, 2048), "F32")} | w.layers(GPT2),
        "gpt2",
    ),
    "falcon": (
        w.DENSE | {"attention__head_count_kv": 1},
        w.ends(head=None) | NORM_BIAS | w.layers(FALCON),
        "falcon",
    ),
    "mamba": (
        SSM,
        w.ends(head=None) | w.layers(MAMBA),
        "mamba",
    ),
    "mamba2": (
        SSM | {"ssm__state_size": 64, "ssm__time_step_rank": 8, "ssm__group_count": 1},
        w.ends() | w.layers(MAMBA2),
        "mamba2",
    ),
    "gemma": (w.DENSE, w.ends(head=None) | w.layers(w.gqa() | w.ffn()), "gemma"),
    "phi2": (
        WIDE,
        w.ends() | NORM_BIAS | {"output.bias": ((w.V,), "F32")}
        | w.layers({n: t for n, t in GPT2.items() if not n.startswith("ffn_norm")}),
        "phi",
    ),
    "gptneox": (WIDE, w.ends() | NORM_BIAS | w.layers(GPT2), "gpt_neox"),
    "bloom": (
        WIDE,
        w.ends(head=None) | NORM_BIAS | {f"token_embd_norm.{n}": ((w.H,), "F32") for n in ("weight", "bias")}
        | w.layers(GPT2 | {"ffn_up.weight": ((w.H, 4 * w.H), "Q4_K"), "ffn_up.bias": ((4 * w.H,), "F32"),
                           "ffn_down.weight": ((4 * w.H, w.H), "Q4_K")}),
        "bloom",
    ),
    "gpt-oss": (MOE | {"expert_feed_forward_length": 256, "attention__sliding_window": 128}, w.ends() | w.layers(OSS),
                "gpt_oss"),
    "olmo": (
        WIDE,
        {n: t for n, t in (w.ends() | w.layers(GPT2 | w.ffn())).items() if "norm" not in n and "bias" not in n},
        "olmo",
    ),
    "olmo2": (w.DENSE, w.ends() | w.layers(POST), "olmo2"),
    "olmoe": (MOE, w.ends() | w.layers(w.gqa() | FULL_NORM | w.experts(8, 256)), "olmoe"),
}  # fmt: skip


def test_every_architecture_is_tested() -> None:
    assert set(SUPPORTED) == set(ARCHITECTURES)


def test_deepseek_with_score_correction_is_the_third_version(tmp_path: Path) -> None:
    sizes, tensors, _ = ARCHITECTURES["deepseek2"]
    tensors = tensors | {f"blk.{i}.exp_probs_b.bias": ((8,), "F32") for i in (1, 2)}
    model = read(w.write(tmp_path / "m.gguf", w.meta("deepseek2", **sizes), tensors))
    assert model.family == "deepseek_v3"
    assert not [n for n in model.notes if "differ" in n]


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_description_and_file_agree_to_the_byte(tmp_path: Path, arch: str) -> None:
    sizes, tensors, kind = ARCHITECTURES[arch]
    model = read(w.write(tmp_path / "m.gguf", w.meta(arch, **sizes), tensors))
    elements = 0
    for shape, _ in tensors.values():
        n = 1
        for width in shape:
            n *= width
        elements += n
    assert model.family == kind
    assert model.parameters == elements
    assert model.stored_bytes == w.total(tensors)
    assert described_bytes(model) == pytest.approx(w.total(tensors), rel=1e-3)
    assert not [n for n in model.notes if "differ" in n]
    if "expert_count" in sizes:
        assert experts_of(model) == {8.0}


def test_a_wrong_description_is_noted(tmp_path: Path) -> None:
    metadata, tensors = w.llama()
    tensors["blk.0.ffn_extra.weight"] = ((w.H, 4 * w.INNER), "F32")
    model = read(w.write(tmp_path / "m.gguf", metadata, tensors))
    assert any("mlp" in n and "differ" in n for n in model.notes)


def test_big_endian_and_version_2(tmp_path: Path) -> None:
    metadata, tensors = w.llama()
    want = read(w.write(tmp_path / "a.gguf", metadata, tensors))
    for more in ({"order": ">"}, {"version": 2}):
        got = read(w.write(tmp_path / "a.gguf", metadata, tensors, **more))
        assert got == want


def test_header_keeps_small_values_and_skips_long_arrays(tmp_path: Path) -> None:
    metadata = {"a": [1, 2, 3], "b": ["x"] * 9, "c": 2.5, "d": True, "e": [[1], [2, 3]], "f": [7] * 5000}
    h = read_header(w.write(tmp_path / "m.gguf", metadata, {"t": ((64, 2), "Q4_0")}))
    assert h.metadata == {"a": [1, 2, 3], "b": Skipped(9), "c": 2.5, "d": True, "e": Skipped(2), "f": Skipped(5000)}
    assert h.tensors["t"].bytes == 4 * 18


# --- damage -----------------------------------------------------------------------------------------------


def test_wrong_magic_says_what_was_found(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"PK\x03\x04 a zip file")
    with pytest.raises(TierwiseError, match=r"not a GGUF file: starts with b'PK\\x03\\x04'"):
        read(str(tmp_path / "m.gguf"))


def test_version_1_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadField, match="version: found 1; allowed: GGUF versions 2, 3"):
        read(w.write(tmp_path / "m.gguf", {}, {}, version=1))


def _head(tensors: int, values: int, rest: bytes = b"") -> bytes:
    return b"GGUF" + struct.pack("<IQQ", 3, tensors, values) + rest


@pytest.mark.parametrize(
    "data",
    [
        _head(1 << 60, 0),
        _head(0, 1 << 60),
        _head(0, 1, struct.pack("<Q", 10**10) + bytes(64)),
        _head(0, 1, struct.pack("<Q1sI", 1, b"k", 8) + struct.pack("<Q", 1 << 62) + bytes(64)),
        _head(0, 1, struct.pack("<Q1sIIQ", 1, b"k", 9, 0, 1 << 63) + bytes(64)),
        _head(0, 1, struct.pack("<Q1sIIQ", 1, b"k", 9, 8, 1 << 63) + bytes(64)),
        _head(0, 1, struct.pack("<Q1sI", 1, b"k", 9) + struct.pack("<IQ", 9, 1) * 100),
        _head(1, 0, struct.pack("<Q1sI", 1, b"t", 1 << 31) + bytes(64)),
        _head(1, 0, struct.pack("<Q1sIQQQIQ", 1, b"t", 3, 1 << 40, 1 << 40, 1 << 40, 0, 0) + bytes(64)),
        _head(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 1 << 40, 0, 0) + bytes(64)),
        _head(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 33, 2, 0) + bytes(64)),
        _head(1, 0, struct.pack("<Q1sIQIQ", 1, b"t", 1, 4, 4, 0) + bytes(64)),
    ],
)
def test_absurd_sizes_are_refused_without_allocating(tmp_path: Path, data: bytes) -> None:
    import tracemalloc

    (tmp_path / "m.gguf").write_bytes(data)
    tracemalloc.start()
    with pytest.raises((BadField, Truncated)):
        read(str(tmp_path / "m.gguf"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000


def _padding(tensors: w.Tensors) -> int:
    last = list(tensors.values())[-1]
    return -(-w.size(*last) // 32) * 32 - w.size(*last)  # padding after the last tensor is not missed


def test_truncation_anywhere_says_where(tmp_path: Path) -> None:
    metadata, tensors = w.llama()
    whole = w.gguf(metadata, tensors)
    header = len(whole) - sum(-(-w.size(*t) // 32) * 32 for t in tensors.values())
    random.seed(0)
    cuts = [*range(0, header, 61), *random.sample(range(header, len(whole) - _padding(tensors)), 60)]
    path = tmp_path / "m.gguf"
    for cut in cuts:
        path.write_bytes(whole[:cut])
        with pytest.raises(Truncated, match=f"truncated at byte {cut}:"):
            read(str(path))
    path.write_bytes(whole[: len(whole) - _padding(tensors)])
    read(str(path))


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=400), st.booleans())
def test_random_bytes_are_an_error_not_a_crash(data: bytes, magic: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        path.write_bytes((b"GGUF\x03\x00\x00\x00" if magic else b"") + data)
        with pytest.raises(TierwiseError):
            read(str(path))


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes_never_crash(data: st.DataObject) -> None:
    tensors = w.ends() | w.layers(w.gqa() | w.ffn())
    whole = bytearray(w.gguf(w.meta("llama", **w.DENSE), tensors))
    header = len(whole) - sum(-(-w.size(*t) // 32) * 32 for t in tensors.values())
    for at in data.draw(st.lists(st.integers(0, header - 1), min_size=1, max_size=4)):
        whole[at] = data.draw(st.integers(0, 255))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "m.gguf"
        path.write_bytes(whole)
        with contextlib.suppress(TierwiseError):
            read(str(path))


# --- architectures and parts ------------------------------------------------------------------------------


def test_unknown_architecture_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(TierwiseError, match=r"architecture .qwen3mo. \(did you mean .qwen3moe.\?\).* Read: bloom,"):
        read(w.write(tmp_path / "m.gguf", w.meta("qwen3mo"), w.ends()))
    with pytest.raises(TierwiseError) as error:
        read(w.write(tmp_path / "m.gguf", w.meta("glm4mo"), w.ends()))
    assert "did you mean" not in str(error.value), "nothing is that near"


def test_missing_and_impossible_keys_are_named(tmp_path: Path) -> None:
    sizes = {k: v for k, v in w.DENSE.items() if k != "block_count"}
    with pytest.raises(BadField, match=r"llama\.block_count: found None"):
        read(w.write(tmp_path / "m.gguf", w.meta("llama", **sizes), w.ends()))
    with pytest.raises(BadField, match="differ by layer"):
        odd = w.DENSE | {"attention__head_count": [4, 8, 4]}
        read(w.write(tmp_path / "m.gguf", w.meta("llama", **odd), w.ends()))
    with pytest.raises(BadField, match=r"general\.architecture"):
        read(w.write(tmp_path / "m.gguf", {}, w.ends()))
    with pytest.raises(BadField, match="only a vocabulary"):
        read(w.write(tmp_path / "m.gguf", w.llama()[0], {}))


def _split(folder: Path, n: int = 3) -> list[str]:
    metadata, tensors = w.llama()
    names = list(tensors)
    out = []
    for i in range(n):
        part = {k: tensors[k] for k in names[i::n]}
        own = {"split.no": i, "split.count": n, "split.tensors.count": len(tensors)}
        path = folder / f"m-{i + 1:05d}-of-{n:05d}.gguf"
        out.append(w.write(path, (metadata | own) if i == 0 else own, part))
    return out


def test_split_file_is_read_whole_from_any_part(tmp_path: Path) -> None:
    paths = _split(tmp_path)
    want = w.total(w.llama()[1])
    for path in paths:
        model = read(path)
        assert model.stored_bytes == want
        assert described_bytes(model) == pytest.approx(want, rel=1e-3)


def test_missing_part_is_named(tmp_path: Path) -> None:
    paths = _split(tmp_path)
    Path(paths[1]).unlink()
    with pytest.raises(TierwiseError, match=r"1 of 3 parts missing: m-00002-of-00003\.gguf"):
        read(paths[0])
    lone = tmp_path / "renamed.gguf"
    Path(paths[0]).rename(lone)
    with pytest.raises(TierwiseError, match="one of 3 parts"):
        read(str(lone))


# --- architectures read by their tensors, and types of forks ----------------------------------------------------


def cached(model: Model, tokens: float = 1000.0) -> float:
    return float(state_bytes(Step(model, Plan(), 1.0, 1.0, tokens - 1.0, "decode"))[0])


@pytest.mark.parametrize("arch", [a for a in ARCHITECTURES if a != "deepseek2"])
def test_tensors_alone_say_the_same_as_a_description(tmp_path: Path, arch: str) -> None:
    """Two independent readings of one file: through the configuration reader, and tensor by tensor."""
    sizes, tensors, _ = ARCHITECTURES[arch]
    path = w.write(tmp_path / "m.gguf", w.meta(arch, **sizes), tensors)
    described, plain = read(path), by_tensors(read_header(path), path, "plain")
    assert plain.parameters == described.parameters
    assert cached(plain) == cached(described)
    assert plain.active_parameters == pytest.approx(described.active_parameters, rel=1e-9)


def test_a_newer_architecture_is_read_by_its_tensors(tmp_path: Path) -> None:
    """GLM-4.5's: a dense layer, experts with a shared one, and a prediction module behind the layers."""
    sizes = MOE | {"block_count": 4, "nextn_predict_layers": 1, "expert_shared_count": 1}
    own = w.gqa(bias=True) | QK_NORM | {"attn_norm.weight": ((w.H,), "F32"), "ffn_norm.weight": ((w.H,), "F32")}
    moe = own | w.experts(8, 256) | SHARED | {"exp_probs_b.bias": ((8,), "F32")}
    nextn = moe | {"nextn.eh_proj.weight": ((2 * w.H, w.H), "Q4_K"), "nextn.enorm.weight": ((w.H,), "F32")}
    tensors = w.ends() | {f"blk.0.{n}": t for n, t in (own | w.ffn()).items()}
    tensors |= {f"blk.{i}.{n}": t for i in (1, 2) for n, t in moe.items()}
    tensors |= {f"blk.3.{n}": t for n, t in nextn.items()}
    model = read(w.write(tmp_path / "m.gguf", w.meta("glm4moe", **sizes), tensors))
    assert model.family == "glm4moe" and any("by its tensors" in n for n in model.notes)
    assert cached(model) == 3 * 1000 * 2 * w.KV * (w.H // w.HEADS) * 2
    counted = sum(float(s.parameters) for s in model.stacks)
    assert counted == sum(math.prod(shape) for shape, _ in tensors.values())
    assert not model.stack("mtp").active and experts_of(model) == {8.0}
    assert model.stored_bytes == w.total(tensors)


def test_head_counts_may_differ_from_layer_to_layer(tmp_path: Path) -> None:
    """Nemotron-NAS (``deci``): layers without attention, or with other numbers of KV heads."""
    d = w.H // w.HEADS
    sizes = w.DENSE | {"attention__head_count": [4, 0, 4], "attention__head_count_kv": [2, 0, 1]}
    one = w.gqa() | {"attn_k.weight": ((w.H, d), "Q4_K"), "attn_v.weight": ((w.H, d), "Q6_K")}
    tensors = w.ends() | {f"blk.0.{n}": t for n, t in (w.gqa() | w.ffn()).items()}
    tensors |= {f"blk.1.{n}": t for n, t in (w.ffn() | {"ffn_norm.weight": ((w.H,), "F32")}).items()}
    tensors |= {f"blk.2.{n}": t for n, t in (one | w.ffn()).items()}
    model = read(w.write(tmp_path / "m.gguf", w.meta("deci", **sizes), tensors))
    assert cached(model) == (2 + 1) * 1000 * 2 * d * 2
    assert model.parameters == sum(math.prod(shape) for shape, _ in tensors.values())


def test_hybrids_keep_what_their_layers_keep(tmp_path: Path) -> None:
    """LFM2: short convolutions, whose state does not grow, and attention in some layers."""
    conv = {"attn_norm.weight": ((w.H,), "F32"), "shortconv.in_proj.weight": ((w.H, 3 * w.H), "Q4_K"),
            "shortconv.conv.weight": ((3, w.H), "F32"), "shortconv.out_proj.weight": ((w.H, w.H), "Q4_K"),
            "ffn_norm.weight": ((w.H,), "F32")}  # fmt: skip
    sizes = w.DENSE | {"attention__head_count_kv": [0, 2, 0], "shortconv__l_cache": 3}
    tensors = {"token_embd.weight": ((w.H, w.V), "Q6_K"), "token_embd_norm.weight": ((w.H,), "F32")}
    for i, layer in enumerate((conv, w.gqa() | QK_NORM, conv)):
        tensors |= {f"blk.{i}.{n}": t for n, t in (layer | w.ffn()).items()}
    model = read(w.write(tmp_path / "m.gguf", w.meta("lfm2", **sizes), tensors))
    assert model.parameters == sum(math.prod(shape) for shape, _ in tensors.values())
    assert cached(model) == 1000 * 2 * w.KV * (w.H // w.HEADS) * 2
    fixed = float(state_bytes(Step(model, Plan(), 1.0, 1.0, 999.0, "decode"))[1])
    assert fixed == 2 * 2 * w.H * 2  # two layers keep two inputs of every channel, in 16 bits


def test_latents_are_expanded_where_the_file_lacks_their_widths(tmp_path: Path) -> None:
    """llama.cpp caches keys and values of every head for DeepSeek files without ``*_mla`` keys."""
    sizes, tensors, _ = ARCHITECTURES["deepseek2"]
    old = read(w.write(tmp_path / "old.gguf", w.meta("deepseek2", **sizes), tensors))
    assert cached(old) == 3 * 1000 * w.HEADS * (48 + 32) * 2 and any("_mla" in n for n in old.notes)
    wide = {"attention__key_length_mla": 48, "attention__value_length_mla": 32, "attention__key_length": 48}
    new = read(w.write(tmp_path / "new.gguf", w.meta("deepseek2", **(sizes | wide)), tensors))
    assert cached(new) == 3 * 1000 * (32 + 16) * 2
    halves = float(state_bytes(Step(old, Plan(tp=2.0), 1.0, 1.0, 999.0, "decode"))[0])
    assert halves == cached(old) / 2, "heads are divided, a latent is not"


def test_types_of_forks_have_a_size_or_a_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(w.TYPES, "IQ3_KS", (156, 256, 102))
    monkeypatch.setitem(w.TYPES, "NEWER", (500, 256, 102))
    metadata, tensors = w.llama()
    forked = {n: (s, "IQ3_KS" if "ffn" in n and "norm" not in n else k) for n, (s, k) in tensors.items()}
    model = read(w.write(tmp_path / "m.gguf", metadata, forked))
    assert float(model.format_of("mlp").bytes) == 102 / 256 and model.stored_bytes == w.total(forked)
    assert any("ik_llama.cpp" in n for n in model.notes)
    newer = {n: (s, "NEWER" if "ffn_up" in n else k) for n, (s, k) in tensors.items()}
    with pytest.raises(BadField, match=r"type of ik_llama\.cpp"):
        read(w.write(tmp_path / "n.gguf", metadata, newer))
