"""Names, paths and files into models: what is found, and what is said when it is not."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tierwise.core.errors import BadField, TierwiseError, Truncated, UnknownName
from tierwise.models import load, load_model, model_names
from tierwise.models.hf import from_config
from tierwise.models.jsonfile import DEEPEST, nesting, parse_json

LLAMA: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "vocab_size": 100, "torch_dtype": "bfloat16",
}  # fmt: skip


def test_a_model_passes_through() -> None:
    model = load_model("llama-3.1-8b")
    assert load_model(model) is model


@pytest.mark.parametrize(
    "name", ["llama-3.1-8b", "LLAMA-3.1-8B", "meta-llama/Llama-3.1-8B", "meta-llama/meta-llama-3.1-8b"]
)
def test_names_and_aliases_in_any_case(name: str) -> None:
    assert load_model(name).name == "llama-3.1-8b"


def test_unknown_name_says_the_nearest() -> None:
    with pytest.raises(UnknownName) as error:
        load_model("llama-3.1-9b")
    assert "llama-3.1-8b" in error.value.nearest
    assert "hf:" in str(error.value)


@pytest.mark.parametrize("name", ["", "../catalog/gpt2", "gpt2.json/../gpt2", "."])
def test_names_do_not_reach_outside_the_catalog(name: str) -> None:
    with pytest.raises(TierwiseError):
        load_model(name)


def test_a_folder_and_its_file_are_the_same(tmp_path: Path) -> None:
    folder = tmp_path / "tiny"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(LLAMA))
    by_folder, by_file = load_model(folder), load_model(str(folder / "config.json"))
    assert by_folder == by_file
    assert by_folder.name == "tiny"


def test_a_quantization_file_beside_the_configuration_is_read(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(LLAMA))
    quant = {"quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quant))
    model = load_model(tmp_path)
    assert str(model.format_of("attn")) == "fp8"
    assert str(model.format_of("head")) == "bf16"
    assert str(model.kv_format) == "fp8"


def test_missing_files_and_strange_suffixes(tmp_path: Path) -> None:
    with pytest.raises(TierwiseError, match="no such file"):
        load_model("nowhere/config.json")
    strange = tmp_path / "weights.pkl"
    strange.write_bytes(b"\x80\x04")
    with pytest.raises(TierwiseError, match="pkl"):
        load_model(strange)
    with pytest.raises(TierwiseError, match="folder without"):
        load_model(tmp_path)


def _written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "config.json"
    path.write_text(text)
    return path


def test_truncated_json_says_where(tmp_path: Path) -> None:
    with pytest.raises(Truncated, match=r"config\.json.*line 1"):
        load_model(_written(tmp_path, json.dumps(LLAMA)[:-10]))


def test_malformed_json_says_line_and_column(tmp_path: Path) -> None:
    with pytest.raises(TierwiseError, match=r"line 2, column 3"):
        load_model(_written(tmp_path, '{\n  model_type: "llama"\n}'))


@pytest.mark.parametrize("text", ["[1, 2]", '"llama"', "3", "null"])
def test_json_that_is_no_object(tmp_path: Path, text: str) -> None:
    with pytest.raises(BadField, match="JSON object"):
        load_model(_written(tmp_path, text))


def test_other_encodings_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(json.dumps(LLAMA).encode("utf-16"))
    with pytest.raises(TierwiseError, match="UTF-8"):
        load_model(path)


def test_deep_nesting_is_refused_before_parsing(tmp_path: Path) -> None:
    with pytest.raises(BadField, match="nesting"):
        load_model(_written(tmp_path, '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}"))


def test_large_files_are_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    with path.open("wb") as file:
        file.truncate(100_000_000)
    with pytest.raises(BadField, match="bytes"):
        load_model(path)


def test_nesting_does_not_count_brackets_in_strings() -> None:
    assert nesting(b'{"a": "[[[[", "b": "\\"[[[", "c": [[]]}') == 3
    assert nesting(b'{"unclosed [[[[[[') == 1
    assert nesting(b"") == 0
    assert parse_json(b'{"a": ' + b"[" * (DEEPEST - 1) + b"]" * (DEEPEST - 1) + b"}", "x")


def test_nesting_is_linear_on_quotes_that_never_close() -> None:
    nesting(b'"' + b'\\"' * 2_000_000)  # quadratic scanning would take hours


def test_huge_integers_are_bad_fields_not_overflows() -> None:
    data = json.dumps({**LLAMA, "hidden_size": 0}).replace('"hidden_size": 0', '"hidden_size": ' + "9" * 400)
    with pytest.raises(BadField, match="hidden_size"):
        from_config(parse_json(data.encode(), "x"), "x")


def test_the_hub_is_only_asked_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def fetched(url: str, where: str) -> Any:
        asked.append(url)
        return dict(LLAMA) if url.endswith("/config.json") else None

    monkeypatch.setattr(load, "_fetched", fetched)
    load_model("gpt2")
    assert asked == []
    assert load_model("hf:org/some-model@v2").name == "some-model"
    assert asked[0].endswith("/org/some-model/resolve/v2/config.json")
    with pytest.raises(TierwiseError, match="organisation/model"):
        load_model("hf:../../etc/passwd")


def test_an_unreachable_hub_is_an_error_not_a_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(TierwiseError, match="cannot be reached"):
        load_model("hf:org/model")


def test_loading_a_name_imports_nothing_heavy() -> None:
    code = (
        "import sys; from tierwise.models import load_model; load_model('llama-3.1-8b');"
        "print([m for m in ('pydantic', 'torch', 'yaml', 'onnx') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


def test_model_names_are_sorted_and_lower_case() -> None:
    names = model_names()
    assert names == sorted(names) and all(n == n.lower() for n in names)
    assert len(names) >= 60


@pytest.mark.parametrize("change", [{"config": None}, {"config": [1]}, {"source": 3}, {"aliases": "x"}])
def test_a_broken_catalog_entry_names_its_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any]
) -> None:
    (tmp_path / "mine.json").write_text(json.dumps({"config": LLAMA, "source": "by hand", **change}))
    monkeypatch.setattr(load, "CATALOG", tmp_path)
    with pytest.raises(BadField, match=next(iter(change))):
        load_model("mine")
