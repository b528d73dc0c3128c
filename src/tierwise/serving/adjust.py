"""How an engine's steps deviate from the bare sum of its ops: host times, and factors on op classes.

By default they come from serving measurements (``calibration/serving.yaml``), of which those coefficients are taken
that describe an engine: factors on the op classes of decode steps and prefill passes, ``host.step``,
``host.sequence``, ``host.prefill``, ``host.kernel``, ``host.expert``, ``host.launch``, ``host.request`` and
``host.prompt``. The others stand for what a simulation does itself (``mix``, ``bunch``, ``burst``, ``queue``,
``host.lost``, ``host.poll``, ``rank.*``) or for that data's clients, and are left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.cost import Target
from tierwise.models.types import Model
from tierwise.num import Num
from tierwise.serving.coefficients import calibration
from tierwise.serving.deployment import Replicas
from tierwise.serving.work import CLASSES

Floats = NDArray[np.float64]

# Tokens of a rank up to which a step counts as decode and from which as prefill where factors differ: the fit's decode
# steps had up to 256 sequences, its prefill passes at least 1,024 tokens. Between them, linear in the logarithm.
_DECODE, _PREFILL = 256.0, 1024.0


@dataclass(frozen=True)
class Adjustment:
    """What prices of steps are made with; the defaults leave the bare sum of op prices.

    Attributes:
        decode, prefill: factors on the time of each op class (``CLASSES`` of :mod:`tierwise.serving.work`).
        arithmetic, bandwidth, link: factors on what the device's engines, memory and links reach.
        step, sequence, chunk, token: host seconds per step, per sequence, per prefill chunk, per prompt token.
        kernel, expert: device seconds per kernel of a step, and per layer of experts.
        launch: host seconds to launch one kernel.
        request: seconds a request spends outside the engine.
        interval, basis: as in :class:`tierwise.cost.Cost`.
    """

    decode: Floats = field(default_factory=lambda: np.ones(len(CLASSES)))
    prefill: Floats = field(default_factory=lambda: np.ones(len(CLASSES)))
    arithmetic: float = 1.0
    bandwidth: float = 1.0
    link: float = 1.0
    step: float = 0.0
    sequence: float = 0.0
    chunk: float = 0.0
    token: float = 0.0
    kernel: float = 0.0
    expert: float = 0.0
    launch: float = 0.0
    request: float = 0.0
    interval: tuple[float, float] = (1.0, 1.0)
    basis: str = "datasheet"

    def factors(self, tokens: Num) -> Floats:
        """Factors on op classes in a step of so many tokens a rank: (classes, *shape of tokens)."""
        share = np.log(np.maximum(tokens, 1.0) / _DECODE) / np.log(_PREFILL / _DECODE)
        share = np.clip(share, 0.0, 1.0)
        both = np.stack([np.log(self.decode), np.log(self.prefill)])
        shape = (len(CLASSES),) + (1,) * np.ndim(share)
        return np.exp(both[0].reshape(shape) * (1.0 - share) + both[1].reshape(shape) * share)

    def target(self, on: Target) -> Target:
        """The target with its device's rates as this run found them."""
        system, x = on.system, on.system.device
        engines = tuple(replace(e, rates={k: v * self.arithmetic for k, v in e.rates.items()}) for e in x.engines)
        tiers = tuple(replace(t, bandwidth=t.bandwidth * self.bandwidth,
                              write_bandwidth=t.write_bandwidth * self.bandwidth)
                      if t.kind == "memory" else t for t in x.tiers)  # fmt: skip
        links = tuple(replace(w, bandwidth=w.bandwidth * self.link) for w in x.links)
        ups = (system.scale_up, system.scale_out)
        up, out = (None if w is None else replace(w, bandwidth=w.bandwidth * self.link) for w in ups)
        device = replace(x, engines=engines, tiers=tiers, links=links)
        return replace(on, system=replace(system, device=device, scale_up=up, scale_out=out))


def adjustment(model: Model, replicas: Replicas) -> Adjustment:
    """What serving measurements say about an engine on a machine; nothing where the machine brings its own prices."""
    device = replicas.machine.device
    if device.measured:
        own = next(iter(device.measured.values()))
        return Adjustment(interval=own.interval, basis="measured")
    cal = calibration()
    engine, system = replicas.settings.engine, device.name.replace("-", "_")
    dense, experts = _format(model, replicas, "attn"), _format(model, replicas, "expert")
    names = {
        "engine": engine, "system": system, "engine+system": f"{engine}/{system}", "build": "", "client": "",
        "engine+client": "", "dense": dense, "experts": experts, "engine+dense": f"{engine}/{dense}",
        "engine+experts": f"{engine}/{experts}",
    }  # fmt: skip
    found = cal.of({level: np.asarray([name], dtype=np.str_) for level, name in names.items()}, 1)
    k = {name: float(value[0]) for name, value in found.items()}
    known = all(x in cal.seen[y] for x, y in ((engine, "engine"), (system, "system"), (model.name, "model")))
    basis = "calibrated" if known else "transferred"
    return Adjustment(
        decode=np.asarray([k[f"decode.{c}"] for c in CLASSES]),
        prefill=np.asarray([k[f"prefill.{c}"] for c in CLASSES]),
        step=k["host.step"], sequence=k["host.sequence"], chunk=max(k["host.prefill"] - k["host.step"], 0.0),
        kernel=k["host.kernel"], expert=k["host.expert"], launch=k["host.launch"], request=k["host.request"],
        interval=cal.intervals[basis]["tpot"], basis=basis,
    )  # fmt: skip


def _format(model: Model, replicas: Replicas, role: str) -> str:
    """The number format of a role's weights, as the levels of the calibration name it."""
    name = str(replicas.plan.weights or model.format_of(role))
    return name.removesuffix("-block").split("-g")[0]
