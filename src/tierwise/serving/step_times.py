"""Seconds of one engine step by op class, for every deployment at once: what the closed loop is made of.

Deployments of one model, machine, engine and precision are lowered and priced together; sizes are arrays.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num
from tierwise.core.numerics import Format, fmt
from tierwise.machines.types import System
from tierwise.memory.account import MemoryRules, account
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.types import Op
from tierwise.scenario.types import KV, Plan
from tierwise.serving.constants import CONSTANTS
from tierwise.steps.cost import StepCost
from tierwise.steps.price import EngineOn, price_step
from tierwise.steps.priced import kernels
from tierwise.steps.state import Chunk, StepState

Array = NDArray[np.float64]
_Arrays = TypeVar("_Arrays")

CLASSES = ("matmul.few", "matmul.many", "moe.few", "moe.many", "attention.few", "attention.many", "collective.few",
           "collective.many", "other")  # fmt: skip
# What files of measurements call formats without saying how values are scaled, and what checkpoints may have instead.
_MAY_MEAN = {"fp8": ("fp8",), "int4": ("int4",), "nvfp4": ("mxfp4",)}
# Fractions of the requests in flight at which a decode step is priced, and prompts in one prefill pass.
SHARES = (1.0, 0.7, 0.45, 0.25, 0.12, 0.05, 0.02)
PROMPTS = (1.0, 2.0, 4.0, 16.0)
MOST_EXCESS = CONSTANTS["experts.most_excess"]
# Rows, and bytes of collectives, up to which kernels are those of few rows, and from which those of many.
FEW_ROWS, MANY_ROWS = CONSTANTS["rows.few"], CONSTANTS["rows.many"]
FEW_BYTES, MANY_BYTES = CONSTANTS["bytes.few"], CONSTANTS["bytes.many"]


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
    """Seconds by op class of one pass on one device, shape (classes, points, n), and what else a step depends on.

    Attributes:
        decode: of a decode step with ``SHARES`` of the requests; ``launch``: seconds the host needs to launch it where
            it is not replayed, less the engine's gap (points, n); ``seqs``: how many sequences that is per rank
            (points, n).
        prefill: of a pass over ``PROMPTS`` whole prompts on each rank.
        decode_power, prefill_power: seconds that either takes at the least because the device draws no more than it
            may (points, n); 0 where no step could ask for more.
        excess: seconds of a decode step's experts on the fullest rank over those on the mean one, when tokens choose
            experts at random, of few rows and of many (2, points, n); 0 without expert parallelism. What a kernel takes
            whatever its work, it takes on both.
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
    excess: Array
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
    launch = np.maximum(step.launch - step.corrections.gap, 0.0)
    return StepTimes(
        _by_class(step, seqs.shape), np.broadcast_to(launch, seqs.shape).astype(float), seqs,
        _by_class(passes, prompts.shape), np.broadcast_to(step.least_time, seqs.shape).astype(float),
        np.broadcast_to(passes.least_time, prompts.shape).astype(float), _excess(step, point.ep, seqs.shape),
        np.full(shape, float(text_layers(on.model))),
        np.full(shape, sum(float(np.max(s.repeat)) for s, op in step.program.walk() if op.kind == "moe")),
        np.broadcast_to(kernels(step.program), shape).astype(float),
        np.full(shape, np.inf),
    )  # fmt: skip


def room(model: Model, system: System, plan: Plan, how: MemoryRules, length: Array | float) -> Num:
    """Sequences of ``length`` tokens that a rank has room for in one of the batches that follow each other through the
    stages: a query to the account of memory."""
    final = Step(model, plan, 0.0, 1.0, length - 1.0, "decode")
    return account(model, system, plan, how, final).sequences / plan.pp


_KINDS = {"matmul": "matmul", "conv": "matmul", "moe": "moe", "attention": "attention", "collective": "collective"}


def regime(op: Op) -> tuple[str, Num]:
    """The class of an op, and how far it has many rows (1) or few (0), between which kernels change their tiles: those
    of a decode step and those of a prefill pass, whatever the step is called that they run in."""
    kind = _KINDS.get(op.kind, "other")
    if kind == "attention":
        return kind, 0.0 if op.options.get("phase") == "decode" else 1.0
    size = {"matmul": op.dims.get("m"), "moe": op.dims.get("reaching"), "collective": op.dims.get("bytes")}.get(kind)
    if size is None:
        return kind, 0.0
    few, many = (FEW_BYTES, MANY_BYTES) if kind == "collective" else (FEW_ROWS, MANY_ROWS)
    at = np.log(np.maximum(np.asarray(size, dtype=float), 1e-9) / few) / np.log(many / few)
    return kind, np.clip(at, 0.0, 1.0)


def _by_class(step: StepCost, shape: tuple[int, ...]) -> Array:
    """Seconds of a step's ops by class (classes, *shape)."""
    out = dict(zip(CLASSES, np.zeros((len(CLASSES), *shape)), strict=True))
    for p in step.on_device:
        (kind, many), seconds = regime(p.op), step.parts * p.time
        if kind == "other":
            out[kind] += seconds
            continue
        out[f"{kind}.few"] += (1.0 - many) * seconds
        out[f"{kind}.many"] += many * seconds
    if step.overlaps:  # what running beside each other takes off is no class's own
        out["other"] += step.device - step.corrections.gap - step.serial_time
    return np.asarray(list(out.values()))


def _excess(step: StepCost, ranks: Array, shape: tuple[int, ...]) -> Array:
    """Seconds by which the experts of the fullest of ``ranks`` take longer than those of the mean rank (2, *shape).

    Touched experts are near-normal binomial counts, whose maximum of n lies about sqrt(2 ln n) deviations above
    their mean. The fullest rank has so many more experts to read and rows to multiply.
    """
    out = np.zeros((2, *shape))
    if np.all(ranks <= 1.0):
        return out
    for p in step.on_device:
        if p.op.kind == "moe":
            more = np.maximum(p.segment.repeat * step.priced(_fuller(p.op, ranks)).time - p.time, 0.0)
            (_, many), more = regime(p.op), step.parts * more
            out[0] += (1.0 - many) * more
            out[1] += many * more
    return out


def _fuller(op: Op, ranks: Array) -> Op:
    """The experts of the fullest rank."""
    touched, local = np.maximum(op.dims["touched"], 1e-9), np.maximum(op.dims["experts"], 1.0)
    variance = np.maximum(1.0 - touched / local, 0.0) / touched
    more = 1.0 + np.minimum(np.sqrt(2.0 * np.log(np.maximum(ranks, 1.0)) * variance), MOST_EXCESS)
    dims = {**op.dims, "touched": op.dims["touched"] * more, "tokens": op.dims["tokens"] * more}
    reads, writes = (tuple(replace(o, elements=o.elements * more) for o in side) for side in (op.reads, op.writes))
    return replace(op, dims=dims, flops=op.flops * more, reads=reads, writes=writes)
