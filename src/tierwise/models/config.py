"""Reading a model's configuration: plain data with named, checked fields. Nothing is executed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tierwise.core.errors import BadField

_MISSING = object()


class Config:
    """A JSON mapping with typed look-ups that remember what was read.

    Args:
        data: the mapping.
        where: file or catalog name, for messages.
        path: dotted prefix of nested sections.

    Attributes:
        used: fields read so far (an unknown model's error lists them).
    """

    def __init__(self, data: Mapping[str, Any], where: str, path: str = "") -> None:
        self.data, self.where, self.path = data, where, path
        self.used: set[str] = set()

    def has(self, name: str) -> bool:
        """The field is there and not null."""
        return self.data.get(name) is not None

    def raw(self, *names: str, default: Any = _MISSING) -> Any:
        """The first of several synonyms that is present and not null, unchecked."""
        for name in names:
            if self.has(name):
                self.used.add(name)
                return self.data[name]
        if default is _MISSING:
            also = f"; also known as {', '.join(names[1:])}" if len(names) > 1 else ""
            raise BadField(self.where, self.path + names[0], None, "a value" + also)
        return default

    def size(self, *names: str, default: Any = _MISSING, least: float = 1.0) -> float:
        """A count or width: a finite whole number of at least ``least``."""
        value = self.raw(*names, default=default)
        if value is default and default is not _MISSING:
            return value  # type: ignore[no-any-return]
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
        if not good or value != int(value) or value < least or value > 1e13:
            raise BadField(self.where, self.path + names[0], value, f"a whole number of at least {least:.0f}")
        return float(value)

    def real(self, *names: str, default: Any = _MISSING) -> float:
        """Any finite number."""
        value = self.raw(*names, default=default)
        if value is default and default is not _MISSING:
            return value  # type: ignore[no-any-return]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            raise BadField(self.where, self.path + names[0], value, "a finite number")
        return float(value)

    def flag(self, *names: str, default: bool = False) -> bool:
        """A boolean."""
        value = self.raw(*names, default=default)
        if not isinstance(value, bool):
            raise BadField(self.where, self.path + names[0], value, "true or false")
        return value

    def text(self, *names: str, default: Any = _MISSING) -> str:
        """A string."""
        value = self.raw(*names, default=default)
        if not isinstance(value, str) and value is not default:
            raise BadField(self.where, self.path + names[0], value, "text")
        return value

    def items(self, *names: str, default: Any = _MISSING, most: int = 100_000) -> list[Any]:
        """A list of bounded length."""
        value = self.raw(*names, default=default)
        if value is default and default is not _MISSING:
            return list(value) if value is not None else []
        if not isinstance(value, list) or len(value) > most:
            raise BadField(self.where, self.path + names[0], value, f"a list of at most {most}")
        return value

    def section(self, name: str) -> Config:
        """A nested mapping; empty when absent."""
        value = self.data.get(name)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise BadField(self.where, self.path + name, value, "a mapping")
        self.used.add(name)
        return Config(value, self.where, f"{self.path}{name}.")
