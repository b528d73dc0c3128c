"""What is lowered and priced together: one model in its formats on one kind of machine with one engine."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.numerics import Format
from tierwise.engines import load
from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.search.engines import stored
from tierwise.search.question import Question
from tierwise.serving.coefficients import EngineKey, calibration, own_steps
from tierwise.serving.recipes import usual
from tierwise.serving.steady import ClosedLoopClients, Coefficients
from tierwise.serving.step_times import named_formats
from tierwise.steps.corrections import corrections


@dataclass(frozen=True)
class Family:
    """What is lowered and priced together.

    Attributes:
        model: with its weights in the format of ``weights`` (None: the checkpoint's own).
        kv: format of the cache, never "".
        most: devices that may be used; ``rent``: dollars per second of one, nan where unknown.
        own: whether the cache is in the format the checkpoint asks for.
        first: what prefills, where that is on other machines or with weights in another format; these then decode.
    """

    model: Model
    system: System
    engine: str
    kv: str
    weights: Format | None
    most: int
    own: bool = True
    first: Family | None = None

    @property
    def rent(self) -> float:
        return self.system.device.price.rent

    @property
    def roles(self) -> tuple[Family, ...]:
        """The family, or where roles are apart the one that prefills and the one that decodes."""
        return (self,) if self.first is None else (self.first, replace(self, first=None))

    @property
    def device(self) -> str:
        """Name of the device, or of both."""
        return " + ".join(dict.fromkeys(f.system.device.name for f in self.roles))

    @property
    def title(self) -> str:
        """The same for people."""
        return " + ".join(dict.fromkeys(f.system.device.title for f in self.roles))

    @property
    def priced(self) -> bool:
        """Whether the rent of all its devices is known."""
        return all(np.isfinite(f.rent) for f in self.roles)

    @property
    def affordable(self) -> System:
        """The machine with no more devices than may be used."""
        s = self.system
        return s if self.most >= s.count else replace(s, count=self.most, per_node=min(s.per_node, self.most))

    @property
    def key(self) -> EngineKey:
        """Whose coefficients its closed loop has: of no build and no client in particular."""
        dense, experts = named_formats(self.model)
        return EngineKey(self.engine, self.system.device.name.replace("-", "_"), dense, experts)

    def basis(self, disaggregated: bool) -> str:
        """What predictions rest on: a key of the calibration's intervals."""
        return "disaggregated" if disaggregated else calibration().basis(self.key, self.model.name)


def families_of(question: Question) -> tuple[Family, ...]:
    """Every machine, engine and number format the question leaves open."""
    out = []
    for system in question.systems:
        rent = system.device.price.rent
        most = system.count
        if np.isfinite(question.budget) and np.isfinite(rent):
            most = int(min(most, np.floor(question.budget / (rent * system.rented) * (1.0 + 1e-9)) * system.rented))
        if most < 1:
            continue
        for weights in question.freedom.weights:
            model = question.model if weights is None else stored(question.model, weights)
            for kv in question.freedom.kv:
                own = str(model.kv_format or model.activations)
                out += [Family(model, system, engine, kv or own, weights, most, not kv or kv == own)
                        for engine in question.engines
                        if load(engine).runs_on(system.device.kind, system.device.family)]  # fmt: skip
    return (*out, *_mixed(out)) if "mixed" in question.freedom.modes else tuple(out)


def _mixed(families: list[Family]) -> list[Family]:
    """Every pair of two that differ in machine or weights: one prefills, the other decodes from the cache it is sent,
    so that both are of one engine and keep it in one format."""
    return [replace(b, first=a) for a in families for b in families
            if a is not b and (a.engine, a.kv) == (b.engine, b.kv)]  # fmt: skip


def coefficients(family: Family) -> tuple[ClosedLoopClients, Coefficients]:
    """How an engine usually looks for requests, and the numbers of its closed loop, each of shape (1,).

    What a step takes is the step function's business: the loop's own factors on it are neutral, and what it adds is
    what is on file for the engine.
    """
    key, name = family.key, family.model.name
    fixes = corrections(family.engine, family.system.device, name)
    return usual(key, name), own_steps(calibration().of([key]), fixes)
