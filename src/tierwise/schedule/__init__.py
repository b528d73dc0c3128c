"""When things happen: which lane issues what in which order, and the timeline that follows.

A schedule is a file in this folder with a function ``order(program, **options) -> Order``, found by its name; there is
no list. ``order`` needs no prices; :func:`tierwise.schedule.play.play` adds them.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.core.units import whole
from tierwise.schedule.types import Order

MOST = 10_000  # of any option: more turns, stages or buffers than a program has layers to fill them


@cache
def schedules() -> dict[str, Callable[..., Order]]:
    """Every schedule by name."""
    out: dict[str, Callable[..., Order]] = {}
    for info in pkgutil.iter_modules(__path__):
        if not info.name.startswith("_"):
            found = getattr(importlib.import_module(f"{__name__}.{info.name}"), "order", None)
            if inspect.isfunction(found):
                out[info.name] = found
    return out


def schedule(name: str) -> Callable[..., Order]:
    """A schedule's ``order`` function.

    Raises:
        UnknownName: no file of that name holds one.
    """
    found = schedules().get(name)
    if found is None:
        raise UnknownName("schedule", name, schedules(), "A schedule is a file in tierwise/schedule with a function "
                          "order(program, **options).")  # fmt: skip
    return found


def parse(text: str) -> tuple[str, dict[str, object]]:
    """``"prefetch:ahead=2"`` as (name, options). Numbers are read as such; words joined by ``+`` are a list.

    Raises:
        UnknownName, TierwiseError: no such schedule; an option without a value, or one that it does not have.
    """
    name, _, rest = text.partition(":")
    known = {n: p for n, p in inspect.signature(schedule(name)).parameters.items() if n != "program"}
    options: dict[str, object] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if key not in known or not equals:
            raise TierwiseError(f"schedule {name!r}: {part!r} is no option=value of it; it has: "
                                f"{', '.join(known) or 'none'}")  # fmt: skip
        options[key] = _option(known[key], value, f"schedule {name!r}: {key}")
    return name, options


def _option(parameter: inspect.Parameter, text: str, where: str) -> object:
    """An option's value as its annotation has it: a whole number, a word, or words joined by ``+``."""
    if parameter.annotation in (str, "str"):
        return text
    if parameter.annotation in (int, "int"):
        found = whole(text, MOST)
        if not found and text != "0":
            raise TierwiseError(f"{where}: found {text[:40]!r}; allowed: a whole number from 0 to {MOST:,}")
        return found
    return tuple(text.split("+"))


def parts(text: str) -> int:
    """Equal parts that a schedule divides a batch into: its program is that of one of them."""
    if not text:
        return 1
    name, _ = parse(text)
    return int(getattr(importlib.import_module(f"{__name__}.{name}"), "PARTS", 1))


def order(name: str, program: object = None, **options: object) -> Order:
    """The order that a schedule gives a program.

    Raises:
        UnknownName: there is no such schedule.
        TierwiseError: it has no such option.
    """
    make = schedule(name)
    known = [p for p in inspect.signature(make).parameters if p != "program"]
    for option in options:
        if option not in known:
            raise TierwiseError(f"schedule {name!r} has no option {option!r}; it has: {', '.join(known) or 'none'}")
    return make(program, **options)
