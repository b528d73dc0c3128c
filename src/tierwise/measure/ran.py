"""What ran when a run was recorded: model, machine and the engine's arguments, as a deployment to play it against."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import fmt
from tierwise.machines import system
from tierwise.machines.types import System
from tierwise.measure.recorded import Recorded, argument
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.predict import find_model

# Where recordings name the machine, the surest first; and how they call a name, a count within a description of it.
_PLACES = ("machine", "hardware", "gpu", "gpus", "device", "devices", "device_name", "gpu_name", "accelerator",
           "system")  # fmt: skip
_NAMES = ("name", "device_name", "gpu_name", "gpu_type", "accelerator_type", "product_name", "gpu", "device",
          "accelerator", "type", "model", "gpus", "devices", "accelerators")  # fmt: skip
MOST = 2.0**16  # devices of a deployment; and steps of a million tokens or sequences at most
STEP = 2.0**20


def deployment(run: Recorded, on: str = "") -> Deployment:
    """What ran, from the engine's arguments; on ``on``, else the machine that the recording names.

    Raises:
        BadField: an argument that cannot be. UnknownName: no machine or model of that name.
    """
    x = dict(run.meta.get("engine_kwargs") or {})
    tp, pp, dp = (float(int(argument(run, f"{p}_parallel_size", 1.0, most=MOST)))
                  for p in ("tensor", "pipeline", "data"))  # fmt: skip
    if tp * pp * dp > MOST:
        found = f"{tp * pp * dp:,.0f} devices"
        raise TierwiseError(f"{run.about}: engine_kwargs: found {found}; allowed: at most {MOST:,.0f}")
    experts = bool(x.get("enable_expert_parallel"))
    # Ranks of dense models share nothing; those of experts step together.
    count, ranks = (1, dp) if experts else (int(dp), 1.0)
    plan = Plan(tp=tp, pp=pp, dp=ranks, ep=tp * ranks if experts else 1.0)
    if str(x.get("kv_cache_dtype") or "auto").startswith("fp8"):
        plan = replace(plan, kv=replace(plan.kv, key=fmt("fp8"), value=fmt("fp8")))
    if x.get("quantization") == "fp8":
        plan = replace(plan, weights=fmt("fp8"))
    plain = Settings()
    budget = x.get("max_num_batched_tokens")
    tokens = plain.budget if budget in (-1, 0) else argument(run, "max_num_batched_tokens", plain.budget, most=STEP)
    settings = replace(
        plain, engine=str(run.meta.get("engine") or "vllm"), budget=int(tokens),
        max_seqs=int(argument(run, "max_num_seqs", plain.max_seqs, most=STEP)),
        max_len=int(argument(run, "max_model_len", 0, 0)),
        block=int(argument(run, "block_size", plain.block, most=STEP)),
        memory=argument(run, "gpu_memory_utilization", plain.memory, 0.01, 1.0),
        watermark=0.0,  # vLLM admits a request for whose next tokens there are blocks
        graphs=0 if x.get("enforce_eager") else plain.graphs,
    )  # fmt: skip
    machine = _machine(run, on, int(tp * pp * dp))
    return Deployment(_model(run), (Replicas(machine, plan, count, settings=settings),))


def _model(run: Recorded) -> Any:
    name = str(run.meta["model"])
    if not name:
        raise TierwiseError(f"{run.about}: names no model; say it with --model")
    return find_model(name, os.environ.get("TIERWISE_CONFIGS", ""))


def _machine(run: Recorded, on: str, devices: int) -> System:
    if on:
        return _of(on, devices)
    said = [name for place in _PLACES for name in _named(run.meta.get(place)) if len(name) <= 200]
    for name in said:
        try:
            return _of(name, devices)
        except TierwiseError:
            continue
    where = run.folder.resolve()
    parts = (where.stem if run.folder.is_file() else where.name).lower().split("-")
    # vllm-<machine>-<model>: the longest run of words after the engine that names a machine.
    for length in range(min(len(parts) - 1, 4), 0, -1):
        try:
            return _of("-".join(parts[1 : 1 + length]), devices)
        except TierwiseError:
            continue
    told = f"{run.about}: "
    told += f"the machine it names, {said[0][:60]!r}, is not known" if said else "names no machine"
    raise TierwiseError(f"{told}; say it with --on")


def _named(value: Any, deep: int = 4) -> Iterator[str]:
    """Names in a description of hardware: a text, a list of devices, or an object with a name among its fields."""
    if isinstance(value, str) and value.strip():
        yield value.strip()
    elif isinstance(value, list) and deep:
        for item in value[:1]:
            yield from _named(item, deep - 1)
    elif isinstance(value, dict) and deep:
        for name in _NAMES:
            yield from _named(value.get(name), deep - 1)


@lru_cache(maxsize=64)
def _of(name: str, devices: int) -> System:
    found = system(name)
    return found if found.count >= devices else system(f"{devices}x{re.sub(r'^[0-9]+ *[x×*] *', '', name)}")
