"""YAML files of our own, read by the C parser where there is one: ten times as fast, and as safe."""

from __future__ import annotations

from typing import Any


def parsed(text: str) -> Any:
    """Plain data; nothing is executed."""
    import yaml

    return yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # a safe loader either way
