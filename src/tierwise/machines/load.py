"""From a name to a machine: ``h100-sxm``, ``16xh800``, ``2xdgx-h100``, ``my-board.yaml``.

Every ``catalog/*.yaml`` is a device and every ``catalog/systems/*.yaml`` a system; adding a file adds the
machine. A name is a file's name first, on a miss an alias inside one, or what drivers call it
(:mod:`tierwise.machines.names`).
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.machines import held, parts_of
from tierwise.machines.compose import MAX_COUNT, Member, compose, from_file, times
from tierwise.machines.inherit import inherit, memories
from tierwise.machines.names import aliases, bare_name, find, plain_name
from tierwise.machines.place import CATALOG, SYSTEMS, as_path, library, read, where
from tierwise.machines.sizes import of_size, sized
from tierwise.machines.types import Device, System

__all__ = ["CATALOG", "MAX_COUNT", "SYSTEMS", "device", "device_names", "several", "system", "system_names"]


def device(name: str) -> Device:
    """One device, by catalog name, alias, or path to a YAML file.

    Raises:
        UnknownName: no such device, with the nearest names.
        BadField, TierwiseError: the file is wrong; says where and how.
    """
    return _member(name).device


def system(text: str) -> System:
    """One or many devices, and what joins them.

    Args:
        text: a device (``"h100-sxm"``), a system (``"dgx-h100"``), a path to a file of either, or any of
            these after a count (``"16xh800"`` is two nodes of eight, ``"2xdgx-h100"`` two such systems); a computer
            from its parts (``"rtx4090 + 64GB ddr5 + nvme-gen4"``, :mod:`tierwise.machines.parts_of`); each with what
            holds it back behind it (``"h100-sxm:clock=0.9,power_cap=500W"``, :mod:`tierwise.machines.held`).
    """
    name, tail = held.split(text) if isinstance(text, str) else (text, "")
    return held.read(_named(name), tail) if tail else _named(text)


def _named(text: str) -> System:
    if parts_of.is_list(text):
        return parts_of.computer(text.strip(), system)
    count, name = _split(text)
    path = as_path(name)
    if path is not None:
        data = read(path)
        if "device" not in data:
            return compose(count, _build(path), path.stem)
        return times(count, _system(path, data))
    found = find(name, SYSTEMS)
    if found is not None:
        return times(count, _catalog_system(found))
    known = find(name, CATALOG, memories)
    other = sized(name) if known is None else None
    if other is not None:
        return compose(count, _catalog_member(*other), f"{other[0]}-{other[1]}gb")
    if known is None:
        all_names = [*device_names(), *system_names(), *aliases(CATALOG), *aliases(SYSTEMS)]
        raise UnknownName("machine", name[:80], all_names, _HINT)
    # A name of ours stays as it was written (8xh100); what a driver calls it does not.
    written = bare_name(name) in aliases(CATALOG)
    return compose(count, _catalog_member(known), plain_name(name) if written else known)


def several(machine: System, count: int) -> System:
    """So many of a machine's devices: as its catalog entry puts them together, else (a user's own file, a device with
    changed numbers) as far as its links reach, and without links in one host; held back as the machine is."""
    own, tail = machine.device, held.split(machine.name)[1]
    try:
        known = _member(own.name)
    except TierwiseError:
        known = None
    if known is not None and tail:
        return held.read(compose(count, known, own.name), tail)
    if known is None or known.device is not own:
        up = own.link("scale-up")
        known = Member(own, int(up.domain) if up else count, machine.overhead_power, machine.source)
    return compose(count, known, own.name)


def device_names() -> list[str]:
    """Every device of the catalog."""
    return sorted(p.stem for p in CATALOG.glob("*.yaml"))


def system_names() -> list[str]:
    """Every system of the catalog."""
    return sorted(p.stem for p in SYSTEMS.glob("*.yaml"))


_HINT = "(a new one is one YAML file: see docs/adding-a-machine.md)"
_COUNTED = re.compile(r"^(\d+)\s*[x×*]\s*(\S.*)$", re.IGNORECASE | re.DOTALL)


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


def _member(name: str, base: Path | None = None) -> Member:
    """A device by name, alias or path; paths are relative to ``base``."""
    if not isinstance(name, str) or not name.strip():
        raise BadField("device", "name", name, "a name such as h100-sxm, or a path to a YAML file")
    path = as_path(name.strip(), base)
    if path is not None:
        return _build(path)
    found = find(name, CATALOG, memories)
    other = sized(name) if found is None else None
    if other is not None:
        return _catalog_member(*other)
    if found is None:
        raise UnknownName("device", name[:80], [*device_names(), *aliases(CATALOG)], _HINT)
    return _catalog_member(found)


@cache
def _catalog_member(stem: str, gigabytes: int | None = None) -> Member:
    path = CATALOG / f"{stem}.yaml"
    if gigabytes is None:
        return _build(path)
    return _described(f"{stem}-{gigabytes}gb", of_size(inherit(read(path), path), gigabytes), path)


@cache
def _catalog_system(stem: str) -> System:
    path = SYSTEMS / f"{stem}.yaml"
    return _system(path, read(path))


def _build(path: Path) -> Member:
    return _member_from(path.stem, read(path), path)


def _member_from(name: str, data: dict[str, Any], path: Path) -> Member:
    return _described(name, inherit(data, path), path)


def _described(name: str, data: dict[str, Any], path: Path) -> Member:
    from tierwise.machines.build import build_device

    built, node = build_device(name, data, where(path), library())
    up = built.link("scale-up")
    if node is None:
        return Member(built, up.domain if up else 1, 0.0, up.source if up else "one device")
    return Member(built, node.size, node.overhead_power, built.sources["node"])


def _system(path: Path, data: dict[str, Any]) -> System:
    """Names in a user's system file are relative to it."""
    base = None if path.parent == SYSTEMS else path.parent

    def part_of(given: str | dict[str, Any]) -> Member:
        return _member(given, base) if isinstance(given, str) else _member_from(path.stem, given, path)

    return from_file(path, data, part_of)
