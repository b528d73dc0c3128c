"""JSON text from anywhere as plain values: one kind of error, whatever is wrong, and numbers that are typed on the way.

Python's reader lets through what no consumer can hold: ``Infinity``, whole numbers of a thousand digits, lists in
place of names. What is read here is asked for by type, and what is not of that type is nothing.
"""

from __future__ import annotations

import json
from typing import Any

from tierwise.core.errors import TierwiseError
from tierwise.core.refusals import json_cut, json_problem


class BadJson(TierwiseError):
    """Text that is no JSON.

    Attributes:
        problem: what is wrong. ``line``, ``column``: where, from 1 (0: nowhere in particular).
        cut: the text ends before its value does.
    """

    def __init__(self, problem: str, line: int = 0, column: int = 0, cut: bool = False) -> None:
        super().__init__(problem)
        self.problem, self.line, self.column, self.cut = problem, line, column, cut


def loads(text: str) -> Any:
    """The value of a JSON text.

    Raises:
        BadJson: none, nested too deep, or with a number of thousands of digits.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise BadJson(json_problem(error), error.lineno, error.colno, json_cut(error)) from None
    except RecursionError:
        raise BadJson("the JSON is nested too deep") from None
    except ValueError:  # a limit of Python's own
        raise BadJson("a number has thousands of digits") from None


def number(value: object) -> float:
    """A JSON number as a float (inf where it is larger than any); nan for whatever is none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf") if value > 0 else float("-inf")


def text(value: object) -> str:
    """A JSON string; "" for whatever is none."""
    return value if isinstance(value, str) else ""


def items(value: object) -> list[Any]:
    """A JSON list; an empty one for whatever is none."""
    return value if isinstance(value, list) else []


def fields(value: object) -> dict[str, Any]:
    """A JSON object; an empty one for whatever is none."""
    return value if isinstance(value, dict) else {}


def at(value: object, *path: str | int) -> Any:
    """What lies at a path of names and places; None where it leads nowhere."""
    for step in path:
        if isinstance(step, str) and isinstance(value, dict):
            value = value.get(step)
        elif isinstance(step, int) and isinstance(value, list) and -len(value) <= step < len(value):
            value = value[step]
        else:
            return None
    return value


def first(value: object, *paths: tuple[str | int, ...]) -> Any:
    """What lies at the first of these paths that leads to something."""
    return next((found for path in paths if (found := at(value, *path)) is not None), None)
