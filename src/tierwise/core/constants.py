"""Numbers that neither follow from others nor were fitted, each in a file with its value and where it comes from."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from tierwise.core.yamltext import parsed


@cache
def constants(path: Path) -> Mapping[str, float]:
    """The numbers of a YAML file by name: ``name: {value: 0.5, source: "who says so, or chosen: why"}``.

    Raises:
        ValueError: one of them has no source.
    """
    found = parsed(path.read_text("utf-8"))
    for name, entry in found.items():
        if not entry.get("source"):
            raise ValueError(f"{path}: {name} has no source")
    return {name: float(entry["value"]) for name, entry in found.items()}
