"""Prices of engine steps: the cost model evaluated once over grids, as the tables the simulator looks up.

Every table is one evaluation of the same op graphs and prices that :func:`tierwise.evaluate` uses. What an op depends
on is found out by lowering, not by name: ops whose work follows from the number of tokens alone are priced by tokens,
those that also follow from how many tokens need logits by heads, and all others (attention, scans, convolutions over a
sequence) by sequences and context, apart for decode and prefill.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tierwise import engines
from tierwise.cost import Target, efficiency, price
from tierwise.memory.footprint import weight_bytes
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.types import Graph
from tierwise.scenario.types import Plan
from tierwise.serving.adjust import Adjustment, adjustment
from tierwise.serving.deployment import Replicas
from tierwise.serving.mixed import beside_chunks
from tierwise.serving.room import room_of
from tierwise.serving.steps import QUANTITIES, StepPrices

Floats = NDArray[np.float64]
Names = frozenset[tuple[str, str]]

# The longest context tables reach where neither the settings nor the model bound it.
_LONGEST = 2.0**20


def step_prices(model: Model, replicas: Replicas, adjust: Adjustment | None = None) -> StepPrices:
    """The prices of one engine of ``replicas``.

    Where attention is data parallel (``plan.dp`` ranks in one engine), settings hold for each rank as engines mean
    them, tables cover the whole engine's tokens and sequences, and ranks are taken to share them evenly.

    A model whose weights leave no memory for KV is priced all the same, with ``kv_room`` 0.

    Args:
        adjust: gaps, host times, and factors on what the machine reaches; by default what serving measurements of
            this engine gave, see :func:`tierwise.serving.adjust.adjustment`.

    Raises:
        UnknownName: an engine that is not on file; ``""`` is a typical one.
    """
    s, system = replicas.settings, replicas.machine
    # A machine that was itself measured brings its engines.
    own = system.device.measured
    name = s.engine if not own or s.engine in own else next(iter(own))
    # An engine of a measured machine may be one that nothing is on file of.
    facts = engines.load("" if own and name not in engines.names() else name)
    # Engines leave all-reduces to a library where devices have no links of their own.
    plan = replace(replicas.plan, mtp=False, library=replicas.plan.library or system.device.link("scale-up") is None)
    k = adjustment(model, replicas) if adjust is None else adjust
    target = k.target(_target(model, replicas, plan))
    ranks = float(plan.dp)
    budget, most = int(s.budget * ranks), int(s.max_seqs * ranks)
    longest = float(s.max_len or min(model.max_context, _LONGEST))
    kinds = _Kinds.of(model, plan)

    tokens_at = _counts(budget, ranks)
    seqs_at = _counts(most, ranks)
    by_tokens = lower(Step(model, plan, np.maximum(tokens_at, 1.0) / ranks, 1.0, 1.0, "decode"))
    by_seqs = lower(Step(model, plan, np.maximum(seqs_at, 1.0) / ranks, 1.0, 1.0, "decode"))
    tokens = _total(by_tokens, kinds.of_tokens, target, k, tokens_at.shape)
    heads = _total(by_seqs, kinds.of_heads, target, k, seqs_at.shape)

    context = _ladder(longest, 2.0)
    seqs = _ladder(float(most), 2.0)
    d, c = np.meshgrid(np.maximum(seqs, 1.0) / ranks, context, indexing="ij")
    decoding = lower(Step(model, plan, d, 1.0, c, "decode"))
    decode = _total(decoding, kinds.of_decode, target, k, d.shape)
    mixed = decode
    if system.device.family in facts.shared_attention_families:
        rows = lower(Step(model, plan, d, 1.0, c, "prefill"))
        mixed = decode + beside_chunks(decoding, rows, target, facts.attention_tile, k.ops)
    new, past = _ladder(float(budget), 4.0), _ladder(longest, 1.0)
    q, p = np.meshgrid(np.maximum(new, 1.0), past, indexing="ij")
    prefilling = lower(Step(model, plan, 1.0, q, p, "prefill"))
    prefill = _total(prefilling, kinds.of_prefill, target, k, q.shape)

    # One launch of the sequence ops is in every step, however many sequences and chunks it serves.
    once = np.minimum(decode[0, 0], prefill[0, 0])
    kernels = _kernels(by_tokens)
    tokens[:, 0] += once[0] + k.gap
    tokens[:, 1:] += once[1:]
    decode, mixed = np.maximum(decode - once, 0.0), np.maximum(mixed - once, 0.0)
    prefill = np.maximum(prefill - once, 0.0) / ranks
    for table in (tokens, heads, decode, mixed, prefill):
        table[0] = 0.0
    graphs = facts.graph_sizes(s.max_seqs, s.graphs)
    room = room_of(model, replicas, tokens_at[-1] / ranks, longest)
    return StepPrices(
        tokens=_dense(tokens, tokens_at), heads=_dense(heads, seqs_at),
        decode_seqs=seqs, decode_context=context, decode=decode,
        prefill_new=new, prefill_context=past, prefill=prefill,
        host=np.array([k.step, k.sequence / ranks, k.chunk, k.token / ranks]), launch=k.launch * kernels,
        graph_sizes=graphs * int(ranks),
        mixed_graphs=int(graphs[-1] * ranks) if len(graphs) and facts.graphs_with_prefill else 0,
        request=k.request, kv_token=room.token, kv_fixed=room.fixed, kv_room=room.room,
        swap=room.swap, transfer=room.transfer, transfer_latency=room.latency, disk=room.disk,
        power_idle=room.devices * (system.device.power.idle + system.overhead_power),
        power_rated=room.devices * (system.device.power.rated + system.overhead_power),
        rent=room.devices * system.device.price.rent,
        interval=k.interval, basis=k.basis, stages=int(plan.pp), decode_mixed=mixed,
        ahead=int(facts.schedules_ahead and plan.pp == 1),
    )  # fmt: skip


def _target(model: Model, replicas: Replicas, plan: Plan) -> Target:
    """The machine as :func:`tierwise.evaluate` prices it, with this engine's kernels."""
    system = replicas.machine
    target = Target(system, efficiency(system.device, replicas.settings.engine))
    read = sum((size for role, size in weight_bytes(model, plan).items() if role != "embed"), 0.0)
    working = lower(Step(model, plan, 1.0, 1.0, 0.0, "decode")).bytes_of("weight") if system.device.measured else 0.0
    return replace(target, resident=1.0 if np.max(read) <= target.cache_capacity else 0.0, working=working)


@dataclass(frozen=True)
class _Kinds:
    """Ops (segment, name) by what their work follows from: tokens, heads, and sequences in either phase."""

    of_tokens: Names
    of_heads: Names
    of_decode: Names
    of_prefill: Names

    @staticmethod
    def of(model: Model, plan: Plan) -> _Kinds:
        """By lowering 64 tokens as steps that differ in one thing each: context, logits, phase, sequences."""
        past, logits = np.array([100.0, 5000.0, 100.0]), np.array([1.0, 1.0, 0.5])
        decode = _signatures(lower(Step(model, plan, 64.0, 1.0, past, "decode", logits)), 3)
        seqs, past = np.array([1.0, 2.0, 1.0]), np.array([100.0, 100.0, 5000.0])
        prefill = _signatures(lower(Step(model, plan, seqs, 64.0 / seqs, past, "prefill", 1.0 / seqs)), 3)
        heads = {name for name, s in decode.items() if not np.array_equal(s[:, 0], s[:, 2])}
        tokens = {
            name
            for name, s in decode.items()
            if name not in heads and name in prefill and s.shape == prefill[name].shape
            and np.allclose(np.hstack([s, prefill[name]]), s[:, :1], rtol=1e-9)
        }  # fmt: skip
        known = tokens | heads
        return _Kinds(frozenset(tokens), frozenset(heads), frozenset(decode.keys() - known),
                      frozenset(prefill.keys() - known))  # fmt: skip


def _signatures(graph: Graph, n: int) -> dict[tuple[str, str], Floats]:
    """By op, its dims, FLOPs and operands as an array (numbers, n)."""
    out = {}
    for segment, op in graph.walk():
        operands = (o.elements for o in (*op.reads, *op.writes))
        rows = [np.broadcast_to(x, n) for x in (*op.dims.values(), op.flops, *operands)]
        out[segment.name, op.name] = np.stack(rows).astype(float)
    return out


def _total(graph: Graph, names: Names, target: Target, k: Adjustment, shape: tuple[int, ...]) -> Floats:
    """Seconds of some ops of a graph as adjusted, and of them those of each resource: (*shape, 4)."""
    out = np.zeros((*shape, len(QUANTITIES)))
    memory = target.memory.name
    for segment, op in graph.walk():
        if (segment.name, op.name) not in names:
            continue
        cost = price(op, target)
        times = segment.repeat * k.ops / (k.link if op.kind == "collective" else 1.0)
        busy = (cost.overlapped.get("compute", 0.0), cost.overlapped.get(memory, 0.0) + cost.serial.get(memory, 0.0),
                cost.overlapped.get("link", 0.0))  # fmt: skip
        out[..., 0] += times * cost.time
        for i, seconds in enumerate(busy, start=1):
            out[..., i] += times * np.minimum(seconds, cost.time)
    return out


def _kernels(graph: Graph) -> float:
    """Kernels of a step, collectives aside."""
    return sum(float(np.max(s.repeat)) for s, op in graph.walk() if op.kind != "collective")


def _counts(most: int, ranks: float) -> Floats:
    """Whole numbers at which a table by tokens is priced, for ``ranks`` that share them: each while there are few,
    then both sides of every sixteen of a rank (kernels' tiles are multiples of it), always with the last."""
    last = most / ranks
    near, far = np.arange(min(last, 64.0) + 1.0), np.arange(64.0, last + 1.0, 16.0)
    return np.unique(np.clip(np.concatenate([near, far, far + 1.0, [last]]), 0.0, last)) * ranks


def _ladder(most: float, per_octave: float) -> Floats:
    """Grid points from 0: 1, then so many an octave, and the last."""
    octaves = np.log2(max(most, 1.0))
    points = 2.0 ** np.arange(0.0, octaves, 1.0 / per_octave)
    return np.unique(np.concatenate([[0.0], np.round(points), [max(most, 1.0)]]))


def _dense(table: Floats, at: Floats) -> Floats:
    """A table by whole numbers from its values at some of them, linearly between: (last + 1, 4)."""
    every = np.arange(at[-1] + 1.0)
    return np.stack([np.interp(every, at, table[:, i]) for i in range(table.shape[1])], axis=-1)
