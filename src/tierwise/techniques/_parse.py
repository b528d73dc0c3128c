"""Techniques from text: ``quantize_kv:bits=2,group=32``, or ``./my_technique.py:name:argument=1`` from a user's file.

Arguments follow the makers' annotations: numbers, ``true`` or ``false``, text, and lists of any of them in brackets
(``bits=[2,4]``, ``layers=[0,31]``). Those without a name go in the maker's order (``slide_window:1024``).
"""

from __future__ import annotations

import inspect
import math
import re
import types
from collections import abc
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Union, get_args, get_origin, get_type_hints

import numpy as np

from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.numerics import Format
from tierwise.core.units import RANGE
from tierwise.core.userfile import executed
from tierwise.techniques._make import Technique

_BOOLS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
# Of a number; inf only where it is the default (no limit). Products of a few such numbers are numbers.
MOST = RANGE["count"][1]
_SPEC = re.compile(r"^(?P<file>[^:]+\.py)(?::(?P<rest>.*))?$", re.DOTALL)


def parse(text: str) -> Technique:
    """The technique that a text names, made with the arguments it gives.

    A path is the one thing that is executed: a Python file, because the user named it.

    Raises:
        UnknownName: no such technique or argument; carries the nearest.
        BadField: a value that an argument cannot hold, or one that is missing.
    """
    name, maker, rest = _find(text.strip())
    positional, named = _split(name, rest)
    known = {p.name: p for p in inspect.signature(maker).parameters.values()}
    hints = get_type_hints(maker)
    kinds = {n: _kinds(hints.get(n, p.empty)) for n, p in known.items()}
    for key in named:
        if key not in known:
            raise UnknownName(f"argument of {name}", key, known, f"{name} takes {usage(maker) or 'none'}.")
    in_order = [p for p in known.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.VAR_POSITIONAL)]
    variadic = next((p for p in in_order if p.kind is p.VAR_POSITIONAL), None)
    plain = [p for p in in_order if p is not variadic]
    args: list[Any] = []
    keywords: dict[str, Any] = {}
    for i, value in enumerate(positional):
        if i < len(plain):
            if plain[i].name in named:
                raise BadField(name, plain[i].name, value, "one value; it is given twice")
            keywords[plain[i].name] = _value(name, plain[i], value, kinds[plain[i].name])
        elif variadic is not None:
            args.append(_value(name, variadic, value, kinds[variadic.name]))
        else:
            raise BadField(name, "arguments", rest, f"at most {len(plain)} without a name: {usage(maker)}")
    for key, value in named.items():
        if variadic is not None and key == variadic.name:
            args += [_one(name, variadic, v, kinds[key]) for v in _items(value)]
        else:
            keywords[key] = _value(name, known[key], value, kinds[key])
    missing = [p.name for p in plain if p.default is p.empty and p.name not in keywords]
    if missing:
        raise BadField(name, missing[0], None, f"a value: {name} takes {usage(maker)}")
    if variadic is not None and args:
        return _checked(name, maker(*(keywords.pop(p.name) for p in plain if p.name in keywords), *args, **keywords))
    return _checked(name, maker(**keywords))


def usage(maker: Callable[..., Any]) -> str:
    """The arguments of a maker with their defaults: ``"bits, group=128, residual=0"``."""
    out = []
    for p in inspect.signature(maker).parameters.values():
        if p.kind is p.VAR_POSITIONAL:
            out.append(f"{p.name}...")
        elif p.default is p.empty:
            out.append(p.name)
        else:
            out.append(f"{p.name}={_word(p.default)}")
    return ", ".join(out)


def example(maker: Callable[..., Any]) -> str:
    """The text that a maker's docstring gives as its example (``Example: ``name:argument=value````), or ``""``."""
    found = re.search(r"^Example: ``(.+?)``$", inspect.getdoc(maker) or "", re.MULTILINE)
    return found[1] if found else ""


def _word(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, (int, float)) else "" if default is None else str(default)


def makers_in(path: str) -> dict[str, Callable[..., Technique]]:
    """Every public function of a user's file, by name. The file is executed.

    Raises:
        TierwiseError: there is no such file, it fails, or has none.
    """
    file = Path(path).expanduser()
    if not file.is_file():
        raise TierwiseError(f"{path}: no such file")
    # A name of its own: a file is never found instead of an installed module.
    module_name = "tierwise_user_" + re.sub(r"\W", "_", str(file.resolve()))
    module = executed(file, module_name)
    found: dict[str, Callable[..., Technique]] = {
        n: f for n, f in inspect.getmembers(module, inspect.isfunction)
        if f.__module__ == module_name and not n.startswith("_")
    }  # fmt: skip
    if not found:
        raise TierwiseError(f"{path}: no technique in it: a public function that gives one")
    return found


def _find(text: str) -> tuple[str, Callable[..., Technique], str]:
    """(name, maker, text of the arguments)."""
    match = _SPEC.match(text)
    if match is None:
        from tierwise.techniques import all_techniques

        name, _, rest = text.partition(":")
        found: Mapping[str, Callable[..., Technique]] = all_techniques()
        if name not in found:
            raise UnknownName("technique", name, found, "`tierwise techniques` lists them; a file of yours is named by "
                              "its path, as ./mine.py:name.")  # fmt: skip
        return name, found[name], rest
    found = makers_in(match["file"])
    name, _, rest = (match["rest"] or "").partition(":")
    if not name and len(found) == 1:
        name = next(iter(found))
    if name not in found:
        if not name:
            raise BadField(match["file"], "technique", None, f"a name behind the file: {', '.join(sorted(found))}")
        raise UnknownName(f"technique in {match['file']}", name, found)
    return name, found[name], rest


def _split(name: str, text: str) -> tuple[list[str], dict[str, str]]:
    """Arguments without and with a name; commas inside brackets separate the items of a list."""
    positional: list[str] = []
    named: dict[str, str] = {}
    for piece in filter(None, (p.strip() for p in re.split(r",(?![^\[]*\])", text))):
        key, equals, value = piece.partition("=")
        if not equals:
            if named:
                raise BadField(name, "arguments", piece, "a name in front: it comes behind arguments with names")
            positional.append(piece)
        elif key.strip() in named:
            raise BadField(name, key.strip(), value, "one value; it is given twice")
        else:
            named[key.strip()] = value.strip()
    return positional, named


def _value(name: str, p: inspect.Parameter, text: str, kinds: frozenset[str]) -> Any:
    """The text as the argument's annotation wants it."""
    if not kinds:
        raise BadField(name, p.name, text, "a Python function, so it can only be given from Python")
    listed = "list" in kinds
    if text.startswith("["):
        items = [_one(name, p, item, kinds) for item in _items(text)]
        if listed or "array" in kinds:
            return items if listed else np.asarray(items)
        raise BadField(name, p.name, text, f"one value, {_allowed(kinds)}")
    if text.lower() == "none" and p.default is None:
        return None
    value = _one(name, p, text, kinds)
    return [value] if listed and "text" not in kinds else value


def _items(text: str) -> list[str]:
    return [x.strip() for x in text.strip().removeprefix("[").removesuffix("]").split(",") if x.strip()]


def _one(name: str, p: inspect.Parameter, text: str, kinds: frozenset[str]) -> Any:
    kinds = kinds | {k.removeprefix("items:") for k in kinds}
    if "bool" in kinds and text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    for kind, read in (("whole", int), ("number", float)):
        try:
            number = read(text) if kind in kinds else None
        except ValueError:
            continue
        if number is not None and not (isinstance(number, float) and math.isnan(number)):
            limit = text.lower() in ("inf", "infinity") and p.default in (None, math.inf)
            if not (limit or abs(number) <= MOST):
                raise BadField(name, p.name, text, f"a number of at most {MOST:g}")
            return number
    if "text" in kinds:
        return text
    raise BadField(name, p.name, text, _allowed(kinds))


def _kinds(hint: Any) -> frozenset[str]:
    """What an annotation allows: ``number``, ``whole``, ``bool``, ``text``; an ``array`` or a ``list``, whose items
    have kinds of their own (``items:number``). Nothing for a function."""
    origin = get_origin(hint)
    if hint is Any or hint is inspect.Parameter.empty:
        return frozenset({"number", "bool", "text", "list"})
    if origin in (Union, types.UnionType):
        return frozenset().union(*map(_kinds, get_args(hint)))
    if origin is np.ndarray or hint is np.ndarray:
        return frozenset({"array"})
    if isinstance(origin, type) and issubclass(origin, abc.Iterable):
        items = get_args(hint)[0] if get_args(hint) else Any
        return frozenset({"list", *(f"items:{k}" for k in _kinds(items))})
    simple = {float: "number", int: "whole", bool: "bool", str: "text", Format: "text"}
    return frozenset({simple[hint]} if hint in simple else ())


def _allowed(kinds: frozenset[str]) -> str:
    names = {"number": "a number", "whole": "a whole number", "bool": "true or false", "text": "text",
             "list": "a list in brackets", "array": "several in brackets"}  # fmt: skip
    return " or ".join(words for kind, words in names.items() if kind in kinds)


def _checked(name: str, made: Any) -> Technique:
    if not callable(made):
        raise TierwiseError(f"{name}: returned {type(made).__name__}; a maker returns a function of a scenario")
    return made  # type: ignore[no-any-return]
