"""What ``energy.yaml`` says: joules of an operation, of a byte on and off chip, and a device's silicon process."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.errors import UnknownName
from tierwise.core.num import Num, scalar
from tierwise.core.yamltext import parsed
from tierwise.machines.types import Device, Link, Tier

_FILE = Path(__file__).with_name("energy.yaml")
_PICO = 1e-12
# The two processes of the table, nanometres.
_OLD, _NEW = 45, 7


def operation_energy(dtype: str, process: Num) -> tuple[Num, str]:
    """(joules a FLOP, source) of a dtype in a process; a multiply-add is two FLOP."""
    formats, operations = table()["formats"], table()["operations"]
    if dtype not in formats or dtype == "source":
        raise UnknownName("number format", dtype, [k for k in formats if k != "source"])
    new, old = (_multiply_add(formats[dtype], operations[n], operations[_NEW], operations[_OLD]) for n in (_NEW, _OLD))
    sources = "; ".join(str(operations[n]["source"]) for n in (_OLD, _NEW))
    return _carried(new / 2.0, old / new, process) * _PICO, f"{sources}; {table()['between']}; {formats['source']}"


def sram_energy(capacity: Num, process: Num) -> tuple[Num, str]:
    """(joules a byte, source) of an on-chip memory of a capacity in bytes."""
    at = table()["sram"]
    new, old = (_line(at[n]["at"], capacity) for n in (_NEW, _OLD))
    return _carried(new / 8.0, old / new, process) * _PICO, "; ".join(str(at[n]["source"]) for n in (_OLD, _NEW))


def memory_energy(tier: Tier) -> tuple[Num, str, tuple[float, float]]:
    """(joules a byte, source, factors that sources lie between) of a tier off chip, by the start of its name."""
    memories = table()["memories"]
    default = "nvme" if tier.kind == "storage" else "dram"
    return _entry(memories[next((k for k in memories if tier.name.startswith(k)), default)])


def link_energy(link: Link) -> tuple[Num, str, tuple[float, float]]:
    """(joules a byte, source, factors) of a link: its own, else by the start of its name, else by its kind."""
    links = table()["links"]
    joules, source, around = _entry(links[next((k for k in links if link.name.startswith(k)), link.kind)])
    return (link.energy, link.source, around) if np.all(np.isfinite(link.energy)) else (joules, source, around)


def process_of(device: Device) -> tuple[Num, str]:
    """(nanometres, source): what the device's file names, else the leading process of the year it came out."""
    if np.all(np.isfinite(device.process)):
        return device.process, device.sources.get("process", "stated")
    years: Mapping[int, float] = table()["years"]["at"]
    year = int(device.released[:4])
    known = max((y for y in years if y <= year), default=min(years))
    return float(years[known]), str(table()["years"]["source"])


@cache
def table() -> dict[str, Any]:
    """The file."""
    data: dict[str, Any] = parsed(_FILE.read_text())
    return data


def _multiply_add(
    parts: Mapping[str, Any], of: Mapping[str, Any], new: Mapping[str, Any], old: Mapping[str, Any]
) -> float:
    """Picojoules of one multiply-add. An operation that this process' row lacks keeps the ratio that fp16 has."""
    total = 0.0
    for operation in ("multiply", "add"):
        name, factor = parts[operation]
        row = of[operation]
        if name in row:
            total += factor * row[name]
        else:
            other = new if name in new[operation] else old
            total += factor * other[operation][name] * row["fp16"] / other[operation]["fp16"]
    return total


def _carried(new: Num, ratio: Num, process: Num) -> Num:
    """A power of the process through both rows: ``new`` at the new one, ``ratio`` times that at the old one."""
    return scalar(new * (np.asarray(process) / _NEW) ** (np.log(ratio) / math.log(_OLD / _NEW)))


def _line(points: Mapping[float, float], x: Num) -> Num:
    """Straight lines through points in logarithms, the last ones carried on beyond."""
    at, value = np.log(np.array(list(points))), np.log(np.array(list(points.values()), dtype=float))
    where = np.clip(np.searchsorted(at, np.log(x)) - 1, 0, len(at) - 2)
    slope = (value[where + 1] - value[where]) / (at[where + 1] - at[where])
    return scalar(np.exp(value[where] + slope * (np.log(x) - at[where])))


def _entry(entry: Mapping[str, Any]) -> tuple[float, str, tuple[float, float]]:
    byte = float(entry["byte"])
    low, high = entry["range"]
    return byte * _PICO, str(entry["source"]), (low / byte, high / byte)
