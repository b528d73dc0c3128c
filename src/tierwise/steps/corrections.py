"""How an engine's steps deviate from the bare sum of its ops: host times, gaps, and what a device was found to reach.

By default they come from serving measurements (``corrections.yaml``, written by ``benchmarks/fit/serving.py``): a base
for each, and how engines, families of devices and systems deviate from it. Whoever prices a step has them: ``explain``,
``simulate``, the planner and the closed loop of recorded measurements. A run of one's own gives others:
:mod:`tierwise.measure.fit_run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.num import Num, where
from tierwise.core.yamltext import parsed
from tierwise.cost import Target
from tierwise.cost.kits import kit
from tierwise.machines.types import Device
from tierwise.steps.state import StepState

FILE = Path(__file__).with_name("corrections.yaml")
# Fields that are pairs of factors.
_INTERVALS = {"interval", "prefill"}


@dataclass(frozen=True)
class Corrections:
    """What prices of steps are made with; the defaults leave the bare sum of op prices.

    Attributes:
        ops: factor on the time of every op.
        arithmetic, bandwidth, link: factors on what the device's engines, its memory and the links between devices
            reach.
        gap: seconds between steps in which the device waits; ``gap_sequence``: more of them for each token that is
            sampled on a rank, ``gap_expert``: for each layer that routes tokens to experts.
        step, sequence, chunk, token: host seconds per step, per sequence, per prefill chunk, per prompt token.
        launch: host seconds to launch one kernel.
        request: seconds a request spends outside the engine.
        interval, basis: as in :class:`tierwise.cost.Cost`; ``source``: what it was fitted on.
        prefill: the interval of steps that read prompts, where it is another.
    """

    ops: float = 1.0
    arithmetic: float = 1.0
    bandwidth: float = 1.0
    link: float = 1.0
    gap: float = 0.0
    gap_sequence: float = 0.0
    gap_expert: float = 0.0
    step: float = 0.0
    sequence: float = 0.0
    chunk: float = 0.0
    token: float = 0.0
    launch: float = 0.0
    request: float = 0.0
    interval: tuple[float, float] = (1.0, 1.0)
    basis: str = "datasheet"
    source: str = ""
    prefill: tuple[float, float] | None = None

    def interval_of(self, state: StepState) -> tuple[Num, Num]:
        """The interval of a step: of one that reads prompts, its own."""
        if self.prefill is None:
            return self.interval
        reads = np.asarray(state.prompt_tokens) > 0
        low, high = (where(reads, p, d) for p, d in zip(self.prefill, self.interval, strict=True))
        return low, high

    def target(self, on: Target) -> Target:
        """The target with its device's rates as a run found them."""
        system, x = on.system, on.system.device
        engines = tuple(replace(e, rates={k: v * self.arithmetic for k, v in e.rates.items()}) for e in x.engines)
        tiers = tuple(
            replace(t, bandwidth=t.bandwidth * self.bandwidth, write_bandwidth=t.write_bandwidth * self.bandwidth)
            if t.kind == "memory"
            else t
            for t in x.tiers
        )
        return replace(on, system=replace(system, device=replace(x, engines=engines, tiers=tiers)))


def corrections(engine: str, device: Device, model: str) -> Corrections:
    """What serving measurements say about an engine on a device; nothing where the device brings its own prices.

    Args:
        engine: by name; ``""`` for kernels alone, which nothing corrects.
    """
    if device.measured:
        own = next(iter(device.measured.values()))
        return Corrections(interval=own.interval, basis="measured")
    if not engine:
        return Corrections()
    if (own_kernels := kit(engine, device)) is not None:
        # An engine with kernels of its own was measured whole: no other engine's gaps and launches are its.
        return Corrections(step=own_kernels.values["step"], interval=own_kernels.intervals["decode"],
                           prefill=own_kernels.intervals["prefill"], basis=own_kernels.basis(device.name),
                           source=own_kernels.source)  # fmt: skip
    engine, name = engine.partition("@")[0], device.name.replace("-", "_")
    fitted = serving_fit()
    known = {"engine": engine, "system": name, "model": model}
    basis = "calibrated" if all(known[kind] in fitted.seen[kind] for kind in known) else "transferred"
    found: dict[str, Any] = {**fitted.of(engine, device.family, name)}
    return Corrections(**found, interval=fitted.intervals[basis], basis=basis, source=fitted.source)


@dataclass(frozen=True)
class ServingFit:
    """What ``corrections.yaml`` says.

    Attributes:
        base: by correction; ``factors``: by correction, level (``engine``, ``family`` of devices, ``system``) and name,
            multiplying it.
        intervals: by basis, factors on a decode step that 80 % of measurements lie between.
        seen: names at fit time by ``engine``, ``system`` and ``model``.
    """

    base: Mapping[str, float]
    factors: Mapping[str, Mapping[str, Mapping[str, float]]]
    intervals: Mapping[str, tuple[float, float]]
    seen: Mapping[str, frozenset[str]]
    source: str

    def of(self, engine: str, family: str, system: str) -> dict[str, float]:
        """Every correction of an engine on a system: of a name that was not measured, what the others share."""
        names, out = {"engine": engine, "family": family, "system": system}, {}
        for correction, base in self.base.items():
            levels = self.factors[correction].items()
            out[correction] = base * prod(table.get(names[by], 1.0) for by, table in levels)
        return out


@lru_cache(maxsize=1)
def serving_fit() -> ServingFit:
    """The corrections on file."""
    data: dict[str, Any] = parsed(FILE.read_text())
    base, factors = {}, {}
    for name, entry in data["corrections"].items():
        base[name] = float(entry["base"])
        factors[name] = {by: {str(k): float(v) for k, v in table.items()}
                         for by, table in entry.items() if by != "base"}  # fmt: skip
    intervals = {basis: (float(low), float(high)) for basis, (low, high) in data["intervals"].items()}
    return ServingFit(base, factors, intervals, {k: frozenset(map(str, v)) for k, v in data["seen"].items()},
                      str(data["source"]))  # fmt: skip


def read_corrections(path: Path) -> Corrections:
    """An adjustment from a file that ``tierwise calibrate --from-run`` wrote.

    Raises:
        BadField: not such a file, or a number that cannot be.
    """
    from tierwise.machines.read import read_mapping

    data = read_mapping(path)
    kind = "a file written by `tierwise calibrate --from-run`"
    if not isinstance(data.get("adjustment"), Mapping):
        raise BadField(str(path), "adjustment", list(data), kind)
    given = dict(data["adjustment"])
    known = {f.name for f in fields(Corrections)}
    for name, value in given.items():
        where = f"adjustment.{name}"
        if name not in known:
            raise BadField(str(path), where, value, "one of " + ", ".join(sorted(known)))
        if name in ("basis", "source"):
            if not isinstance(value, str):
                raise BadField(str(path), where, value, "a text")
            continue
        pair = name in _INTERVALS
        numbers = value if pair and isinstance(value, list) else [value]
        least = 0.0 if name not in ("ops", "arithmetic", "bandwidth", "link", *_INTERVALS) else 1e-6
        sound = all(isinstance(v, (int, float)) and not isinstance(v, bool) and least <= v <= 1e6 for v in numbers)
        if not sound or len(numbers) != (2 if pair else 1) or (pair and numbers[0] > numbers[1]):
            wanted = "two numbers, the lower first, each" if pair else "a number"
            raise BadField(str(path), where, value, f"{wanted} from {least:g} to a million")
    for name in _INTERVALS & given.keys():
        given[name] = tuple(map(float, given[name]))
    return Corrections(**given)


def as_data(a: Corrections) -> dict[str, Any]:
    """An adjustment as plain data, for a file."""
    found = {k: v for k, v in asdict(a).items() if v is not None}
    return {**found, **{name: list(found[name]) for name in _INTERVALS & found.keys()}}
