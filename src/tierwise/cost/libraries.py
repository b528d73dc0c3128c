"""Kernels that engines share: ``kernels/libraries.yaml`` names libraries and how recordings call their kernels.

An engine moves from one library to another between versions, under its own name or under a new one. Coefficients then
follow the kernel: those of the same library under another engine say more than the engine's own of another library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.yamltext import parsed
from tierwise.cost.types import Fit
from tierwise.cost.versions import release

Key = tuple[str, str, str]


def stand_ins(engine: str, version: str, kernel: str, fits: Mapping[Key, Fit]) -> dict[Key, Fit]:
    """Classes of other engines that stand for those of an engine whose kernel was not recorded, by what they replace.

    Args:
        engine, version: asked for; ``""`` for a version: the newest recorded.
        kernel: one kernel of it by the name recordings have, or ``""``: those it has classes of, which may be of
            another version.
        fits: all classes of the device, by (op, dtype, engine or engine:kernel), the nearest first.
    """
    of_engine = [k for k in fits if k[2].startswith(f"{engine}:")]
    names = {id(fits[k]): k[2] for k in of_engine}
    main = {k: names.get(id(f), "") for k, f in fits.items() if k[2] == engine}
    wanted = {(op, dtype, f"{engine}:{kernel}"): f"{engine}:{kernel}" for op, dtype, _ in fits} if kernel else {}
    out: dict[Key, Fit] = {}
    for key, name in {**main, **dict(zip(of_engine, (k[2] for k in of_engine), strict=True)), **wanted}.items():
        op, dtype, _ = key
        held = fits.get(key)
        at = version or (held.version if held is not None else "")
        library = _library(op, dtype, name, at)
        if not library or (held is not None and library == _library(op, dtype, name, held.version)):
            continue
        same = _same(op, dtype, library, fits) or _same(op, _beside(library, dtype), library, fits)
        if same:
            # Of one device's, the engine's own commonest kernel first.
            own = {id(f) for k, f in fits.items() if k == (op, dtype, engine)}
            near = min(same, key=lambda f: (("calibrated", "transferred").index(f.basis), id(f) not in own))
            values = {**near.values, **_launched(op, dtype, name, at)}
            out[key] = replace(near, dtype=dtype, engine=key[2], values=values, basis="transferred")
    return out


def _same(op: str, dtype: str, library: str, fits: Mapping[Key, Fit]) -> list[Fit]:
    """The classes of a library's kernels, whoever calls them."""
    named = [(k[2], f) for k, f in fits.items() if k[:2] == (op, dtype) and ":" in k[2]]
    return [f for other, f in named if _library(op, dtype, other, f.version) == library]


def _beside(library: str, dtype: str) -> str:
    """The format whose kernels are nearest to those of a format."""
    return next((str(x.get("beside", {}).get(dtype, "")) for x in _libraries() if x["name"] == library), "")


def _library(op: str, dtype: str, name: str, version: str) -> str:
    """The library that a kernel (``engine:kernel``) of a version is of; ``""`` where none is known."""
    return _member(op, dtype, name, version)[0]


def _launched(op: str, dtype: str, name: str, version: str) -> dict[str, float]:
    """Coefficients that say how a version of an engine launches a kernel, whoever else does it otherwise."""
    return dict(_member(op, dtype, name, version)[1].get("with", {}).get(dtype, {}))


@cache
def _member(op: str, dtype: str, name: str, version: str) -> tuple[str, dict[str, Any]]:
    """(library, what it says of the kernel); ``""`` and nothing where none is known."""
    at = release(version)
    for library in _libraries():
        if op not in library["ops"] or dtype not in library.get("formats", (dtype,)):
            continue
        for member in library["kernels"]:
            later = "since" not in member or not version or at >= release(member["since"])
            sooner = "before" not in member or (version and at < release(member["before"]))
            if later and sooner and re.fullmatch(member["of"], name):
                return str(library["name"]), member
    return "", {}


@cache
def _libraries() -> list[dict[str, Any]]:
    return list(parsed(Path(__file__).with_name("kernels").joinpath("libraries.yaml").read_text())["libraries"])
