"""Kinds of work: from a resolved scenario to the passes that do it, and to the program that they are.

Every module of this folder is a workload: ``runs(model)`` says whether it is what the model usually does, and
``passes(r, batch)`` gives its passes. A new kind of work is one file, chosen by its name (``Batch(workload=...)``,
``--workload``); there is no list.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache
from types import ModuleType

from tierwise.core.errors import UnknownName
from tierwise.core.num import Num
from tierwise.models.lower import lower
from tierwise.models.types import Model
from tierwise.program.program import Body, Program, Repeat
from tierwise.scenario.types import Resolved
from tierwise.workloads._passes import Pass, encoder_tokens, per_rank


@cache
def names() -> tuple[str, ...]:
    """Every workload there is a file for."""
    return tuple(sorted(i.name for i in pkgutil.iter_modules(__path__) if not i.name.startswith("_")))


def load(name: str) -> ModuleType:
    """A workload by name.

    Raises:
        UnknownName: there is no such file.
    """
    if name not in names():
        raise UnknownName("workload", name, names())
    return importlib.import_module(f"{__name__}.{name}")


def usual(model: Model) -> str:
    """The workload a model is made for."""
    return next(name for name in names() if load(name).runs(model))


def passes(r: Resolved, batch: Num) -> list[Pass]:
    """The passes of a scenario for ``batch`` requests over the system, in order.

    Raises:
        UnknownName: the scenario names a workload that does not exist.
    """
    found: list[Pass] = load(r.traffic.workload or usual(r.model)).passes(r, batch)
    return found


def final_length(r: Resolved) -> Num:
    """Tokens of a request when its caches are longest."""
    found: Num = load(r.traffic.workload or usual(r.model)).final_length(r)
    return found


def program(some: list[Pass]) -> Program:
    """The whole work as one program: each pass repeated as often as it runs; what a decode step attends to grows by a
    token from one turn to the next."""
    items = tuple(
        Repeat(p.name, (Body(p.name, lower(p.step).items),), count=p.times, varies=p.varies, carries={"kv": 1})
        for p in some
    )
    return Program(items)


__all__ = ["Pass", "encoder_tokens", "final_length", "load", "names", "passes", "per_rank", "program", "usual"]
