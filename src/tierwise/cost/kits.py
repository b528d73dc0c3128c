"""Coefficients of engines that bring their own kernels to one's own machine: llama.cpp, its forks, MLX.

One file of ``own_kernels`` is one backend of one engine (CUDA, Metal, Vulkan, ROCm, processors). It says which
devices it runs on and what its kernels reach there; :mod:`tierwise.cost.ondevice` says how.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from tierwise import engines as engine_facts
from tierwise.core.yamltext import parsed
from tierwise.machines.types import Device

_HERE = Path(__file__).parent / "own_kernels"


@dataclass(frozen=True)
class Kit:
    """What the kernels of one backend reach.

    Attributes:
        name: of the file.
        values: coefficients of all formats, see :mod:`tierwise.cost.ondevice`.
        classes: coefficients by class of weight formats (``f16``, ``bf16``, ``q8``, ``q5``, ``q4``, ``k``, ``iq``).
        peaks: what products of a class are counted against (:func:`tierwise.cost.ondevice.peak`).
        kernels: kernels of an op, by its kind or name.
        reads: what the backend's own bandwidth test reads of the memory's bandwidth, where that is known.
        intervals: factors on a step's time that 80 % of measurements lie between, by ``decode`` and ``prefill``.
        devices: those it was fitted on.
        source: data, rows and date.
    """

    name: str
    values: Mapping[str, float]
    classes: Mapping[str, Mapping[str, float]]
    peaks: Mapping[str, str]
    kernels: Mapping[str, float]
    intervals: Mapping[str, tuple[float, float]]
    devices: frozenset[str]
    source: str
    reads: float = 1.0

    def basis(self, device: str) -> str:
        """``calibrated`` on a device of the fit, ``transferred`` to its siblings."""
        return "calibrated" if device in self.devices else "transferred"


def kit(engine: str, device: Device) -> Kit | None:
    """The kernels of an engine on a device; None where the engine brings none of its own, or none for such a device.

    Args:
        engine: by name, with a build after ``@`` where an older one is meant (``llama.cpp@1671``), and options after
            ``+`` (``llama.cpp@6077+hipblaslt``).
    """
    name = engine.partition("@")[0]
    build, options = built(engine)
    for data in _files().get(name, ()):
        runs = data["runs_on"]
        if (
            device.kind in runs.get("kinds", (device.kind,))
            and device.vendor.lower() in runs.get("vendors", (device.vendor.lower(),))
            and device.family in runs.get("families", (device.family,))
        ):
            return _kit(str(data["name"]), int(build) if build else None, device.family, options)
    # A fork has its parent's kernels where it brings none of its own; its builds are not counted as the parent's are.
    parent = engine_facts.load(name).fork_of if name in engine_facts.names() else ""
    return kit(parent, device) if parent else None


def engines() -> frozenset[str]:
    """Engines that bring kernels of their own."""
    return frozenset(_files())


@lru_cache(maxsize=1)
def _files() -> dict[str, list[dict[str, Any]]]:
    """Files by engine, the most particular (those that name families or vendors) first."""
    out: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(_HERE.glob("*.yaml")):
        data = parsed(path.read_text(encoding="utf-8"))
        data["name"] = path.stem
        for engine in data["engines"]:
            out.setdefault(engine, []).append(data)
    for found in out.values():
        found.sort(key=lambda d: -len(d["runs_on"]))
    return out


def built(engine: str) -> tuple[str, frozenset[str]]:
    """(the build an engine's name states, ``""`` for the newest; the options it states)."""
    build, *options = engine.partition("@")[2].split("+")
    return build if build.isdigit() else "", frozenset(options)


@lru_cache(maxsize=256)
def _kit(name: str, build: int | None, family: str, options: frozenset[str] = frozenset()) -> Kit:
    data = next(d for found in _files().values() for d in found if d["name"] == name)
    values, classes = dict(data["values"]), {k: dict(v) for k, v in data["classes"].items()}
    for change in data.get("changes", ()):
        if (
            ("before" not in change or (build is not None and build < change["before"]))
            and family in change.get("of", (family,))
            and change.get("with", "") in ("", *options)
        ):
            _change(values, classes, change)
    most = data.get("most", {})
    return Kit(
        name, _capped(values, most), {k: _capped(v, most) for k, v in classes.items()}, data["peaks"], data["kernels"],
        {k: (float(low), float(high)) for k, (low, high) in data["intervals"].items()},
        frozenset(data["devices"]), str(data["source"]), float(data.get("reads", {}).get(family, 1.0)),
    )  # fmt: skip


def _capped(values: Mapping[str, float], most: Mapping[str, float]) -> dict[str, float]:
    """Coefficients at most what a share of something can be, whatever builds change."""
    return {k: min(v, most.get(k, v)) for k, v in values.items()}


def _change(values: dict[str, float], classes: dict[str, dict[str, float]], change: Mapping[str, Any]) -> None:
    """Coefficients times factors; those of ``own`` are in place of the usual."""
    values |= change.get("own", {})
    for name, factor in change.get("values", {}).items():
        values[name] *= factor
    for kind, more in change.get("classes", {}).items():
        for name, factor in more.items():
            classes[kind][name] *= factor
