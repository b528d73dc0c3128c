"""One hash for one question: equal where every number of the answer must be equal."""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from tierwise.scenario.content import encode_any, text
from tierwise.scenario.types import Resolved, Scenario

_PACKAGE = Path(__file__).parents[1]
# Rooms whose files change no answer (faces, papers, measuring), and catalogs, whose entries count by their contents.
_APART = ("cli", "report", "web", "papers", "measure", "launch", "models/catalog", "machines/catalog")


def scenario_hash(scenario: Scenario | Resolved) -> str:
    """64 hexadecimal digits over everything that an answer follows from.

    The contents of model and machine (so a name, a path and a value of equal contents are equal), traffic, plan,
    engine, techniques; the calibrations; the code and its tables. It changes with the installed version of Tierwise and
    not with the computer, the folder or the order of a file's fields.
    """
    resolved = scenario if isinstance(scenario, Resolved) else scenario.resolved()
    parts: dict[str, Any] = {f.name: encode_any(getattr(resolved, f.name)) for f in fields(resolved) if f.compare}
    own = Path(resolved.plan.schedule.partition(":")[0])
    if own.suffix == ".py" and own.is_file():
        parts["schedule"] = sha256(own.read_bytes()).hexdigest()
    return sha256(text(parts | {"versions": versions()}).encode()).hexdigest()


def versions() -> dict[str, str]:
    """What runs: the package's version, and hashes of its code and of its tables (calibrations, engines)."""
    from tierwise.core.version import __version__

    return {"version": __version__, **_hashes()}


@cache
def _hashes() -> dict[str, str]:
    code, tables = sha256(), sha256()
    for path in sorted(_PACKAGE.rglob("*")):
        name = path.relative_to(_PACKAGE).as_posix()
        if not path.is_file() or "__pycache__" in name or any(name.startswith(f"{a}/") for a in _APART):
            continue
        into = code if path.suffix == ".py" else tables
        into.update(name.encode() + b"\0" + path.read_bytes() + b"\0")
    return {"code": code.hexdigest(), "tables": tables.hexdigest()}
