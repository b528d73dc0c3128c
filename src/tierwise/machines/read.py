"""Read a YAML file that may come from anyone: bounded in size and depth, without aliases or duplicates.

A file either becomes a plain mapping or an error that names the file and the line.
"""

from __future__ import annotations

import os
from collections.abc import Hashable
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.errors import TierwiseError
from tierwise.core.refusals import brackets, yaml_place, yaml_problem
from tierwise.core.yamltext import keep, kept

MAX_BYTES = 1_000_000
MAX_DEPTH = 20


def read_mapping(path: Path, trusted: bool = False) -> dict[str, Any]:
    """The mapping in a YAML file.

    Args:
        path: the file.
        trusted: skip the scan for hostile structure (our own catalog, which the tests scan).

    Raises:
        TierwiseError: unreadable, too large, malformed, nested too deep, aliased, or not a mapping.
    """
    text = _text(path)
    data = kept(text) if trusted else None
    if data is None:
        data = _parsed(path, text, trusted)
        if trusted:
            keep(text, data)
    if not isinstance(data, dict):
        raise TierwiseError(f"{path}: found {type(data).__name__}; allowed: a mapping of fields to values")
    return data


def _parsed(path: Path, text: str, trusted: bool) -> Any:
    import yaml

    try:
        if not trusted:
            _refuse_hostile(path, text)
        return yaml.load(text, Loader=_loader())  # a safe loader: see _loader
    except _Twice as twice:
        raise TierwiseError(f"{path}, line {twice.line}: the field {twice.name!r} is given twice") from None
    except (yaml.YAMLError, ValueError, OverflowError, RecursionError) as error:
        # A parser with a limit of its own may stop at what reads far ahead before it says how deep that is.
        if not trusted and brackets(text) > MAX_DEPTH:
            raise TierwiseError(f"{path}: nested deeper than {MAX_DEPTH} levels") from error
        raise TierwiseError(f"{path}{yaml_place(error)}: not valid YAML: {yaml_problem(error)}") from error


def _text(path: Path) -> str:
    if not os.path.isfile(path):  # unlike Path.is_file, false for impossible paths too
        raise TierwiseError(f"{path}: no such file")
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_BYTES + 1)
        if len(raw) > MAX_BYTES:
            raise TierwiseError(f"{path}: larger than {MAX_BYTES} bytes; a machine file is a few thousand")
        return raw.decode("utf-8")
    except OSError as error:
        raise TierwiseError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise TierwiseError(f"{path}: not UTF-8 text at byte {error.start}") from error


def _refuse_hostile(path: Path, text: str) -> None:
    """Walk the events, which take no memory, before anything is built from them."""
    import yaml

    depth = 0
    loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for event in yaml.parse(text, Loader=loader):
        line = event.start_mark.line + 1 if event.start_mark else 0
        if isinstance(event, yaml.AliasEvent):
            raise TierwiseError(f"{path}, line {line}: found a YAML alias; use `like:` to share facts")
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
            if depth > MAX_DEPTH:
                raise TierwiseError(f"{path}, line {line}: nested deeper than {MAX_DEPTH} levels")
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1


class _Twice(Exception):
    """A field that a mapping has twice."""

    def __init__(self, name: str, line: int) -> None:
        self.name, self.line = name, line


@cache
def _loader() -> Any:
    """PyYAML's safe loader, in C where it is built, that also refuses a key given twice."""
    import yaml

    base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def mapping(self: Any, node: Any, deep: bool = False) -> dict[Hashable, Any]:
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise _Twice(key.value, key.start_mark.line + 1)
                seen.add(key.value)
        built: dict[Hashable, Any] = base.construct_mapping(self, node, deep)
        return built

    return type("Loader", (base,), {"construct_mapping": mapping})
