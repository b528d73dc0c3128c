"""Tierwise: what an AI workload will cost on a machine before anyone runs it.

>>> import tierwise as tw
>>> base = tw.Scenario("llama-2-7b", "a100-80gb", tw.Batch(prompt=512, output=338, batch="max"))
>>> tw.evaluate(base).throughput                                   # doctest: +SKIP

Names below are loaded when first used, so that importing the package stays cheap. They are what the package promises to
keep (``docs/python.md``); whatever else can be imported may change with any version.
"""

from __future__ import annotations

import importlib
import warnings
from typing import TYPE_CHECKING, Any

from tierwise.core.version import __version__

_WHERE = {
    "Scenario": "scenario.types", "Batch": "scenario.types", "Plan": "scenario.types", "KV": "scenario.types",
    "evaluate": "evaluation", "Result": "result", "compare": "comparison", "Comparison": "comparison",
    "sensitivity": "influence",
    "fmt": "core.numerics", "Format": "core.numerics", "TierwiseError": "core.errors",
    "load_model": "models.load", "model_names": "models.load",
    "load_system": "machines.load", "device_names": "machines.load",
}  # fmt: skip
# Names of before, with those they have now: kept for a minor version, with a warning.
_BEFORE: dict[str, str] = {}
_ROOMS = ("techniques", "machines", "models", "search", "report", "papers")

__all__ = [*_WHERE, *_ROOMS, "__version__"]  # noqa: PLE0604

if TYPE_CHECKING:
    from tierwise import machines as machines
    from tierwise import models as models
    from tierwise import techniques as techniques
    from tierwise.comparison import Comparison as Comparison
    from tierwise.comparison import compare as compare
    from tierwise.core.errors import TierwiseError as TierwiseError
    from tierwise.core.numerics import Format as Format
    from tierwise.core.numerics import fmt as fmt
    from tierwise.evaluation import evaluate as evaluate
    from tierwise.influence import sensitivity as sensitivity
    from tierwise.models.load import load_model as load_model
    from tierwise.result import Result as Result
    from tierwise.scenario.types import KV as KV
    from tierwise.scenario.types import Batch as Batch
    from tierwise.scenario.types import Plan as Plan
    from tierwise.scenario.types import Scenario as Scenario


def __getattr__(name: str) -> Any:
    if name in _BEFORE:
        told = f"tierwise.{name} is called tierwise.{_BEFORE[name]} now; the old name goes with the next minor version"
        warnings.warn(told, DeprecationWarning, stacklevel=2)
        return __getattr__(_BEFORE[name])
    if name in _WHERE:
        module = importlib.import_module(f"tierwise.{_WHERE[name]}")
        return getattr(module, {"load_system": "system"}.get(name, name))
    if name in _ROOMS:
        return importlib.import_module(f"tierwise.{name}")
    raise AttributeError(f"module 'tierwise' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
