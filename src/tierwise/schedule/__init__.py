"""When things happen: which lane issues what in which order, and the timeline that follows.

A schedule is a file in this folder with a function ``order(program, **options) -> Order``, found by its name (there is
no list), or a user's, by its path. ``order`` needs no prices; :func:`tierwise.schedule.play.play` adds them.
"""

from __future__ import annotations

import importlib
import inspect
import pkgutil
from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.core.units import whole
from tierwise.core.userfile import executed
from tierwise.program.program import Program
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
    """A schedule's ``order`` function, by name or by the path of a user's file, which is run.

    Raises:
        UnknownName: no file of that name holds one. TierwiseError: a path to nothing, or to a file without one.
    """
    found = schedules().get(name)
    if found is not None:
        return found
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise TierwiseError(f"{name}: no such file")
        return _read(str(path.resolve()), path.stat().st_mtime_ns)
    raise UnknownName("schedule", name, schedules(), "A schedule is a file in tierwise/schedule, or one of your own by "
                      "its path (./mine.py), with a function order(program, **options).")  # fmt: skip


@cache
def _read(path: str, changed: int) -> Callable[..., Order]:
    del changed  # part of the key: an edited file is read again
    module = executed(path, f"tierwise_schedule_{sha256(path.encode()).hexdigest()[:12]}")
    found = getattr(module, "order", None)
    if not inspect.isfunction(found):
        raise TierwiseError(f"{path}: needs a function 'order' (see docs/adding-a-schedule.md)")
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
    return int(_constant(name, "PARTS", 1))


def _constant(name: str, constant: str, usual: Any) -> Any:
    """What the file of a schedule says of it."""
    return schedule(name).__globals__.get(constant, usual)


def moves_only(text: str) -> bool:
    """Whether a schedule, by name and options, changes nothing but when copies run."""
    if not text:
        return False
    name, _ = parse(text)
    return bool(_constant(name, "COPIES", False))


def order_of(name: str, program: Program, **options: object) -> Order:
    """The order that a schedule gives a step, whose program says where its tensors lie: with all of them on the device
    there is nothing to copy, and a schedule of copies leaves ops in line.

    Raises:
        UnknownName, TierwiseError: as :func:`order`.
    """
    from tierwise.schedule._placed import has_copies

    if moves_only(name) and not has_copies(program):
        return order("in_order", program)
    return order(name, program, **options)


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
