"""The fitted numbers of the closed loop: a base for each, and how engines, machines and builds deviate from it.

``calibration/serving.yaml`` holds them. A coefficient of a row is its base times the deviations of whatever levels
it is known to belong to; an engine or machine that was never measured gets the base alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.recipes import Conditions
from tierwise.serving.rows import Row
from tierwise.serving.steady import START
from tierwise.serving.work import CLASSES, Array
from tierwise.steps.corrections import Corrections

FILE = Path(__file__).parent / "calibration" / "serving.yaml"
PRICED = frozenset(f"{phase}.{c}" for phase in ("decode", "prefill") for c in CLASSES)
# Which coefficients may differ by what, beside engine: kernels by machine and number format, the client's and
# scheduler's by client, host times and the large kernels by build.
FLAT = frozenset({"accept", "draft", "routing", "imbalance", "host.poll", "apart.request", "apart.decode",
                  "apart.prefill"})  # fmt: skip
BY_CLIENT = frozenset({"host.request", "host.prompt", "host.cold", "host.lost", "host.prefill", "burst", "queue",
                       "bunch", "rank.wait"})  # fmt: skip
BY_BUILD = frozenset({"host.step", "host.kernel", "host.launch", "host.expert", "host.request", "host.prefill",
                      "burst", "bunch", "rank.wait", "decode.matmul", "decode.moe", "decode.attention",
                      "prefill.matmul", "prefill.moe", "prefill.attention"})  # fmt: skip
BY_SYSTEM = PRICED | {"host.step", "host.kernel"}
BY_FORMAT = {"decode.matmul": "dense", "prefill.matmul": "dense", "decode.moe": "experts", "prefill.moe": "experts",
             "decode.attention": "dense", "host.cold": "dense"}  # fmt: skip


def levels(rows: Sequence[Row], conditions: Conditions) -> dict[str, NDArray[np.str_]]:
    """What each row belongs to, by level: names of shape (n,)."""
    engine = np.asarray([r.engine for r in rows], dtype=np.str_)
    system = np.asarray([r.system.lower() for r in rows], dtype=np.str_)
    dense = np.asarray([_plain(r.dense) for r in rows], dtype=np.str_)
    experts = np.asarray([_plain(r.experts) for r in rows], dtype=np.str_)
    return {
        "engine": engine,
        "system": system,
        "engine+system": _join(engine, system),
        "build": conditions.build,
        "client": conditions.kind,
        "engine+client": _join(engine, conditions.kind),
        "dense": dense,
        "experts": experts,
        "engine+dense": _join(engine, dense),
        "engine+experts": _join(engine, experts),
    }


def levels_of(name: str) -> tuple[str, ...]:
    """The levels by which a coefficient deviates."""
    if name in FLAT:
        return ()
    out = ["engine"]
    out += ["system", "engine+system"] if name in BY_SYSTEM else []
    out += ["build"] if name in BY_BUILD else []
    out += ["client", "engine+client"] if name in BY_CLIENT else []
    if name in BY_FORMAT:
        out += [BY_FORMAT[name], "engine+" + BY_FORMAT[name]]
    return tuple(out)


def _plain(name: str) -> str:
    return "bf16" if not name else name.removesuffix("-block")


def _join(a: NDArray[np.str_], b: NDArray[np.str_]) -> NDArray[np.str_]:
    return np.char.add(np.char.add(a, "/"), b)


@dataclass(frozen=True)
class Calibration:
    """What ``calibration/serving.yaml`` says.

    Attributes:
        base: of every coefficient; ``factors``: by coefficient, level and name, multiplying it.
        seen: names at fit time by ``engine``, ``system`` and ``model``.
        intervals: by basis and quantity, factors on the prediction that 80 % of measurements lie between.
    """

    base: Mapping[str, float]
    factors: Mapping[str, Mapping[str, Mapping[str, float]]]
    seen: Mapping[str, frozenset[str]]
    intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    source: str

    def of(self, level: Mapping[str, NDArray[np.str_]], n: int) -> dict[str, Array]:
        """Every coefficient of ``n`` rows, shape (n,)."""
        out = {}
        for name, start in START.items():
            value = np.full(n, self.base.get(name, start))
            for by, table in self.factors.get(name, {}).items():
                names = level[by]
                for key, factor in table.items():
                    value = np.where(names == key, value * factor, value)
            out[name] = value
        return out


def own_steps(k: Mapping[str, Array], fixes: Corrections) -> dict[str, Array]:
    """The coefficients of a loop whose steps are those of the step function: nothing multiplies their ops or spreads
    their experts once more, and the host adds what is on file for the engine."""
    one = np.ones_like(k["queue"])
    neutral = dict.fromkeys(PRICED, one) | {"routing": one}
    none = dict.fromkeys(("imbalance", "host.kernel", "host.expert"), 0.0 * one)
    host = {"host.step": (fixes.gap + fixes.step) * one, "host.sequence": fixes.sequence * one,
            "host.prefill": fixes.chunk * one, "host.launch": fixes.launch * one}  # fmt: skip
    return {**k, **neutral, **none, **host}


@lru_cache(maxsize=8)
def calibration(path: Path = FILE) -> Calibration:
    """The calibration on file."""
    import yaml

    data: dict[str, Any] = yaml.safe_load(path.read_text())
    base, factors = {}, {}
    for name, entry in data["coefficients"].items():
        base[name] = float(entry.pop("base"))
        factors[name] = {by: {str(k): float(v) for k, v in table.items()} for by, table in entry.items()}
    intervals = {
        basis: {q: (float(low), float(high)) for q, (low, high) in table.items()}
        for basis, table in data["intervals"].items()
    }
    seen = {k: frozenset(map(str, v)) for k, v in data["seen"].items()}
    return Calibration(base, factors, seen, intervals, str(data["source"]))
