"""How an engine's steps deviate from the bare sum of its ops: host times, gaps, and what a device was found to reach.

By default they come from serving measurements: ``calibration/steps.yaml`` (a factor on the ops and a gap a step, by
engine, fitted to steps in which decoding dominates) and, of the closed loop's ``calibration/serving.yaml``, those
that describe an engine rather than that approximation: ``host.launch`` and ``host.request``. The loop's factors on op
classes and its other host times stand for what a simulation does itself, for that data's clients, or for each other,
and are left out. A run of one's own gives others: :mod:`tierwise.measure.calibrate_run`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import BadField
from tierwise.core.refusals import yaml_place, yaml_problem
from tierwise.cost import Target
from tierwise.models.types import Model
from tierwise.serving.coefficients import calibration
from tierwise.serving.deployment import Replicas

FILE = Path(__file__).parent / "calibration" / "steps.yaml"


@dataclass(frozen=True)
class Adjustment:
    """What prices of steps are made with; the defaults leave the bare sum of op prices.

    Attributes:
        ops: factor on the time of every op.
        arithmetic, bandwidth, link: factors on what the device's engines, its memory and the links between devices
            reach.
        gap: seconds between steps in which the device waits.
        step, sequence, chunk, token: host seconds per step, per sequence, per prefill chunk, per prompt token.
        launch: host seconds to launch one kernel.
        request: seconds a request spends outside the engine.
        interval, basis: as in :class:`tierwise.cost.Cost`; ``source``: what it was fitted on.
    """

    ops: float = 1.0
    arithmetic: float = 1.0
    bandwidth: float = 1.0
    link: float = 1.0
    gap: float = 0.0
    step: float = 0.0
    sequence: float = 0.0
    chunk: float = 0.0
    token: float = 0.0
    launch: float = 0.0
    request: float = 0.0
    interval: tuple[float, float] = (1.0, 1.0)
    basis: str = "datasheet"
    source: str = ""

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


def adjustment(model: Model, replicas: Replicas) -> Adjustment:
    """What serving measurements say about an engine on a machine; nothing where the machine brings its own prices."""
    device, engine = replicas.machine.device, replicas.settings.engine
    if device.measured:
        own = next(iter(device.measured.values()))
        return Adjustment(interval=own.interval, basis="measured")
    found, cal = _engines().get(engine), calibration()
    found = found or _engines()["*"]
    none = np.asarray([""], dtype=np.str_)
    of = {name: none for table in cal.factors.values() for name in table} | {"engine": np.asarray([engine])}
    k = {name: float(value[0]) for name, value in cal.of(of, 1).items()}
    seen = ((engine, "engine"), (device.name.replace("-", "_"), "system"), (model.name, "model"))
    basis = "calibrated" if all(name in cal.seen[kind] for name, kind in seen) else "transferred"
    return replace(found, launch=k["host.launch"], request=k["host.request"], basis=basis)


@lru_cache(maxsize=1)
def _engines() -> dict[str, Adjustment]:
    """By engine, and ``*`` for one that was not measured: the middle of those that were."""
    import yaml

    data: dict[str, Any] = yaml.safe_load(FILE.read_text())
    out = {}
    for name, x in data["engines"].items():
        low, high = x["interval"]
        out[name] = Adjustment(ops=x["factor"], gap=x["gap"], sequence=x["sequence"], interval=(low, high),
                               source=data["source"])  # fmt: skip
    by_time = sorted(out, key=lambda name: out[name].ops)
    return {**out, "*": out[by_time[len(by_time) // 2]]}


def read_adjustment(path: Path) -> Adjustment:
    """An adjustment from a file that ``tierwise calibrate --from-run`` wrote.

    Raises:
        BadField: not such a file, or a number that cannot be.
    """
    import yaml

    try:
        data = yaml.safe_load(path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise BadField(str(path), "content", f"byte {error.start}, which is no UTF-8", "a YAML file") from None
    except (yaml.YAMLError, ValueError) as error:
        raise BadField(str(path), "content", yaml_problem(error) + yaml_place(error), "a YAML file") from None
    kind = "a file written by `tierwise calibrate --from-run`"
    if not isinstance(data, Mapping) or not isinstance(data.get("adjustment"), Mapping):
        raise BadField(str(path), "adjustment", None if not isinstance(data, Mapping) else list(data), kind)
    given = dict(data["adjustment"])
    known = {f.name for f in fields(Adjustment)}
    for name, value in given.items():
        where = f"adjustment.{name}"
        if name not in known:
            raise BadField(str(path), where, value, "one of " + ", ".join(sorted(known)))
        if name in ("basis", "source"):
            continue
        numbers = value if name == "interval" and isinstance(value, list) and len(value) == 2 else [value]
        least = 0.0 if name not in ("ops", "arithmetic", "bandwidth", "link", "interval") else 1e-6
        if not all(isinstance(v, (int, float)) and np.isfinite(v) and v >= least for v in numbers):
            raise BadField(str(path), where, value, f"a number of at least {least:g}")
    if "interval" in given:
        given["interval"] = tuple(map(float, given["interval"]))
    return Adjustment(**given)


def as_data(a: Adjustment) -> dict[str, Any]:
    """An adjustment as plain data, for a file."""
    return {**asdict(a), "interval": list(a.interval)}
