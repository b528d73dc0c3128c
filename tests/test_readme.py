"""README, concepts and serving page are true: commands run, the numbers shown still hold, the Python runs."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
spec = importlib.util.spec_from_file_location("refresh", ROOT / "docs" / "refresh.py")
assert spec is not None and spec.loader is not None
refresh = importlib.util.module_from_spec(spec)
spec.loader.exec_module(refresh)


@pytest.mark.parametrize(
    ("command", "shown"),
    [pytest.param(*pair, id=pair[0][:60]) for p in refresh.FILES for pair in refresh.commands(p.read_text("utf-8"))],
)
def test_what_a_command_is_shown_to_print_still_holds(command: str, shown: str) -> None:
    """Within the tolerances of ``docs/refresh.py``, which says them; wording and catalogs may change."""
    assert refresh.differences(command, shown, refresh.run(command)) == [], "run: python docs/refresh.py"


def test_numbers_that_moved_are_told_and_words_that_changed_are_not() -> None:
    shown = "decode 12.6 ms a step, bound by memory\n3.4 GB of weights ▆▆▆\n│ ttft │ 1,024 │"
    told = refresh.differences
    assert told("x", shown, shown) == []
    assert told("x", shown, shown.replace("12.6 ms", "0.0126 s").replace("a step", "for every step")) == []
    assert told("x", shown, shown.replace("3.4", "3.5")) == []  # 3 %
    assert told("x", shown, shown.replace("12.6", "14.6")) == ["$ x: 0.0126 is now 0.0146 (s)"]
    assert told("x", shown, shown.replace("1,024", "2,048")) == ["$ x: 1024 is now 2048 (a number)"]
    assert told("x", shown, "tierwise: unknown model") == ["$ x: 0% of its words are still printed"]
    assert told("tierwise models | tail -1", "208 models. Also:", "209 models. Also:") == []
    assert told("tierwise models one | tail -1", "208 layers", "20 layers")


PAGES = (*refresh.FILES[:2], ROOT / "docs" / "training.md", ROOT / "docs" / "python.md")


@pytest.mark.parametrize("path", PAGES, ids=lambda p: p.name)
def test_python_blocks_run(path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", path.read_text(encoding="utf-8"), re.S | re.M)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(path), "exec"), names)


def test_linked_files_exist() -> None:
    for path in (ROOT / "README.md", *(ROOT / "docs").glob("*.md")):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8")):
            assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_every_picture_can_be_taken_again() -> None:
    """A picture is of a page that ``docs/picture.py`` knows how to write, and every one it takes is shown."""
    spec = importlib.util.spec_from_file_location("picture", ROOT / "docs" / "picture.py")
    assert spec is not None and spec.loader is not None
    taken = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = taken
    spec.loader.exec_module(taken)
    pages = (ROOT / "README.md", *(ROOT / "docs").glob("*.md"))
    image = re.compile(r"!\[[^\]]*\]\(([^)]+)\)")
    shown = {Path(name).name for page in pages for name in image.findall(page.read_text(encoding="utf-8"))}
    assert shown == set(taken.PICTURES) == {p.name for p in (ROOT / "docs" / "images").iterdir()}
