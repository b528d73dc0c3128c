"""Which numbers hold on a device: generic fractions, and coefficients fitted to measurements by op class.

Fractions of the datasheet live in ``calibration/<name>.yaml``; fitted coefficients in
``calibration/<name>/<op class>.yaml``, so that a newly measured op class is one new file. A name is a device, a
family of devices, a vendor's kind of device (``nvidia-gpu``) or ``generic``, the nearest first: a device's own classes
come before those of its family, and these before those of other devices of the family; classes of all of a vendor's
devices count where the family has none of an op. No name beyond the first with fractions counts.

Classes say which ``version`` of an engine they were recorded under. An engine asked for by version (``vllm@0.24``)
has the classes of the newest version on file that is not newer, wherever in the family they were recorded; where all
are newer, those of the oldest. Which kernel an engine picks for a format is in ``kernels/<engine>.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, lru_cache
from math import exp, nan
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.core.num import Num, is_array, is_zero, maximum, minimum, num, where
from tierwise.core.yamltext import parsed
from tierwise.cost.constants import constant
from tierwise.cost.libraries import stand_ins
from tierwise.cost.messages import with_limits
from tierwise.cost.picks import picks
from tierwise.cost.types import Efficiency, Fit
from tierwise.cost.versions import release, same_release
from tierwise.machines.types import Device

_HERE = Path(__file__).with_name("calibration")
# Op classes whose arithmetic rate follows the clock that the power limit leaves.
_PRODUCTS = ("matmul", "moe")
# The most of their peak that products reach.
_BEST = constant("calibrate.best")
# Classes that go by what connects devices. What slots that lead to the host carry is a matter of the host, so that
# another card of the family says no more of it than any other machine does.
_OVER_FABRICS = ("collective", "custom_allreduce")


def efficiency(device: Device, engine: str = "", without: frozenset[str] = frozenset()) -> Efficiency:
    """The calibration in force on a device.

    Args:
        device: what runs the kernels. Op classes fitted on this very device are ``calibrated``, those fitted on
            others of its family (or vendor) ``transferred``.
        engine: whose kernels: ``vllm``, ``sglang``, ``trtllm``, a version (``vllm@0.24``) or one kernel of it
            (``vllm:<kernel>``), or ``""`` for those of a typical serving engine. Classes that were not measured under
            that engine fall back to the typical one.
        without: devices, and versions of engines (``vllm@0.24.0``), whose classes do not count: how well others stand
            for them. Classes pooled over a vendor's devices, which saw these too, do not count then either.
    """
    names = (device.name, device.family, f"{device.vendor}-{device.kind}".lower(), "generic")
    numbers = device.clock, device.unit_share, unit_rate(device), _watts(device), _unused(device)
    # A swept machine has arrays there, which no cache can hold.
    load = _load if not any(is_array(x) for x in numbers) else _load.__wrapped__
    found = load(device.name, names, engine, *numbers, without)  # type: ignore[arg-type]
    if not device.measured:
        return found
    # A machine that brings its own measurements rests on those; fractions only remain for its links.
    own = device.measured.get(found.engine) or next(iter(device.measured.values()))
    return replace(found, name=own.engine, basis="measured", interval=own.interval, source=own.source)


@lru_cache(maxsize=256)
def _load(
    device: str, names: tuple[str, ...], engine: str, clock: Num = nan, unit_share: Num = nan, peak: Num = nan,
    watts: Num = 0.0, unused: Num = 1.0, without: frozenset[str] = frozenset(),
) -> Efficiency:  # fmt: skip
    from tierwise.machines import device as known

    who, _, kernel = engine.partition(":")
    who, _, asked = who.partition("@")
    fits: dict[tuple[str, str, str], Fit] = {}
    for name in names:
        found = {f.op for f in fits.values()}
        near = _members(name, device) if name == names[1] else (name,)
        paths = [p for folder in near for p in sorted((_HERE / folder).glob("*.yaml"))]
        for path in paths:
            if path.stem not in found or name in names[:2] or path.stem in _OVER_FABRICS:
                data = _read(path)
                if without and (not data["devices"] or not without.isdisjoint(data["devices"])):
                    continue
                factors = carry(data, clock, unit_share, peak)
                if path.stem in _PRODUCTS and device not in data["devices"]:
                    factors["compute"] = _sustained(tuple(data["devices"]), watts)
                used = _unused(known(data["devices"][0])) if name != device and data["devices"] else unused
                wider = _carried_by(names[2], path.stem) if name == names[1] or name == device else {}
                for key, made in _fits(path.stem, data, device, factors, wider, asked).items():
                    fit = _same_instructions(made, used / unused)
                    if f"{key[2].partition(':')[0]}@{fit.version}" in without:
                        continue
                    if key[1].endswith("-host") and device not in data["devices"] and name in names[:2]:
                        continue
                    held = fits.get(key)
                    if held is None or (key[2] == who and _nearer(fit.version, held.version, asked)):
                        fits[key] = fit
        path = _HERE / f"{name}.yaml"
        if path.is_file():
            data = _read(path)
            low, high = data.pop("interval")
            fits |= picks(who, asked, names[1], fits)
            fits |= _wider(stand_ins(who, asked, kernel, fits), names[2])
            fits |= with_limits(fits, who, asked, names[1], device)
            return Efficiency(name=path.stem, interval=(float(low), float(high)), fits=fits,
                              engine=f"{who}:{kernel}" if kernel else who, **data)  # fmt: skip
    raise FileNotFoundError(f"no calibration file in {_HERE}")


@lru_cache(maxsize=256)
def _members(family: str, device: str) -> tuple[str, ...]:
    """A family's folders: its own, and those of further devices, whose device is most like the one asked for first."""
    from tierwise.core.errors import TierwiseError
    from tierwise.machines import device as known

    apart: dict[str, float] = {}
    for folder in sorted(p.name for p in _HERE.iterdir() if p.is_dir()):
        first = next((d for p in sorted((_HERE / folder).glob("*.yaml")) for d in _devices(p)), "")
        try:
            one = known(first) if first else None
            if one is not None and one.family == family:
                apart[folder] = _distance(one, known(device))
        except TierwiseError:
            # A machine that was described for one run is like the family's first.
            apart[folder] = float(folder != family)
    return tuple(sorted(apart, key=lambda x: (apart[x], x != family))) or (family,)


def _distance(a: Device, b: Device) -> float:
    """How unlike two devices are: logarithms of the ratios of their rates and of their memories' bandwidth."""
    rates = [{(e.kind, n): r for e in d.engines for n, r in e.rates.items()} for d in (a, b)]
    pairs = [(rates[0][k], rates[1][k]) for k in rates[0].keys() & rates[1].keys()]
    pairs.append((a.memory.bandwidth, b.memory.bandwidth))
    return float(sum(abs(np.log(np.max(x) / np.max(y))) for x, y in pairs))


def siblings(device: Device, op: str, without: frozenset[str]) -> bool:
    """Whether another device of the family than those ``without`` has classes of an op."""
    folders = _members(device.family, device.name)
    files = [_HERE / f / f"{op}.yaml" for f in folders]
    return any(p.is_file() and without.isdisjoint(_read(p)["devices"]) for p in files)


@lru_cache(maxsize=64)
def _carried_by(vendor: str, op: str) -> Mapping[str, Mapping[str, float]]:
    """By engine: logarithms by which intervals widen for classes of a sibling (``device``) and of another version."""
    path = _HERE / vendor / f"{op}.yaml"
    found: Mapping[str, Mapping[str, float]] = _read(path).get("carried", {}) if path.is_file() else {}
    return found


def _wider(found: Mapping[tuple[str, str, str], Fit], vendor: str) -> dict[tuple[str, str, str], Fit]:
    """Classes of the same library under another engine, with intervals as wide as leaving versions out shows."""
    out = {}
    for key, fit in found.items():
        more = exp(_carried_by(vendor, key[0]).get("*", {}).get("library", 0.0))
        low, high = (float(x) for x in fit.plain)
        out[key] = replace(fit, interval=(low / more, high * more))
    return out


def _nearer(version: str, held: str, asked: str) -> bool:
    """Whether classes of a version say more of the version asked for than those held: not newer than it, and newer
    than those; where none is as old, the older."""
    if not asked or not version:
        return False
    limit, a, b = release(asked), release(version), release(held)
    within = [x[: len(limit)] <= limit for x in (a, b)]
    return a > b if all(within) else within[0] or (not within[1] and a < b)


def carry(data: Mapping[str, Any], clock: Num, unit_share: Num, peak: Num = nan) -> dict[str, Num]:
    """Factors that carry coefficients from the device they were fitted on (``at``) to one of another clock.

    What a kernel spends in chains of dependent instructions and cache misses is a number of cycles (``cycles`` names
    such coefficients), and what one unit draws of the memory a number of bytes a cycle (``draws``: fractions of the
    unit's share of the bandwidth). Where two datasheets state the same peak of a unit for different clocks, the clock
    says how fast it is: ``rates`` are fractions of such peaks, ``counts`` are operations counted against them.
    Nothing is carried where a clock is not known.
    """
    at = data.get("at", {})
    slower = float(at.get("clock", nan)) / clock
    if not np.all(np.isfinite(slower)):
        return {}
    out: dict[str, Num] = dict.fromkeys(data.get("cycles", ()), slower)
    if "draws" in data:
        out |= dict.fromkeys(data["draws"], float(at["unit_share"]) / unit_share / slower)
    if "unit_rate" in at:
        alike = np.isclose(peak, float(at["unit_rate"]), rtol=1e-3)
        out |= dict.fromkeys(data.get("counts", ()), where(alike, slower, 1.0))
        out |= dict.fromkeys(data.get("rates", ()), where(alike, 1.0 / slower, 1.0))
    return out


def unit_rate(device: Device) -> Num:
    """16-bit FLOP per second of the peak that fall to one vector unit; nan without one."""
    units = next((e.units for e in device.engines if e.kind == "vector"), nan)
    return _peak(device) / units


def _peak(device: Device) -> Num:
    return maximum(0.0, *(e.rates.get(d, 0.0) for e in device.engines for d in ("bf16", "fp16")))


def _watts(device: Device) -> Num:
    """Rated watts for each 16-bit FLOP per second of the peak; 0 where either is not known."""
    peak = _peak(device)
    rated = where(np.isnan(np.asarray(device.power.rated)), 0.0, device.power.rated)
    return 0.0 if is_zero(peak) else rated / peak


def _sustained(measured: tuple[str, ...], watts: Num) -> Num:
    """The clock of matrix products over that of the sibling they were measured on.

    Products at full rate are bound by power. A card that has fewer watts for its peak than the sibling runs slower:
    dynamic power goes with the cube of the clock, since the voltage follows it (Chandrakasan et al., Low-Power CMOS
    Digital Design, 1992). One that has more runs as much faster, as far as products go at all (``_BEST``).

    Held out: from what the B200 reaches of its bf16 peak the law puts the B300 at 0.90, without it at 0.88, where 0.98
    was measured; and the PCIe cards of the A100 and H100 are at 0.90 and 0.79 of the modules, by it at 0.91 and 0.87.
    """
    from tierwise.machines import device

    known = _watts(device(measured[0])) if measured else 0.0
    return 1.0 if is_zero(known) or is_zero(watts) else num((watts / known) ** (1.0 / 3.0))


def _same_instructions(fit: Fit, factor: Num) -> Fit:
    """A class of a sibling at the rate its kernels had there: ``factor`` is how much further above it the peak was."""
    if is_zero(factor - 1.0) or not set(_instructions()["classes"]) & set(fit.dtype.split("-")):
        return fit
    # A module of latent attention has a rate of its own for its core, which is in no such format.
    name = "gemm_compute" if fit.op.startswith("mla_") else "compute"
    return replace(fit, values={**fit.values, name: _at_most(float(fit[name]), factor)})


def _unused(device: Device) -> Num:
    """How many times the narrowest format's peak is what kernels of the family use (``kernels/instructions.yaml``)."""
    rule = _instructions()
    narrow = maximum(0.0, *(e.rates.get(rule["format"], 0.0) for e in device.engines))
    known = device.family == rule["family"] and not is_zero(narrow)
    return maximum(1.0, narrow / (float(rule["times"]) * _peak(device))) if known else 1.0


@cache
def _instructions() -> dict[str, Any]:
    return dict(parsed((_HERE.with_name("kernels") / "instructions.yaml").read_text()))


def _fits(
    op: str, data: Mapping[str, Any], device: str, factors: Mapping[str, Num],
    wider: Mapping[str, Mapping[str, float]], asked: str,
) -> dict[tuple[str, str, str], Fit]:  # fmt: skip
    """The classes of one file, by (op class, dtype, engine). What classes share is written once, under ``shared``.

    Intervals of classes carried to a sibling or to another version are ``wider`` by what leaving devices out shows.
    """
    own = device in data["devices"]
    basis = "calibrated" if own else "transferred"
    out = {}
    for row in data["classes"]:
        low, high = row["interval"] if own or wider else row.get("transferred", row["interval"])
        plain, version = (float(row["interval"][0]), float(row["interval"][1])), str(row.get("version", ""))
        other = bool(asked and version) and not same_release(asked, version)
        if wider and (other or not own):
            by = wider.get(str(row.get("engine", "*")).partition(":")[0], wider["*"])
            more = exp(by["version" if other else "device"])
            low, high = low / more, high * more
        fit = Fit(
            op=op,
            dtype=str(row["dtype"]),
            engine=str(row.get("engine", "*")),
            values={
                name: _carried(name, value, factors.get(name, 1.0), op)
                for name, value in {**data.get("shared", {}), **row.get("coefficients", {})}.items()
            },
            basis=basis,
            interval=(float(low), float(high)),
            source=str(data["source"]),
            errors=row.get("errors", {}),
            version=version,
            plain=plain,
        )
        out[op, fit.dtype, fit.engine] = fit
        if "kernel" in row and ":" not in fit.engine and fit.engine != "*":
            # By the name of its kernel too, whatever an engine of another version picks.
            out[op, fit.dtype, f"{fit.engine}:{row['kernel']}"] = fit
    return out


def _carried(name: str, value: float, factor: Num, op: str) -> Num:
    return _at_most(value, factor) if name == "compute" and op in _PRODUCTS else value * factor


def _at_most(value: float, factor: Num) -> Num:
    """A fraction of a peak times a factor, as far as products go at all."""
    return where(np.asarray(factor) > 1.0, minimum(value * factor, max(value, _BEST)), value * factor)


def _devices(path: Path) -> list[str]:
    """The devices that a file was fitted on, without reading its coefficients where a line of its own says them."""
    line = re.search(r"^devices: *\[([^\[\]\n]*)\]$", path.read_text(), re.M)
    return [d.strip() for d in line[1].split(",")] if line else list(_read(path)["devices"])


def _read(path: Path) -> dict[str, Any]:
    return dict(_parsed(path))


@lru_cache(maxsize=512)
def _parsed(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = parsed(path.read_text())
    return found
