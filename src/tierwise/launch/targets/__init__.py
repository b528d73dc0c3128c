"""Files that start a whole deployment at once: one module each, found by its place.

A target has ``FILE`` (its name), ``START`` (the command that starts it, ``{file}`` for its path) and
``text(deployment, found, name, model)``: the file for engine ``name``, or None where it cannot say this deployment.
"""

from __future__ import annotations

import importlib
import pkgutil
from types import ModuleType


def targets() -> list[ModuleType]:
    """Every target there is a module for, by name."""
    names = sorted(i.name for i in pkgutil.iter_modules(__path__) if not i.name.startswith("_"))
    return [importlib.import_module(f"{__name__}.{name}") for name in names]
