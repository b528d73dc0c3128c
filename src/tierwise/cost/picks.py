"""Which kernels an engine picks for a format on a device: ``kernels/<engine>.yaml``, by op, format, family, version.

A recording may be of another kernel than the engine runs for most checkpoints of a format, or of one that was not tuned
as the engine tunes it. What is picked is a class that was measured, perhaps of a neighbouring format.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.yamltext import parsed
from tierwise.cost.types import Fit
from tierwise.cost.versions import release

_HERE = Path(__file__).with_name("kernels")
Key = tuple[str, str, str]


def picks(engine: str, version: str, family: str, fits: Mapping[Key, Fit]) -> dict[Key, Fit]:
    """The classes an engine's picks replace: by (op, format, engine), those of the kernels picked.

    Args:
        engine, version: by name (``""``: a typical engine alone), and the version asked for, ``""``: the newest.
        family: of the device. ``fits``: all its classes. Picks of kernels that it has no class of are left out. A class
            that another replaces stays that of the kernel a rule calls ``recorded``.
    """
    out = {}
    every = [("*", rule) for rule in _rules("typical")] + [(engine, rule) for rule in _rules(engine)]
    for name, rule in every:
        since = str(rule.get("since", ""))
        if family not in rule["families"] or (version and release(version) < release(since)):
            continue
        fit = fits.get((rule["op"], str(rule["as"]), str(rule["kernel"])))
        if fit is not None:
            key = (str(rule["op"]), str(rule["format"]), name)
            out[key] = replace(fit, dtype=key[1], engine=name)
            if "recorded" in rule and key in fits:
                out[*key[:2], f"{name}:{rule['recorded']}"] = fits[key]
    return out


@cache
def _rules(engine: str) -> list[dict[str, Any]]:
    path = _HERE / f"{engine}.yaml"
    return list(parsed(path.read_text())["picks"]) if path.is_file() else []
