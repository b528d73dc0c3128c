"""A device sold with several sizes of memory: ``m1-max-32gb``, ``rtx-4060-ti-8gb``, ``pi-5-16gb``.

A file describes one size; ``sizes`` lists the others, each with what stays with the system. The size is named after
the device, as people write it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tierwise.core.errors import BadField
from tierwise.core.units import parse
from tierwise.machines.names import find, plain_name
from tierwise.machines.place import CATALOG, read

_SIZED = re.compile(r"(.+?)-?\(?(\d+(?:\.\d+)?)-?(?:gb|gib|g)\)?")
# A maker counts in powers of ten or two, and a driver reports less than both.
_NEAR = 0.08


def sized(name: str) -> tuple[str, int] | None:
    """(file of the catalog, gigabytes) that a name with a size of memory at its end means, where a file lists that
    size; None for any other name.

    Of a chip that is sold with several numbers of cores (``apple-m3-max``, ``apple-m3-max-30c``), the one that has it.
    """
    match = _SIZED.fullmatch(plain_name(name))
    stem = find(match[1], CATALOG) if match else None
    if match is None or stem is None:
        return None
    gigabytes = float(match[2])
    for path in (CATALOG / f"{stem}.yaml", *sorted(CATALOG.glob(f"{stem}-[0-9]*c.yaml"))):
        if _listed(read(path), gigabytes) is not None:
            return path.stem, int(gigabytes)
    return None


def of_size(data: Mapping[str, Any], gigabytes: int) -> dict[str, Any]:
    """The mapping of a device with another of the sizes it lists, or its own.

    Args:
        data: the mapping, ``like`` already resolved.

    Raises:
        BadField: no such size, which cannot be for a name that :func:`sized` found.
    """
    size = _listed(data, float(gigabytes))
    if size is None:
        raise BadField("sizes", "capacity", gigabytes, "a size the device is sold with")
    out = dict(data)
    if "kind" in size or "name" in size:  # its own memory
        return out
    out["tiers"] = [{**t, "capacity": size["capacity"], "source": f"{t['source']} + {size['source']}"}
                    if t.get("kind") == "memory" else t for t in data["tiers"]]  # fmt: skip
    if "reserve" in size:
        out["reserve"] = {"bytes": size["reserve"], "source": size["source"]}
    out["title"] = re.sub(r"\d+(\.\d+)?\s?GB", f"{gigabytes}GB", str(data["title"]), count=1)
    return out


def _listed(data: Mapping[str, Any], gigabytes: float) -> Mapping[str, Any] | None:
    """The entry of ``sizes`` with so many gigabytes, or the memory of the device itself."""
    own = [t for t in data.get("tiers", ()) if t.get("name") in ("dram", "gddr")]
    for size in (*(data.get("sizes") or ()), *own):
        capacity = parse(size.get("capacity", 1), "bytes")
        if min(abs(capacity / (gigabytes * unit) - 1.0) for unit in (1e9, 2.0**30)) < _NEAR:
            return size  # type: ignore[no-any-return]
    return None
