"""What a recorded run says about a machine under an engine.

The replay of the run is fitted to it by few numbers that mean something on other models too: what the arithmetic, the
memory and the links reach over what was expected, and the seconds between steps. Each starts where nothing is known
about this machine and is believed to lie near: what a run does not determine (links on one device) stays there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.measure.ran import deployment
from tierwise.measure.recorded import Recorded, times
from tierwise.measure.replayed import STATISTICS, ReplayedRun, compare, replay, statistics
from tierwise.serving.deployment import Deployment
from tierwise.serving.pricing import corrections_of
from tierwise.steps.corrections import Corrections, as_data

Floats = NDArray[np.float64]

# How far each may lie from what is known beforehand, one standard deviation: factors in the logarithm by how well op
# prices carry over to devices left out of their fits (docs/accuracy.md: products and attention by a tenth to a fifth,
# collectives by a quarter and more on other fabrics), times in seconds.
PRIOR: Mapping[str, float] = {
    "ops": 0.3,
    "arithmetic": 0.15,
    "bandwidth": 0.1,
    "link": 0.4,
    "gap": 1e-3,
    "request": 0.05,
}
FACTORS = frozenset({"ops", "arithmetic", "bandwidth", "link"})
# Repeats of one serving measurement agree to about one to two hundredths (TPOT, TTFT); the statistics of one quantity
# move together and count as one.
_NOISE = 0.02
_ROUNDS, _STEP = 12, 0.5


@dataclass(frozen=True)
class FittedRun:
    """What a run gave: ``adjustment``; by fitted name, its standard deviation afterwards over that beforehand (1: the
    run says nothing about it); the run replayed before and after."""

    adjustment: Corrections
    left: Mapping[str, float]
    before: ReplayedRun
    after: ReplayedRun


def fit(recorded: Recorded, on: str = "") -> FittedRun:
    """Fit a run."""
    served = deployment(recorded, on)
    base = corrections_of(served)
    names = _names(recorded, served)

    def at(x: Floats) -> Corrections:
        given: dict[str, Any] = {}
        for name, v in zip(names, x, strict=True):
            known = float(getattr(base, name))
            given[name] = known * float(np.exp(v)) if name in FACTORS else max(known + float(v), 0.0)
        return replace(base, **given)

    def misfit(x: Floats) -> Floats:
        return _misfit(recorded, served, at(x))

    scale = np.asarray([PRIOR[n] for n in names])
    x, sd = _least_squares(lambda u: misfit(u * scale), np.zeros(len(names)))
    before = compare(recorded, on)
    found = at(x * scale)
    after = compare(recorded, on, found)
    low, high = _interval(recorded, after)
    group = served.groups[0]
    source = f"{recorded.folder.name}, {len(recorded.arrival)} requests on {group.machine.device.name} under " + (
        group.settings.engine
    )
    found = replace(found, basis="calibrated", source=source, interval=(low, high))
    return FittedRun(found, dict(zip(names, sd.tolist(), strict=True)), before, replace(after, adjustment=found))


def _names(recorded: Recorded, served: Deployment) -> list[str]:
    """What there is to fit: a machine with prices of its own has no datasheet to correct."""
    group = served.groups[0]
    names = ["ops"] if group.machine.device.measured else ["arithmetic", "bandwidth"]
    names += ["link"] if group.plan.devices > group.plan.pp else []
    return names + ["gap"] + ([] if recorded.inside else ["request"])


def _misfit(recorded: Recorded, served: Deployment, a: Corrections) -> Floats:
    """How far the statistics of each quantity are off, in units of what repeats scatter by."""
    q = replay(recorded, served, a).requests
    found = times(q.arrival, q.first, q.last, recorded.output)
    off = [np.log(statistics(found[name]) / statistics(measured)) for name, measured in recorded.times.items()]
    # A replay that turned every request away is as far off as can be.
    return np.asarray(np.nan_to_num(np.concatenate(off), nan=3.0) / (_NOISE * np.sqrt(len(STATISTICS))))


def _least_squares(f: Callable[[Floats], Floats], x: Floats) -> tuple[Floats, Floats]:
    """(x, standard deviations) that minimize |f(x)|² + |x|² (Levenberg and Marquardt).

    Scheduling makes ``f`` jump a little everywhere, so slopes are taken over steps as wide as the unit allows.
    """
    damping, value = 1.0, f(x)
    cost = float(value @ value + x @ x)
    normal = np.eye(len(x))
    for _ in range(_ROUNDS):
        slope = np.stack([(f(x + d) - f(x - d)) / (2.0 * _STEP) for d in _STEP * np.eye(len(x))], axis=1)
        normal = slope.T @ slope + np.eye(len(x))
        while damping < 1e4:
            step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), slope.T @ value + x)
            new = f(x + step)
            new_cost = float(new @ new + (x + step) @ (x + step))
            if new_cost < cost:
                break
            damping *= 4.0
        else:
            break
        gained = cost - new_cost
        x, value, cost, damping = x + step, new, new_cost, damping / 8.0
        if gained < 1e-3 * max(cost, 1.0):
            break
    return x, np.sqrt(np.diag(np.linalg.inv(normal)))


def _interval(recorded: Recorded, after: ReplayedRun) -> tuple[float, float]:
    """Factors on predicted times that 80 % of the run's requests lie between."""
    q = after.run.requests
    found = times(q.arrival, q.first, q.last, recorded.output)["TPOT"]
    ratio = recorded.times["TPOT"] / found
    ratio = ratio[np.isfinite(ratio)]
    return (float(np.quantile(ratio, 0.1)), float(np.quantile(ratio, 0.9))) if len(ratio) else (1.0, 1.0)


def to_yaml(found: FittedRun) -> str:
    """The file: what was fitted, on what, and how well."""
    import yaml

    c = found.after
    group = c.run.deployment.groups[0]
    a = found.adjustment
    about = {
        "run": c.recorded.folder.name,
        "model": c.run.deployment.model.name,
        "machine": group.machine.device.name,
        "engine": group.settings.engine,
        "undetermined": [n for n, left in found.left.items() if left >= 0.8],
        "errors": {name: {"before": _percent(found.before.error(name)), "after": _percent(c.error(name))}
                   for name in c.measured},
    }  # fmt: skip
    numbers = {k: float(f"{v:.5g}") if isinstance(v, float) else v for k, v in as_data(a).items()}
    head = "# What a recorded run says about a machine under an engine. Written by `tierwise calibrate --from-run`.\n"
    return head + yaml.safe_dump({"about": about, "adjustment": numbers}, sort_keys=False, default_flow_style=None)


def _percent(errors: Sequence[float] | Floats) -> list[str]:
    return [f"{e:+.1%}" for e in errors]


__all__ = ["FACTORS", "FittedRun", "fit", "to_yaml"]
