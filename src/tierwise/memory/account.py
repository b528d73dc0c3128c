"""The one account of memory: what lies on the fullest device, what is left for caches, and how many sequences fit.

An engine takes a share of the device, keeps what its runtime needs, loads the weights, and finds out by a profiling run
what its largest step holds; all that is left goes to caches. Without an engine around it a model holds what its own
passes hold. "Does it fit", "how many sequences", "longest context", the simulator's KV pool and the planner's pruning
all ask here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, ceil_div, maximum, num, where
from tierwise.machines.types import System
from tierwise.memory.activations import copy_buffers, live_activations
from tierwise.memory.weights import weight_bytes
from tierwise.models.lower import lower, state_bytes
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.placement import Placement
from tierwise.program.program import Program
from tierwise.scenario.types import Plan


@dataclass(frozen=True)
class Rules:
    """How an engine lays out the memory of a device. The defaults are those of a model without one.

    Attributes:
        share: of the device's memory, ``of`` which it is: ``device`` (weights, caches and activations together take so
            much), ``static`` (weights and caches do, activations take of the rest), ``free`` (caches take so much of
            what everything else leaves).
        budget: tokens of the largest step, which the engine's profiling run takes; None: activations are those of the
            passes that run.
        max_seqs: sequences of the largest step, whose logits the sampler works on.
        logit_bytes: bytes that the sampler holds for each logit at its worst.
    """

    share: Num = 1.0
    of: str = "device"
    budget: Num | None = None
    max_seqs: Num = 0.0
    logit_bytes: Num = 0.0


@dataclass(frozen=True)
class Memory:
    """Bytes on the fullest device.

    Attributes:
        weights: by role.
        kv: KV cache of all sequences at their longest. ``state``: recurrent state.
        activations: of the largest step, or its logits where these are more.
        reserve: what the runtime keeps, and the share of the device that is not used.
        capacity: what the device has.
        per_sequence: KV and state bytes one sequence adds at its longest.
        once: KV bytes stored once for all sequences (a shared prefix).
        elsewhere: bytes of this device's tensors on other nodes; ``room_elsewhere``: what those have for it, where it
            is known.
    """

    weights: Mapping[str, Num]
    kv: Num
    state: Num
    activations: Num
    reserve: Num
    capacity: float
    per_sequence: Num
    once: Num = 0.0
    elsewhere: Mapping[str, Num] = field(default_factory=dict)
    room_elsewhere: Mapping[str, Num] = field(default_factory=dict)

    @property
    def parts(self) -> dict[str, Num]:
        """Everything by role, in bytes."""
        weights = {f"weights: {role}": size for role, size in self.weights.items()}
        return {**weights, "KV cache": self.kv, "recurrent state": self.state, "activations": self.activations,
                "runtime reserve": self.reserve}  # fmt: skip

    @property
    def weight_bytes(self) -> Num:
        return sum(self.weights.values(), 0.0)

    @property
    def peak(self) -> Num:
        """Bytes in use at the worst moment."""
        return self.weight_bytes + self.kv + self.state + self.activations + self.reserve

    @property
    def cache_room(self) -> Num:
        """Bytes left for caches; 0 where the rest alone does not fit."""
        return maximum(self.capacity - self.weight_bytes - self.activations - self.reserve, 0.0)

    @property
    def sequences(self) -> Num:
        """How many sequences of this length there is room for, of those that lie on this device; a fraction counts."""
        room = maximum(self.cache_room - self.once, 0.0)
        return where(np.asarray(self.per_sequence) > 0, room / maximum(self.per_sequence, 1e-30), np.inf)

    @property
    def fits(self) -> bool | NDArray[np.bool_]:
        """Whether it all fits; an array of answers for an array of configurations."""
        answer = np.asarray(self.peak) <= self.capacity
        for node, room in self.room_elsewhere.items():
            answer = answer & (np.asarray(self.elsewhere.get(node, 0.0)) <= room)
        return answer if answer.ndim else bool(answer)


def account(
    model: Model, system: System, plan: Plan, rules: Rules, final: Step, programs: Sequence[Program] = (),
    weights: Mapping[str, Num] | None = None, largest: Num | None = None,
) -> Memory:  # fmt: skip
    """Memory of the fullest device.

    Args:
        final: the last decode step, when caches are longest; its sequences are those of one micro-batch.
        programs: the passes that run, where ``rules`` name no step to profile.
        weights: from :func:`weight_bytes`, where they are known already; ``largest``: likewise from :func:`profiled`.
    """
    device = system.device
    kv, state, once = (x * held(model, plan) for x in state_bytes(final))
    at_home = plan.placement.at_home("kv")
    away = {**_away(model, plan), "kv": (kv, dict(plan.placement.fractions("kv")))}
    kv, once, state = kv * at_home, once * at_home, state * plan.placement.at_home("state")
    # Every micro-batch of a pipeline keeps its cache on every stage.
    sequences = final.seqs * plan.pp
    if rules.budget is None:
        live: Num = 0.0
        for program in programs:
            live = maximum(live, live_activations(program) + copy_buffers(program, plan.schedule))
    else:
        live = profiled(model, plan, rules) if largest is None else largest
        live = maximum(live, sampling(model, rules, sequences))
    weights = weights if weights is not None else weight_bytes(model, plan)
    capacity, total = device.memory.capacity, sum(weights.values(), 0.0)
    unused = (1.0 - rules.share) * capacity
    reserve: Num = device.reserve + unused
    if rules.of == "static":
        reserve = maximum(device.reserve + 0.0 * live, unused - live)
    elif rules.of == "free":
        reserve = device.reserve + (1.0 - rules.share) * maximum(capacity - device.reserve - total - live, 0.0)
    elsewhere: dict[str, Num] = {}
    for group, (size, places) in away.items():
        for node, fraction in places.items():
            count = sequences if group == "kv" else 1.0
            elsewhere[node] = elsewhere.get(node, 0.0) + size * fraction * count
    return Memory(
        weights=weights,
        kv=kv * sequences + once,
        state=state * sequences,
        activations=live,
        reserve=reserve,
        capacity=capacity,
        per_sequence=kv + state,
        once=once,
        elsewhere=elsewhere,
        room_elsewhere=_room(system, plan),
    )


def _away(model: Model, plan: Plan) -> dict[str, tuple[Num, dict[str, Num]]]:
    """Bytes of all weights by role, wherever they lie, and their fractions by other nodes."""
    if not plan.placement.tensors:
        return {}
    whole = weight_bytes(model, replace(plan, placement=Placement()))
    return {role: (size, dict(plan.placement.fractions(role, "weights"))) for role, size in whole.items()}


def _room(system: System, plan: Plan) -> dict[str, Num]:
    """Bytes that each other node has for one device's share, as far as anybody says."""
    nodes = {node for _, places in plan.placement.tensors for node, _ in places}
    known: dict[str, Num] = {t.name: t.capacity for t in system.device.tiers if t.name in nodes}
    host = system.host
    if "host" in nodes and host is not None and np.all(np.isfinite(np.asarray(host.memory))):
        known["host"] = host.memory / system.per_node
    return known


def profiled(model: Model, plan: Plan, rules: Rules) -> Num:
    """Bytes of the activations of an engine's largest step: one prompt of all its tokens."""
    assert rules.budget is not None
    program = lower(Step(model, replace(plan, mtp=False), 1.0, rules.budget, 0.0, "prefill"))
    return live_activations(program) + copy_buffers(program, plan.schedule)


def sampling(model: Model, rules: Rules, sequences: Num) -> Num:
    """Bytes of the logits of the largest step, as the sampler holds them."""
    return maximum(num(rules.max_seqs), num(sequences)) * model.vocab * rules.logit_bytes


def held(model: Model, plan: Plan) -> Num:
    """Share of the layers that the fullest pipeline stage holds."""
    depth = float(sum(s.depth for s in model.stacks if s.stream == "text" and s.active))
    return ceil_div(depth, plan.pp) / depth if depth else 1.0


@dataclass(frozen=True)
class CachePool:
    """Room for caches in one engine, all its devices together.

    Attributes:
        token: bytes of one more token of a sequence; ``fixed``: bytes of a sequence whatever its length.
        room: bytes for caches.
        memory: the account of the fullest device that it follows from.
    """

    token: Num
    fixed: Num
    room: Num
    memory: Memory


def cache_pool(model: Model, system: System, plan: Plan, rules: Rules, longest: Num) -> CachePool:
    """The pool that an engine's caches share.

    Layers that look back only so far are linearized at half and whole ``longest`` context: what they keep counts as
    fixed.
    """
    plan = replace(plan, mtp=False)

    def bytes_at(context: Num) -> tuple[Num, Num]:
        kv, state, _ = state_bytes(Step(model, plan, 1.0, 1.0, context - 1.0, "decode"))
        return kv, state

    (half, _), (whole, state) = bytes_at(longest / 2.0), bytes_at(longest)
    token = (whole - half) / (longest / 2.0)
    token = where(np.asarray(token) > 0, token, whole / longest)
    fixed = maximum(whole - token * longest, 0.0) + state
    found = account(model, system, plan, rules, Step(model, plan, 0.0, 1.0, longest - 1.0, "decode"))
    # A stage holds its layers of every sequence, so the fullest stage decides; ranks hold different sequences.
    ways = plan.tp
    return CachePool(token * ways, fixed * ways, found.cache_room / held(model, plan) * ways * plan.dp, found)


__all__ = ["CachePool", "Memory", "Rules", "account", "cache_pool", "held", "live_activations", "profiled",
           "sampling", "weight_bytes"]  # fmt: skip
