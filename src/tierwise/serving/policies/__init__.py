"""Policies, found by their place: a name is a file in ``schedulers``, ``routers``, ``kv`` or ``autoscalers``, or the
path of a file of one's own."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.errors import TierwiseError, UnknownName

# What a file of each kind must define, and what it may.
NEEDED = {"schedulers": "tokens", "routers": "route", "kv": "blocks", "autoscalers": "replicas"}


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


def names(kind: str) -> list[str]:
    """Built-in policies of a kind."""
    return sorted(p.stem for p in (Path(__file__).parent / kind).glob("*.py") if not p.stem.startswith("_"))


def load(kind: str, name: str) -> Policy:
    """A policy by name or by path.

    Raises:
        UnknownName: no such built-in. TierwiseError: a file that cannot be read or lacks its function.
    """
    if name in names(kind):
        return Policy(name, importlib.import_module(f"tierwise.serving.policies.{kind}.{name}"))
    path = Path(name)
    if path.suffix == ".py":
        if not path.is_file():
            raise TierwiseError(f"{name}: no such file")
        return _read(kind, str(path.resolve()), path.stat().st_mtime_ns)
    hint = f"Its kinds are {', '.join(names(kind))}; one of your own is the path of a .py file."
    raise UnknownName(kind.rstrip("s") if kind != "kv" else "KV manager", name, names(kind), hint)


@cache
def _read(kind: str, path: str, changed: int) -> Policy:
    del changed  # part of the key: an edited file is read again
    stem = Path(path).stem
    # The name has to be the same in the next process: compiled code that is kept refers to it.
    name = f"tierwise_policy_{stem}_{hashlib.sha256(path.encode()).hexdigest()[:12]}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        raise TierwiseError(f"{path}: {type(error).__name__}: {error}") from None
    if not callable(getattr(module, NEEDED[kind], None)):
        raise TierwiseError(f"{path}: needs a function {NEEDED[kind]!r} (see docs/adding-a-policy.md)")
    return Policy(stem, module)
