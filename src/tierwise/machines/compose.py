"""From devices to systems: how many share a node, what joins them, and what is true of a system alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tierwise.core.errors import BadField, BadFields
from tierwise.machines.held import clocked
from tierwise.machines.place import library, where
from tierwise.machines.types import Device, Host, Link, Price, System

if TYPE_CHECKING:
    from tierwise.machines.schema import HostFile, LinkChange, Problem, SystemFile

MAX_COUNT = 10_000_000

Cite = Callable[[str, str], str]


@dataclass(frozen=True)
class Member:
    """A device with how many share a node, and the watts around each."""

    device: Device
    size: int
    overhead_power: float
    source: str


def compose(count: int, part: Member, name: str) -> System:
    """``count`` devices, filled node by node."""
    per_node = min(count, part.size)
    several = count > 1
    return System(
        name=f"{count}x{name}" if several else name,
        device=part.device,
        count=count,
        per_node=per_node,
        scale_up=_scale_up(part.device, per_node) if per_node > 1 else None,
        scale_out=part.device.link("scale-out") if several else None,
        overhead_power=part.overhead_power,
        source=part.source,
    )


def times(count: int, one: System) -> System:
    """``count`` systems beside each other."""
    if count == 1:
        return one
    if one.count * count > MAX_COUNT:
        raise BadField("machine", "count", count, f"at most {MAX_COUNT} devices in all")
    scale_out = one.scale_out or one.device.link("scale-out")
    return replace(one, name=f"{count}x{one.name}", count=one.count * count, scale_out=scale_out)


def from_file(path: Path, data: Mapping[str, Any], part_of: Callable[[str | dict[str, Any]], Member]) -> System:
    """The system that a file describes.

    Args:
        path: the file.
        data: the mapping in it.
        part_of: gives a device by the name a file uses for it, or from its description in place.

    Raises:
        BadField: names every field that is wrong or missing.
    """
    from tierwise.machines.build import citer
    from tierwise.machines.schema import SystemFile, check

    f = check(SystemFile, data, where(path))
    problems: list[Problem] = []
    cite = citer(f.sources, library(), where(path), problems)
    part = part_of(f.device if isinstance(f.device, str) else dict(f.device))
    per_node = f.per_node or min(f.count, part.size)
    device = _as_it_sits(part.device, f, cite, problems)
    if f.price is not None:
        rent = math.nan if f.price.rent is None else f.price.rent / f.count
        # What names neither rent nor list price is for rent, and nobody looked it up: its devices are not for sale.
        bought = math.nan if f.price.rent is None else part.device.price.list_price
        own = bought if f.price.list is None else f.price.list / f.count
        device = replace(device, price=Price(rent, own, f.price.date, cite(f.price.source, "price.source")))
    if f.scale_up is not None and per_node == 1:
        problems.append(("per_node", per_node, "at least 2: scale_up joins the devices of a node"))
    up = _changed(_scale_up(device, per_node) if per_node > 1 else None, f.scale_up, "scale_up", cite, problems)
    out = _changed(device.link("scale-out"), f.scale_out, "scale_out", cite, problems)
    if f.power_cap is not None and not f.power_cap > device.power.idle:
        problems.append(("power_cap", f.power_cap, f"more than the {device.power.idle:g} W that it draws idle"))
    made = System(
        name=path.stem,
        device=device,
        count=f.count,
        per_node=per_node,
        scale_up=up if per_node > 1 else None,
        scale_out=out if f.count > 1 else None,
        overhead_power=f.overhead_power,
        source=cite(f.source, "source"),
        host=_host(f.host, cite, part_of, problems) if f.host else None,
        power_cap=math.nan if f.power_cap is None else f.power_cap,
        clock=math.nan if f.clock is None else f.clock,
        rented=f.count if f.price else 1,
    )
    if problems:
        raise BadFields(where(path), problems)
    return made


def _scale_up(device: Device, per_node: int) -> Link | None:
    """The link that joins all of a node: a bridge between pairs does not join eight, PCIe does."""
    own = [x for x in device.links if x.kind == "scale-up"]
    wide = next((x for x in own if x.domain >= per_node), None)
    host = device.link("host")
    if wide is None and host is not None:
        return replace(host, kind="scale-up", domain=per_node)
    return wide or (own[0] if own else None)


# ---------------------------------------------------------------- what a system says of its devices


def _as_it_sits(device: Device, f: SystemFile, cite: Cite, problems: list[Problem]) -> Device:
    """A device in its slot, at its clock."""
    if f.host_link is not None:
        old = device.link("host")
        new = _changed(old, f.host_link, "host_link", cite, problems)
        if new is not None:
            device = replace(device, links=(*(x for x in device.links if x.kind != "host"), new))
    return device if f.clock is None else _clocked(device, f.clock, problems)


def _clocked(device: Device, clock: float, problems: list[Problem]) -> Device:
    """A device whose clock is held at so many hertz."""
    if not clock <= device.clock:
        known = "no clock is known of its vector engine" if math.isnan(device.clock) else f"at most {device.clock:g} Hz"
        problems.append(("clock", clock, f"a clock that the device reaches: {known}"))
        return device
    return clocked(device, clock / device.clock)


def _changed(
    base: Link | None, change: LinkChange | None, field: str, cite: Cite, problems: list[Problem]
) -> Link | None:
    """A link with what a system file says of it; a link of its own where the file describes a whole one."""
    from tierwise.machines.build import build_link
    from tierwise.machines.schema import LinkFile

    if change is None:
        return base
    said = change.model_dump(exclude_none=True)
    said.setdefault("kind", {"scale_up": "scale-up", "scale_out": "scale-out", "host_link": "host"}[field])
    if {"name", "bandwidth", "latency"} <= set(said):
        return build_link(LinkFile(**said), cite, field)
    if base is None:
        whole = "name, bandwidth, latency and source: the device has no such link of which a part could be changed"
        problems.append((field, sorted(set(said) - {"kind", "source"}), whole))
        return None
    said["source"] = cite(said["source"], f"{field}.source")
    return replace(base, **{x.name: said[x.name] for x in fields(Link) if x.name in said})


def _host(f: HostFile, cite: Cite, part_of: Callable[[str | dict[str, Any]], Member], problems: list[Problem]) -> Host:
    cpu = part_of(f.cpu).device if f.cpu else None
    memory = f.memory or (cpu.memory.capacity * f.sockets if cpu else None)
    if memory is None:
        problems.append(("host.memory", "nothing", "the bytes of the host's memory, or a `cpu` whose memory it is"))
    storage = tuple(part_of(name).device for name in f.storage)
    problems += [
        (f"host.storage[{i}]", x.name, "a device with a tier of kind storage")
        for i, x in enumerate(storage)
        if not any(t.kind == "storage" for t in x.tiers)
    ]
    return Host(
        memory=memory or math.nan,
        bandwidth=f.bandwidth or (cpu.memory.bandwidth * f.sockets if cpu else math.inf),
        cpu=cpu,
        sockets=f.sockets,
        storage=storage,
        source=cite(f.source, "host.source"),
    )
