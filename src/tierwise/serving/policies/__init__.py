"""Policies, found by their place: a kind is a folder here, a name is a file in it, or the path of a file of one's own.

A kind's ``__init__.py`` says what it is called (``NAME``) and what its files define (``FUNCTIONS``: each with what it
returns and takes, in words of ``serving/loop/compile.py``; the first one is needed).
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import pkgutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.core.userfile import executed


@dataclass(frozen=True)
class Kind:
    """A kind of policy: what one is called, folders that hold its files, and functions that these define."""

    name: str
    folders: tuple[Path, ...]
    functions: Mapping[str, str]

    @property
    def needed(self) -> str:
        """The function that every file defines."""
        return next(iter(self.functions))


@dataclass(frozen=True)
class Policy:
    """A loaded policy: its functions, plain Python, and its constants."""

    name: str
    module: Any

    def function(self, name: str) -> Callable[..., Any] | None:
        """A function of the file, None where it has none of that name."""
        found = getattr(self.module, name, None)
        return found if callable(found) else None

    def flag(self, name: str) -> bool:
        """A constant of the file, False where it has none of that name."""
        return bool(getattr(self.module, name, False))


def kinds() -> list[str]:
    """Every kind of policy: the folders beside this file."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if m.ispkg)


def kind_of(name: str) -> Kind:
    """A kind by its folder's name.

    Raises:
        UnknownName: no such folder.
    """
    if name not in kinds():
        raise UnknownName("kind of policy", name, kinds())
    package = importlib.import_module(f"{__name__}.{name}")
    return Kind(package.NAME, tuple(map(Path, package.__path__)), package.FUNCTIONS)


def names(kind: str) -> list[str]:
    """Built-in policies of a kind."""
    return sorted(p.stem for folder in kind_of(kind).folders for p in folder.glob("*.py") if not p.stem.startswith("_"))


def load(kind: str, name: str) -> Policy:
    """A policy by name or by path.

    Raises:
        UnknownName: no such kind or built-in. TierwiseError: a file that cannot be read or lacks its function.
    """
    of, known = kind_of(kind), names(kind)
    if name in known:
        return Policy(name, importlib.import_module(f"{__name__}.{kind}.{name}"))
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise TierwiseError(f"{name}: no such file")
        return _read(of.needed, str(path.resolve()), path.stat().st_mtime_ns)
    hint = f"Its kinds are {', '.join(known)}; one of your own is the path of a .py file."
    raise UnknownName(of.name, name, known, hint)


@cache
def _read(needed: str, path: str, changed: int) -> Policy:
    del changed  # part of the key: an edited file is read again
    stem = Path(path).stem
    # The name has to be the same in the next process: compiled code that is kept refers to it.
    name = f"tierwise_policy_{stem}_{hashlib.sha256(path.encode()).hexdigest()[:12]}"
    module = executed(path, name)
    if not callable(getattr(module, needed, None)):
        raise TierwiseError(f"{path}: needs a function {needed!r} (see docs/adding-a-policy.md)")
    return Policy(stem, module)
