"""What a device file must say, by kind, and what cannot be true of any machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tierwise.machines.schema import PASSIVE, DeviceFile, Problem, TierFile
from tierwise.machines.wiring import fed, feeds


def missing(data: Mapping[str, Any]) -> list[Problem]:
    """What a device of its kind cannot do without, told from the file as read: a field of it may still be wrong."""
    kind = data.get("kind")
    tiers, engines = _parts(data, "tiers"), _parts(data, "engines")
    if kind in PASSIVE:
        part = "links" if kind == "nic" else "tiers"
        return [] if data.get(part) else [(part, [], f"at least one, for a {kind}")]
    out: list[Problem] = []
    kinds = [t.get("kind") for t in tiers]
    if "memory" not in kinds:
        out.append(("tiers", kinds, "at least one tier of kind memory"))
    if not engines and not any(t.get("compute") for t in tiers):
        out.append(("engines", [], "at least one engine, or a tier with compute"))
    if data.get("dispatch") is None:
        out.append(("dispatch", None, "eager, graph and source, for a device that runs kernels"))
    return out


def impossible(f: DeviceFile) -> list[Problem]:
    """Names that mean two parts, tiers that feed nothing, engines without food, and near tiers slower than far ones."""
    return [*_twins(f), *_wiring(f), *_order(f)]


def _parts(data: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    found = data.get(name)
    return [x for x in found if isinstance(x, Mapping)] if isinstance(found, list) else []


def _twins(f: DeviceFile) -> list[Problem]:
    """Parts are named in reports and in ``like``, so a name means one part."""
    out: list[Problem] = []
    for part in ("tiers", "engines", "links"):
        names = [x.name for x in getattr(f, part)]
        out += [
            (f"{part}[{i}].name", twice, f"a name no other of its {part} has")
            for i, twice in enumerate(names)
            if twice in names[:i]
        ]
    return out


def _sinks(f: DeviceFile) -> list[str]:
    """What bytes are for: the engines, and the tiers that compute themselves."""
    return [e.name for e in f.engines] or [t.name for t in f.tiers if t.compute]


def _wiring(f: DeviceFile) -> list[Problem]:
    known = {t.name for t in f.tiers} | {e.name for e in f.engines}
    out: list[Problem] = [
        (f"tiers[{i}].to", name, "the name of a tier or an engine: " + ", ".join(sorted(known - {t.name})))
        for i, t in enumerate(f.tiers)
        for name in t.to
        if name not in known - {t.name}
    ]
    sinks = _sinks(f)
    if not sinks:
        return out
    feeding = feeds(f.tiers, sinks)
    reached = fed(feeding, [*sinks, *(t.name for t in f.tiers if t.compute)])
    for i, t in enumerate(f.tiers):
        if t.name not in reached:
            out.append((f"tiers[{i}].to", list(feeding[t.name]), f"a way to an engine ({', '.join(sinks)})"))
    starved = {e.name for e in f.engines} - {name for to in feeding.values() for name in to}
    out += [
        (f"engines[{i}]", e.name, "an engine that some tier feeds (`to` of a tier)")
        for i, e in enumerate(f.engines)
        if e.name in starved
    ]
    return out


def _order(f: DeviceFile) -> list[Problem]:
    """Bytes of a far tier pass through the near one, so the near one must keep up."""
    tiers = {t.name: t for t in f.tiers}
    feeding = feeds(f.tiers, _sinks(f))
    out: list[Problem] = []
    for i, far in enumerate(f.tiers):
        near = [tiers[n] for n in feeding[far.name] if n in tiers and n != far.name]
        before = f.tiers[i - 1] if i else None
        if not near and before is not None and not far.to and not before.to:
            near = [before]
        if near and far.bandwidth > sum(t.bandwidth for t in near):
            out.append((f"tiers[{i}].bandwidth", far.bandwidth, _limit(near)))
    return out


def _limit(near: list[TierFile]) -> str:
    names = " and ".join(f"{t.name} ({t.bandwidth:g} B/s)" for t in near)
    return f"at most that of the nearer {names}; tiers are listed from the engines outward"
