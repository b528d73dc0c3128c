"""Real engines that run on this computer, found by place: ``engines/with_<name>.py``.

A module says what it is (``NAME``, ``PACKAGES``, ``version()``), measures matrix products by weight format
(``products``), and lists real models with random weights to run (``runs``): one set for calibrating, another of
other shapes for validating.
"""

from __future__ import annotations

import importlib
import importlib.metadata
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import ModuleType

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.machines.types import System
from tierwise.measure.bench_clock import Stopwatch
from tierwise.models.types import Model
from tierwise.program.program import Body, Program
from tierwise.program.types import Op
from tierwise.result import Phase
from tierwise.scenario.types import Batch, Plan, Scenario

EXTRA = "tierwise[measure]"


@dataclass(frozen=True)
class MeasureSettings:
    """How to measure: threads, the stopwatch, the device ("cpu", "cuda", "cuda:1", "mps"), how thoroughly, and what
    the engines cannot do here."""

    threads: int
    timer: Stopwatch
    quick: bool = False
    device: str = "cpu"
    limits: tuple[str, ...] = ()


@dataclass(frozen=True)
class EnginePass:
    """One pass of a real model on a real engine, and the scenario that says the same.

    Attributes:
        name: unique among an engine's runs of one purpose.
        model, traffic, plan: the scenario.
        phase: which of its phases one execution of the work is (``prefill``, ``decode``, ``encode``, ``vision``).
        prepare: builds the model and returns the work, one pass an execution.
    """

    name: str
    model: Model
    traffic: Batch
    phase: str
    prepare: Callable[[], Callable[[], object]]
    plan: Plan = field(default_factory=Plan)

    def on(self, machine: System) -> Phase:
        """The phase as Tierwise sees it on a machine."""
        from tierwise.evaluation import evaluate

        return evaluate(Scenario(self.model, machine, self.traffic, self.plan)).phase(self.phase)


@dataclass(frozen=True)
class ModelPiece:
    """A part of a model measured by itself: the ops it stands for, and the work."""

    name: str
    ops: tuple[Op, ...]
    prepare: Callable[[], Callable[[], object]]

    @property
    def graph(self) -> Program:
        return Program((Body(self.name, self.ops),))


def engines() -> dict[str, ModuleType]:
    """Every engine there is a module for, installed or not, by name."""
    found = (importlib.import_module(f"{__name__}.{i.name}") for i in pkgutil.iter_modules(__path__)
             if i.name.startswith("with_"))  # fmt: skip
    return {module.NAME: module for module in found}


def missing(module: ModuleType) -> list[str]:
    """The packages an engine needs that are not installed."""
    return [p for p in module.PACKAGES if _version(p) is None]


def versions(module: ModuleType) -> str:
    """Names and versions of an engine's packages: ``"torch 2.13.0, transformers 5.23.0"``."""
    return ", ".join(f"{p} {_version(p)}" for p in module.PACKAGES)


def pick(names: Iterable[str] | None = None) -> tuple[list[ModuleType], list[str]]:
    """(the engines to use, what to say about those left out). All that are installed unless named.

    Raises:
        UnknownName: no such engine.
        TierwiseError: an engine was named whose packages are not installed.
    """
    every = engines()
    for name in names or ():
        if name not in every:
            raise UnknownName("engine", name, every, f"The engines are {', '.join(every)}.")
    chosen, skipped = [], []
    for name, module in every.items():
        if names and name not in names:
            continue
        if gone := missing(module):
            text = f"{name} skipped: {' and '.join(gone)} not installed; pip install '{EXTRA}' adds what is needed."
            if names:
                raise TierwiseError(text)
            skipped.append(text)
        else:
            chosen.append(module)
    return chosen, skipped


def able(modules: Iterable[ModuleType], named: bool = False) -> tuple[list[ModuleType], list[str], list[str]]:
    """(the engines that live on this computer, what those cannot do here, what to say about the others).

    A module whose native code is known to die on some computers has ``limits()``, which tries it in a process apart.

    Raises:
        TierwiseError: an engine was asked for by name that dies.
    """
    living, notes, gone = [], [], []
    for module in modules:
        try:
            note = module.limits() if hasattr(module, "limits") else ""
        except RuntimeError as error:
            if named:
                raise TierwiseError(str(error)) from error
            gone.append(f"{module.NAME} skipped: {error}")
            continue
        living.append(module)
        if note:
            notes.append(f"{module.NAME} {note}")
    return living, notes, gone


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def chosen(runs: Iterator[EnginePass], quick: bool) -> list[EnginePass]:
    """All runs, or every other one of each model when there is little time."""
    every = list(runs)
    if not quick:
        return every
    count: dict[str, int] = {}
    out = []
    for run in every:
        n = count.get(run.model.name, 0)
        count[run.model.name] = n + 1
        if n % 2 == 0:
            out.append(run)
    return out


__all__ = [
    "EXTRA",
    "EnginePass",
    "MeasureSettings",
    "ModelPiece",
    "able",
    "chosen",
    "engines",
    "missing",
    "pick",
    "versions",
]
