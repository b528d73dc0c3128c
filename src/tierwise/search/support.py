"""Which engines run on which machines, as their documentation says (``support.yaml``)."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from tierwise.machines.types import System


def runs(engine: str, system: System) -> bool:
    """Whether an engine is documented to run on a GPU; other kinds of machine are taken at the asker's word."""
    device = system.device
    entry = _entries().get(engine)
    return device.kind != "gpu" or entry is None or device.family in entry["families"]


@cache
def _entries() -> dict[str, Any]:
    import yaml

    entries: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("support.yaml").read_text(encoding="utf-8"))
    return entries
