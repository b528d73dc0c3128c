"""What goes wrong on the way in, said once and clearly.

A model that does not fit is an answer (see :mod:`tierwise.evaluate`), never one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from typing import Any


class TierwiseError(Exception):
    """Bad input. The message stands alone: what was found, where, what is allowed."""

    def __reduce__(self) -> tuple[Any, ...]:
        """As it is: a process hands its errors to another as the text they carry, not as what made them."""
        return _as_it_was, (type(self), self.args, self.__dict__)


class UnknownName(TierwiseError):
    """A name that is in no catalog; carries the closest valid ones.

    Args:
        kind: what was looked up ("model", "machine", ...).
        name: what the user wrote.
        known: every valid name.
        hint: one more sentence, such as where to add a new one.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], hint: str = "") -> None:
        self.kind, self.name = kind, name
        name = name if len(name) <= 80 else name[:77] + "..."
        self.nearest = nearest(name, known)
        text = f"unknown {kind} {name!r}"
        if self.nearest:
            text += "; did you mean " + ", ".join(repr(n) for n in self.nearest) + "?"
        if hint:
            sentence = hint[0].isupper() and not text.endswith("?")
            text += f"{'.' if sentence else ''} {hint}"
        super().__init__(text)


class BadField(TierwiseError):
    """A field of a file or argument holds something it cannot hold.

    Args:
        where: file or argument.
        field: dotted path to the field.
        found: what was there.
        allowed: what may be there.
    """

    def __init__(self, where: str, field: str, found: object, allowed: str) -> None:
        super().__init__(f"{where}: {_problem(field, found, allowed)}")


class BadFields(BadField):
    """Several fields hold what they cannot hold, or are missing: all of them are told at once.

    Args:
        where: file or argument.
        problems: (field, found, allowed) as in :class:`BadField`, at least one.
    """

    def __init__(self, where: str, problems: Sequence[tuple[str, object, str]]) -> None:
        if len(problems) == 1:
            super().__init__(where, *problems[0])
            return
        lines = "\n".join(f"  {_problem(*p)}" for p in problems)
        TierwiseError.__init__(self, f"{where}: {len(problems)} fields are wrong or missing:\n{lines}")


def _as_it_was(kind: type[TierwiseError], args: tuple[object, ...], held: dict[str, Any]) -> TierwiseError:
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(held)
    return error


def _problem(field: str, found: object, allowed: str) -> str:
    shown = repr(found)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return f"{field}: found {shown}; allowed: {allowed}"


class Truncated(TierwiseError):
    """A binary file ends before its contents do.

    Args:
        where: file.
        offset: byte at which more was expected.
        wanted: what was expected there.
    """

    def __init__(self, where: str, offset: int, wanted: str) -> None:
        super().__init__(f"{where}: truncated at byte {offset}: {wanted}")


def nearest(name: str, known: Iterable[str], n: int = 3) -> list[str]:
    """The valid names closest to what was written: same letters first, then by edit distance."""

    def bare(text: str) -> str:
        return "".join(c for c in text.lower() if c.isalnum())

    wanted, names = bare(name), {k: bare(k) for k in sorted(set(known))}
    inside = [k for k, b in names.items() if wanted and (wanted in b or (len(b) > 2 and b in wanted))]
    close = difflib.get_close_matches(wanted, names.values(), n=n, cutoff=0.5)
    ranked = [k for c in close for k, b in names.items() if b == c] + inside
    # Spellings of one name count once: the one with the most hyphens reads best.
    best: dict[str, str] = {}
    for k in ranked:
        best[names[k]] = max(best.get(names[k], k), k, key=lambda x: (x.count("-"), len(x), x))
    return list(best.values())[:n]
