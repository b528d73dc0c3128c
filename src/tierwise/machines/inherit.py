"""``like:``, a device described by what differs from another."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tierwise.core.errors import BadField, UnknownName
from tierwise.core.units import parse
from tierwise.machines.names import find
from tierwise.machines.place import CATALOG, as_path, read, where

_OWN = {"aliases", "title", "released", "notes", "price", "sizes"}
"""Facts of one device that its siblings do not share."""


def inherit(data: dict[str, Any], path: Path, seen: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Fill a file from the device it is ``like``, which may itself be like another: named parts merged, ``without``
    left out.

    A part that changes any number must bring its own ``source``.

    Args:
        data: the mapping in the file.
        path: the file, from which relative paths go.
        seen: the files that led here, to tell a circle.
    """
    if "like" not in data:
        return data
    here = path.resolve()
    if here in seen:
        chain = " like ".join(p.name for p in (*seen, here))
        raise BadField(where(path), "like", data["like"], f"a device that is not in the end like itself ({chain})")
    data = dict(data)
    name, without = data.pop("like"), data.pop("without", [])
    parent = _parent(name, without, path)
    merged = {k: v for k, v in inherit(read(parent), parent, (*seen, here)).items() if k not in _OWN}
    for key, value in data.items():
        merged[key] = _merge(merged.get(key), value)
    for key in ("tiers", "engines", "links"):
        parts = merged.get(key)
        if isinstance(parts, list):
            merged[key] = [p for p in parts if not (isinstance(p, dict) and p.get("name") in without)]
    return merged


def memories(stem: str) -> list[float]:
    """Bytes of each memory of a device of the catalog."""
    path = CATALOG / f"{stem}.yaml"
    tiers = inherit(read(path), path).get("tiers") or []
    return [parse(t["capacity"], "bytes") for t in tiers if t.get("kind") == "memory"]


def _parent(name: Any, without: Any, path: Path) -> Path:
    if not isinstance(name, str) or not isinstance(without, list):
        raise BadField(where(path), "like", name, "the name of a device; `without` is a list of part names")
    found = as_path(name, path.parent)
    if found is not None:
        return found
    stem = find(name, CATALOG, memories)
    if stem is None:
        known = [p.stem for p in CATALOG.glob("*.yaml")]
        raise UnknownName("device", name[:80], known, f"in `like` of {where(path)}")
    return CATALOG / f"{stem}.yaml"


def _merge(old: Any, new: Any) -> Any:
    if isinstance(old, dict) and isinstance(new, dict):
        if "source" in old:  # a described thing: its numbers changed, so its source must too
            old = {k: v for k, v in old.items() if k != "source"}
        return {**old, **new}
    if isinstance(old, list) and isinstance(new, list) and all(isinstance(x, dict) for x in old + new):
        if not all(isinstance(x.get("name"), str | None) for x in old + new):
            return new  # which the schema refuses, with the field
        changed = {x.get("name"): x for x in new}
        kept = [_merge(x, changed.pop(x.get("name"))) if x.get("name") in changed else x for x in old]
        return kept + [x for x in new if x.get("name") in changed]
    return new
