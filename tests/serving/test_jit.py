"""Compiled code is kept by what its sources say."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba")
from tierwise.serving import jit
from tierwise.serving.loop.compile import by_arrival, loop, policy


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The room of the loop copied to another folder, every file a day younger."""
    here = Path(jit.__file__).parent
    copied = Path(shutil.copytree(here, tmp_path / "serving"))
    for path in copied.rglob("*.py"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime + 86400.0))
    monkeypatch.setattr(jit, "__file__", str(copied / "jit.py"))
    monkeypatch.setattr(jit, "folder", jit.folder.__wrapped__)
    return copied


def kept(function: Any) -> Path:
    """Where Numba keeps a compiled function."""
    return Path(function.stats.cache_path)


def test_the_loop_is_kept_under_its_sources() -> None:
    assert kept(loop()).parent == Path(jit.folder())
    assert kept(policy("order", by_arrival)).parent == Path(jit.folder())


def test_what_is_installed_elsewhere_or_again_is_not_compiled_again(elsewhere: Path) -> None:
    here = kept(loop())
    found = jit.Locator.from_function(loop().py_func, str(elsewhere / "loop" / "advance.py"))  # type: ignore[attr-defined]
    assert found is not None and Path(found.get_cache_path()) == here


@pytest.mark.parametrize("changed", ["loop/heap.py", "policies/draw.py", "reordered.py"])
def test_a_changed_source_is_compiled_again(elsewhere: Path, changed: str) -> None:
    before = jit.folder()
    with open(elsewhere / changed, "a", encoding="utf-8") as file:
        file.write("# changed\n")
    assert jit.folder() != before


def test_a_changed_policy_is_compiled_again_and_nothing_else(elsewhere: Path) -> None:
    file = elsewhere / "policies" / "routers" / "round_robin.py"
    before, whole = jit.Locator(by_arrival, file).get_cache_path(), jit.folder()
    file.write_text(file.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    assert jit.folder() == whole and jit.Locator(by_arrival, file).get_cache_path() != before


def test_files_of_a_user_are_not_ours(tmp_path: Path) -> None:
    assert jit.Locator.from_function(by_arrival, str(tmp_path / "mine.py")) is None
