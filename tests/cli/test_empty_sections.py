"""Sections of a saved scenario that are named and left empty say nothing: the answer is that of the flags alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tierwise.cli import main


def answer(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    with pytest.raises(SystemExit) as stop:
        main(["explain", *args, "--json", "-"])
    out = capsys.readouterr()
    assert stop.value.code in (0, None), out.err
    found: dict[str, Any] = json.loads(out.out)
    return found


@pytest.mark.parametrize("section", ["traffic", "plan", "serving", "targets", "techniques", "engine", "training"])
@pytest.mark.parametrize("flags", [(), ("--batch", "4", "--tp", "1")])
def test_an_empty_section_is_as_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], section: str, flags: tuple[str, ...]
) -> None:
    saved = tmp_path / "s.yaml"
    saved.write_text(f"schema: tierwise.scenario/1\nmodel: llama-3.2-1b\nmachine: l4\n{section}:\n")
    empty, plain = answer(capsys, str(saved), *flags), answer(capsys, "llama-3.2-1b", "--on", "l4", *flags)
    assert empty["time"] == plain["time"] if "time" in plain else empty["phases"] == plain["phases"]
