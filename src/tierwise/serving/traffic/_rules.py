"""A rule written as text (``gamma:rate=3,cv=2``), found by place and called."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from tierwise.core import units
from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.core.userfile import executed

Rule = str | float | Callable[..., Any]


def rule(package: ModuleType, written: str, **given: object) -> tuple[ModuleType, dict[str, Any]]:
    """The module a rule names (a file of ``package``, or a path to one's own) and its arguments.

    Args:
        written: ``name`` or ``name:key=value,key=value``; values are numbers, times ("30s"), rates ("40/s"), or text.
        given: arguments given elsewhere, which the rule may also name itself.

    Raises:
        UnknownName: there is no such file. TierwiseError: an argument it does not know, or one it lacks.
    """
    name, _, rest = written.partition(":")
    kind = package.__name__.rpartition(".")[2].removesuffix("s")
    if name.endswith(".py"):
        module = _own(name)
    else:
        known = [i.name for i in pkgutil.iter_modules(package.__path__) if not i.name.startswith("_")]
        if name not in known:
            raise UnknownName(kind, name, known, f"(there are {', '.join(known)}; or a path to your own file)")
        module = importlib.import_module(f"{package.__name__}.{name}")
    how: dict[str, Any] = {k: v for k, v in given.items() if v is not None}
    for part in filter(None, rest.split(",")):
        key, equals, given_value = part.partition("=")
        if not equals:
            raise TierwiseError(f"{kind} {written!r}: found {part!r}; allowed: key=value")
        how[key.strip()] = value(given_value.strip())
    call = getattr(module, "times", None) or getattr(module, "draw", None)
    if call is None:
        raise TierwiseError(f"{name}: has neither times(n, rng, ...) nor draw(n, rng, ...)")
    takes = {p.name: p for p in inspect.signature(call).parameters.values() if p.kind is p.KEYWORD_ONLY}
    unknown = [k for k in how if k not in takes]
    if unknown:
        raise UnknownName(f"argument of {name}", unknown[0], takes, f"(it takes {', '.join(takes) or 'none'})")
    lacks = [k for k, p in takes.items() if p.default is p.empty and k not in how]
    if lacks:
        raise TierwiseError(f"{kind} {name}: needs {', '.join(lacks)}, as in {name}:{lacks[0]}=...")
    least, most = units.RANGE["count"]
    for key, found in how.items():
        if takes[key].annotation not in (float, "float"):
            continue
        if not (isinstance(found, int | float) and found >= 0):
            raise TierwiseError(f"{kind} {name}: {key}: found {found!r}; allowed: a number of 0 or more")
        if found and not least <= found <= most:
            raise TierwiseError(f"{kind} {name}: {key}: found {found:g}; allowed: 0, or {least:g} to {most:g}")
    return module, how


def _own(path: str) -> ModuleType:
    if not Path(path).is_file():
        raise TierwiseError(f"{path}: there is no such file")
    return executed(path, f"tierwise_rule_{Path(path).stem}")


def value(text: str) -> float | str:
    """A number, a number of thousands (1k), a time (30s) or a rate (40/s) in SI units; else the text itself."""
    try:
        return float(text)
    except ValueError:
        pass
    for kind in ("count", "time", "rate"):
        try:
            return units.parse(text, kind)
        except TierwiseError:
            continue
    return text
