"""Units at the edges: text in, text out; SI floats inside.

``GB`` is 1e9 bytes and ``GiB`` is 2**30 (IEC 80000-13). Rates are per second. A number without a unit
is already SI.
"""

from __future__ import annotations

import math
import re
from typing import Any

from tierwise.core.errors import BadField
from tierwise.core.jsontext import number as as_float

_DECIMAL = {"": 1.0, "k": 1e3, "K": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15, "E": 1e18}
_BINARY = {"Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50}
_SMALL = {"": 1.0, "m": 1e-3, "u": 1e-6, "µ": 1e-6, "n": 1e-9, "p": 1e-12, "f": 1e-15}
_TIME = {"s": 1.0, "sec": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0} | {
    p + "s": v for p, v in _SMALL.items() if p
}


# Of every kind, from below what anybody measures to beyond what the world holds; between them a product or a ratio of
# a few such numbers is a number. Zero is a value of its own.
RANGE = {
    "bytes": (1e-3, 1e24),
    "bandwidth": (1e-3, 1e24),
    "flops": (1e-3, 1e30),
    "time": (1e-15, 1e12),
    "power": (1e-9, 1e12),
    "energy": (1e-24, 1e12),
    "frequency": (1e-3, 1e15),
    "count": (1e-12, 1e18),
    "money": (1e-12, 1e15),
    "rate": (1e-12, 1e12),
}


def _table(kind: str) -> dict[str, float]:
    """Every accepted suffix of a kind, with its factor to SI."""
    scaled = _DECIMAL | _BINARY
    if kind == "bytes":
        return {p + u: v for p, v in scaled.items() for u in ("B", "bytes", "")}
    if kind == "bandwidth":
        per_byte = {p + u: v for p, v in scaled.items() for u in ("B/s", "Bps")}
        per_bit = {p + u: v / 8 for p, v in scaled.items() for u in ("b/s", "bit/s", "bps")}
        return per_byte | per_bit | {"": 1.0}
    if kind == "flops":
        names = ("FLOP/s", "FLOPS", "FLOPs", "OP/s", "OPS", "")
        return {p + u: v for p, v in _DECIMAL.items() for u in names}
    if kind == "time":
        return _TIME | {"": 1.0}
    if kind == "power":
        return {p + "W": v for p, v in (_DECIMAL | _SMALL).items()} | {"": 1.0}
    if kind == "energy":
        return {p + u: v for p, v in (_DECIMAL | _SMALL).items() for u in ("J", "J/B")} | {
            p + "J/bit": v * 8 for p, v in _SMALL.items()
        } | {"": 1.0}
    if kind == "frequency":
        return {p + "Hz": v for p, v in _DECIMAL.items()} | {"": 1.0}
    if kind == "count":
        return {**_DECIMAL, "B": 1e9}  # tokens and parameters are counted in billions too
    if kind == "money":
        return {"": 1.0, "USD": 1.0, "/h": 1.0 / 3600.0, "USD/h": 1.0 / 3600.0}
    if kind == "rate":
        return {"": 1.0, "/s": 1.0, "/min": 1.0 / 60.0, "/h": 1.0 / 3600.0, "Hz": 1.0}
    raise ValueError(f"no such kind of quantity: {kind}")


_NUMBER = re.compile(r"^\s*\$?\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*(\S*)\s*$")


def parse(value: Any, kind: str, where: str = "value", field: str = "") -> float:
    """Read a quantity.

    Args:
        value: a number (already SI) or text such as ``"3.35TB/s"``, ``"80 GiB"``, ``"40ms"``.
        kind: ``bytes``, ``bandwidth``, ``flops``, ``time``, ``power``, ``energy`` (also per byte),
            ``frequency``, ``count``, ``money`` or ``rate`` (of events).
        where, field: for the error message.

    Returns:
        The value in SI units.

    Raises:
        BadField: not a number, an unknown unit, negative, not finite, or beyond the kind's :data:`RANGE`.
    """
    field = field or kind
    table = _table(kind)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise BadField(where, field, value, f"a {kind} such as {_EXAMPLES[kind]}")
    if isinstance(value, str):
        match = _NUMBER.match(value)
        if not match or match[2] not in table:
            raise BadField(where, field, value, f"a {kind} such as {_EXAMPLES[kind]}")
        number = float(match[1]) * table[match[2]]
    else:
        number = as_float(value)
    if not math.isfinite(number) or number < 0:
        raise BadField(where, field, value, f"a finite {kind} of zero or more")
    least, most = RANGE[kind]
    if number != 0 and not least <= number <= most:
        raise BadField(where, field, value, f"a {kind} from {least:.0e} to {most:.0e} in SI units, or zero")
    return number


def numeric(text: str, kind: str = "count") -> bool:
    """Whether a text is a number with a unit of a kind, whatever its size and sign."""
    match = _NUMBER.match(text)
    return match is not None and match[2] in _table(kind)


def whole(text: str, most: int = 1_000_000_000) -> int:
    """The whole number from 1 to ``most`` that a text spells in digits; 0 for whatever is none."""
    if not (text.isascii() and text.isdigit() and len(text) <= len(str(most))):
        return 0
    return int(text) if int(text) <= most else 0


_EXAMPLES = {
    "bytes": "80GB or 16GiB",
    "bandwidth": "3.35TB/s or 400Gb/s",
    "flops": "989TFLOP/s",
    "time": "40ms",
    "power": "700W",
    "energy": "4pJ/bit or 60pJ/B",
    "frequency": "1.98GHz",
    "count": "132",
    "money": "$2.99/h",
    "rate": "40/s or 2400/min",
}


def _scaled(x: float, unit: str, steps: str = " kMGTPE", base: float = 1000.0) -> str:
    if not math.isfinite(x):
        return f"{x} {unit}"
    i = 0
    while abs(x) >= base * 0.9995 and i < len(steps) - 1:
        x /= base
        i += 1
    digits = 0 if abs(x) >= 100 or (x == int(x) and i == 0) else 1 if abs(x) >= 10 else 2
    return f"{x:.{digits}f} {steps[i].strip()}{unit}"


def si(x: float, unit: str = "") -> str:
    """``1.5e12, "FLOP"`` → ``"1.50 TFLOP"``."""
    return _scaled(float(x), unit)


def parameters(x: float) -> str:
    """Parameters as models are named by them: ``"70.6 B"``, ``"22.7 M"``, ``"1.04 T"``."""
    return si(x).replace(" G", " B")


def in_words(x: float) -> str:
    """A large number as people say it: ``"15 trillion"``, ``"100 billion"``."""
    for size, word in ((1e12, "trillion"), (1e9, "billion"), (1e6, "million")):
        if abs(x) >= size:
            return f"{x / size:.4g} {word}"
    return f"{x:,.0f}"


def gb(x: float) -> str:
    """Bytes in decimal units: ``"16.1 GB"``."""
    return _scaled(float(x), "B")


def seconds(x: float) -> str:
    """A time in the unit a person would pick: ``"5.41 ms"``."""
    x = float(x)
    if not math.isfinite(x):
        return "never"
    for limit, factor, unit in (
        (1e-6, 1e9, "ns"),
        (1e-3, 1e6, "µs"),
        (1.0, 1e3, "ms"),
        (120.0, 1.0, "s"),
        (7200.0, 1 / 60, "min"),
        (172800.0, 1 / 3600, "h"),
    ):
        if x < limit:
            v = x * factor
            digits = 0 if v >= 99.95 else 1 if v >= 9.995 else 2  # of what is shown: 9.996 is 10.0
            return f"{v:.{digits}f} {unit}"
    return f"{x / 86400:.1f} d"


def dollars(x: float) -> str:
    """``"$0.53"``, with enough digits for small sums and no cents on large ones."""
    return f"${x:,.0f}" if x >= 1000 else f"${x:,.2f}" if x >= 0.1 or x == 0 else f"${x:.3g}"


def joules(x: float) -> str:
    """``"2.4 kJ"``."""
    return _scaled(float(x), "J") if x >= 1 else f"{x * 1e3:.3g} mJ"
