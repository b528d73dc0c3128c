"""What an op asks of a machine, for schedules: its price as a duration and shares of capacities that others use too."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tierwise.core.num import Num, minimum, where
from tierwise.cost import price
from tierwise.cost.types import Cost, Target
from tierwise.program.types import Op
from tierwise.schedule.types import Demand

# Capacities behind the parts of a price. The engines share what issues their instructions; vector work that runs beside
# a matrix product (softmax, scales) is a part of its own. Parts not named here are tiers, directions of links, and the
# launching that the host does.
_CAPACITY = {"compute": "compute", "softmax": "vector", "dequantize": "vector"}
# Both directions of a link carry a collective, since a device sends as much as it receives.
_BOTH = ("out", "in")


def demand(op: Op, on: Target) -> Demand:
    """The demand of one execution of an op on a target."""
    return from_cost(op, on, price(op, on))


def from_cost(op: Op, on: Target, cost: Cost, joules: Mapping[str, Num] | None = None) -> Demand:
    """The demand behind a cost that is known already, and the ``joules`` by component where somebody counted them.

    A resource that is busy for half of the duration is drawn on by half: two such ops run side by side for free.
    Nothing is drawn on while a serial part passes (a gap between kernels, a first trip to memory).
    """
    duration = cost.time
    draws: dict[str, Num] = {}
    for part, busy in cost.overlapped.items():
        for name in _capacities(part, on, cost):
            draws[name] = minimum(draws.get(name, 0.0) + share(busy, duration), 1.0)
    return Demand(duration, draws, _moved(on, cost), joules or {}, cost.basis)


def share(busy: Num, duration: Num) -> Num:
    """``busy / duration``, 0 where nothing takes any time."""
    idle = np.asarray(duration) <= 0.0
    return where(idle, 0.0, busy / where(idle, 1.0, duration))


def group(op: Op, on: Target) -> str:
    """Whose errors go together: ``"hopper/attention.decode/vllm"``, device family, op class and engine build."""
    kind = op.kind
    if kind == "collective":
        kind = f"collective.{op.options['collective']}"
    elif "phase" in op.options:
        kind = f"{kind}.{op.options['phase']}"
    return f"{on.device.family}/{kind}/{on.efficiency.engine or 'typical'}"


def _capacities(part: str, on: Target, cost: Cost) -> tuple[str, ...]:
    """The capacities a part of a price draws on: both directions of the links that a collective uses."""
    if part != "link":
        return (_CAPACITY.get(part, part),)
    used = [name for name in ("link", "network") if np.any(np.asarray(cost.bytes.get(name, 0.0)) > 0)]
    return tuple(dict.fromkeys(key for name in used for key in _directions(name, on)))


def _directions(link: str, on: Target) -> tuple[str, ...]:
    """Both directions of a link by the name of the wire: devices that reach each other over the slot that leads to the
    host share it with what is copied from there."""
    host = on.device.link("host")
    way = on.system.scale_up if link == "link" else on.system.scale_out
    slot = host is not None and (way is None or way.name == host.name)
    return tuple(f"{'host' if slot else link}.{direction}" for direction in _BOTH)


def _moved(on: Target, cost: Cost) -> dict[str, Num]:
    out: dict[str, Num] = {}
    for name, size in cost.bytes.items():
        for key in _directions(name, on) if name in ("link", "network") else (name,):
            out[key] = out.get(key, 0.0) + size
    return out
