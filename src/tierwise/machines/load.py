"""From a name to a machine: ``h100-sxm``, ``16xh800``, ``2xdgx-h100``, ``my-board.yaml``.

Every ``catalog/*.yaml`` is a device and every ``catalog/systems/*.yaml`` a system; adding a file adds the
machine. A name is a file's name first, and only on a miss an alias inside one.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.errors import BadField, UnknownName
from tierwise.machines.names import aliases, find, plain_name
from tierwise.machines.types import Device, Link, System

CATALOG = Path(__file__).parent / "catalog"
SYSTEMS = CATALOG / "systems"
MAX_COUNT = 10_000_000


def device(name: str) -> Device:
    """One device, by catalog name, alias, or path to a YAML file.

    Raises:
        UnknownName: no such device, with the nearest names.
        BadField, TierwiseError: the file is wrong; says where and how.
    """
    return _part(name).device


def system(text: str) -> System:
    """One or many devices, and what joins them.

    Args:
        text: a device (``"h100-sxm"``), a system (``"dgx-h100"``), a path to a file of either, or any of
            these after a count (``"16xh800"`` is two nodes of eight, ``"2xdgx-h100"`` two such systems).
    """
    count, name = _split(text)
    path = _as_path(name)
    if path is not None:
        data = _read(path)
        if "device" not in data:
            return _compose(count, _build(path), path.stem)
        return _times(count, _system_from(path, data))
    found = find(name, SYSTEMS)
    if found is not None:
        return _times(count, _catalog_system(found))
    known = find(name, CATALOG)
    if known is None:
        raise UnknownName("machine", name[:80], [*device_names(), *system_names(), *_all_aliases()], _HINT)
    return _compose(count, _catalog_part(known), plain_name(name))


def device_names() -> list[str]:
    """Every device of the catalog."""
    return sorted(p.stem for p in CATALOG.glob("*.yaml"))


def system_names() -> list[str]:
    """Every system of the catalog."""
    return sorted(p.stem for p in SYSTEMS.glob("*.yaml"))


_HINT = "(a new one is one YAML file: see docs/adding-a-machine.md)"
_COUNTED = re.compile(r"^(\d+)\s*[x×*]\s*(\S.*)$", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True)
class _Part:
    """A device with how many share a node, and the watts around each."""

    device: Device
    size: int
    overhead_power: float
    source: str


# ---------------------------------------------------------------- composing


def _split(text: str) -> tuple[int, str]:
    if not isinstance(text, str) or not text.strip():
        raise BadField("machine", "name", text, "a name such as 8xh200-sxm, or a path to a YAML file")
    text = text.strip()
    match = _COUNTED.match(text)
    if not match:
        return 1, text
    digits = match[1].lstrip("0")
    if not digits or len(digits) > 8 or int(digits) > MAX_COUNT:
        raise BadField("machine", "count", match[1][:20], f"a whole number from 1 to {MAX_COUNT}")
    return int(digits), match[2]


def _compose(count: int, part: _Part, name: str) -> System:
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


def _scale_up(dev: Device, per_node: int) -> Link | None:
    """The link that joins all of a node: a bridge between pairs does not join eight, PCIe does."""
    own = [x for x in dev.links if x.kind == "scale-up"]
    wide = next((x for x in own if x.domain >= per_node), None)
    host = dev.link("host")
    if wide is None and host is not None:
        return replace(host, kind="scale-up", domain=per_node)
    return wide or (own[0] if own else None)


def _times(count: int, one: System) -> System:
    """``count`` systems beside each other."""
    if count == 1:
        return one
    if one.count * count > MAX_COUNT:
        raise BadField("machine", "count", count, f"at most {MAX_COUNT} devices in all")
    scale_out = one.scale_out or one.device.link("scale-out")
    return replace(one, name=f"{count}x{one.name}", count=one.count * count, scale_out=scale_out)


# ---------------------------------------------------------------- finding


def _as_path(name: str, base: Path | None = None) -> Path | None:
    """The file a name means, if it means one: by its ending, or because it has a slash and exists."""
    path = Path(os.path.expanduser(name))
    if path.suffix.lower() not in (".yaml", ".yml") and not ("/" in name and os.path.isfile(path)):
        return None
    return base / path if base is not None and not path.is_absolute() else path


def _all_aliases() -> list[str]:
    return [*aliases(CATALOG), *aliases(SYSTEMS)]


def _part(name: str, base: Path | None = None) -> _Part:
    """A device by name, alias or path; paths are relative to ``base``."""
    if not isinstance(name, str) or not name.strip():
        raise BadField("device", "name", name, "a name such as h100-sxm, or a path to a YAML file")
    path = _as_path(name.strip(), base)
    if path is not None:
        return _build(path)
    found = find(name, CATALOG)
    if found is None:
        raise UnknownName("device", name[:80], [*device_names(), *aliases(CATALOG)], _HINT)
    return _catalog_part(found)


# ---------------------------------------------------------------- building


@cache
def _catalog_part(stem: str) -> _Part:
    return _build(CATALOG / f"{stem}.yaml")


@cache
def _catalog_system(stem: str) -> System:
    path = SYSTEMS / f"{stem}.yaml"
    return _system_from(path, _read(path))


@cache
def _library() -> Mapping[str, str]:
    """References that several files cite, by key."""
    from tierwise.machines.read import read_mapping

    return read_mapping(Path(__file__).parent / "references.yaml", trusted=True)


def _read(path: Path) -> dict[str, Any]:
    from tierwise.machines.read import read_mapping

    return read_mapping(path, trusted=path.parent in (CATALOG, SYSTEMS))


def _build(path: Path) -> _Part:
    return _part_from(path.stem, _read(path), path)


def _part_from(name: str, data: dict[str, Any], path: Path) -> _Part:
    from tierwise.machines.build import build_device

    built, node = build_device(name, _inherit(data, path), _where(path), _library())
    up = built.link("scale-up")
    if node is None:
        return _Part(built, up.domain if up else 1, 0.0, up.source if up else "one device")
    return _Part(built, node.size, node.overhead_power, built.sources["node"])


def _system_from(path: Path, data: dict[str, Any]) -> System:
    from tierwise.machines.build import build_link, citer
    from tierwise.machines.schema import SystemFile, check

    where = _where(path)
    f = check(SystemFile, data, where)
    cite = citer(f.sources, _library(), where)
    if isinstance(f.device, str):
        base = None if path.parent == SYSTEMS else path.parent
        part = _part(f.device, base)
    else:
        part = _part_from(path.stem, dict(f.device), path)
    per_node = f.per_node or min(f.count, part.size)
    up = build_link(f.scale_up, cite, "scale_up") if f.scale_up else _scale_up(part.device, per_node)
    out = build_link(f.scale_out, cite, "scale_out") if f.scale_out else part.device.link("scale-out")
    return System(
        name=path.stem,
        device=part.device,
        count=f.count,
        per_node=per_node,
        scale_up=up if per_node > 1 else None,
        scale_out=out if f.count > 1 else None,
        overhead_power=f.overhead_power,
        source=cite(f.source, "source"),
    )


def _where(path: Path) -> str:
    """A catalog file by its name alone (its folder differs on every machine), a user's file as given."""
    return f"catalog/{path.name}" if path.parent in (CATALOG, SYSTEMS) else str(path)


# ---------------------------------------------------------------- `like:`

_OWN = {"aliases", "title", "released", "notes", "price"}
"""Facts of one device that its siblings do not share."""


def _inherit(data: dict[str, Any], path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Fill a file from the device it is ``like``, which may be like another: named parts merged, ``without`` left out.

    A part that changes any number must bring its own ``source``.
    """
    if "like" not in data:
        return data
    if path.resolve() in seen:
        chain = " like ".join(p.name for p in (*seen, path.resolve()))
        raise BadField(_where(path), "like", data["like"], f"a device that is not in the end like itself ({chain})")
    data = dict(data)
    parent_name, without = data.pop("like"), data.pop("without", [])
    where = _where(path)
    if not isinstance(parent_name, str) or not isinstance(without, list):
        raise BadField(where, "like", parent_name, "the name of a device; `without` is a list of part names")
    parent_path = _as_path(parent_name, path.parent)
    if parent_path is None:
        found = find(parent_name, CATALOG)
        if found is None:
            raise UnknownName("device", parent_name[:80], device_names(), f"in `like` of {where}")
        parent_path = CATALOG / f"{found}.yaml"
    parent = _inherit(_read(parent_path), parent_path, (*seen, path.resolve()))
    merged = {k: v for k, v in parent.items() if k not in _OWN}
    for key, value in data.items():
        merged[key] = _merge(merged.get(key), value)
    for key in ("tiers", "engines", "links"):
        parts = merged.get(key)
        if isinstance(parts, list):
            merged[key] = [p for p in parts if not (isinstance(p, dict) and p.get("name") in without)]
    return merged


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        if "source" in old:  # a described thing: its numbers changed, so its source must too
            old = {k: v for k, v in old.items() if k != "source"}
        return {**old, **new}
    if isinstance(old, list) and isinstance(new, list) and all(isinstance(x, dict) for x in old + new):
        changed = {x.get("name"): x for x in new}
        kept = [_merge(x, changed.pop(x.get("name"))) if x.get("name") in changed else x for x in old]
        return kept + [x for x in new if x.get("name") in changed]
    return new
