"""Techniques: functions ``Scenario -> Scenario``, made by the functions here.

Every public function of every module in this folder is a technique maker, reachable as
``tierwise.techniques.<name>``, and from text by :func:`parse`. A new technique is a function in a new or fitting file;
there is no list.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from tierwise.core.errors import UnknownName

if TYPE_CHECKING:
    from tierwise.techniques._make import Technique


@cache
def all_techniques() -> dict[str, Any]:
    """Every technique maker by name."""
    out: dict[str, Any] = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{__name__}.{info.name}")
        for name, member in inspect.getmembers(module, inspect.isfunction):
            if member.__module__ == module.__name__ and not name.startswith("_"):
                out[name] = member
    return out


def parse(text: str) -> Technique:
    """The technique that a text names: ``quantize_kv:bits=2,group=32``, or one in a file of the user's,
    ``./my_technique.py:name:argument=1``.

    Raises:
        UnknownName, BadField: no such technique, file or argument; says what there is and what is allowed.
    """
    from tierwise.techniques._parse import parse as from_text

    return from_text(text)


def makers_in(path: str) -> dict[str, Callable[..., Technique]]:
    """Technique makers of a user's file, by name.

    Raises:
        TierwiseError: no such file; one that cannot be run, or has none.
    """
    from tierwise.techniques._parse import makers_in as of_file

    return of_file(path)


def usage(maker: Callable[..., Any]) -> str:
    """Arguments of a maker as text takes them, ``bits=8,group=0``; those that must be given without a value."""
    from tierwise.techniques._parse import usage as of_maker

    return of_maker(maker)


def example(maker: Callable[..., Any]) -> str:
    """What its docstring gives as ``Example: ``text````."""
    from tierwise.techniques._parse import example as of_maker

    return of_maker(maker)


def __getattr__(name: str) -> Any:
    if name.startswith("__"):
        raise AttributeError(name)
    found = all_techniques()
    if name not in found:
        raise AttributeError(str(UnknownName("technique", name, found)))
    return found[name]


def __dir__() -> list[str]:
    return ["all_techniques", "example", "makers_in", "parse", "usage", *sorted(all_techniques())]
