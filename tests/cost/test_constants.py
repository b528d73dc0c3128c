"""Numbers on file: each is used, and says what it rests on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tierwise import cost
from tierwise.cost.constants import constant

ROOM = Path(cost.__file__).parent


def test_every_number_on_file_is_used_and_has_a_source() -> None:
    found = yaml.safe_load((ROOM / "constants.yaml").read_text("utf-8"))
    text = "".join(path.read_text("utf-8") for path in ROOM.parent.rglob("*.py"))
    used = set(re.findall(r'constant\("([^"]+)"\)', text))
    assert used == set(found)
    for name, entry in found.items():
        assert set(entry) == {"value", "source"} and len(entry["source"]) > 20, name
        assert constant(name) == float(entry["value"])


def test_a_number_that_is_not_on_file_is_no_number() -> None:
    with pytest.raises(KeyError):
        constant("attention.magic")
