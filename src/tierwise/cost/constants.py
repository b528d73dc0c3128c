"""Numbers that several prices rest on, from ``constants.yaml``, each with its source."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.yamltext import parsed


def constant(name: str) -> float:
    """A number by its name; raises KeyError for one that is not on file."""
    return float(_file()[name]["value"])


@cache
def _file() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = parsed(Path(__file__).with_suffix(".yaml").read_text("utf-8"))
    return found
