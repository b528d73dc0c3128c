"""The rooms of the house keep to their doors: no private name crosses a wall, no arrow points up.

Which room may know which is in ``pyproject.toml`` (import-linter); here is what that tool does not see: names
rather than modules, and engines' launch files, which no package holds.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).resolve().parents[1] / "src" / "tierwise"


def imports(text: str) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything imported from this package, lazily or not."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tierwise":
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, a.name) for a in node.names if a.name.split(".")[0] == "tierwise")


def room(name: str) -> str:
    """The first part below the package: ``serving`` of ``tierwise.serving.loop``."""
    return [*name.split("."), ""][1]


def trespasses(path: Path, text: str) -> list[str]:
    """Private modules or names that a file takes from another room."""
    own = path.relative_to(SOURCE).with_suffix("").parts[0]
    return [
        f"{path.relative_to(SOURCE)}:{line}: {name}"
        for line, name in imports(text)
        if room(name) != own and any(p.startswith("_") and not p.startswith("__") for p in name.split("."))
    ]


def test_no_private_name_crosses_a_wall() -> None:
    found = [x for path in sorted(SOURCE.rglob("*.py")) for x in trespasses(path, path.read_text(encoding="utf-8"))]
    assert found == []


@pytest.mark.parametrize("text", ["from tierwise.serving._x import y", "from tierwise.serving import _y",
                                  "def f():\n    import tierwise.serving._x"])  # fmt: skip
def test_a_private_import_is_seen(text: str) -> None:
    assert trespasses(SOURCE / "search" / "some.py", text)
    assert not trespasses(SOURCE / "serving" / "some.py", text)


def test_launch_files_of_engines_know_launch_and_what_is_below_it() -> None:
    found = sorted(SOURCE.glob("engines/*/launch.py"))
    assert found
    above = {"cli", "report", "web", "papers", "measure", "search", "advise", "comparison"}
    for path in found:
        assert not {room(name) for _, name in imports(path.read_text(encoding="utf-8"))} & above, path


def test_a_class_name_means_one_thing() -> None:
    """Two classes of one name in two rooms make a reader stop; papers, which are read one by one, may repeat theirs."""
    found: dict[str, list[str]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        if "catalog" in path.parts:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(str(path.relative_to(SOURCE)))
    assert not {name: places for name, places in found.items() if len(places) > 1}
