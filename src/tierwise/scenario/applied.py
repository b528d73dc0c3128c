"""Techniques by text: the one place where the canonical form meets them."""

from __future__ import annotations

import ast
import importlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from tierwise.core.errors import BadField, UnknownName

if TYPE_CHECKING:
    from tierwise.scenario.types import Scenario


def parse(text: str) -> Callable[[Scenario], Scenario]:
    """The technique that ``"quantize_kv:bits=2,group=32"`` names, with its arguments.

    Raises:
        TierwiseError: no such technique, or arguments it does not take.
    """
    techniques = importlib.import_module("tierwise.techniques")
    if "parse" in vars(techniques):
        found: Callable[[Scenario], Scenario] = techniques.parse(text)
        return found
    name, _, rest = text.strip().partition(":")
    known: dict[str, Any] = techniques.all_techniques()
    if name not in known:
        raise UnknownName("technique", name, known)
    given = dict(_argument(text, part) for part in rest.split(",") if part.strip())
    try:
        made: Callable[[Scenario], Scenario] = known[name](**given)
    except TypeError as error:
        raise BadField("--technique", name, rest, f"its arguments ({error})") from None
    return made


def _argument(text: str, part: str) -> tuple[str, Any]:
    name, equals, value = part.partition("=")
    if not equals:
        raise BadField("--technique", "argument", part, "NAME=VALUE, as quantize_kv:bits=2,group=32")
    try:
        return name.strip(), ast.literal_eval(value.strip())
    except (ValueError, SyntaxError):
        return name.strip(), value.strip()
