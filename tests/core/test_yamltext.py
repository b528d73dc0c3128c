"""What was read once is kept as JSON: the same data, never that of another text, and nothing needs the copies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tierwise.core import yamltext
from tierwise.core.yamltext import Malformed, kept, parsed

TEXT = "a: 1\nb: [1.0, 1.0e-9, .inf, true, null, 'x: é']\nc: {d: 2021-04, e: {}}\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(yamltext, "_folder", lambda: tmp_path / "yaml")
    return tmp_path / "yaml"


def typed(x: Any) -> Any:
    if isinstance(x, dict):
        return {k: typed(v) for k, v in x.items()}
    return [typed(v) for v in x] if isinstance(x, list) else (type(x), x)


def test_the_second_reading_says_what_the_first_said(folder: Path) -> None:
    first = parsed(TEXT)
    assert len(list(folder.iterdir())) == 1 and typed(kept(TEXT)) == typed(first) == typed(parsed(TEXT))
    # Each is the caller's own.
    parsed(TEXT)["a"] = 2
    assert parsed(TEXT)["a"] == 1


def test_a_changed_text_never_meets_an_older_copy(folder: Path) -> None:
    assert parsed("a: 1\n") == {"a": 1} and parsed("a: 2\n") == {"a": 2} and parsed("a: 1\n") == {"a": 1}


def test_a_damaged_copy_is_made_again(folder: Path) -> None:
    parsed(TEXT)
    (copy,) = folder.iterdir()
    for content in (b"", copy.read_bytes()[:-3], copy.read_bytes().replace(b"1e-09", b"2e-09"), b"x\n{}"):
        copy.write_bytes(content)
        assert kept(TEXT) is None and parsed(TEXT)["b"][1] == 1e-9 and kept(TEXT) is not None


def test_what_json_cannot_say_is_parsed_each_time(folder: Path) -> None:
    for text, found in (("1: x\n", {1: "x"}), ("a: 2021-04-05\n", None), ("a: .nan\n", None)):
        data = parsed(text)
        assert kept(text) is None and (found is None or data == found)


def test_nothing_needs_a_place_to_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setattr(yamltext, "_folder", lambda: tmp_path / "file" / "yaml")
    assert parsed("a: 1\n") == {"a": 1} == parsed("a: 1\n")


def test_text_that_is_no_yaml_says_where(folder: Path) -> None:
    with pytest.raises(Malformed) as wrong:
        parsed("a: 1\nb: [\n")
    assert wrong.value.place.startswith(", line") and not folder.exists()
