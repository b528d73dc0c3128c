"""The one account of memory: what lies on the fullest device, what is left for caches, and how many sequences fit.

An engine takes a share of the device, keeps what its runtime needs, loads the weights, and finds out by a profiling run
what its largest step holds; all that is left goes to caches. Without an engine around it a model holds what its own
passes hold. "Does it fit", "how many sequences", "longest context", the simulator's KV pool and the planner's pruning
all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, is_zero, maximum, minimum, num, summed, where
from tierwise.cost import framework
from tierwise.machines.types import Device, System
from tierwise.memory.activations import copy_buffers, ggml_activations, live_activations
from tierwise.memory.caches import Caches, stage_caches
from tierwise.memory.stages import ByStage, fullest, pick, plus
from tierwise.memory.weights import ADAPTERS, of_stage, stage_weights, together, weight_bytes
from tierwise.models.lower import lower, state_bytes
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.program import Program
from tierwise.scenario.types import Plan


@dataclass(frozen=True)
class MemoryRules:
    """How an engine lays out the memory of a device. The defaults are those of a model without one.

    Attributes:
        share: of the device's memory, ``of`` which it is: ``device`` (weights, caches and activations together take so
            much), ``static`` (weights and caches do, activations take of the rest), ``free`` (caches take so much of
            what everything else leaves).
        budget: tokens of the largest step, which the engine's profiling run takes; None: activations are those of the
            passes that run.
        max_seqs: sequences of the largest step, whose logits the sampler works on.
        logit_bytes: bytes that the sampler holds for each logit at its worst; ``drafts``: further tokens of a sequence
            that it does so for.
        draft: size of a draft model beside the model, of its weights and of its caches over the model's own.
        states: recurrent states that a running sequence holds: its own, one for each draft token that may yet be
            refused (a state cannot be cut back), and what a prefix cache keeps.
        window_share: tokens that layers with a window have room for over those of the others, whatever their window;
            None where they hold no more than it.
        extra_layers: which pipeline stages hold one layer more, see :mod:`tierwise.memory.stages`.
        padded: by format and family of devices, what experts' widths are rounded up to, see
            :class:`tierwise.engines.EngineDefaults`.
        whole_graph: the engine reserves the largest graph that it may build: the largest step at the end of the longest
            context, with the logits of every token of it and the rows they are made of; in 32 bits, as ggml does.
    """

    share: Num = 1.0
    of: str = "device"
    budget: Num | None = None
    max_seqs: Num = 0.0
    logit_bytes: Num = 0.0
    drafts: Num = 0.0
    draft: Num = 0.0
    states: Num = 1.0
    extra_layers: str = "middle"
    window_share: float | None = None
    whole_graph: bool = False
    padded: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)

    def held(self, model: Model, system: System, plan: Plan, node: str = "") -> dict[str, ByStage]:
        """Bytes of weights of every stage as the engine holds them, by role (see :func:`stage_weights`)."""
        family = system.device.family
        padded = {f: by[key] for f, by in self.padded.items() if (key := family if family in by else "any") in by}
        return stage_weights(model, plan, self.extra_layers, node, padded)


@dataclass(frozen=True)
class Memory:
    """Bytes on a device of the fullest stage.

    Attributes:
        weights: by role.
        kv: KV cache of all sequences at their longest, and what the chunk of a prompt in work adds to layers with a
            window. ``state``: recurrent state.
        activations: of the largest step, or its logits where these are more.
        reserve: what the runtime keeps, and the share of the device that is not used.
        capacity: what the device has.
        per_sequence: KV and state bytes one sequence adds at its longest.
        once: KV bytes stored once for all sequences (a shared prefix); ``chunk``: those that layers with a window hold
            beyond it of the prompt that is being read.
        most: sequences of this length there is room for on every stage.
        stage: number of the fullest stage.
        elsewhere: bytes of this device's tensors on other nodes, ``elsewhere_caches`` of them caches;
            ``room_elsewhere``: what those have for it, where it is known.
    """

    weights: Mapping[str, Num]
    kv: Num
    state: Num
    activations: Num
    reserve: Num
    capacity: float
    per_sequence: Num
    once: Num = 0.0
    chunk: Num = 0.0
    most: Num = float("inf")
    stage: Any = 0
    elsewhere: Mapping[str, Num] = field(default_factory=dict)
    room_elsewhere: Mapping[str, Num] = field(default_factory=dict)
    elsewhere_caches: Mapping[str, Num] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Num]:
        """Everything by role, in bytes."""
        weights = {f"weights: {role}": size for role, size in self.weights.items()}
        return {**weights, "KV cache": self.kv, "recurrent state": self.state, "activations": self.activations,
                "runtime reserve": self.reserve}  # fmt: skip

    @property
    def weight_bytes(self) -> Num:
        return sum(self.weights.values(), 0.0)

    @cached_property
    def peak(self) -> Num:
        """Bytes in use at the worst moment."""
        return summed([self.weight_bytes, self.kv, self.state, self.activations, self.reserve])

    @property
    def cache_room(self) -> Num:
        """Bytes left for caches; 0 where the rest alone does not fit."""
        return maximum(self.capacity - self.weight_bytes - self.activations - self.reserve, 0.0)

    @property
    def sequences(self) -> Num:
        """How many sequences of this length every stage has room for; a fraction counts."""
        return self.most

    @property
    def admitted(self) -> Num:
        """Bytes that a sequence needs to be free when it comes in: its own, and those of the chunk of its prompt."""
        return self.per_sequence + self.chunk

    @property
    def fits(self) -> bool | NDArray[np.bool_]:
        """Whether it all fits; an array of answers for an array of configurations."""
        answer = np.asarray(self.peak) <= self.capacity
        for node, room in self.room_elsewhere.items():
            answer = answer & (np.asarray(self.elsewhere.get(node, 0.0)) <= room)
        return answer if answer.ndim else bool(answer)


def account(
    model: Model, system: System, plan: Plan, rules: MemoryRules, final: Step, programs: Sequence[Program] = (),
    weights: Mapping[str, ByStage] | None = None, largest: Num | None = None,
) -> Memory:  # fmt: skip
    """Memory of a device of the fullest stage.

    Args:
        final: the last decode step, when caches are longest; its sequences are those of one micro-batch.
        programs: the passes that run, where ``rules`` name no step to profile.
        weights: from :meth:`MemoryRules.held`, where they are known already; ``largest``: likewise from
            :func:`profiled`.
    """
    device, capacity = system.device, system.device.memory.capacity
    budget: Num = 0.0 if rules.budget is None else rules.budget

    def caches(node: str) -> Caches:
        found = stage_caches(final, rules.extra_layers, budget, rules.window_share, node)
        found = replace(found, state=[rules.states * x for x in found.state])
        return found if is_zero(rules.draft) else found.scaled(1.0 + rules.draft)

    home = caches("")
    # Every micro-batch of a pipeline keeps its cache on every stage.
    sequences = final.seqs * plan.pp
    if rules.budget is None:
        live: Num = 0.0
        score = framework.load(plan.framework).alive if plan.framework else None
        for program in programs:
            live = maximum(live, live_activations(program, score) + copy_buffers(program, plan.schedule))
    else:
        past = maximum(final.past + final.new - rules.budget, 0.0) if rules.whole_graph else 0.0
        live = profiled(model, plan, rules, past) if largest is None or rules.whole_graph else largest
        live = maximum(live, sampling(model, rules, sequences))
    stages = rules.held(model, system, plan) if weights is None else weights
    if not is_zero(rules.draft):
        stages = {**stages, "draft model": [rules.draft * x for x in together(stages, but=("embed", ADAPTERS))]}
    total = together(stages)
    reserve = [_reserve(rules, device, x, live) for x in total]
    taken = plus(plus(total, reserve), home.shared)
    stage = fullest(taken, home.each, sequences)
    most = minimum(*(_most(capacity - live - x, each) for x, each in zip(taken, home.each, strict=True)))
    kv, state, once, chunk = (pick(x, stage) for x in (home.kv, home.state, home.once, home.chunk))
    elsewhere: dict[str, Num] = {}
    cached: dict[str, Num] = {}
    for node in plan.placement.nodes:
        there, kept = together(rules.held(model, system, plan, node)), caches(node)
        # Devices of all stages share a node, so each counts with their mean.
        held = (once + n * sequences for n, once in zip(kept.each, kept.shared, strict=True))
        cached[node] = sum(held, 0.0) / plan.pp
        elsewhere[node] = sum(there, 0.0) / plan.pp + cached[node]
    return Memory(
        weights=of_stage(stages, stage),
        kv=kv * sequences + (once + chunk),
        state=state * sequences,
        activations=live,
        reserve=pick(reserve, stage),
        capacity=capacity,
        per_sequence=kv + state,
        once=once,
        chunk=chunk,
        most=most,
        stage=stage,
        elsewhere=elsewhere,
        room_elsewhere=_room(system, plan),
        elsewhere_caches=cached,
    )


def _most(room: Num, each: Num) -> Num:
    """Sequences that a stage has room for."""
    return where(np.asarray(each) > 0, maximum(room, 0.0) / maximum(each, 1e-30), np.inf)


def _reserve(rules: MemoryRules, device: Device, weights: Num, live: Num) -> Num:
    """Bytes that neither weights nor caches nor activations get."""
    capacity = device.memory.capacity
    unused = (1.0 - rules.share) * capacity
    if rules.of == "static":
        # The share is of what is free once the runtime is there (SGLang's mem_fraction_static, ModelRunner).
        return device.reserve + maximum((1.0 - rules.share) * (capacity - device.reserve) - live, 0.0 * live)
    if rules.of == "free":
        return device.reserve + (1.0 - rules.share) * maximum(capacity - device.reserve - weights - live, 0.0)
    return device.reserve + unused


def _room(system: System, plan: Plan) -> dict[str, Num]:
    """Bytes that each other node has for one device's share, as far as anybody says."""
    nodes = set(plan.placement.nodes)
    known: dict[str, Num] = {t.name: t.capacity for t in system.device.tiers if t.name in nodes}
    host = system.host
    if "host" in nodes and host is not None and np.all(np.isfinite(np.asarray(host.memory))):
        kept = 0.0 if host.cpu is None else host.cpu.reserve * host.sockets
        known["host"] = maximum(host.memory - kept, 0.0) / system.per_node
    return known


def profiled(model: Model, plan: Plan, rules: MemoryRules, past: Num = 0.0) -> Num:
    """Bytes of the activations of an engine's largest step: one prompt of all its tokens, ``past`` others before."""
    assert rules.budget is not None
    program = lower(Step(model, replace(plan, mtp=False), 1.0, rules.budget, past, "prefill"))
    live = ggml_activations(program) if rules.whole_graph else live_activations(program)
    return live + copy_buffers(program, plan.schedule)


def sampling(model: Model, rules: MemoryRules, sequences: Num) -> Num:
    """Bytes of the logits of the largest step, as the sampler holds them."""
    if rules.whole_graph:
        rows = maximum(num(rules.budget if rules.budget is not None else 0.0), num(sequences))
        return rows * (model.vocab + model.hidden) * rules.logit_bytes
    return maximum(num(rules.max_seqs), num(sequences)) * (1.0 + rules.drafts) * model.vocab * rules.logit_bytes


@dataclass(frozen=True)
class CachePool:
    """Room for caches in one engine, all its devices together.

    Attributes:
        token: bytes of one more token of a sequence; ``fixed``: bytes of a sequence whatever its length.
        room: bytes for caches.
        memory: the account of the fullest device that it follows from.
        longest: tokens of the longest sequence that a rank's caches hold (as many as were asked about where length
            costs nothing).
    """

    token: Num
    fixed: Num
    room: Num
    memory: Memory
    longest: Num


def cache_pool(model: Model, system: System, plan: Plan, rules: MemoryRules, longest: Num) -> CachePool:
    """The pool that an engine's caches share.

    Layers that look back only so far are linearized at half and whole ``longest`` context: what they keep counts as
    fixed.
    """

    def bytes_at(context: Num) -> tuple[Num, Num]:
        kv, state, _ = state_bytes(Step(model, plan, 1.0, 1.0, context - 1.0, "decode"))
        return kv, rules.states * state

    (half, _), (whole, state) = bytes_at(longest / 2.0), bytes_at(longest)
    token = (whole - half) / (longest / 2.0)
    token = where(np.asarray(token) > 0, token, whole / longest)
    fixed = maximum(whole - token * longest, 0.0) + state
    found = account(model, system, plan, rules, Step(model, plan, 0.0, 1.0, longest - 1.0, "decode"))
    # A stage holds its layers of every sequence, so the fullest stage decides; ranks hold different sequences.
    room = where(np.isfinite(np.asarray(found.most)), found.most * (whole + state), found.cache_room)
    tokens = where(np.asarray(token) > 0, (room - fixed) / maximum(token, 1e-30), num(longest))
    return CachePool(token * plan.tp, fixed * plan.tp, room * plan.tp * plan.dp, found,
                     maximum(tokens, 0.0))  # fmt: skip


__all__ = ["CachePool", "Caches", "Memory", "MemoryRules", "account", "cache_pool", "live_activations", "profiled",
           "sampling", "stage_weights", "weight_bytes"]  # fmt: skip
