"""``docs/traffic.md`` shows what its commands print, and its Python runs."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

pytest.importorskip("pyarrow", reason="reading traces needs pyarrow (pip install 'tierwise[serve]')")

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs" / "traffic.md"


def test_console_blocks_show_what_their_commands_print() -> None:
    if not (ROOT.parent / "shared" / "data").exists():
        pytest.skip("../shared/data is not there")
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "docs" / "refresh.py")
    assert spec is not None and spec.loader is not None
    refresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(refresh)
    text = PAGE.read_text(encoding="utf-8")
    assert refresh.refreshed(text) == text


def test_python_blocks_run() -> None:
    names: dict[str, object] = {}
    for block in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M):
        exec(compile(block, str(PAGE), "exec"), names)
    assert len(names["like_production"]) == 1000  # type: ignore[arg-type]


def test_every_format_and_rule_is_named() -> None:
    text = PAGE.read_text(encoding="utf-8")
    places = ROOT / "src" / "tierwise" / "serving" / "traffic"
    for folder in ("formats", "arrivals", "lengths"):
        for file in (places / folder).glob("[!_]*.py"):
            assert f"`{file.stem}`" in text, file.stem
