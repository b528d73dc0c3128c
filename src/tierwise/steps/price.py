"""The one step function: what a step of an engine costs, whoever asks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from tierwise import engines
from tierwise.core.errors import UnknownName
from tierwise.core.num import Num, is_zero, minimum, num, scalar, where
from tierwise.cost import Target, efficiency, price
from tierwise.cost.energy import Actions, actions
from tierwise.cost.exchange import beside
from tierwise.cost.framework import load as framework
from tierwise.cost.kits import kit
from tierwise.engines import KERNELS, TYPICAL, EngineDefaults
from tierwise.machines.types import Device, System
from tierwise.memory.account import weight_bytes
from tierwise.models.attending import attending
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.kernels import as_kernels
from tierwise.program.program import Program
from tierwise.scenario.types import Plan
from tierwise.schedule import parts
from tierwise.steps.corrections import Corrections, corrections
from tierwise.steps.cost import StepCost
from tierwise.steps.energy import may_exceed
from tierwise.steps.kinds import Kinds, Names, kinds
from tierwise.steps.mixed import beside_chunks
from tierwise.steps.priced import corrected, kernels
from tierwise.steps.program import StepPart, plain, step_program
from tierwise.steps.state import StepState


@dataclass(frozen=True)
class EngineOn:
    """An engine that runs a model on a machine, as its steps see it.

    Attributes:
        plan: as the engine runs it.
        target: what ops are priced on. ``fixes``: what was measured of the engine.
        facts: what it does by default; None for kernels alone.
        device: as its file has it, whatever was measured of the engine. ``max_seqs``: sequences of a step; ``graphs``:
            largest batch that is replayed from a recorded graph (0 for none). ``chunks_follow``: with pipeline stages,
            the next chunk of a prompt enters the first one while the chunk before it is in a later one.
    """

    model: Model
    plan: Plan
    target: Target
    fixes: Corrections
    facts: EngineDefaults | None
    device: Device
    max_seqs: int = 256
    graphs: int = 512
    chunks_follow: bool = True

    @property
    def parts(self) -> int:
        """Equal parts that the plan's schedule divides a batch into."""
        return parts(self.plan.schedule)

    @cached_property
    def actions(self) -> Actions:
        """What actions cost."""
        return actions(self.device)

    @property
    def power(self) -> Actions | None:
        """The same where a step could draw more than it may."""
        return self.actions if may_exceed(self.target.system) else None

    @property
    def cap(self) -> Num:
        """Watts that the device may draw."""
        return self.target.system.power.rated

    @cached_property
    def kinds(self) -> Kinds:
        """What each op's work follows from."""
        return kinds(self.model, self.plan)

    @cached_property
    def kernels(self) -> Num:
        """Kernels of a step: those of one that decodes."""
        if self.fixes.launch == 0.0:
            return 0.0
        return kernels(lower(Step(self.model, self.plan, 1.0, 1.0, 1.0, "decode")))


def engine_on(
    model: Model, plan: Plan, system: System, engine: str, fixes: Corrections | None = None, *,
    max_seqs: int = 256, graphs: int = 512, alone: bool = False,
) -> EngineOn:  # fmt: skip
    """An engine on a machine.

    Args:
        engine: by name, perhaps of a version (``vllm@0.24``); ``typical``, or ``kernels`` for the ops alone.
        fixes: what a run of one's own found; what is on file for the engine unless given.
        alone: its kernels without the engine around them: no recorded graphs, nothing put together ahead; of an engine
            that is a framework, as it runs graphs.

    Raises:
        UnknownName: an engine that is not on file.
    """
    device = system.device
    # A machine that was itself measured brings its engines.
    own = device.measured
    asked, engine = engine, engines.plain(engine)
    if engine not in (KERNELS, TYPICAL) and not own and engine not in engines.names():
        raise UnknownName("engine", engine, [*engines.names(), TYPICAL, KERNELS])
    alone = alone or engine == KERNELS or bool(plan.framework)
    name = "" if engine in (KERNELS, TYPICAL) else engine
    brought = name if not own or name in own else next(iter(own))
    # An engine of a measured machine may be one that nothing is on file of.
    facts = None if alone else engines.load(brought if brought in engines.names() else "")
    if facts is not None:
        model = attending(model, facts.latent_prompts, facts.masked)
    if not alone:
        # Engines leave all-reduces to a library where devices have no links of their own.
        plan = replace(plan, library=True if device.link("scale-up") is None else plan.library)
    found = fixes or (Corrections() if alone else corrections(name or TYPICAL, device, model.name))
    # Of graphs that no engine steps, its framework says which kernels run; what was measured here says so itself.
    runs = plan.framework or (engines.load(name).framework if alone and name in engines.names() and not own else "")
    under = framework(runs) if runs else None
    # Where some of many configurations replay graphs, prices are made both ways.
    replays = np.asarray(plan.graphs, dtype=bool) & (under is None)
    prices = efficiency(device, asked if name else name)
    if name and kit(name, device) is not None:
        prices = replace(prices, engine=asked)  # kernels of its own follow the build
    # Stages that hand work on to the host's processors do so in turn.
    turns = minimum(num(plan.pp), float(system.per_node)) if plan.placement.parts else 1.0
    target = Target(system, prices, replays if replays.ndim else bool(replays), under, taking_turns=turns)
    read = sum((size for role, size in weight_bytes(model, plan).items() if role != "embed"), 0.0)
    resident = where(np.asarray(read) <= target.cache_capacity, 1.0, 0.0)
    return EngineOn(model, plan, found.target(replace(target, resident=resident)), found, facts, device, max_seqs,
                    graphs if np.any(plan.graphs) else 0, facts is None or facts.chunks_follow(asked))  # fmt: skip


def price_step(on: EngineOn, state: StepState) -> StepCost:
    """What a step costs.

    Args:
        state: of one data-parallel rank; decoding steps are padded here to the size that is replayed. A schedule that
            divides a batch takes equal parts of it, each a program of its own.
    """
    part = state if on.parts == 1 else state.divided(on.parts)
    padded, replayed = recorded(on, part)
    if not np.all(np.asarray(state.balance) == 1.0):
        # Ranks that replay a graph are padded to the same size.
        padded = replace(padded, balance=where(np.asarray(replayed) > 0, 1.0, state.balance))
    whole = plain(on.model, on.plan, padded)
    program, parts = (lower(whole), ()) if whole is not None else step_program(on.model, on.plan, padded, on.kinds)
    shared: Num = 0.0
    if parts:
        once = shared_launch(on)
        shared = once * (sum((p.share for p in parts), 0.0) - 1.0)
        if len(parts) > 1 and not is_zero(part.decodes):
            shared = shared - _beside(on, part, parts[0])
    asked = replace(state, padding=on.parts * padded.padding)
    return price_program(on, program, asked, replayed, on.parts * shared)


def price_program(
    on: EngineOn, program: Program, state: StepState, replayed: Num = 1.0, shared: Num = 0.0
) -> StepCost:  # fmt: skip
    """What a program costs that an engine runs as one step."""
    if on.target.framework is not None and on.target.framework.rules is not None:
        program = as_kernels(program, on.target.framework.rules)
    overlap = num(np.asarray(on.plan.overlap, dtype=float))
    # The next step is put together while one runs only where one device (or one group of them) runs all layers.
    ahead = (np.asarray(on.plan.pp) <= 1) & (on.facts is not None and on.facts.schedules_ahead)
    target = on.target
    if on.parts > 1:
        target = beside((op for _, op in program.walk()), target)
    if target.device.measured:
        target = replace(target, working=program.bytes_of("weight"))
    return StepCost(
        program, target, on.fixes, state, ranks=on.plan.dp, overlap=overlap, schedule=on.plan.schedule,
        parts=float(on.parts), replayed=replayed, ahead=ahead if np.ndim(ahead) else bool(ahead),
        kernels=on.kernels * on.parts, joined=on.facts is not None, shared=shared, power=on.power, cap=on.cap,
    )  # fmt: skip


def recorded(on: EngineOn, state: StepState) -> tuple[StepState, Num]:
    """The step as the engine runs it: padded to the next recorded batch size, and whether it is replayed from one."""
    if on.facts is None:
        return state, 1.0
    seats = np.maximum(on.max_seqs, np.floor(np.asarray(state.sequences * on.plan.dp)))
    sizes = on.facts.graph_sizes(int(np.max(seats)), on.graphs) * 1.0
    prompt = np.asarray(state.prompt_tokens) > 0
    if not len(sizes) or (prompt.all() and not on.facts.graphs_with_prefill):
        return state, 0.0
    # Sizes are of one rank; ranks share the tokens evenly.
    at = np.searchsorted(sizes, np.asarray(state.tokens) * (1.0 - 1e-12))
    size = sizes[np.minimum(at, len(sizes) - 1)]
    # Of many configurations each records the sizes of its own sequences, and some none.
    recorded = size <= np.minimum(np.floor(on.facts.graph_sizes_per_sequence * seats), on.graphs)
    fits = (at < len(sizes)) & recorded & np.asarray(on.plan.graphs, dtype=bool)
    if not on.facts.graphs_with_prefill:
        fits = fits & ~prompt
    padded = np.where(fits, size, state.tokens)
    return replace(state, padding=scalar(padded - state.tokens)), where(fits, 1.0, 0.0)


def shared_launch(on: EngineOn) -> Num:
    """Seconds of the sequence ops that are in every step, however many sequences and chunks it serves: what they take
    for one sequence with one token."""
    k = on.kinds
    decode = seconds(on, lower(Step(on.model, on.plan, 1.0, 1.0, 0.0, "decode")), k.decode)
    prefill = seconds(on, lower(Step(on.model, on.plan, 1.0, 1.0, 0.0, "prefill")), k.prefill)
    return minimum(decode, prefill)


def seconds(on: EngineOn, program: Program, names: Names) -> Num:
    """Seconds of some ops of a program, one after the other."""
    return sum((s.repeat * corrected(op, price(op, on.target), on.fixes).time for s, op in program.walk()
                if (s.name, op.name) in names), 0.0)  # fmt: skip


def _beside(on: EngineOn, state: StepState, decoding: StepPart) -> Num:
    """What decoding rows take longer beside chunks, on devices where one kernel serves both."""
    if on.facts is None or on.target.device.family not in on.facts.shared_attention_families:
        return 0.0
    rows = lower(Step(on.model, on.plan, state.decodes, 1.0 + state.drafts, state.mean_context, "prefill"))
    found = beside_chunks(decoding.program, rows, on.target, on.facts.attention_tile, on.fixes.ops)
    return 0.0 if isinstance(found, float) else scalar(found[..., 0])


__all__ = ["KERNELS", "TYPICAL", "EngineOn", "engine_on", "price_program", "price_step",
           "recorded", "seconds", "shared_launch"]  # fmt: skip
