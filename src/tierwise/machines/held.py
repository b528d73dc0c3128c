"""A machine as one has it: its clock lowered, its power capped, its links shared with others, its rent one's own.

Settings follow a machine's name (``8xh100-sxm:clock=0.9,power_cap=500W,link_share=0.5``): whatever takes a name takes
them: a flag, a saved scenario, a plan. They change numbers of the machine and nothing else; what that costs is the
price's business.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from math import isnan

from tierwise.core.errors import BadField, nearest
from tierwise.core.units import parse
from tierwise.machines.types import Device, Link, System

SETTINGS = ("clock", "power_cap", "link_share", "rent")
_TAIL = re.compile(r"^(.+?):(\w+=[^:=,]*(?:,\w+=[^:=,]*)*)$", re.DOTALL)


def hold(
    system: System,
    clock: float = 1.0,
    power_cap: float = float("nan"),
    link_share: float = 1.0,
    rent: float = float("nan"),
) -> System:
    """The machine at a share of its clock, under a cap of watts a device, with a share of its links, at a rent.

    Args:
        clock: share of the clock, above 0 and at most 1: rates of engines and scratchpads follow it, memory does not.
        power_cap: watts that a device may draw; ``nan`` for what it is rated for.
        link_share: share of the bandwidth of every link, above 0 and at most 1, that others leave.
        rent: dollars a second of a device, of a cloud's instance type of the whole instance; ``nan`` for the catalog's.

    Raises:
        BadField: a share out of bounds, or a cap below what the device draws idle.
    """
    for name, share in (("clock", clock), ("link_share", link_share)):
        if not 0.0 < share <= 1.0:
            raise BadField(system.name, name, share, "a share above 0 and at most 1")
    if power_cap <= system.device.power.idle:
        raise BadField(system.name, "power_cap", f"{power_cap:g} W",
                       f"more than the {system.device.power.idle:g} W that it draws idle")  # fmt: skip
    device = clocked(system.device, clock) if clock < 1.0 else system.device
    if link_share < 1.0:
        device = replace(device, links=tuple(_shared(x, link_share) for x in device.links))
    if not isnan(rent):
        paid = replace(device.price, rent=rent / system.rented, date="", source="the rent as given")
        device = replace(device, price=paid)
    return replace(
        system,
        device=device,
        scale_up=system.scale_up and _shared(system.scale_up, link_share),
        scale_out=system.scale_out and _shared(system.scale_out, link_share),
        power_cap=system.power_cap if isnan(power_cap) else min(power_cap, system.power.rated),
        clock=device.clock if clock < 1.0 else system.clock,
    )


def clocked(device: Device, share: float) -> Device:
    """A device whose clock is held: what runs on the clock of its units (rates, scratchpads) follows it, and so does
    what it draws at most beyond its idle power, at the voltage it had."""
    idle = 0.0 if isnan(device.power.idle) else device.power.idle
    return replace(
        device,
        power=replace(device.power, rated=idle + (device.power.rated - idle) * share),
        tiers=tuple(
            replace(t, bandwidth=t.bandwidth * share, write_bandwidth=t.write_bandwidth * share)
            if t.kind == "scratchpad"
            else t
            for t in device.tiers
        ),
        engines=tuple(
            replace(e, rates={k: v * share for k, v in e.rates.items()}, clock=e.clock * share) for e in device.engines
        ),
    )


def split(text: str) -> tuple[str, str]:
    """(name, settings behind it) of a machine as somebody wrote it; the settings may be empty.

    Raises:
        BadField: a setting that nobody knows.
    """
    match = _TAIL.match(text)
    if match is None:
        return text, ""
    for part in match[2].split(","):
        name = part.partition("=")[0]
        if name not in SETTINGS:
            near = nearest(name, SETTINGS)
            meant = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise BadField("machine", name, text, f"the settings {', '.join(SETTINGS)} behind a name{meant}")
    return match[1], match[2]


def joined(text: str, settings: Mapping[str, object]) -> str:
    """A machine's name with settings behind it, in place of those it has."""
    name, tail = split(text)
    held = dict(part.split("=", 1) for part in tail.split(",") if part)
    held |= {k: f"{v:g}" if isinstance(v, float) else str(v) for k, v in settings.items()}
    return ":".join([name, ",".join(f"{k}={held[k]}" for k in SETTINGS if k in held)]) if held else name


def read(system: System, tail: str) -> System:
    """The machine with settings as they stand behind its name.

    Raises:
        BadField: no number, or one that cannot be.
    """
    kinds = {"power_cap": "power", "rent": "money"}
    given = [part.split("=", 1) for part in tail.split(",")]
    for name, text in given:
        if name == "rent" and not text.strip().endswith("/h"):
            raise BadField("machine", name, text, "dollars an hour, as 2.50/h")
    found = {k: parse(v, kinds.get(k, "count"), "machine", k) for k, v in given}
    out = hold(system, **found)
    told = [_WORDS[k].format(x) for k, x in found.items() if k in _WORDS]
    title = f"{out.device.title} ({', '.join(told)})" if told else out.device.title
    return replace(out, name=f"{system.name}:{tail}", device=replace(out.device, title=title))


_WORDS = {"clock": "clock at {:.3g}", "power_cap": "capped at {:.4g} W", "link_share": "links at {:.3g}"}


def _shared(link: Link, share: float) -> Link:
    return replace(link, bandwidth=link.bandwidth * share, back=link.back * share)
