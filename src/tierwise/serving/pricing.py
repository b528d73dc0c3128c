"""Tables of step prices: the one step function evaluated over grids, as the simulator looks it up.

A step is the sum of what follows from its tokens, from the tokens that need logits, from its decoding sequences and
from each chunk of a prompt (:mod:`tierwise.steps`). At the nodes of the tables their sum is what the step function
says.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tierwise import engines
from tierwise.core.num import greatest, is_zero, num
from tierwise.machines.types import System
from tierwise.memory.account import CachePool, cache_pool
from tierwise.memory.rules import rules
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.program import Program
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Deployment, Replicas, Speculation
from tierwise.serving.kv_paths import kv_paths
from tierwise.serving.reordered import DRAWN, JOULES, Reordered, covering, work
from tierwise.serving.steps import QUANTITIES, StepPrices
from tierwise.steps.corrections import Corrections, corrections
from tierwise.steps.energy import may_exceed
from tierwise.steps.kinds import Names, kinds, shared
from tierwise.steps.mixed import beside_chunks
from tierwise.steps.price import EngineOn, engine_on, price_program, price_step
from tierwise.steps.priced import mixtures
from tierwise.steps.stages import slowest
from tierwise.steps.state import Chunk, StepState

Floats = NDArray[np.float64]

ENERGY, ON_HOST = QUANTITIES.index("energy"), QUANTITIES.index("on host")
# The longest context tables reach where neither the settings nor the model bound it.
_LONGEST = 2.0**20


def corrections_of(served: Deployment) -> Corrections:
    """What is on file about the first engine of a deployment."""
    group = served.groups[0]
    return corrections(group.settings.engine or "typical", group.machine.device, served.model.name)


def engine_of(model: Model, replicas: Replicas, fixes: Corrections | None = None) -> EngineOn:
    """One engine of ``replicas``, as the step function sees it."""
    s = replicas.settings
    plan = with_adapters(replicas)
    plan = replace(plan, mtp=False, graphs=bool(np.all(plan.graphs)) and s.graphs > 0)
    return engine_on(model, plan, replicas.machine, s.engine or "typical", fixes, max_seqs=s.max_seqs, graphs=s.graphs)


def step_prices(model: Model, replicas: Replicas, fixes: Corrections | None = None) -> StepPrices:
    """The prices of one engine of ``replicas``.

    Where attention is data parallel (``plan.dp`` ranks in one engine), settings hold for each rank as engines mean
    them, tables cover the whole engine's tokens and sequences, and say what steps take whose ranks share them evenly.

    A model whose weights leave no memory for KV is priced all the same, with ``kv_room`` 0.

    Args:
        fixes: gaps, host times, and factors on what the machine reaches; by default what serving measurements of
            this engine gave, see :func:`tierwise.steps.corrections.corrections`.

    Raises:
        UnknownName: an engine that is not on file; ``""`` is a typical one.
    """
    s, system = replicas.settings, replicas.machine
    on = engine_of(model, replicas, fixes)
    plan, fixes, facts = on.plan, on.fixes, on.facts
    of = kinds(model, plan)
    ranks, devices = float(plan.dp), float(plan.devices)
    budget, most = int(s.budget * ranks), int(s.max_seqs * ranks)
    longest = float(s.max_len or min(model.max_context, _LONGEST))

    context, new, past = _contexts(longest), _chunks(float(budget)), _contexts(longest)
    seqs = _counts(most, ranks, _ladder(float(most), 4.0), each=256.0)
    # Graphs are recorded of each of the parts that a schedule divides a step into.
    graphs = np.zeros(0, np.int64) if facts is None else facts.graph_sizes(s.max_seqs, on.graphs) * on.parts
    # Steps at the nodes of the other tables, and those that are replayed, are nodes here too.
    tokens_at = _counts(budget, ranks, np.concatenate([graphs * ranks, seqs, new]), each=2048.0)
    seqs_at = _counts(most, ranks, seqs)
    by_tokens = lower(Step(model, plan, np.maximum(tokens_at, 1.0) / ranks, 1.0, 1.0, "decode"))
    by_seqs = lower(Step(model, plan, np.maximum(seqs_at, 1.0) / ranks, 1.0, 1.0, "decode"))
    tokens = _total(on, by_tokens, of.tokens, tokens_at.shape)
    heads = _total(on, by_seqs, of.heads, seqs_at.shape)
    common = shared(model, plan) if ranks > 1.0 else frozenset()
    experts = _total(on, by_tokens, common, tokens_at.shape) if common else None

    d, c = np.meshgrid(np.maximum(seqs, 1.0) / ranks, context, indexing="ij")
    decode = _total(on, lower(Step(model, plan, d, 1.0, c, "decode")), of.decode, d.shape)
    mixed = decode + _beside_chunks(on, d, c)
    verifying = _verifying(on, s.speculation, d, c, of.decode) - decode
    q, p = np.meshgrid(np.maximum(new, 1.0), past, indexing="ij")
    prefilling = lower(Step(model, plan, 1.0, q, p, "prefill"))
    prefill = _total(on, prefilling, of.prefill, q.shape)

    # One launch of the sequence ops is in every step, however many sequences and chunks it serves. Joules are those of
    # the work, which is not shared.
    once = np.minimum(decode[0, 0], prefill[0, 0])
    once[ENERGY:] = 0.0
    launch = float(np.max(num(price_program(on, by_tokens, StepState(), 0.0).launch)))
    tokens[:, 0] += once[0] + fixes.gap + fixes.gap_expert * num(mixtures(by_tokens))
    tokens[:, 1:] += once[1:]
    decode, mixed = np.maximum(decode - once, 0.0), np.maximum(mixed - once, 0.0)
    prefill = np.maximum(prefill - once, 0.0) / ranks
    reordered = None
    if plan.schedule or not is_zero(num(np.asarray(plan.overlap, dtype=float))):
        # What is not done one after the other takes off follows from the rows first, and by what attention adds from
        # sequences too.
        taken, _ = _saved(replace(on, graphs=0), StepState(np.maximum(tokens_at, 1.0) / ranks))
        off, at = _saved(on, StepState.decoding(d, c))
        off -= _between(taken, tokens_at, at * ranks)
        alone, in_line, decode = prefill.copy(), decode, decode - off
        if ranks == 1.0:
            off, at = _saved(on, StepState(chunks=(Chunk(q, p),)))
            alone = alone - (off - _between(taken, tokens_at, at))
        tokens -= taken
        once, yielding = on.parts * once, heads.copy()
        if on.parts > 1:
            # A part holds some of the sequences, or of the tokens of a chunk, after all that is cached.
            part = lower(Step(model, plan, d / on.parts, 1.0, c, "decode"))
            in_line = np.maximum(_total(on, part, of.decode, d.shape, in_order=False) - once, 0.0)
            mixed = in_line + _beside_chunks(on, d, c)
            part = lower(Step(model, plan, 1.0, q / on.parts, p, "prefill"))
            prefill = np.maximum(_total(on, part, of.prefill, q.shape, in_order=False) - once, 0.0) / ranks
            part = lower(Step(model, plan, np.maximum(seqs_at, 1.0) / ranks / on.parts, 1.0, 1.0, "decode"))
            yielding = _total(on, part, of.heads, seqs_at.shape, in_order=False)
        for table in (alone, yielding):
            table[0], table[..., ENERGY:] = 0.0, table[..., ENERGY:] * devices / float(plan.pp)
        # Steps of another order than one beside the next are played event by event: at fewer numbers of rows.
        rows = np.searchsorted(tokens_at, _ladder(float(tokens_at[-1]), 4.0) if plan.schedule else tokens_at)
        tokens_of = np.maximum(tokens_at, 1.0) / ranks
        working = work(on, tokens_of, tokens[:, ENERGY])
        working[:, JOULES] *= devices / float(plan.pp)
        reordered = Reordered(in_line[..., :3], _dense(yielding, seqs_at), alone, _dense(working, tokens_at),
                              tokens_at[rows], covering(on, tokens_of[rows], tokens[rows, 0], float(once[0])),
                              len(DRAWN) if on.parts > 1 else 1, once[:3],
                              greatest(on.actions.active) * devices / float(plan.pp))  # fmt: skip
    for table in (tokens, heads, decode, mixed, prefill, *([] if experts is None else [experts]), *verifying):
        table[0] = 0.0
        # Those of a whole engine, or of the stage that a step is in.
        table[..., ENERGY:] *= devices / float(plan.pp)
    pool = pool_of(model, replicas, longest)
    ways = kv_paths(replicas)
    return StepPrices(
        tokens=_dense(tokens, tokens_at), heads=_dense(heads, seqs_at),
        decode_seqs=seqs, decode_context=context, decode=decode,
        prefill_new=new, prefill_context=past, prefill=prefill,
        host=np.array([fixes.step, fixes.sequence / ranks, fixes.chunk, fixes.token / ranks]), launch=launch,
        gap_sequence=fixes.gap_sequence / ranks, graph_sizes=graphs * int(ranks),
        mixed_graphs=int(graphs[-1] * ranks) if len(graphs) and facts is not None and facts.graphs_with_prefill else 0,
        request=fixes.request, kv_token=greatest(pool.token), kv_fixed=greatest(pool.fixed),
        kv_room=greatest(pool.room), swap=ways.swap, transfer=ways.transfer, transfer_latency=ways.latency,
        disk=ways.disk, power_idle=devices * (system.device.power.idle + system.overhead_power),
        power_left=_power_left(system) * devices / float(plan.pp), rent=devices * system.device.price.rent,
        interval=fixes.interval, basis=fixes.basis, stages=int(plan.pp), pace=_pace(on, s.budget),
        follow=int(on.chunks_follow), decode_mixed=mixed, verifying=verifying,
        joined=int(facts is not None), ahead=int(facts is not None and facts.schedules_ahead and plan.pp == 1),
        reordered=reordered, experts=None if experts is None else _dense(experts, tokens_at),
    )  # fmt: skip


def _pace(on: EngineOn, budget: int) -> tuple[float, float]:
    """Time of the slowest stage over an even share: of a step that decodes, in whose last stage the head weighs, and of
    a chunk of the budget."""
    if float(on.plan.pp) <= 1.0:
        return 1.0, 1.0
    rule = "middle" if on.facts is None else on.facts.extra_layers
    steps = (StepState.decoding(16.0, 1024.0), StepState(chunks=(Chunk(float(budget)),)))
    decode, chunk = (greatest(slowest(price_step(on, state), on.model, on.plan, rule)) for state in steps)
    return decode, chunk


def pool_of(model: Model, replicas: Replicas, longest: float) -> CachePool:
    """Room for caches in one engine of ``replicas``, which takes ``settings.memory`` of each device."""
    s = replicas.settings
    engine = engines.load(s.engine if engines.plain(s.engine) in engines.names() else "")
    plan, drafts = with_adapters(replicas), s.speculation
    own = any(x.stream == "text" and not x.active for x in model.stacks)
    how = rules(engine, plan, share=s.memory, budget=float(s.budget), max_seqs=float(s.max_seqs),
                drafts=float(max(drafts.length, drafts.tree)),
                # A step reads all weights: a draft that takes a share of its time has about that share of them.
                draft=drafts.cost if drafts.length and not own else 0.0,
                prefix_cache=s.prefix_cache)  # fmt: skip
    plan = replace(plan, mtp=plan.mtp or (own and drafts.length > 0))
    return cache_pool(model, replicas.machine, plan, how, longest)


def with_adapters(replicas: Replicas) -> Plan:
    """The plan with the adapters that the engine holds."""
    s = replicas.settings
    if not s.adapters:
        return replicas.plan
    return replace(replicas.plan, adapters=float(s.adapters), lora_rank=float(s.rank), lora_modules=s.modules)


def _power_left(system: System) -> float:
    """Watts that a device may draw beside what it draws all the time; inf where no step could ask for more."""
    if not may_exceed(system):
        return float("inf")
    return float(np.nan_to_num(system.power.rated, nan=np.inf) - np.nan_to_num(system.power.idle))


def _total(
    on: EngineOn, program: Program, names: Names, shape: tuple[int, ...], in_order: bool = True
) -> Floats:  # fmt: skip
    """Seconds of some ops of a program, of them those of each resource, and joules of one device: (*shape, 6).

    Args:
        in_order: the program is a whole step, one op after the other; else one of the parts of the plan's schedule, and
            the sum is over all of them.
    """
    out = np.zeros((*shape, len(QUANTITIES)))
    memory = on.target.memory.name
    step = price_program(replace(on, plan=replace(on.plan, schedule="")) if in_order else on, program, StepState())
    for p in step.on_device:
        if (p.segment.name, p.op.name) not in names:
            continue
        cost, times = p.cost, step.parts * p.segment.repeat
        busy = (cost.overlapped.get("compute", 0.0), cost.overlapped.get(memory, 0.0) + cost.serial.get(memory, 0.0),
                cost.overlapped.get("link", 0.0))  # fmt: skip
        out[..., 0] += times * cost.time
        for i, seconds in enumerate(busy, start=1):
            out[..., i] += times * np.minimum(seconds, cost.time)
    out[..., ENERGY], out[..., ON_HOST] = step.spent_apart(on.actions, names)
    return out


def _verifying(on: EngineOn, drafts: Speculation, seqs: Floats, context: Floats, names: Names) -> Floats:
    """Attention of decoding sequences that each bring 1, 2, ... ``drafts.length`` drafts: (length, *shape, 6)."""
    out = np.zeros((drafts.length, *seqs.shape, len(QUANTITIES)))
    for i in range(drafts.length):
        rows = 1.0 + max(drafts.tree, drafts.length) * (i + 1) // drafts.length
        out[i] = _total(on, lower(Step(on.model, on.plan, seqs, rows, context, "decode")), names, seqs.shape)
    return out


def _beside_chunks(on: EngineOn, seqs: Floats, context: Floats) -> Floats:
    """What decoding sequences take longer beside chunks, in all parts of a step (*shape, 6)."""
    out = np.zeros((*seqs.shape, len(QUANTITIES)))
    if on.facts is not None and on.device.family in on.facts.shared_attention_families:
        rows, chunks = (lower(Step(on.model, on.plan, seqs / on.parts, 1.0, context, x)) for x in ("decode", "prefill"))
        out[..., :ENERGY] = on.parts * beside_chunks(rows, chunks, on.target, on.facts.attention_tile, on.fixes.ops)
    return out


def _saved(on: EngineOn, state: StepState) -> tuple[Floats, Floats]:
    """What the plan's order takes off steps whose ops run one after the other, (..., 6), and the rows of these with
    their padding."""
    step = price_step(on, state)
    in_line = replace(on, plan=replace(on.plan, schedule="", overlap=False), graphs=0)
    plain = price_step(in_line, replace(state, padding=step.state.padding))
    rows = np.asarray(plain.state.tokens + plain.state.padding, dtype=float)
    out = np.zeros((*rows.shape, len(QUANTITIES)))
    out[..., 0] = plain.device - step.device
    (own, host), (less, host_less) = plain.spent_apart(on.actions), step.spent_apart(on.actions)
    out[..., ENERGY], out[..., ON_HOST] = own - less, host - host_less
    return out, rows


def _between(table: Floats, at: Floats, x: Floats) -> Floats:
    """A table by one axis (n, 6), linearly between its nodes: (..., 6)."""
    return np.stack([np.interp(x, at, table[:, i]) for i in range(table.shape[1])], axis=-1)


def _counts(most: int, ranks: float, besides: Floats, each: float = 64.0) -> Floats:
    """Whole numbers at which a table is priced, for ``ranks`` that share them: each while there are few, then both
    sides of every sixteen of a rank (kernels' tiles are multiples of it), always with the last; and some ``besides``.

    Args:
        each: how many are few. Of sequences that is where whole waves of a device's units still tell one from the next.
    """
    last = most / ranks
    near, far = np.arange(min(last, each) + 1.0), np.arange(each, last + 1.0, 16.0)
    plain = np.clip(np.concatenate([near, far, far + 1.0, [last]]), 0.0, last) * ranks
    return np.unique(np.concatenate([plain, besides[besides <= most]]))


def _ladder(most: float, per_octave: float) -> Floats:
    """Grid points from 0: 1, then so many an octave, and the last."""
    octaves = np.log2(max(most, 1.0))
    points = 2.0 ** np.arange(0.0, octaves, 1.0 / per_octave)
    return np.unique(np.concatenate([[0.0], np.round(points), [max(most, 1.0)]]))


def _contexts(most: float) -> Floats:
    """Grid points of contexts: both sides of every power of two, where kernels begin to cut the cache further."""
    points = _ladder(most, 4.0)
    doubled = 2.0 ** np.arange(5.0, max(np.log2(most), 5.0))
    return np.unique(np.concatenate([points, doubled - 1.0, doubled]))


def _chunks(most: float) -> Floats:
    """Grid points of the new tokens of chunks: both sides of multiples of the rows of a kernel's tile."""
    tiles = np.concatenate([np.arange(64.0, 1025.0, 64.0), np.arange(1152.0, 4097.0, 128.0)])
    points = np.unique(np.concatenate([_ladder(most, 4.0), tiles, tiles + 1.0]))
    return points[points <= max(most, 1.0)]


def _dense(table: Floats, at: Floats) -> Floats:
    """A table by whole numbers from its values at some of them, linearly between: (last + 1, 6)."""
    return _between(table, at, np.arange(at[-1] + 1.0))
