"""Numbers on file: each has a source, and one without is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from tierwise.core.constants import constants

SOURCE = Path(__file__).resolve().parents[2] / "src" / "tierwise"


@pytest.mark.parametrize("path", sorted(SOURCE.rglob("constants.yaml")), ids=lambda p: p.parent.name)
def test_every_number_says_where_it_comes_from(path: Path) -> None:
    found = constants(path)
    assert found
    for name, entry in yaml.safe_load(path.read_text("utf-8")).items():
        assert len(entry["source"].removeprefix("chosen:").strip()) > 10, name
        assert found[name] == float(entry["value"])


@pytest.mark.parametrize("text", ["a: {value: 1}", "a: {value: 1, source: ''}"])
def test_a_number_without_a_source_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "constants.yaml"
    file.write_text(text)
    with pytest.raises(ValueError, match="a has no source"):
        constants(file)
