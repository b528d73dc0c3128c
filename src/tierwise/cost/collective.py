"""Collectives by algorithm: the fastest the fabric allows, over one or both levels of a cluster.

Costs follow the usual latency-bandwidth model (Thakur, Rabenseifner and Gropp, 2005): ``B`` bytes a device,
``n`` devices, ``a`` seconds a message, ``w`` bytes per second and direction.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, is_array, maximum, minimum, scalar, where
from tierwise.cost import exchange, protocols
from tierwise.cost.types import Cost, Fit, Target, either
from tierwise.machines.types import Link, System
from tierwise.program.types import Op


def price(op: Op, on: Target) -> Cost:
    """Time of a collective among ``group`` devices ``stride`` apart; nothing where the group is one device.

    What happens inside a domain follows the measured protocols of the device's libraries where there are fits.
    """
    if is_array(op.options.get("library")):
        ways = (price(replace(op, options={**op.options, "library": x}), on) for x in (True, False))
        return either(np.asarray(op.options["library"], dtype=bool), *ways)
    group, size = op.dims["group"], op.dims["bytes"]
    inside, outside = levels(on, group, op.dims.get("stride", 1.0))
    name = str(op.options["collective"])
    library = bool(op.options.get("library", False))
    if "choices" in op.dims and exchange.spans(on, op):
        return exchange.price(op, inside, outside, _link(on, "scale-up"), _link(on, "scale-out"))
    if op.options.get("once") and np.any(beyond := np.asarray(group) > on.system.per_node):
        # Of several configurations, those that stay inside a domain call the library.
        once = exchange.price(op, inside, outside, _link(on, "scale-up"), _link(on, "scale-out"))
        return either(beyond, once, price(replace(op, options={**op.options, "once": False}), on))
    fit, own = fitted(name, on, library)
    if fit is not None:
        return _measured(op, on, fit, own, inside, outside)
    time, near, far = _ALGORITHMS[name](on, size, inside, outside, library)
    alone = np.asarray(group) <= 1
    start = where(alone, 0.0, on.device.dispatch.graph)
    time = where(alone, 0.0 * time, time)
    moved = {"link": where(alone, 0.0 * near, near), "network": where(alone, 0.0 * far, far)}
    return Cost({"link": time}, {"dispatch": start}, 0.0, moved, on.efficiency.basis, on.efficiency.interval)


def fitted(name: str, on: Target, library: bool = False) -> tuple[Fit | None, bool]:
    """(coefficients of a collective, they are of a serving engine's own all-reduce): an engine's own unless only a
    library's will do, else NCCL's."""
    over = fabric(on.system)
    if name == "all_reduce" and not library:
        fit = on.efficiency.fit("custom_allreduce", ("graph" if on.graphs else "eager") + over)
        if fit is not None:
            return fit, True
    return on.efficiency.fit("collective", name + over), False


def fabric(system: System) -> str:
    """What a class of collectives is named for besides its operation: ``""`` over links between devices, ``"-host"``
    over the slots that lead to the host, which no measurement over links says anything of."""
    way, slot = system.scale_up, system.device.link("host")
    return "-host" if way is None or (slot is not None and way.name == slot.name) else ""


def _measured(op: Op, on: Target, fit: Fit, own: bool, inside: Num, outside: Num) -> Cost:
    """Inside domains by the measured protocols, between them by the datasheet's links."""
    size, name = op.dims["bytes"], str(op.options["collective"])
    link = _link(on, "scale-up")
    memory, members = on.memory.bandwidth, maximum(inside, 1.0 + 1e-9)
    launch: dict[str, Num] = {}
    if own and fabric(on.system):
        time = protocols.custom(fit.values, size, members, link.bandwidth, memory)
    elif own:
        rest = _library(on, size, members)
        time, beyond = protocols.peers(fit.values, size, members, link.bandwidth, rest.busy)
        low, high = (where(np.asarray(beyond) > 0, b, a) for a, b in zip(fit.interval, rest.interval, strict=True))
        fit, launch = replace(fit, interval=(low, high)), on.launches(fit.values.get("host", 0.0))
    else:
        adds = op.dims.get("narrow", 0.0)
        time = protocols.nccl(fit.values, size, members, link.bandwidth, memory, name == "all_reduce", adds)
    time = where(np.asarray(inside) > 1, time, 0.0 * time)
    both, near, far = _ALGORITHMS[name](on, size, inside, outside, not own)
    if not np.all(np.asarray(outside) <= 1):
        within, _, _ = _ALGORITHMS[name](on, size, inside, 1.0 + 0.0 * outside, not own)
        # An all-to-all works on both levels at once, the others on one after the other.
        time = maximum(time / outside, both) if name == "all_to_all" else time + maximum(both - within, 0.0)
    alone = np.asarray(op.dims["group"]) <= 1
    time, launch = where(alone, 0.0 * time, time), {k: where(alone, 0.0, v) for k, v in launch.items()}
    moved = {"link": where(alone, 0.0 * near, near), "network": where(alone, 0.0 * far, far)}
    return Cost({"link": time, **launch}, {}, 0.0, moved, fit.basis, fit.interval)


def _library(on: Target, size: Num, members: Num) -> Cost:
    """The library's all-reduce of as many bytes inside a domain, where an engine's own ends."""
    dims = {"bytes": size, "group": members}
    return price(Op("collective", "all_reduce", "comm", dims, 0.0, (), (), "bf16",
                    options={"collective": "all_reduce", "library": True}), on)  # fmt: skip


def levels(on: Target, group: Num, stride: Num) -> tuple[Num, Num]:
    """(members of the group inside one scale-up domain, domains it spans)."""
    inside = maximum(minimum(group, np.floor(on.system.per_node / np.maximum(stride, 1.0))), 1.0)
    inside = scalar(np.asarray(inside, dtype=float))
    return inside, maximum(group / inside, 1.0)


def _link(on: Target, kind: str) -> Link:
    system = on.system
    link = system.scale_up if kind == "scale-up" else system.scale_out
    if link is None and np.all(np.asarray(system.per_node) <= 1):
        link = system.scale_out  # every device is a domain of its own: nothing is sent inside one
    link = link or system.device.link("host")
    if link is None:
        raise TierwiseError(f"{system.name}: {system.device.title} has no {kind} link, so devices cannot talk")
    return link


def _bandwidth(on: Target, link: Link, members: Num) -> Num:
    """Usable bytes per second: direct wires to each peer only carry traffic for the peers that take part."""
    full = link.bandwidth * on.efficiency.link
    if link.topology != "mesh":
        return full
    wires = maximum(members - 1.0, 1.0) / maximum(link.domain - 1.0, 1.0)
    return where(np.asarray(link.domain) > 1, full * wires, full)


def _inside_all_reduce(on: Target, size: Num, n: Num, library: bool) -> Num:
    """The best all-reduce inside a domain.

    A collective library (NCCL) runs a ring in one of its protocols: ``2 (n-1)`` hops, each a multiple of the
    link's latency, at a share of its rate; or lets the fabric add (one copy up, one down). Serving engines
    have kernels of their own for fabrics where every device reaches every other: one-shot (everybody reads
    everything between two barriers) and two-shot (reduce-scatter, gather).
    """
    link = _link(on, "scale-up")
    a, w = link.latency, _bandwidth(on, link, n)
    ring = 2.0 * (n - 1.0) / maximum(n, 1.0) * size
    times = [
        base + 2.0 * (n - 1.0) * hop * a + ring / (w * rate)
        for name, (base, hop, rate) in on.efficiency.collective.items()
        if name != "nvls"
    ]
    if link.reduces and "nvls" in on.efficiency.collective:
        base, hop, rate = on.efficiency.collective["nvls"]
        times.append(base + hop * a + size / (w * rate))
    if not library and link.topology in ("switch", "mesh"):
        times.append(2.0 * a + (n - 1.0) * size / w)
        times.append(4.0 * a + ring / w)
    return where(np.asarray(n) <= 1, 0.0 * size, scalar(minimum(*times)))


def _outside_all_reduce(on: Target, size: Num, n: Num) -> Num:
    """Ring or tree between domains."""
    if np.all(np.asarray(n) <= 1):
        return 0.0 * size
    link = _link(on, "scale-out")
    a, w = link.latency, link.bandwidth * on.efficiency.link
    ring = 2.0 * (n - 1.0) * a + 2.0 * (n - 1.0) / n * size / w
    tree = 2.0 * np.log2(np.maximum(n, 1.0)) * a + 2.0 * size / w
    return where(np.asarray(n) <= 1, 0.0 * size, scalar(minimum(ring, tree)))


def _all_reduce(on: Target, size: Num, inside: Num, outside: Num, library: bool) -> tuple[Num, Num, Num]:
    """Reduce-scatter in each domain, all-reduce the shares between domains, gather in each domain."""
    near = _inside_all_reduce(on, size, inside, library)
    far = _outside_all_reduce(on, size / inside, outside)
    moved = 2.0 * (inside - 1.0) / inside * size
    return near + far, moved, 2.0 * (outside - 1.0) / outside * size / inside


def _gather(on: Target, size: Num, inside: Num, outside: Num, library: bool) -> tuple[Num, Num, Num]:
    """All-gather, and reduce-scatter by symmetry: every device ends (or starts) with all ``size`` bytes."""
    link = _link(on, "scale-up")
    near = (inside - 1.0) / inside * size
    steps = where(link.topology in ("ring", "torus"), inside - 1.0, minimum(inside - 1.0, 1.0))
    time = steps * link.latency + near / _bandwidth(on, link, inside)
    far = (outside - 1.0) / outside * size / inside
    if not np.all(np.asarray(outside) <= 1):
        out = _link(on, "scale-out")
        time = time + (outside - 1.0) * out.latency + far / (out.bandwidth * on.efficiency.link)
    return time, near, far


def _all_to_all(on: Target, size: Num, inside: Num, outside: Num, library: bool) -> tuple[Num, Num, Num]:
    """Each device sends an equal part of its ``size`` bytes to every member; both levels work at once."""
    group = inside * outside
    near, far = size * (inside - 1.0) / group, size * (group - inside) / group
    link = _link(on, "scale-up")
    time = where(inside > 1, link.latency, 0.0) + near / _bandwidth(on, link, inside)
    if not np.all(np.asarray(outside) <= 1):
        out = _link(on, "scale-out")
        across = where(outside > 1, out.latency, 0.0) + far / (out.bandwidth * on.efficiency.link)
        time = maximum(time, across)
    return time, near, far


def _send(on: Target, size: Num, inside: Num, outside: Num, library: bool) -> tuple[Num, Num, Num]:
    """One message to the next pipeline stage: across domains when the group spans them."""
    link = _link(on, "scale-up")
    time = link.latency + size / (link.bandwidth * on.efficiency.link)
    if not np.all(np.asarray(outside) <= 1):
        out = _link(on, "scale-out")
        time = where(outside > 1, out.latency + size / (out.bandwidth * on.efficiency.link), time)
    return time, size, where(outside > 1, size, 0.0 * size)


_ALGORITHMS = {
    "all_reduce": _all_reduce,
    "all_gather": _gather,
    "reduce_scatter": _gather,
    "all_to_all": _all_to_all,
    "send": _send,
}
