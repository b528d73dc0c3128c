"""Up to which message size an engine's version adds up among devices by which of its kernels:
``kernels/all_reduce.yaml``, as coefficients of the classes of its all-reduce."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.yamltext import parsed
from tierwise.cost.types import Fit
from tierwise.cost.versions import release

OP = "custom_allreduce"
# Sizes of groups that engines tell apart, and their ways from the smallest messages to the largest.
GROUPS = (2, 4, 8)
WAYS = ("once", "twice", "cast")
# Coefficients of the ways that not every engine's rows went.
OF_WAY = {"twice": ("middle_extra", "middle_step", "middle"), "cast": ("cast_extra", "cast")}


def with_limits(
    fits: Mapping[tuple[str, str, str], Fit], engine: str, version: str, family: str, device: str
) -> dict[tuple[str, str, str], Fit]:
    """The classes of all-reduces among peers with the limits of the engine's version: that asked for, else the one they
    were recorded under. A way that no row of a class went has the coefficients of the device's typical class, or of
    any that has them.

    Args:
        fits: classes by (op, class, engine or engine:kernel). Those through the host have none; those of a typical
            engine have the limits of the engine asked for.
        engine, version: asked for; ``""``: any.
    """
    peers = {key: fit for key, fit in fits.items() if key[0] == OP and not key[1].endswith("-host")}
    out = {}
    for key, fit in peers.items():
        who = engine if key[2] == "*" else key[2].partition(":")[0]
        at = version if version and who == engine else fit.version
        values, most = dict(fit.values), limits(who, at, family, device)
        for way, names in OF_WAY.items():
            near = (fit, peers.get((OP, key[1], "*"), fit), *peers.values())
            known = next((f.values for f in near if names[0] in f.values), None)
            if known is None:
                most |= {f"{way}_{n}": 0.0 for n in GROUPS if most}
            else:
                values |= {name: known[name] for name in names}
        out[key] = replace(fit, values={**values, **most})
    return out


def limits(engine: str, version: str, family: str, device: str) -> dict[str, float]:
    """``once_2`` to ``cast_8``: the most bytes by way and largest group; nothing where an engine's are not known.
    ``version``: ``""`` for the newest."""
    for rule in _rules():
        if rule["engine"] != engine or device in rule.get("but", ()):
            continue
        if device not in rule.get("devices", (device,)) or family not in rule.get("families", (family,)):
            continue
        early = bool(version) and release(version) < release(rule.get("since", "0"))
        if early or ("before" in rule and not (version and release(version) < release(rule["before"]))):
            continue
        return {f"{way}_{n}": float(rule.get(way, {}).get(n, 0.0)) for way in WAYS for n in GROUPS}
    return {}


@cache
def _rules() -> list[dict[str, Any]]:
    return list(parsed(Path(__file__).with_name("kernels").joinpath("all_reduce.yaml").read_text())["rules"])
