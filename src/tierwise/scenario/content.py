"""Any frozen value of this package as plain JSON types, and back: the alphabet that scenarios are written in.

Numbers, text, true, false and null stand for themselves and a tuple is a list. What JSON does not know is a mapping
with a ``$`` key:

=====================  ==============================================================================
``{"$": name, …}``     a dataclass: its module under ``tierwise`` and its class, then the fields that
                       differ from their defaults
``{"$format": name}``  a number format that :func:`tierwise.core.numerics.fmt` knows by that name
``{"$array": …}``      a NumPy array as nested lists, with its ``dtype``
``{"$number": name}``  ``inf``, ``-inf`` or ``nan``
``{"$map": [[k, v]]}`` a mapping whose keys are not all plain text
``{"$list": […]}``     a list, which is no tuple
``{"$set": […]}``      a set, in order
=====================  ==============================================================================
"""

from __future__ import annotations

import importlib
import json
import math
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np

from tierwise.core.errors import BadField, TierwiseError, nearest
from tierwise.core.numerics import Format, fmt

Json: TypeAlias = Any
_ROOT = "tierwise."
_NUMERIC = ("int", "uint", "float")


def encode(value: Any, where: str = "value") -> Json:
    """The value in plain JSON types.

    Args:
        where: what the value is, for the error.

    Raises:
        TierwiseError: it holds something that only Python can, such as a function or a class of a user's own file.
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str(value)  # a NumPy text becomes a plain one
    if isinstance(value, np.generic) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return encode(value.item(), where)
    if isinstance(value, np.ndarray):
        kind = "str" if value.dtype.kind == "U" else value.dtype.name
        return {"$array": _nested(value.tolist(), where), "dtype": kind}
    if isinstance(value, (int, float)):
        return value if math.isfinite(value) else {"$number": str(float(value))}
    if isinstance(value, tuple):
        return [encode(v, where) for v in value]
    if isinstance(value, list):
        return {"$list": [encode(v, where) for v in value]}
    if isinstance(value, (set, frozenset)):
        return {"$set": sorted((encode(v, where) for v in value), key=text)}
    if isinstance(value, Mapping):
        return _mapping(value, where)
    if isinstance(value, Format) and (name := format_name(value)) is not None:
        return {"$format": name}
    if is_dataclass(value) and not isinstance(value, type):
        return _dataclass(value, where)
    raise TierwiseError(
        f"{where}: a {type(value).__name__} ({str(value)[:60]}) cannot be written down; allowed: names, numbers and "
        "the values this package defines"
    )


def decode(data: Json, where: str = "value", field: str = "") -> Any:
    """The value that :func:`encode` wrote.

    Raises:
        BadField: an unknown class or field, or data of the wrong form.
    """
    if isinstance(data, list):
        return tuple(decode(v, where, f"{field}[{i}]") for i, v in enumerate(data))
    if not isinstance(data, dict):
        return data
    kinds = [k for k in data if isinstance(k, str) and k.startswith("$")]
    if not kinds:
        return {k: decode(v, where, _under(field, k)) for k, v in data.items()}
    try:
        return _special(kinds[0], data, where, field)
    except BadField:
        raise
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise BadField(where, field or "value", data, f"what the package writes itself ({error})") from None


def text(data: Json) -> str:
    """One text for equal data: keys in order, whole numbers and floats of equal value alike."""
    return json.dumps(_alike(data), sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def same(a: Any, b: Any) -> bool:
    """Whether two values have equal contents, arrays element by element."""
    return a is b or text(encode_any(a)) == text(encode_any(b))


def encode_any(value: Any) -> Json:
    """As :func:`encode`, for comparing and hashing: what cannot be written down counts by its own ``repr``."""
    try:
        return encode(value)
    except TierwiseError:
        if is_dataclass(value) and not isinstance(value, type):
            parts = {f.name: encode_any(getattr(value, f.name)) for f in fields(value)}
            return {"$": f"{type(value).__module__}.{type(value).__qualname__}", **parts}
        if isinstance(value, (tuple, list)):
            return [encode_any(v) for v in value]
        if isinstance(value, Mapping):
            return {"$map": [[encode_any(k), encode_any(v)] for k, v in value.items()]}
        return {"$python": repr(value)}


def format_name(form: Format, **how: Any) -> Json:
    """The name (or nested list of names) from which ``fmt(name, **how)`` makes this very format, else None."""
    names = form.name.tolist() if isinstance(form.name, np.ndarray) else form.name
    try:
        made = fmt(names, **how)
    except TierwiseError:
        return None
    alike = all(
        np.shape(a) == np.shape(b) and np.array_equal(a, b)
        for a, b in ((getattr(made, f.name), getattr(form, f.name)) for f in fields(Format))
    )
    return names if alike else None


def plain_class(name: str, where: str, field: str) -> type[Any]:
    """The dataclass of this package with that name."""
    module, _, last = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(_ROOT + module), last, None)
    except ImportError:
        found = None
    if not (isinstance(found, type) and is_dataclass(found)) or found.__module__ != _ROOT + module:
        raise BadField(where, _under(field, "$"), name, "the module and name of a class of this package")
    return found


def _special(kind: str, data: dict[str, Any], where: str, field: str) -> Any:
    if kind == "$format":
        return fmt(data[kind])
    if kind == "$array":
        return np.array(_unnumbered(data[kind]), dtype=np.dtype(data["dtype"]))
    if kind == "$number":
        return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[data[kind]]
    if kind == "$map":
        return {decode(k, where, field): decode(v, where, field) for k, v in data[kind]}
    if kind == "$list":
        return list(decode(data[kind], where, field))
    if kind == "$set":
        return frozenset(decode(data[kind], where, field))
    if kind != "$":
        raise BadField(where, field, kind, "$, $format, $array, $number, $map, $list or $set")
    made = plain_class(str(data["$"]), where, field)
    known = [f.name for f in fields(made) if f.init]
    for name, value in data.items():
        if name != "$" and name not in known:
            raise unknown_field(where, _under(field, name), value, known)
    return made(**{k: decode(v, where, _under(field, k)) for k, v in data.items() if k != "$"})


def unknown_field(where: str, field: str, found: object, known: list[str]) -> BadField:
    """The error for a field that nobody knows, with the names that come nearest."""
    near = nearest(field.rpartition(".")[2], known)
    meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
    return BadField(where, field, found, f"the fields {', '.join(known)}{meant}")


def _dataclass(value: Any, where: str) -> Json:
    cls = type(value)
    if not cls.__module__.startswith(_ROOT) or "." in cls.__qualname__:
        raise TierwiseError(
            f"{where}: holds a {cls.__qualname__} of {cls.__module__}, which is not part of this package and so cannot "
            "be written down by content; give a name or a path, and list techniques by their own names"
        )
    out = {"$": f"{cls.__module__.removeprefix(_ROOT)}.{cls.__qualname__}"}
    for f in fields(value):
        if not f.init:
            continue
        found = encode(getattr(value, f.name), f"{where}.{f.name}")
        if found != _default(cls, f.name):
            out[f.name] = found
    return out


@cache
def _defaults(cls: type[Any]) -> dict[str, Any]:
    return {f.name: encode(_made(f)) for f in fields(cls) if f.init and _made(f) is not MISSING}


def _default(cls: type[Any], name: str) -> Any:
    return _defaults(cls).get(name, MISSING)  # type: ignore[arg-type]


def _made(f: Field[Any]) -> Any:
    return f.default_factory() if f.default_factory is not MISSING else f.default


def _mapping(value: Mapping[Any, Any], where: str) -> Json:
    if all(isinstance(k, str) and not k.startswith("$") for k in value):
        return {str(k): encode(v, f"{where}.{k}") for k, v in value.items()}
    return {"$map": [[encode(k, where), encode(v, f"{where}.{k}")] for k, v in value.items()]}


def _nested(value: Any, where: str) -> Json:
    return [_nested(v, where) for v in value] if isinstance(value, list) else encode(value, where)


def _unnumbered(data: Json) -> Any:
    if isinstance(data, list):
        return [_unnumbered(x) for x in data]
    return decode(data) if isinstance(data, dict) else data


def _alike(data: Json) -> Json:
    if isinstance(data, dict):
        kind = {"dtype": "number"} if "$array" in data and data["dtype"].startswith(_NUMERIC) else {}
        return {str(k): _alike(v) for k, v in data.items()} | kind
    if isinstance(data, (list, tuple)):
        return [_alike(v) for v in data]
    if isinstance(data, (int, float)) and not isinstance(data, bool) and abs(data) < 2**53:
        return float(data) + 0.0  # of minus zero, zero
    return data


def _under(field: str, name: object) -> str:
    return f"{field}.{name}" if field else str(name)
