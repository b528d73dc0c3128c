"""Which numbers hold on a device: generic fractions, and coefficients fitted to measurements by op class.

Fractions of the datasheet live in ``calibration/<name>.yaml``; fitted coefficients in
``calibration/<name>/<op class>.yaml``, so that a newly measured op class is one new file. A name is a device, a
family of devices, a vendor's kind of device (``nvidia-gpu``) or ``generic``, the nearest first: each op class takes
the first file found, and no name beyond the first with fractions counts. A file that only says ``like: <name>`` stands
for that name's file, where the same kernels run on a family that was not measured; ``source`` says why.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from math import nan
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.num import Num, is_array, is_zero, maximum, minimum, num, where
from tierwise.cost.constants import constant
from tierwise.cost.types import Efficiency, Fit
from tierwise.machines.types import Device

_HERE = Path(__file__).with_name("calibration")
# Op classes whose arithmetic rate follows the clock that the power limit leaves.
_PRODUCTS = ("matmul", "moe")
# The most of their peak that products reach.
_BEST = constant("calibrate.best")


def efficiency(device: Device, engine: str = "") -> Efficiency:
    """The calibration in force on a device.

    Args:
        device: what runs the kernels. Op classes fitted on this very device are ``calibrated``, those fitted on
            others of its family (or vendor) ``transferred``.
        engine: whose kernels: ``vllm``, ``sglang``, ``trtllm``, or ``""`` for those of a typical serving engine.
            Classes that were not measured under that engine fall back to the typical one.
    """
    names = (device.name, device.family, f"{device.vendor}-{device.kind}".lower(), "generic")
    clock, share, watts = device.clock, device.unit_share, _watts(device)
    # A swept machine has arrays there, which no cache can hold.
    load = _load if not any(is_array(x) for x in (clock, share, watts)) else _load.__wrapped__
    found = load(device.name, names, engine, clock, share, watts)  # type: ignore[arg-type]
    if not device.measured:
        return found
    # A machine that brings its own measurements rests on those; fractions only remain for its links.
    own = device.measured.get(engine) or next(iter(device.measured.values()))
    return replace(found, name=own.engine, basis="measured", interval=own.interval, source=own.source)


@lru_cache(maxsize=256)
def _load(
    device: str, names: tuple[str, ...], engine: str, clock: Num = nan, unit_share: Num = nan, watts: Num = 0.0
) -> Efficiency:
    fits: dict[tuple[str, str, str], Fit] = {}
    for name in names:
        found = {f.op for f in fits.values()} if fits else set()
        for path in sorted((_HERE / name).glob("*.yaml")):
            if path.stem not in found:
                data = _read(path)
                factors = carry(data, clock, unit_share)
                if path.stem in _PRODUCTS and device not in data["devices"]:
                    factors["compute"] = _sustained(tuple(data["devices"]), watts)
                fits.update(_fits(path.stem, data, device, factors))
        path = _HERE / f"{name}.yaml"
        if path.is_file():
            data = _read(path)
            low, high = data.pop("interval")
            return Efficiency(name=path.stem, interval=(float(low), float(high)), fits=fits, engine=engine, **data)
    raise FileNotFoundError(f"no calibration file in {_HERE}")


def carry(data: Mapping[str, Any], clock: Num, unit_share: Num) -> dict[str, Num]:
    """Factors that carry coefficients from the device they were fitted on (``at``) to one of another clock.

    What a kernel spends in chains of dependent instructions and cache misses is a number of cycles (``cycles`` names
    such coefficients), and what one unit draws of the memory a number of bytes a cycle (``draws``: fractions of the
    unit's share of the bandwidth). Nothing is carried where a clock is not known.
    """
    at = data.get("at", {})
    slower = float(at.get("clock", nan)) / clock
    if not np.all(np.isfinite(slower)):
        return {}
    share = float(at["unit_share"]) / unit_share / slower
    return {**dict.fromkeys(data.get("cycles", ()), slower), **dict.fromkeys(data.get("draws", ()), share)}


def _watts(device: Device) -> Num:
    """Rated watts for each 16-bit FLOP per second of the peak; 0 where there is none."""
    peak = maximum(0.0, *(e.rates.get(d, 0.0) for e in device.engines for d in ("bf16", "fp16")))
    return 0.0 if is_zero(peak) else device.power.rated / peak


def _sustained(measured: tuple[str, ...], watts: Num) -> Num:
    """The clock of matrix products over that of the sibling they were measured on.

    Products at full rate are bound by power. A card that has fewer watts for its peak than the sibling runs slower:
    dynamic power goes with the cube of the clock, since the voltage follows it (Chandrakasan et al., Low-Power CMOS
    Digital Design, 1992). One that has more runs as much faster, as far as products go at all (``_BEST``).
    """
    from tierwise.machines import device

    known = _watts(device(measured[0])) if measured else 0.0
    return 1.0 if is_zero(known) or is_zero(watts) else num((watts / known) ** (1.0 / 3.0))


def _fits(
    op: str, data: Mapping[str, Any], device: str, factors: Mapping[str, Num]
) -> dict[tuple[str, str, str], Fit]:
    """The classes of one file, by (op class, dtype, engine). What classes share is written once, under ``shared``."""
    basis = "calibrated" if device in data["devices"] else "transferred"
    out = {}
    for row in data["classes"]:
        low, high = row["interval"] if basis == "calibrated" else row.get("transferred", row["interval"])
        fit = Fit(
            op=op,
            dtype=str(row["dtype"]),
            engine=str(row.get("engine", "*")),
            values={
                name: _carried(name, value, factors.get(name, 1.0))
                for name, value in {**data.get("shared", {}), **row.get("coefficients", {})}.items()
            },
            basis=basis,
            interval=(float(low), float(high)),
            source=str(data["source"]),
            errors=row.get("errors", {}),
        )
        out[op, fit.dtype, fit.engine] = fit
    return out


def _carried(name: str, value: float, factor: Num) -> Num:
    if name == "compute":
        return where(np.asarray(factor) > 1.0, minimum(value * factor, max(value, _BEST)), value * factor)
    return value * factor


def _read(path: Path) -> dict[str, Any]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    data: dict[str, Any] = yaml.load(path.read_text(), Loader=loader)  # a safe loader either way
    return _read(path.parents[1] / str(data["like"]) / path.name) if "like" in data else data
