"""Seconds of one engine step by op class, for every deployment at once: what the closed loop is made of.

Deployments of one model, machine, engine and precision are lowered and priced together; sizes are arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, num
from tierwise.core.numerics import Format, fmt
from tierwise.machines.types import System
from tierwise.memory.account import MemoryRules, account
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import KV, Plan
from tierwise.steps.cost import StepCost
from tierwise.steps.price import EngineOn, price_step
from tierwise.steps.priced import kernels, mixtures
from tierwise.steps.state import Chunk, StepState

Array = NDArray[np.float64]
_Arrays = TypeVar("_Arrays")

# What a decode step's seconds are told apart by.
KINDS = ("matmul", "moe", "attention", "collective", "other")
# What files of measurements call formats without saying how values are scaled, and what checkpoints may have instead.
_MAY_MEAN = {"fp8": ("fp8",), "int4": ("int4",), "nvfp4": ("mxfp4",)}
# Fractions of the requests in flight at which a decode step is priced, and prompts in one prefill pass.
SHARES = (1.0, 0.7, 0.45, 0.25, 0.12, 0.05, 0.02)
PROMPTS = (1.0, 2.0, 4.0, 16.0)


@dataclass(frozen=True)
class ClosedLoopPoint:
    """What a client keeps in flight on ``n`` deployments of one model and kind of machine; every field of shape (n,).

    Attributes:
        tp, dp, ep: of one engine; ``flight``: requests in flight per engine.
        isl, osl: mean prompt and output tokens; ``draft``: draft tokens a step.
    """

    tp: Array
    dp: Array
    ep: Array
    flight: Array
    isl: Array
    osl: Array
    draft: Array


@dataclass(frozen=True)
class StepTimes:
    """Seconds of one pass on one device, and what else a step depends on.

    Attributes:
        decode: of a decode step with ``SHARES`` of the requests, by ``KINDS`` (kinds, points, n); ``launch``: seconds
            the host needs to launch it where it is not replayed (points, n); ``seqs``: how many
            sequences that is per rank (points, n).
        prefill: of a pass over ``PROMPTS`` whole prompts on each rank (points, n).
        decode_power, prefill_power: seconds that either takes at the least because the device draws no more than it
            may (points, n); 0 where no step could ask for more.
        layers, mixtures, kernels: of the text stack, those that route tokens to experts, and kernels of one
            decode step other than collectives (n,).
        room: requests per rank whose KV fits beside the weights (n,), see :func:`room`; inf where nobody asked.
    """

    decode: Array
    launch: Array
    seqs: Array
    prefill: Array
    decode_power: Array
    prefill_power: Array
    layers: Array
    mixtures: Array
    kernels: Array
    room: Array


def formats_of(model: Model, dense: str, experts: str) -> Model:
    """The model with its weights stored as a serving checkpoint of that precision stores them.

    A 4-bit or integer checkpoint of a mixture of experts keeps attention in 16 bits (the published NVFP4
    checkpoints' exclusion lists); an 8-bit one quantizes every linear layer.
    """
    if not dense:
        return model
    mixture = has_experts(model)
    four = dense in ("nvfp4", "int4", "mxfp4")
    narrow = _format(experts, model.formats.get("expert"))
    # Checkpoints whose experts are scaled by blocks scale their 8-bit dense layers so too.
    eight = "fp8-block" if mixture and dense == "fp8" and str(narrow) == "fp8-block" else dense
    formats = dict(model.formats)
    for role in ("attn", "ssm", "vision"):
        own = model.formats.get(role)
        formats[role] = fmt("bf16") if four and mixture else _format(eight, own)
    for role in ("mlp", "shared_expert"):
        wide = narrow if dense == "nvfp4" else fmt("bf16") if four else _format(eight, model.formats.get(role))
        formats[role] = wide if mixture else _format(dense, model.formats.get(role))
    formats["expert"] = narrow
    return replace(model, formats=formats)


def named_formats(model: Model) -> tuple[str, str]:
    """What dense layers and routed experts of a model are stored in, as coefficients are named: of a mixture's dense
    layers, those of attention."""
    dense = "attn" if has_experts(model) or "mlp" not in model.formats else "mlp"
    first, second = (str(model.format_of(role)) for role in (dense, "expert"))
    dense, experts = (name.split("-")[0] if name.startswith("int") else name for name in (first, second))
    return dense, experts


def has_experts(model: Model) -> bool:
    """Whether tokens choose among experts."""
    return any(w.role == "expert" for s in model.stacks for k in s.kinds for b in k.blocks for w in b.weights())


def text_layers(model: Model) -> int:
    """Layers that a token of text passes."""
    return sum(s.depth for s in model.stacks if s.stream == "text" and s.active)


def cache_in(name: str) -> KV:
    """A KV cache whose keys and values are both in the format of that name."""
    return KV(key=fmt(name), value=fmt(name))


def take(value: _Arrays, index: NDArray[np.intp]) -> _Arrays:
    """The deployments of an index, of a dataclass of arrays whose last axis is theirs."""
    found: Any = value
    return type(value)(**{f.name: getattr(value, f.name)[..., index] for f in fields(found)})


def _format(name: str, own: Format | None) -> Format:
    """A number format by the name a row gives it; how its values are scaled is the checkpoint's business where it has
    one of that width: ``fp8`` of DeepSeek's or MiniMax's is ``fp8-block``, 4 bits of gpt-oss are ``mxfp4``."""
    if own is not None and str(own).split("-", maxsplit=1)[0] in _MAY_MEAN.get(name, ()):
        return own
    return fmt("int4-g128" if name == "int4" else name)


def step_times(on: EngineOn, point: ClosedLoopPoint) -> StepTimes:
    """Prices of decode steps and prefill passes; see :class:`StepTimes`.

    Args:
        on: the engine, whose plan's degrees are those of ``point``. With pipeline stages, ``point.flight`` counts one
            of the batches that follow each other through them: each sees whole passes, whose parts the stages do for
            all of them in turn.
    """
    ranks = point.flight / point.dp
    seqs = np.maximum(np.asarray(SHARES)[:, None] * ranks, 1.0)
    context = point.isl + point.osl / 2.0
    # A drafting step runs the model over the drafts too.
    step = price_step(on, StepState.decoding(seqs, context, point.draft))
    prompts = np.asarray(PROMPTS)[:, None] + 0.0 * ranks
    passes = price_step(on, StepState(chunks=(Chunk(point.isl, 0.0, prompts),)))
    shape = ranks.shape
    return StepTimes(
        _by_kind(step, seqs.shape), np.broadcast_to(step.launch, seqs.shape).astype(float), seqs,
        np.broadcast_to(passes.device - passes.gap, prompts.shape).astype(float),
        np.broadcast_to(step.least_time, seqs.shape).astype(float),
        np.broadcast_to(passes.least_time, prompts.shape).astype(float),
        np.full(shape, float(text_layers(on.model))),
        np.full(shape, float(np.max(num(mixtures(step.program))))),
        np.broadcast_to(kernels(step.program), shape).astype(float),
        np.full(shape, np.inf),
    )  # fmt: skip


def room(model: Model, system: System, plan: Plan, how: MemoryRules, length: Array | float) -> Num:
    """Sequences of ``length`` tokens that a rank has room for in one of the batches that follow each other through the
    stages: a query to the account of memory."""
    final = Step(model, plan, 0.0, 1.0, length - 1.0, "decode")
    return account(model, system, plan, how, final).sequences / plan.pp


_KINDS = {"matmul": "matmul", "conv": "matmul", "moe": "moe", "attention": "attention", "collective": "collective"}


def _by_kind(step: StepCost, shape: tuple[int, ...]) -> Array:
    """Seconds of a step's ops by kind (kinds, *shape)."""
    out = dict(zip(KINDS, np.zeros((len(KINDS), *shape)), strict=True))
    for p in step.on_device:
        out[_KINDS.get(p.op.kind, "other")] += step.parts * p.time
    # What is no op's own: launches that sequences share, and what running beside each other takes off.
    out["other"] += step.device - step.gap - step.serial_time
    return np.asarray(list(out.values()))
