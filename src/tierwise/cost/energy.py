"""Energy by action: joules a FLOP by dtype, joules a byte by tier and link, and power drawn over time.

The numbers are in ``energy.yaml``, by silicon process. They are of bare adders, multipliers and memories. A sustained
matrix product at those joules draws less than a device is rated for: clocks, instructions, operands on their way and
leakage take the rest. That rest is counted as *active* power, drawn while the device works, whatever it does. Chips
that wait for their memory draw much of it too: a B200 draws 240 to 660 W of its 1000 in decode attention, at less than
a hundredth of its arithmetic (AIConfigurator's collected data), and a Ryzen AI Max+ 395 decodes at as many watts as it
prefills (lhl/strix-halo-testing). Where the table alone exceeds the rating, its joules are scaled down until it does
not.

A rated power says little about single actions, so the interval is wide: from the table without any active power to
the rated power all the time that the device works.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from tierwise.core.errors import UnknownName
from tierwise.core.num import Num, maximum, minimum, where
from tierwise.core.numerics import Names
from tierwise.cost.energy_table import link_energy, memory_energy, operation_energy, process_of, sram_energy
from tierwise.machines.types import Device, Engine, Tier

# The side of the product that "sustained" means: so large that every device runs it at a flat rate, and that its
# operands pass through the main memory about once.
_SIDE = 8192.0
# Formats from narrow to wide: a device without one computes in the next that it has.
_WIDER = ("int1", "int2", "int4", "int8", "int16", "int32", "fp4", "fp6", "fp8", "bf16", "fp16", "tf32", "fp32", "fp64")


@dataclass(frozen=True)
class Actions:
    """What each action of one device costs.

    Attributes:
        flops: joules a FLOP, by engine and dtype.
        bytes: joules a byte read, by tier and link. ``link`` is the scale-up link, ``network`` the scale-out one,
            ``host`` the one to the host.
        written: joules a byte written, by tier.
        idle: watts drawn doing nothing; ``nan`` where nobody measured it.
        active: watts beside the actions and the idle power while the device works; 0 where no rated power is known.
        rated: watts that it never draws more than; ``nan`` where nobody says.
        process: nanometres.
        scale: what the table's joules of engines and on-chip tiers were multiplied by (at most 1).
        spread: factors on the joules of a component that sources of it lie between, by component.
        sources: where the numbers come from, by component.
    """

    flops: Mapping[str, Mapping[str, Num]]
    bytes: Mapping[str, Num]
    written: Mapping[str, Num]
    idle: Num
    active: Num
    rated: Num
    process: Num
    scale: Num
    spread: Mapping[str, tuple[Num, Num]]
    sources: Mapping[str, str]


def actions(device: Device, reached: Num | None = None) -> Actions:
    """Joules by action on a device; any of its numbers may be arrays.

    Args:
        device: what acts.
        reached: fraction of the peak rate that sustained products reach; by default what the calibration says.
    """
    process, why = process_of(device)
    scale, active = _fitted(device, process, _reached(device) if reached is None else reached)
    sources = {"process": why, "idle": device.power.source, "active": "what the rated power leaves"}
    flops: dict[str, Mapping[str, Num]] = {}
    for engine in device.engines:
        joules, sources[engine.name] = _operations(engine, process)
        flops[engine.name] = {k: v if k in engine.energy else v * scale for k, v in joules.items()}
    bytes_: dict[str, Num] = {}
    written: dict[str, Num] = {}
    spread: dict[str, tuple[Num, Num]] = {}
    for tier in device.tiers:
        plain, source, around = _tier(device, tier, process)
        factor = scale if _on_chip(tier) else 1.0
        joules_ = where(np.isnan(tier.energy), plain * factor, tier.energy)
        bytes_[tier.name], spread[tier.name] = joules_, around
        sources.setdefault(tier.name, tier.source if np.all(np.isfinite(tier.energy)) else source)
        written[tier.name] = where(np.isnan(tier.write_energy), joules_, tier.write_energy)
    for link in sorted(device.links, key=lambda x: x is not device.link(x.kind)):
        joules_, source, around = link_energy(link)
        for name in (link.name, _LINKS[link.kind]):
            if name not in bytes_:
                bytes_[name], sources[name], spread[name] = joules_, source, around
    for name in ("link", "network"):  # without a link of its own, devices meet over that to the host
        if name not in bytes_ and "host" in bytes_:
            bytes_[name], sources[name], spread[name] = bytes_["host"], sources["host"], spread["host"]
    if device.cache is None:  # what prices count through a cache goes straight to the memory here
        bytes_["cache"], sources["cache"] = 0.0, "the device has no cache"
    power = device.power
    return Actions(flops, bytes_, written, power.idle, active, power.rated, process, scale, spread, sources)


_LINKS = {"scale-up": "link", "scale-out": "network", "host": "host"}
"""What prices call the bytes over a link of a kind."""


def energy(
    flops: Mapping[str, Num],
    moved: Mapping[str, Num],
    seconds: Num,
    of: Actions,
    busy: Num | None = None,
    written: Mapping[str, Num] | None = None,
) -> dict[str, Num]:
    """Joules by component: engines, tiers and links; ``active`` while the device works; ``idle`` all the time.

    Args:
        flops: FLOP by dtype, on the engine that has it (or the next wider one); by ``engine:dtype`` on a named one.
        moved: bytes by tier or link, reads and writes together.
        seconds: how long the device was on for it.
        of: what each action costs.
        busy: seconds of those in which it worked; by default all.
        written: those of the bytes in ``moved`` that were written, by tier.

    Raises:
        UnknownName: an engine, tier or link that the device does not have.
    """
    out: dict[str, Num] = {}
    for key, count in flops.items():
        engine, dtype = _engine(key, of)
        out[engine] = out.get(engine, 0.0) + count * of.flops[engine][dtype]
    for name, count in moved.items():
        if name not in of.bytes:
            raise UnknownName("tier or link", name, of.bytes)
        writes = (written or {}).get(name, 0.0)
        joules = (count - writes) * of.bytes[name] + writes * of.written.get(name, of.bytes[name])
        out[name] = out.get(name, 0.0) + joules
    out["active"] = of.active * (seconds if busy is None else busy)
    out["idle"] = of.idle * seconds
    return out


def by_dtype(flops: Num, arithmetic: Names) -> dict[str, Num]:
    """FLOP by dtype, as :func:`energy` takes them, of an op whose format may be an array, one a configuration."""
    names = np.asarray(arithmetic)
    return {str(d): where(names == d, flops, 0.0) if names.ndim else flops for d in np.unique(names)}


def stretch(joules: Num | Mapping[str, Num], seconds: Num, cap: Num, idle: Num = 0.0) -> Num:
    """Seconds under a power cap: what would draw more than the cap takes longer, at the same joules.

    Args:
        joules: of all but the idle power; the component ``idle`` of a mapping is left out.
        seconds: without a cap.
        cap: watts; ``nan`` is no cap.
        idle: watts drawn all the time, also while it takes longer.
    """
    if isinstance(joules, Mapping):
        joules = sum((v for k, v in joules.items() if k != "idle"), 0.0)
    left = maximum(where(np.isnan(cap), np.inf, cap) - where(np.isnan(idle), 0.0, idle), 0.0)
    needed = where(np.asarray(joules) > 0.0, joules / maximum(left, 1e-300), 0.0)
    return maximum(seconds, needed)


def interval(joules: Mapping[str, Num], of: Actions) -> tuple[Num, Num]:
    """Joules in all that the estimates lie between, of components as :func:`energy` gives them.

    The low end has no active power and the lowest source of every action; the high end has the highest, and the rated
    power for as long as the device worked, if that is more.
    """
    ends = [sum((v * of.spread.get(k, (1.0, 1.0))[i] for k, v in joules.items()), 0.0) for i in (0, 1)]
    active = joules.get("active", 0.0)
    busy = where(np.asarray(of.active) > 0.0, active / maximum(of.active, 1e-300), 0.0)
    rated = where(np.isnan(of.rated - of.idle), 0.0, (of.rated - of.idle) * busy) + joules.get("idle", 0.0)
    return ends[0] - active, maximum(ends[1], rated)


# ---------------------------------------------------------------- fitting to the rated power


def sustained(device: Device, engine: Engine, dtype: str, reached: Num) -> tuple[Num, dict[str, Num]]:
    """(FLOP/s, bytes/s by tier) of a large square product that an engine works on at its flat rate.

    Each operand passes through the main memory once, and through the last cache once for every tile of the output in
    its way: a multiply-add of an (m, n) tile needs ``1/m + 1/n`` elements.
    """
    rate = engine.rates[dtype] * reached
    size = _BYTES[dtype]
    out: dict[str, Num] = {}
    if any(t.kind == "memory" for t in device.tiers):
        out[device.memory.name] = minimum(rate * 3.0 * size / (2.0 * _SIDE), device.memory.bandwidth)
    if device.cache is not None and engine.tiles:
        m, n = engine.tiles[0]
        out[device.cache.name] = minimum(rate * size / 2.0 * (1.0 / m + 1.0 / n), device.cache.bandwidth)
    return rate, out


_BYTES = {"fp64": 8.0, "fp32": 4.0, "tf32": 4.0, "fp16": 2.0, "bf16": 2.0, "fp8": 1.0, "fp6": 0.75, "fp4": 0.5,
          "int32": 4.0, "int16": 2.0, "int8": 1.0, "int4": 0.5, "int2": 0.25, "int1": 0.125}  # fmt: skip


def _fitted(device: Device, process: Num, reached: Num) -> tuple[Num, Num]:
    """(scale, active watts) of the table on a device, from the engine and dtype that draw most.

    Off-chip memory counts with the table's energy, not with what a file states: a machine whose memory takes more is
    not one whose engines take less.
    """
    budget = device.power.rated - device.power.idle
    scale: Num = 1.0
    active: Num = np.inf
    each = {t.name: (_tier(device, t, process)[0], _on_chip(t)) for t in device.tiers}
    for engine in device.engines:
        joules, _ = _operations(engine, process)
        for dtype in engine.rates:
            rate, moved = sustained(device, engine, dtype, reached)
            chip, outside = rate * joules[dtype], 0.0 * rate
            for name, passing in moved.items():
                byte, near = each[name]
                chip, outside = (chip + passing * byte, outside) if near else (chip, outside + passing * byte)
            scale = minimum(scale, maximum(budget - outside, 0.0) / chip)
            active = minimum(active, budget - outside - chip)
    known = np.isfinite(np.asarray(budget)) & np.isfinite(np.asarray(active))
    return where(known, scale, 1.0), where(known, maximum(active, 0.0), 0.0)


def _reached(device: Device) -> Num:
    from tierwise.cost.calibrate import efficiency

    found = efficiency(device)
    fit = found.fit("matmul", "bf16")
    return fit["compute"] if fit is not None and "compute" in fit.values else found.of("compute", "matmul")


# ---------------------------------------------------------------- the table, on a device


def _operations(engine: Engine, process: Num) -> tuple[dict[str, Num], str]:
    """Joules a FLOP by dtype: what a file states, else the table's."""
    out: dict[str, Num] = {}
    source = ""
    for dtype in engine.rates:
        out[dtype], source = operation_energy(dtype, process)
    return {**out, **engine.energy}, source


def _tier(device: Device, tier: Tier, process: Num) -> tuple[Num, str, tuple[float, float]]:
    """The table's (joules a byte, source, factors that sources lie between) of a tier."""
    if not _on_chip(tier):
        return memory_energy(tier)
    # A scratchpad is as many memories as there are units beside it; a cache is one that all of them reach.
    units = device.engines[0].units if device.engines and tier.kind != "cache" else 1
    joules, source = sram_energy(tier.capacity / units, process)
    return joules, source, (1.0, 1.0)


def _on_chip(tier: Tier) -> bool:
    return tier.kind in ("scratchpad", "cache") or tier.name.startswith("sram")


def _engine(key: str, of: Actions) -> tuple[str, str]:
    """The engine and dtype that FLOP of a key run in."""
    name, _, dtype = key.rpartition(":")
    if name and name not in of.flops:
        raise UnknownName("engine", name, of.flops)
    engines = {name: of.flops[name]} if name else of.flops
    wider = _WIDER[_WIDER.index(dtype) :] if dtype in _WIDER else (dtype,)
    for d in wider:
        for e, rates in engines.items():
            if d in rates:
                return e, d
    every = [(d, e) for e, rates in engines.items() for d in rates if d in _WIDER]
    if dtype not in _WIDER or not every:
        raise UnknownName("dtype", dtype, {d for rates in of.flops.values() for d in rates})
    widest = max(every, key=lambda x: _WIDER.index(x[0]))
    return widest[1], widest[0]
