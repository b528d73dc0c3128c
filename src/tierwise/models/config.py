"""Reading a model's configuration: plain data with named, checked fields. Nothing is executed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tierwise.core.errors import BadField
from tierwise.models.defaults import NOTHING, Defaults

_MISSING = object()
MOST = 1e13  # of anything counted: ten times the parameters of the largest model there is


class Config:
    """A JSON mapping with typed look-ups that remember what was read.

    A field that the mapping does not have gets the default of its configuration class, where ``defaults`` has one. A
    field that is there and null has none: it is read as the family reads an absent one.

    Args:
        data: the mapping.
        where: file or catalog name, for messages.
        path: dotted prefix of nested sections.
        defaults: of its configuration class.
        seen: dotted names read so far, shared with every section and variant.
    """

    def __init__(
        self,
        data: Mapping[str, Any],
        where: str,
        path: str = "",
        defaults: Defaults = NOTHING,
        seen: set[str] | None = None,
    ) -> None:
        self.data, self.where, self.path, self.defaults = data, where, path, defaults
        self.seen: set[str] = set() if seen is None else seen

    def has(self, name: str) -> bool:
        """The field is there and not null, or its class has a default."""
        return self._found((name,)) is not None

    def given(self, name: str) -> bool:
        """The field itself is there and not null."""
        return self.data.get(name) is not None

    def but(self, **changes: Any) -> Config:
        """The same configuration with some fields changed."""
        return Config({**self.data, **changes}, self.where, self.path, self.defaults, self.seen)

    def unread(self) -> list[str]:
        """Dotted names of fields that nobody asked for, those inside sections that were opened included."""
        return [self.path + name for name, _ in self._unread()]

    def _unread(self) -> Iterator[tuple[str, Any]]:
        for name, value in self.data.items():
            if self.path + name not in self.seen:
                yield name, value
            elif isinstance(value, Mapping):
                inner = Config(value, self.where, f"{self.path}{name}.", seen=self.seen)
                yield from ((f"{name}.{k}", v) for k, v in inner._unread())

    def _found(self, names: tuple[str, ...]) -> Any:
        """The value of the first synonym that is given, else of the first that has a default; None without either."""
        names = self.defaults.spellings(names)
        self.seen.update(self.path + name for name in names)
        for name in names:
            if self.data.get(name) is not None:
                return self.data[name]
        if any(name in self.data for name in names):
            return None
        return next((v for n in names if (v := self.defaults.fields.get(n)) is not None), None)

    def raw(self, *names: str, default: Any = _MISSING) -> Any:
        """The first of several synonyms that is present and not null, unchecked."""
        value = self._found(names)
        if value is not None:
            return value
        if default is _MISSING:
            also = f"; also known as {', '.join(names[1:])}" if len(names) > 1 else ""
            raise BadField(self.where, self.path + names[0], None, "a value" + also)
        return default

    def _named(self, names: tuple[str, ...]) -> str:
        """Dotted name of the synonym that is given, the first otherwise."""
        return self.path + next((n for n in names if n in self.data), names[0])

    def size(self, *names: str, default: Any = _MISSING, least: float = 1.0) -> float:
        """A count or width: a finite whole number of at least ``least``."""
        value = self.raw(*names, default=default)
        if value is default and default is not _MISSING:
            return value  # type: ignore[no-any-return]
        good = isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < math.inf
        if not good or value != int(value) or value < least or value > MOST:
            allowed = f"a whole number of at least {least:.0f}"
            raise BadField(self.where, self._named(names), value,
                           f"{allowed}, at most {MOST:.0e}" if good and value > MOST else allowed)  # fmt: skip
        return float(value)

    def real(self, *names: str, default: Any = _MISSING) -> float:
        """A number of a size that can be squared."""
        value = self.raw(*names, default=default)
        if value is default and default is not _MISSING:
            return value  # type: ignore[no-any-return]
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not abs(value) <= MOST:
            raise BadField(self.where, self._named(names), value, f"a number from {-MOST:.0e} to {MOST:.0e}")
        return float(value)

    def ratio(self, *names: str, default: Any = _MISSING) -> float:
        """A number above 0, of a size that can be squared."""
        value = self.real(*names, default=default)
        if value is not default and not value > 0.0:
            raise BadField(self.where, self._named(names), value, "a number above 0")
        return value

    def flag(self, *names: str, default: bool = False) -> bool:
        """A boolean."""
        value = self.raw(*names, default=default)
        if not isinstance(value, bool):
            raise BadField(self.where, self._named(names), value, "true or false")
        return value

    def text(self, *names: str, default: Any = _MISSING) -> str:
        """A string."""
        value = self.raw(*names, default=default)
        if not isinstance(value, str) and value is not default:
            raise BadField(self.where, self._named(names), value, "text")
        return value

    def items(self, *names: str, default: Any = _MISSING, most: int = 100_000) -> list[Any]:
        """A list of bounded length."""
        value = self.raw(*names, default=default)
        if value is default and default is not _MISSING:
            return list(value) if value is not None else []
        if not isinstance(value, list) or len(value) > most:
            raise BadField(self.where, self._named(names), value, f"a list of at most {most}")
        return value

    def sizes(self, *names: str, least: float = 1.0) -> list[float]:
        """A list of counts or widths, each as :meth:`size` reads one."""
        each = [Config({names[0]: v}, self.where, self.path) for v in self.items(*names)]
        return [one.size(names[0], least=least) for one in each]

    def section(self, name: str) -> Config:
        """A nested mapping; empty when absent, with the defaults of its own class."""
        value = self.data.get(name)
        if value is None:
            value = {}
        if not isinstance(value, Mapping):
            raise BadField(self.where, self.path + name, value, "a mapping")
        self.seen.add(self.path + name)
        kind = value.get("model_type")
        inner = self.defaults.section(name, kind if isinstance(kind, str) else "")
        return Config(value, self.where, f"{self.path}{name}.", inner, self.seen)
