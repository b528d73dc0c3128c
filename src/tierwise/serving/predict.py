"""From rows to predicted times: models and machines looked up, priced together, and put in the closed loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tierwise import engines
from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.cost import efficiency
from tierwise.machines import system
from tierwise.machines.types import System
from tierwise.memory.rules import rules
from tierwise.models.load import exact_model, load_model
from tierwise.models.types import Model
from tierwise.scenario.types import Plan
from tierwise.serving.closed_loop import closed_loop
from tierwise.serving.coefficients import Calibration, EngineKey, Flags, calibration, features, unquantized
from tierwise.serving.recipes import CacheFormat, Conditions, ExpertKernels, ExpertLayout, conditions, key_of
from tierwise.serving.rows import EngineGroup, RefusedLine, ServingRow
from tierwise.serving.steady import Coefficients, Steady
from tierwise.serving.step_times import (
    KINDS,
    PROMPTS,
    SHARES,
    Array,
    ClosedLoopPoint,
    StepTimes,
    cache_in,
    formats_of,
    room,
    step_times,
    take,
)
from tierwise.steps.corrections import Corrections
from tierwise.steps.price import engine_on

_ORGANIZATIONS = ("deepseek-ai", "meta-llama", "Qwen", "moonshotai", "MiniMaxAI", "openai", "zai-org", "mistralai")


@dataclass(frozen=True)
class Priced:
    """Rows with what they cost, arrays of shape (..., n) in the rows' order.

    ``servers``: prefilling ranks per decoding engine, 0 where one engine does both. ``unknown``: positions of the rows
    that may as well have run without drafts; ``undrafted``: those rows without any (None where there are none).
    """

    rows: tuple[ServingRow, ...]
    keys: tuple[EngineKey, ...]
    models: tuple[str, ...]
    conditions: Conditions
    point: ClosedLoopPoint
    times: StepTimes
    servers: Array
    unknown: NDArray[np.intp]
    undrafted: Priced | None

    def take(self, index: NDArray[np.intp]) -> Priced:
        """The rows of an index, each at most once."""
        how, place = self.conditions, {int(i): j for j, i in enumerate(index)}
        kept = {f.name: getattr(how, f.name)[index] for f in fields(how) if f.name != "client"}
        here = np.asarray([j for j, i in enumerate(self.unknown) if int(i) in place], dtype=np.intp)
        return Priced(
            tuple(self.rows[i] for i in index), tuple(self.keys[i] for i in index),
            tuple(self.models[i] for i in index),
            Conditions(client=take(how.client, index), **kept), take(self.point, index), take(self.times, index),
            self.servers[index], np.asarray([place[int(self.unknown[j])] for j in here], dtype=np.intp),
            self.undrafted.take(here) if self.undrafted is not None and len(here) else None,
        )  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """Seconds, shape (n,), the interval's factors (n, 2) of each, what it rests on, and the parts of the TTFT."""

    ttft: Array
    tpot: Array
    ttft_interval: Array
    tpot_interval: Array
    basis: tuple[str, ...]
    parts: Mapping[str, Array]


@lru_cache(maxsize=512)
def find_model(name: str, configs: str = "") -> Model:
    """The model of a published name: of a folder of configs, of the catalog, or that of its unquantized original.

    Raises:
        UnknownName: none of these.
    """
    bare = name.rsplit("/", maxsplit=1)[-1]
    short = unquantized(bare)
    if configs:
        for folder in (name.replace("/", "--"), bare):
            if (Path(configs) / folder / "config.json").is_file():
                return load_model(Path(configs) / folder)
    others = (f"{o}/{short}" for o in _ORGANIZATIONS)
    for candidate in dict.fromkeys([name, bare, name.removesuffix(bare) + short, short, *others]):
        try:
            return exact_model(candidate)
        except UnknownName:
            continue
    return exact_model(name)


@lru_cache(maxsize=256)
def find_system(name: str, devices: int) -> System:
    """Enough devices of a name as the file writes it (``h100_sxm``)."""
    plain = name.strip().lower().replace("_", "-")
    if plain.startswith(("gb200", "gb300")):
        return system(f"{max(devices, 72)}x{plain}")
    return system(f"{max(devices, 8)}x{plain}")


def priced(rows: Sequence[ServingRow], configs: str = "") -> tuple[Priced, list[RefusedLine]]:
    """Prices of every row whose model, machine and engine are known; the others refused with the reason."""
    known: list[ServingRow] = []
    models: list[Model] = []
    refused: list[RefusedLine] = []
    for row in rows:
        try:
            model = find_model(row.model, configs)
            find_system(row.system, 1)
            _check(row, model)
        except TierwiseError as error:
            refused.append(RefusedLine(row.line, row.id, str(error)))
            continue
        known.append(row)
        models.append(model)
    return _priced(known, models), refused


def _check(row: ServingRow, model: Model) -> None:
    if not any(s.stream == "text" for s in model.stacks) or model.task != "generate":
        raise TierwiseError(f"{row.model}: not a model that generates text")
    if row.engine not in engines.names():
        raise UnknownName("engine", row.engine, engines.names())


def _priced(rows: list[ServingRow], models: list[Model]) -> Priced:
    n = len(rows)
    how = conditions(rows)

    def column(of: Callable[[ServingRow], float]) -> Array:
        return np.asarray([float(of(r)) for r in rows])

    tp = column(lambda r: r.decode.tp)
    by_rank = how.expert_layout == ExpertLayout.ATTENTION_RANK_PER_DEVICE
    on_every = how.expert_layout != ExpertLayout.AS_RECORDED
    point = ClosedLoopPoint(
        np.where(by_rank, 1.0, tp), np.where(by_rank, tp, column(lambda r: r.decode.dp)),
        np.where(on_every, tp, column(lambda r: r.decode.ep)),
        column(lambda r: r.concurrency / r.decode.workers), column(lambda r: r.isl) * how.shorten,
        np.maximum(column(lambda r: r.osl) * how.shorten, 1.0), how.draft,
    )  # fmt: skip
    servers = column(lambda r: r.prefill.workers * r.prefill.dp / r.decode.workers if r.prefill else 0.0)
    out = _empty(n)
    groups: dict[tuple[str, str, str, str, str, bool, float, float], list[int]] = {}
    for i, row in enumerate(rows):
        key = (models[i].name, row.system, row.engine, row.dense, row.experts, bool(row.prefill), float(how.cache[i]),
               float(how.experts[i]))  # fmt: skip
        groups.setdefault(key, []).append(i)
    for members in groups.values():
        _fill(out, rows, models, point, how, np.asarray(members))
    unknown = np.flatnonzero(how.draft_unknown)
    plain = [replace(rows[i], draft=0.0) for i in unknown]
    undrafted = _priced(plain, [models[i] for i in unknown]) if plain else None
    keys = tuple(key_of(row, model) for row, model in zip(rows, models, strict=True))
    return Priced(tuple(rows), keys, tuple(m.name for m in models), how, point, out, servers, unknown, undrafted)


def _fill(
    out: StepTimes, rows: list[ServingRow], models: list[Model], point: ClosedLoopPoint, how: Conditions,
    index: NDArray[np.intp],
) -> None:  # fmt: skip
    first = rows[index[0]]
    model = formats_of(models[index[0]], first.dense, first.experts)
    cache = cache_in(cache_format(model, CacheFormat(int(how.cache[index[0]]))))
    some = take(point, index)

    def of(groups: list[EngineGroup], point: ClosedLoopPoint) -> StepTimes:
        machine = find_system(first.system, max(g.devices for g in groups))
        plan = Plan(tp=point.tp, dp=point.dp, ep=point.ep, kv=cache)
        on = engine_on(model, plan, machine, first.engine, Corrections(), alone=True)
        if kernel := ExpertKernels(int(how.experts[index[0]])).kernel:
            told = efficiency(machine.device, f"{first.engine}:{kernel}")
            on = replace(on, target=replace(on.target, efficiency=told))
        layout = rules(engines.load(first.engine), plan, share=how.memory[index], budget=how.client.budget[index],
                       max_seqs=point.flight / point.dp)  # fmt: skip
        held = room(model, machine, plan, layout, point.isl + how.held[index] * point.osl)
        return replace(step_times(on, point), room=np.broadcast_to(held, point.tp.shape).astype(float))

    found = of([rows[i].decode for i in index], some)
    if first.prefill is not None:
        groups = [rows[i].prefill or rows[i].decode for i in index]
        tp, dp, ep = (np.asarray([float(getattr(g, f)) for g in groups]) for f in ("tp", "dp", "ep"))
        own = of(groups, replace(some, tp=tp, dp=dp, ep=ep))
        found = replace(found, prefill=own.prefill, prefill_power=own.prefill_power)
    found = replace(found, room=np.minimum(found.room, how.slots[index] / some.dp))
    for f in fields(StepTimes):
        getattr(out, f.name)[..., index] = getattr(found, f.name)


def cache_format(model: Model, asked: CacheFormat = CacheFormat.OWN) -> str:
    """The format of the KV cache of a checkpoint in the model's number formats.

    Unless an engine is told, it keeps 16 bits, but where the checkpoint states scales of 8-bit keys and values: those
    quantized as NVIDIA's ModelOpt publishes them do (``kv_cache_quant_algo: FP8`` beside per-tensor FP8 and NVFP4
    weights), block-scaled FP8, MXFP4 and integer ones do not.
    """
    if asked != CacheFormat.OWN:
        return asked.name.lower()
    stored = {str(model.formats.get(role)) for role in ("attn", "mlp", "expert")}
    return "fp8" if stored & {"fp8", "nvfp4"} else "bf16"


def _empty(n: int) -> StepTimes:
    k, s, p = len(KINDS), len(SHARES), len(PROMPTS)
    shapes = {"decode": (k, s, n), "launch": (s, n), "seqs": (s, n), "prefill": (p, n), "decode_power": (s, n),
              "prefill_power": (p, n)}  # fmt: skip
    return StepTimes(**{f.name: np.zeros(shapes.get(f.name, (n,))) for f in fields(StepTimes)})


def solve(p: Priced, coef: Coefficients, near: Steady | None = None) -> Steady:
    """The closed loop of every row; where drafts are as likely as not, the geometric mean of both.

    ``near``: a solution for almost the same coefficients, from which few rounds lead to this one.
    """
    found = closed_loop(p.point, p.times, p.conditions.client, p.servers, coef, near)
    if p.undrafted is not None:
        at = p.unknown
        plain = solve(p.undrafted, {name: np.broadcast_to(v, len(p.rows))[at] for name, v in coef.items()})
        found.ttft[at], found.tpot[at] = np.sqrt(found.ttft[at] * plain.ttft), np.sqrt(found.tpot[at] * plain.tpot)
    return found


def predict(p: Priced, cal: Calibration | None = None) -> Prediction:
    """Predicted times of priced rows, with what each rests on and its 80 % interval."""
    cal = cal or calibration()
    found = solve(p, cal.of(p.keys))
    named = zip(p.rows, p.keys, p.models, strict=True)
    basis = tuple(_basis(row, key, model, cal) for row, key, model in named)

    known = known_of(p)

    def factors(quantity: str) -> Array:
        out = np.ones((len(basis), 2))
        for b in set(basis):
            of = np.asarray([x == b for x in basis])
            mine = {name: np.asarray(flag)[of] for name, flag in known.items()}
            out[of] = np.stack(cal.interval(b, quantity, mine), axis=-1)
        return out

    return Prediction(found.ttft, found.tpot, factors("ttft"), factors("tpot"), basis, found.parts)


def known_of(p: Priced) -> dict[str, Flags]:
    """What is known of each row of how far its prediction may be off, see :func:`features`."""
    return features(p.keys, p.models, p.times.mixtures > 0, p.point.draft > 0, p.point.dp > 1)


def _basis(row: ServingRow, key: EngineKey, model: str, cal: Calibration) -> str:
    if row.prefill is not None:
        return "disaggregated" if row.mode == "disagg" else "assumed division"
    return cal.basis(key, model)
