"""From rows to predicted times: models and machines looked up, priced together, and put in the closed loop."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tierwise import engines
from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.core.numerics import fmt
from tierwise.machines import system
from tierwise.machines.types import System
from tierwise.memory.rules import rules
from tierwise.models.load import load_model
from tierwise.models.types import Model
from tierwise.scenario.types import KV, Plan
from tierwise.serving.apart import apart
from tierwise.serving.coefficients import Calibration, calibration, levels
from tierwise.serving.recipes import Conditions, conditions
from tierwise.serving.rows import Pool, Refused, Row
from tierwise.serving.steady import Client, Coefficients, Steady, steady
from tierwise.serving.work import Array, Load, Work, formats_of, room, work
from tierwise.steps.corrections import Corrections
from tierwise.steps.price import engine_on

_Arrays = TypeVar("_Arrays", Load, Work, Client)
_SUFFIX = re.compile(r"[-_](fp8|nvfp4|fp4|int4|bf16|awq|gptq|w4a16|mxfp4|static|pertensor|dynamic|block|\d{4})$", re.I)
_ORGANIZATIONS = ("deepseek-ai", "meta-llama", "Qwen", "moonshotai", "MiniMaxAI", "openai", "zai-org", "mistralai")


@dataclass(frozen=True)
class Priced:
    """Rows with what they cost, arrays of shape (..., n) in the rows' order.

    ``servers``: prefilling ranks per decoding engine, 0 where one engine does both. ``plain``: the rows' positions
    that may run without drafts, and their load and work then.
    """

    rows: tuple[Row, ...]
    models: tuple[str, ...]
    conditions: Conditions
    load: Load
    work: Work
    servers: Array
    plain: tuple[NDArray[np.intp], Load, Work]


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
    short = bare
    while (cut := _SUFFIX.sub("", short)) != short:
        short = cut
    if configs:
        for folder in (name.replace("/", "--"), bare):
            if (Path(configs) / folder / "config.json").is_file():
                return load_model(Path(configs) / folder)
    others = (f"{o}/{short}" for o in _ORGANIZATIONS)
    for candidate in dict.fromkeys([name, bare, name.removesuffix(bare) + short, short, *others]):
        try:
            return load_model(candidate)
        except UnknownName:
            continue
    return load_model(name)


@lru_cache(maxsize=256)
def find_system(name: str, devices: int) -> System:
    """Enough devices of a name as the file writes it (``h100_sxm``)."""
    plain = name.strip().lower().replace("_", "-")
    if plain.startswith(("gb200", "gb300")):
        return system(f"{max(devices, 72)}x{plain}")
    return system(f"{max(devices, 8)}x{plain}")


def priced(rows: Sequence[Row], configs: str = "") -> tuple[Priced, list[Refused]]:
    """Prices of every row whose model and machine are known; the others refused with the reason."""
    known: list[Row] = []
    models: list[Model] = []
    refused: list[Refused] = []
    for row in rows:
        try:
            model = find_model(row.model, configs)
            find_system(row.system, 1)
            _check(row, model)
        except TierwiseError as error:
            refused.append(Refused(row.line, row.id, str(error)))
            continue
        known.append(row)
        models.append(model)
    return _priced(known, models), refused


def _check(row: Row, model: Model) -> None:
    if not any(s.stream == "text" for s in model.stacks) or model.task != "generate":
        raise TierwiseError(f"{row.model}: not a model that generates text")


def _priced(rows: list[Row], models: list[Model]) -> Priced:
    n = len(rows)
    how = conditions(rows)

    def column(of: Callable[[Row], float]) -> Array:
        return np.asarray([float(of(r)) for r in rows])

    tp = column(lambda r: r.pool.tp)
    spread = how.whole > 1
    load = Load(
        np.where(spread, 1.0, tp), np.where(spread, tp, column(lambda r: r.pool.dp)),
        np.where(how.whole > 0, tp, column(lambda r: r.pool.ep)),
        column(lambda r: r.concurrency / r.pool.workers), column(lambda r: r.isl) * how.shorten,
        np.maximum(column(lambda r: r.osl) * how.shorten, 1.0), how.draft,
    )  # fmt: skip
    servers = column(lambda r: r.prefill.workers * r.prefill.dp / r.pool.workers if r.prefill else 0.0)
    either = np.flatnonzero(how.either)
    undrafted = replace(load, draft=np.where(how.either > 0, 0.0, load.draft))
    out = _empty(n)
    plain = _empty(n)
    groups: dict[tuple[str, str, str, str, str, bool], list[int]] = {}
    for i, row in enumerate(rows):
        key = (models[i].name, row.system, row.engine, row.dense, row.experts, bool(row.prefill))
        groups.setdefault(key, []).append(i)
    for members in groups.values():
        index = np.asarray(members)
        _fill(out, rows, models, load, how, index)
        if how.either[index].any():
            _fill(plain, rows, models, undrafted, how, index)
    return Priced(tuple(rows), tuple(m.name for m in models), how, load, out, servers,
                  (either, _take(undrafted, either), _take(plain, either)))  # fmt: skip


def _fill(
    out: Work, rows: list[Row], models: list[Model], load: Load, how: Conditions, index: NDArray[np.intp]
) -> None:
    first = rows[index[0]]
    model = formats_of(models[index[0]], first.dense, first.experts)
    kv = "fp8" if first.dense in ("fp8", "fp8-block", "nvfp4") else "bf16"
    some = _take(load, index)

    def of(pools: list[Pool], load: Load) -> Work:
        machine = find_system(first.system, max(p.devices for p in pools))
        cache = KV(key=fmt(kv), value=fmt(kv))
        plan = Plan(tp=load.tp, dp=load.dp, ep=load.ep, kv=cache)
        on = engine_on(model, plan, machine, first.engine, Corrections(), alone=True)
        layout = rules(engines.load(first.engine), plan, share=how.memory[index], budget=how.client.budget[index],
                       max_seqs=load.flight / load.dp)  # fmt: skip
        held = room(model, machine, plan, layout, load.isl + load.osl)
        return replace(work(on, load), room=np.broadcast_to(held, load.tp.shape).astype(float))

    found = of([rows[i].pool for i in index], some)
    if first.prefill is not None:
        pools = [rows[i].prefill or rows[i].pool for i in index]
        tp, dp, ep = (np.asarray([float(getattr(p, f)) for p in pools]) for f in ("tp", "dp", "ep"))
        other = of(pools, replace(some, tp=tp, dp=dp, ep=ep))
        found = replace(found, prefill=other.prefill)
    found = replace(found, room=np.minimum(found.room, how.slots[index] / some.dp))
    for f in fields(Work):
        getattr(out, f.name)[..., index] = getattr(found, f.name)


def _empty(n: int) -> Work:
    from tierwise.serving.work import CLASSES, PROMPTS, SHARES

    c, s, p = len(CLASSES), len(SHARES), len(PROMPTS)
    shapes = {"decode": (c, s, n), "launch": (s, n), "seqs": (s, n), "prefill": (c, p, n), "spread": (s, n)}
    return Work(**{f.name: np.zeros(shapes.get(f.name, (n,))) for f in fields(Work)})


def _take(value: _Arrays, index: NDArray[np.intp]) -> _Arrays:
    return type(value)(**{f.name: getattr(value, f.name)[..., index] for f in fields(value)})


def solve(p: Priced, k: Coefficients, near: Steady | None = None) -> Steady:
    """The closed loop of every row; where drafts are as likely as not, the geometric mean of both.

    ``near``: a solution for almost the same coefficients, from which few rounds lead to this one.
    """
    index = np.arange(len(p.rows))
    ttft, tpot, parts = _loop(p, p.load, p.work, index, k, near)
    either, load, work_ = p.plain
    if len(either):
        some = {name: np.broadcast_to(v, len(p.rows))[either] for name, v in k.items()}
        a, b, _ = _loop(p, load, work_, either, some)
        ttft[either], tpot[either] = np.sqrt(ttft[either] * a), np.sqrt(tpot[either] * b)
    return Steady(ttft, tpot, parts)


def _loop(
    p: Priced, load: Load, work_: Work, index: NDArray[np.intp], k: Coefficients, near: Steady | None = None
) -> tuple[Array, Array, Mapping[str, Array]]:
    client, servers = _take(p.conditions.client, index), p.servers[index]
    found = steady(load, work_, client, k) if near is None else steady(load, work_, client, k, 4, near.parts["active"])
    ttft, tpot, parts = found.ttft, found.tpot, found.parts
    two = np.flatnonzero(servers > 0)
    if len(two):
        some = {name: np.broadcast_to(v, len(index))[two] for name, v in k.items()}
        pool = _take(load, two), _take(work_, two), _take(client, two), servers[two], some
        pair = apart(*pool) if near is None else apart(*pool, 6, _part(near, two))
        ttft[two], tpot[two] = pair.ttft, pair.tpot
        parts = {name: _put(values, two, pair.parts.get(name, 0.0)) for name, values in parts.items()}
    return ttft, tpot, parts


def _part(s: Steady, index: NDArray[np.intp]) -> Steady:
    return Steady(s.ttft[index], s.tpot[index], {name: values[index] for name, values in s.parts.items()})


def _put(values: Array, index: NDArray[np.intp], new: Array | float) -> Array:
    out = np.array(values, dtype=float)
    out[index] = new
    return out


def predict(p: Priced, cal: Calibration | None = None) -> Prediction:
    """Predicted times of priced rows, with what each rests on and its 80 % interval.

    ``calibrated``: the engine ran this model on this machine when the coefficients were fitted; ``transferred``:
    some of these are new.
    """
    cal = cal or calibration()
    found = solve(p, cal.of(levels(p.rows, p.conditions), len(p.rows)))
    basis = tuple(_basis(row, model, cal) for row, model in zip(p.rows, p.models, strict=True))

    def factors(quantity: str) -> Array:
        return np.asarray([cal.intervals[b][quantity] for b in basis]).reshape(-1, 2)

    return Prediction(found.ttft, found.tpot, factors("ttft"), factors("tpot"), basis, found.parts)


def _basis(row: Row, model: str, cal: Calibration) -> str:
    if row.prefill is not None:
        return "disaggregated" if row.mode == "disagg" else "assumed division"
    known = row.engine in cal.seen["engine"] and row.system.lower() in cal.seen["system"] and model in cal.seen["model"]
    return "calibrated" if known else "transferred"
