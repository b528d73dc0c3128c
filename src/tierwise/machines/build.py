"""From the checked words of a file to a :class:`Device`: sources spelled out, absences made explicit."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any

from tierwise.core.errors import BadField, BadFields, nearest
from tierwise.machines import profile, types
from tierwise.machines.checks import impossible, missing
from tierwise.machines.schema import CurveFile, DeviceFile, LinkFile, NodeFile, Problem, ProfileFile, check


def build_device(
    name: str, data: Mapping[str, Any], where: str, library: Mapping[str, str]
) -> tuple[types.Device, NodeFile | None]:
    """A :class:`Device` from the mapping in its file, and how several share a node.

    Args:
        name: the catalog's name for it.
        data: the mapping, ``like`` already resolved.
        where: the file, for errors.
        library: references every file may cite by key, besides its own ``sources``.
    """
    f = check(DeviceFile, data, where, missing(data))
    problems = impossible(f)
    cite = citer(f.sources, library, where, problems)
    nan = math.nan
    own: dict[str, str] = dict(f.sources)
    if f.reserve:
        own["reserve"] = cite(f.reserve.source, "reserve.source")
    if f.process:
        own["process"] = cite(f.process.source, "process.source")
    if f.node:
        own["node"] = cite(f.node.source, "node.source")
    built = types.Device(
        name=name,
        title=f.title,
        vendor=f.vendor,
        kind=f.kind,
        family=f.family,
        released=f.released,
        tiers=tuple(
            types.Tier(
                name=t.name,
                kind=t.kind,
                capacity=t.capacity,
                bandwidth=t.bandwidth,
                write_bandwidth=t.write_bandwidth or t.bandwidth,
                latency=t.latency,
                energy=nan if t.energy is None else t.energy,
                source=cite(t.source, f"tiers[{i}].source"),
                compute={str(k): v for k, v in (t.compute or {}).items()},
                write_energy=nan if t.write_energy is None else t.write_energy,
                unit=t.unit,
                units=t.units,
                fanout=dict(t.fanout),
                to=t.to,
                mapped_bandwidth=nan if t.mapped_bandwidth is None else t.mapped_bandwidth,
            )
            for i, t in enumerate(f.tiers)
        ),
        engines=tuple(
            types.Engine(
                name=e.name,
                kind=e.kind,
                rates={str(k): v for k, v in e.rates.items()},
                units=e.units,
                tiles=e.tiles,
                sparse=e.sparse,
                cluster=e.cluster,
                clock=e.clock if e.clock is not None else nan,
                fanout=dict(e.fanout),
                energy={str(k): v for k, v in e.energy.items()},
                exponentials=e.exponentials,
                width=e.width,
                source=cite(e.source, f"engines[{i}].source"),
            )
            for i, e in enumerate(f.engines)
        )
        or _engines_of_tiers(f, cite),
        links=tuple(build_link(x, cite, f"links[{i}]") for i, x in enumerate(f.links)),
        power=types.Power(f.power.rated, f.power.idle, cite(f.power.source, "power.source"))
        if f.power
        else types.Power(nan, nan, "nobody measured it"),
        price=types.Price(
            f.price.rent if f.price.rent is not None else nan,
            f.price.list if f.price.list is not None else nan,
            f.price.date,
            cite(f.price.source, "price.source"),
        )
        if f.price
        else types.Price(nan, nan, "", "no public price"),
        dispatch=types.Dispatch(f.dispatch.eager, f.dispatch.graph, cite(f.dispatch.source, "dispatch.source"))
        if f.dispatch
        else types.Dispatch(0.0, 0.0, "runs no kernels"),
        reserve=f.reserve.bytes if f.reserve else 0.0,
        sources=own,
        notes=f.notes,
        measured={p.engine: _profile(p) for p in f.calibration},
        process=f.process.node if f.process else nan,
    )
    if problems:
        raise BadFields(where, problems)
    return built, f.node


def _engines_of_tiers(f: DeviceFile, cite: Callable[[str, str], str]) -> tuple[types.Engine, ...]:
    """The engines of a device that computes in its memory alone: of the tier's name, since they are one node."""
    return tuple(
        types.Engine(t.name, "vector", {str(k): v for k, v in t.compute.items()}, t.units, (), 1.0,
                     cite(t.source, f"tiers[{i}].source"), fanout=dict(t.fanout))
        for i, t in enumerate(f.tiers) if t.compute
    )  # fmt: skip


def _profile(p: ProfileFile) -> profile.Profile:
    """What one engine was measured to reach."""

    def curve(c: CurveFile) -> profile.Curve:
        return profile.Curve(c.at, c.value)

    return profile.Profile(
        engine=p.engine,
        copy=curve(p.copy_),
        products={k: profile.Products(v.call, v.rate, curve(v.one), curve(v.many)) for k, v in p.products.items()},
        classes={k: profile.Class(v.call, v.step, v.passes, v.rate or 0.0) for k, v in p.classes.items()},
        interval=p.interval,
        source=p.source,
        cold=p.cold,
    )


def build_link(x: LinkFile, cite: Callable[[str, str], str], field: str) -> types.Link:
    """A :class:`Link` from its description in a file."""
    return types.Link(
        x.name,
        x.kind,
        x.bandwidth,
        x.latency,
        x.domain,
        x.topology,
        x.reduces,
        cite(x.source, f"{field}.source"),
        x.peer,
        math.nan if x.back is None else x.back,
        math.nan if x.energy is None else x.energy,
    )


def citer(
    own: Mapping[str, str], library: Mapping[str, str], where: str, problems: list[Problem] | None = None
) -> Callable[[str, str], str]:
    """A function that spells out a source: ``"datasheet (page 2) + oconnor2017"`` becomes both citations.

    A part is a key, a key with a remark (``key (...)`` or ``key: ...``), or a citation in full. A bare word
    must be a key; where it is not, that is added to ``problems``, or raised where there is no such list.
    """
    known = {**library, **own}

    def cite(source: str, field: str) -> str:
        out = []
        for part in re.split(r"\s+\+\s+", source.strip()):
            match = re.fullmatch(r"([a-z0-9.-]*)((?:\s+\(|:).*)?", part, re.DOTALL)
            key, remark = (match[1], match[2] or "") if match else ("", part)
            if match and not remark and key not in known:
                close = ", ".join(nearest(part, known)) or "a key of `sources`"
                problem = (field, part, f"a citation, or a key such as {close}")
                if problems is None:
                    raise BadField(where, *problem)
                problems.append(problem)
            out.append(known.get(key, key) + remark)
        return "; ".join(out)

    return cite
