"""Where machine files lie, what they are called in errors, and how they are read."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

CATALOG = Path(__file__).parent / "catalog"
SYSTEMS = CATALOG / "systems"


def read(path: Path) -> dict[str, Any]:
    """The mapping in a file; the catalog's own are not scanned for hostile structure (the tests do)."""
    from tierwise.machines.read import read_mapping

    return read_mapping(path, trusted=path.parent in (CATALOG, SYSTEMS))


@cache
def library() -> Mapping[str, str]:
    """References that several files cite, by key."""
    from tierwise.machines.read import read_mapping

    return read_mapping(Path(__file__).parent / "references.yaml", trusted=True)


def where(path: Path) -> str:
    """A catalog file by its name alone (its folder differs on every machine), a user's file as given."""
    return f"catalog/{path.name}" if path.parent in (CATALOG, SYSTEMS) else str(path)


def as_path(name: str, base: Path | None = None) -> Path | None:
    """The file a name means, if it means one: by its ending, or because it has a slash and exists."""
    path = Path(os.path.expanduser(name))
    if path.suffix.lower() not in (".yaml", ".yml") and not ("/" in name and os.path.isfile(path)):
        return None
    return base / path if base is not None and not path.is_absolute() else path
