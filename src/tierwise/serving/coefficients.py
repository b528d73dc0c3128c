"""The fitted numbers of the closed loop: a base for each, and how engines and clients deviate from it.

``calibration/serving.yaml`` holds them. A coefficient of a row is its base times the deviations of whatever levels
it is known to belong to; an engine that was never measured gets the base alone. What a step takes beyond its ops is not
the loop's: it has the corrections that everybody has (:mod:`tierwise.steps.corrections`), fitted together with these.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.yamltext import parsed
from tierwise.machines import system
from tierwise.serving.steady import START
from tierwise.serving.step_times import Array
from tierwise.steps.corrections import Corrections, serving_fit

Flags = NDArray[np.bool_] | bool

FILE = Path(__file__).parent / "calibration" / "serving.yaml"
# What corrects steps; the rest is the loop's own.
STEPS = ("ops", "gap", "gap_sequence", "gap_expert", "launch", "request")
# Which coefficients may differ by what, beside engine: a device's by its family and system, the client's and
# scheduler's by client. Deviations by build predict builds that were left out worse (docs/accuracy.md): a build has
# what its engine's have in common, and what its recipe and version say.
FLAT = frozenset({"accept", "draft", "host.poll", "disaggregated.request", "disaggregated.decode",
                  "disaggregated.prefill"})  # fmt: skip
BY_CLIENT = frozenset({"client.request", "host.prompt", "host.cold", "host.lost", "burst", "queue", "prefill.batching",
                       "rank.wait"})  # fmt: skip
BY_SYSTEM = frozenset({"ops", "gap"})
_SUFFIX = re.compile(r"[-_](fp8|nvfp4|fp4|int4|bf16|awq|gptq|w4a16|mxfp4|static|pertensor|dynamic|block|\d{4})$", re.I)


@dataclass(frozen=True)
class EngineKey:
    """What a fitted number may depend on.

    Attributes:
        engine, system: by name; ``build``: engine and version, or month; ``client``: whose, ``inferencex`` or other.
        dense, experts: number formats of dense layers and of routed experts.
        Each is ``""`` where nobody said.
    """

    engine: str
    system: str = ""
    dense: str = ""
    experts: str = ""
    client: str = ""
    build: str = ""


def levels(keys: Sequence[EngineKey]) -> dict[str, NDArray[np.str_]]:
    """What each belongs to, by level: names of shape (n,)."""

    def column(of: Callable[[EngineKey], str]) -> NDArray[np.str_]:
        return np.asarray([of(key) for key in keys], dtype=np.str_)

    out = {"engine": column(lambda k: k.engine), "system": column(lambda k: k.system.lower())}
    out |= {"family": column(lambda k: family_of(k.system.lower()))}
    out |= {"client": column(lambda k: k.client), "dense": column(lambda k: _plain(k.dense))}
    return {**out, "engine+client": np.char.add(np.char.add(out["engine"], "/"), out["client"])}


@lru_cache(maxsize=256)
def family_of(name: str) -> str:
    """The family of a system's device, by the name that files of measurements give it; "" where it is not on file."""
    try:
        return system(name.replace("_", "-")).device.family if name else ""
    except TierwiseError:
        return ""


def levels_of(name: str) -> tuple[str, ...]:
    """The levels by which a coefficient deviates."""
    if name in FLAT:
        return ()
    if name == "client.request":  # an engine's own is that of ``request``
        return ("client", "engine+client")
    out = ["engine"]
    out += ["family", "system"] if name in BY_SYSTEM else []
    out += ["client", "engine+client"] if name in BY_CLIENT else []
    return tuple(out)


# Of what engines' intervals are wider or narrower where a prediction is ``calibrated``.
WIDTH_LEVELS = ("engine", "system", "dense", "client")


def features(
    keys: Sequence[EngineKey], models: Sequence[str], experts: Flags, drafts: Flags, ranks: Flags
) -> dict[str, Flags]:
    """What is known in advance of how far predictions may be off: by feature, which of n have it.

    Args:
        models: by name; ``experts``, ``drafts``, ``ranks``: whether a model has experts, tokens are drafted, and
            attention is data parallel; all of shape (n,), or scalars.
    """
    out: dict[str, Flags] = {"experts": experts, "drafts": drafts, "ranks": ranks}
    level = levels(keys)
    names = {**{by: level[by] for by in WIDTH_LEVELS}, "model": np.asarray([unquantized(m) for m in models])}
    for by, of in names.items():
        out |= {f"{by}/{name}": of == name for name in np.unique(of)}
    return out


def unquantized(model: str) -> str:
    """A published name without what it says of number formats and dates."""
    while (cut := _SUFFIX.sub("", model)) != model:
        model = cut
    return model


def _plain(name: str) -> str:
    return "bf16" if not name else name.removesuffix("-block")


@dataclass(frozen=True)
class Calibration:
    """What ``calibration/serving.yaml`` says.

    Attributes:
        base: of every coefficient; ``factors``: by coefficient, level and name, multiplying it.
        seen: names at fit time by ``engine``, ``system`` and ``model``.
        intervals: by basis and quantity, factors on the prediction that 80 % of measurements lie between where no
            feature of it is known; ``wider``: by basis and quantity, how many times as far apart their logs are for
            each feature (see :func:`features`).
    """

    base: Mapping[str, float]
    factors: Mapping[str, Mapping[str, Mapping[str, float]]]
    seen: Mapping[str, frozenset[str]]
    intervals: Mapping[str, Mapping[str, tuple[float, float]]]
    wider: Mapping[str, Mapping[str, Mapping[str, float]]]
    source: str

    def interval(self, basis: str, quantity: str, known: Mapping[str, Flags]) -> tuple[Array, Array]:
        """Factors on a prediction that 80 % of measurements lie between, of the shape of the features' flags."""
        width = np.ones(np.broadcast_shapes(*(np.shape(flag) for flag in known.values())))
        table = self.wider.get(basis, self.wider["transferred"])[quantity]
        for name, flag in known.items():
            width = width * np.where(flag, table.get(name, 1.0), 1.0)
        low, high = (np.exp(np.log(x) * width) for x in self.intervals[basis][quantity])
        return low, high

    def of(self, keys: Sequence[EngineKey]) -> dict[str, Array]:
        """Every coefficient of each key, shape (n,)."""
        level = levels(keys)
        fitted, names = serving_fit(), list(zip(level["engine"], level["family"], level["system"], strict=True))
        steps = {n: fitted.of(*map(str, n)) for n in dict.fromkeys(names)}
        out = {name: np.asarray([steps[n][name] for n in names]) for name in STEPS}
        for name, start in START.items():
            if name in STEPS:
                continue
            value = np.full(len(keys), self.base.get(name, start))
            for by, table in self.factors.get(name, {}).items():
                for key, factor in table.items():
                    value = np.where(level[by] == key, value * factor, value)
            out[name] = value
        return out

    def basis(self, key: EngineKey, model: str) -> str:
        """``calibrated`` where the engine ran this model on this machine when the coefficients were fitted, else
        ``transferred``: what a prediction rests on, a key of ``intervals``."""
        seen = {"engine": key.engine, "system": key.system.lower(), "model": unquantized(model)}
        return "calibrated" if all(name in self.seen[of] for of, name in seen.items()) else "transferred"


def own_steps(coef: Mapping[str, Array], fixes: Corrections) -> dict[str, Array]:
    """The coefficients of a loop whose steps were priced with their corrections: nothing multiplies their ops once
    more, and what lies between and around them is what these say."""
    one = np.ones_like(coef["queue"])
    given = {"ops": 1.0, "gap": fixes.gap + fixes.step, "gap_sequence": fixes.gap_sequence + fixes.sequence,
             "gap_expert": fixes.gap_expert, "launch": fixes.launch, "request": fixes.request}  # fmt: skip
    return {**coef, **{name: value * one for name, value in given.items()}}


@lru_cache(maxsize=8)
def calibration(path: Path = FILE) -> Calibration:
    """The calibration on file.

    Raises:
        BadField: a coefficient that the closed loop does not have.
    """
    data: dict[str, Any] = parsed(path.read_text())
    if unknown := sorted(data["coefficients"].keys() - (START.keys() - set(STEPS))):
        raise BadField(str(path), "coefficients", unknown, "names of tierwise.serving.steady.START")
    base, factors = {}, {}
    for name, entry in data["coefficients"].items():
        base[name] = float(entry.pop("base"))
        factors[name] = {by: {str(k): float(v) for k, v in table.items()} for by, table in entry.items()}
    intervals = {
        basis: {q: (float(low), float(high)) for q, (low, high) in table.items()}
        for basis, table in data["intervals"].items()
    }
    wider = {basis: {q: {name: float(x) for name, x in table.items()} for q, table in entry.items()}
             for basis, entry in data["wider"].items()}  # fmt: skip
    return Calibration(base, factors, serving_fit().seen, intervals, wider, str(data["source"]))
