"""Techniques by text: the one place where the canonical form meets them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tierwise.scenario.types import Scenario


def parse(text: str) -> Callable[[Scenario], Scenario]:
    """The technique that ``"quantize_kv:bits=2,group=32"`` names, with its arguments.

    Raises:
        TierwiseError: no such technique, or arguments it does not take.
    """
    techniques = importlib.import_module("tierwise.techniques")
    found: Callable[[Scenario], Scenario] = techniques.parse(text)
    return found
