"""The price of one step: ops priced one by one, scheduled, and what the engine and its host add to them.

A step of an engine takes ``hypot(device, launch if not replayed) + host``, or ``max(hypot(device, launch), host)``
where the engine puts the next step together while one runs. ``device`` is the time of the ops on the device, corrected
by what was measured of the engine, and the gap it leaves between steps.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, is_zero, maximum, minimum, num, scalar, summed, where
from tierwise.core.numerics import Names
from tierwise.cost import Cost, Target, price
from tierwise.cost.energy import Actions, stretch
from tierwise.cost.types import name_of_largest
from tierwise.program.program import Program
from tierwise.program.types import Op, Segment
from tierwise.schedule import order_of, parse, parts
from tierwise.schedule.compiled import executions, lanes_of
from tierwise.schedule.demand import from_cost, group, share
from tierwise.schedule.host import LAUNCH, launched, paced
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand, Order, Timeline
from tierwise.steps.corrections import Corrections
from tierwise.steps.energy import PROCESSORS, joules, works
from tierwise.steps.kinds import Names as Ops
from tierwise.steps.priced import PricedOp, corrected, in_whole_turns, mixtures, scaled, split, step_time
from tierwise.steps.state import StepState

# What the engine and its host add, in the bounds of a step.
HOST = "host"
# Collectives beside the block that follows.
BESIDE = "overlap_collectives:behind=1"
# One op after the other.
IN_LINE = "in_order"
# The group of what an engine's steps are off by as a whole.
ENGINE = "engine"


@dataclass(frozen=True)
class StepCost:
    """What a step costs on one device, an engine on a machine.

    Attributes:
        program: what runs. ``target``: what it is priced on, when somebody asks (a sweep that wants decode only never
            prices prefill). ``corrections``: what was measured of the engine.
        state: what the step works on, all of it; ``ranks``: data-parallel ranks of the engine, each with such a step.
        overlap: collectives run beside the block that follows (may be an array of 0 and 1); ``schedule``: another
            order of all ops, by name and options.
        parts: equal parts of the step's work, of which the program is one.
        replayed: the kernels come from a recorded graph (may be an array); ``ahead``: the host puts the next step
            together while this one runs.
        kernels: kernels of a step, collectives aside. ``joined``: an engine steps, whose launches show beside what the
            device does; else the slower of both does, which sets the pace of each op.
        power: what actions cost, where the machine could be asked for more than it may draw; None elsewhere. ``cap``:
            watts that it may draw.
        several: steps that this one is the mean of, ``last`` the longest of them, where they differ in equal parts.
        shared: seconds of launches that ops of several sequences' kinds share, to be taken off the sum; negative where
            they get in each other's way.
    """

    program: Program
    target: Target
    corrections: Corrections
    state: StepState
    ranks: Num = 1.0
    overlap: Num = 0.0
    schedule: str = ""
    parts: float = 1.0
    replayed: Num = 1.0
    ahead: bool | NDArray[np.bool_] = False
    kernels: Num = 0.0
    joined: bool = False
    several: Num = 1.0
    last: StepCost | None = None
    shared: Num = 0.0
    power: Actions | None = None
    cap: Num = float("nan")

    @cached_property
    def ops(self) -> tuple[PricedOp, ...]:
        """Every op of the program with its price, in the order of ``program.walk()``; where the host sets the pace, an
        op takes as long as its launch."""
        costs = self.costs
        if not np.all(self.target.graphs):
            under = self.target.framework
            costs = paced(costs, [s.repeat for s, _ in self.program.walk()], under.interval if under else None)
        return tuple(PricedOp(s, op, cost) for (s, op), cost in zip(self.program.walk(), costs, strict=True))

    @cached_property
    def costs(self) -> list[Cost]:
        """The price of each op as if it ran by itself."""
        return [corrected(op, price(op, self.target), self.corrections) for _, op in self.program.walk()]

    @cached_property
    def on_device(self) -> tuple[PricedOp, ...]:
        """Every op with what the device spends on it, whatever the host takes to launch it."""
        costs = self.costs if np.all(self.target.graphs) else [launched(c) for c in self.costs]
        return tuple(PricedOp(s, op, cost) for (s, op), cost in zip(self.program.walk(), costs, strict=True))

    @cached_property
    def serial_time(self) -> Num:
        """Seconds of the device when its ops run one after the other."""
        return self.parts * summed(p.time for p in self.on_device)

    @cached_property
    def device(self) -> Num:
        """Seconds of the device: its ops as scheduled, and the gap to the next step."""
        time = self.serial_time if not self.schedule else self.played(self.schedule)[1].time
        if not is_zero(self.overlap):
            beside = self.parts * self.played(BESIDE)[1].time
            time = beside if np.all(np.asarray(self.overlap) > 0) else where(self.overlap, beside, time)
        return time - (self.shared - self.gap)

    @cached_property
    def gap(self) -> Num:
        """Seconds in which the device waits for the next step."""
        c = self.corrections
        return c.gap + c.gap_sequence * self.state.heads + c.gap_expert * mixtures(self.program)

    def ordered(self, schedule: str, priced: Sequence[PricedOp] | None = None) -> tuple[Order, list[Demand]]:
        """What each lane issues under a schedule, and what it asks for.

        Args:
            priced: every op with its cost; what the device spends on it unless given.
        """
        name, options = parse(schedule)
        made = order_of(name, self._whole[0], **options)
        known, shares = {id(p.op): p.cost for p in priced or self.on_device}, self._shares
        if any(op is None for op in made.work):
            raise TierwiseError(f"schedule {name!r} is one of pipelines: it orders stages, not the ops of a step")
        demands = []
        for op in made.work:
            assert op is not None
            cost = known.get(id(op))
            if cost is None:  # a copy that the schedule made
                cost = self.priced(op)
            asked, once = from_cost(op, self.target, cost), shares.get(id(op), 1.0)
            demands.append(replace(asked, duration=once * asked.duration,
                                   bytes={k: once * v for k, v in asked.bytes.items()}))  # fmt: skip
        return made, demands

    def priced(self, op: Op) -> Cost:
        """What the device spends on an op beside the program's: a copy that a schedule made, or one of other sizes."""
        return launched(corrected(op, price(op, self.target), self.corrections))

    @cached_property
    def _whole(self) -> tuple[Program, tuple[tuple[Op, Num], ...]]:
        return in_whole_turns(self.program)

    @property
    def _shares(self) -> dict[int, Num]:
        """Of an execution that an op stands for, by the op's identity."""
        return {id(op): share for op, share in self._whole[1]}

    def played(self, schedule: str) -> tuple[Order, Timeline]:
        """The step as a schedule plays it; once, whoever asks."""
        if schedule not in self._played:
            made, demands = self.ordered(schedule)
            self._played[schedule] = made, play(made, demands)
        return self._played[schedule]

    @cached_property
    def _played(self) -> dict[str, tuple[Order, Timeline]]:
        return {}

    @cached_property
    def executed(self) -> tuple[Order, Timeline]:
        """The step of a scalar configuration as it runs, with every execution of every op. In line, where the host
        sets the pace, an op lasts as long as its launch.

        Raises:
            TierwiseError: there is more than one configuration.
        """
        schedule = BESIDE if not is_zero(self.overlap) else self.schedule or IN_LINE
        made, demands = self.ordered(schedule, self.ops if schedule == IN_LINE else None)
        return made, play(made, demands, events=True)

    @property
    def overlaps(self) -> bool:
        """Whether collectives run beside compute, in any configuration."""
        return not is_zero(self.overlap) or bool(self.schedule)

    @cached_property
    def launch(self) -> Num:
        """Seconds the host needs to launch the kernels one by one; 0 where they are replayed."""
        engine = where(np.asarray(self.replayed) > 0, 0.0, self.corrections.launch * self.kernels)
        if self.last is not None and not is_zero(engine):
            engine = self._waited(engine, self.last.device)
        if np.all(self.target.graphs):
            return engine
        walked = zip(self.program.walk(), self.costs, strict=True)
        each = sum((s.repeat * c.overlapped.get(LAUNCH, 0.0) for (s, _), c in walked), 0.0)
        return maximum(num(engine), num(self.parts * each))

    def _waited(self, launch: Num, last: Num) -> Num:
        """Launching that makes the mean of several steps, each longer than the one before by as much, take what they
        take on average; ``last``: seconds of the device in the longest. Sums of hypotenuses by Euler and Maclaurin."""
        n, last = self.several, minimum(last, 2.0 * self.device)
        first = 2.0 * self.device - last
        more, by = (last - first) / maximum(n - 1.0, 1e-9), maximum(num(launch), 1e-30)
        ends = [(x, np.hypot(x, by)) for x in (first, last)]
        area = [(x * y + by * by * np.arcsinh(x / by)) / 2.0 for x, y in ends]
        (a, low), (b, high) = ends
        inner = (area[1] - area[0]) / maximum(more, 1e-30)
        mean = (inner + (low + high) / 2.0 + more * (b / high - a / low) / 12.0) / n
        less = np.sqrt(maximum(mean * mean - num(self.device) ** 2, num(launch) ** 2))
        unlike = (np.asarray(n) > 1.0) & (np.asarray(launch) > 0.0) & (np.asarray(more) > 1e-6 * np.asarray(last))
        return where(unlike, scalar(less), launch)

    @cached_property
    def host(self) -> Num:
        """Seconds of the host's other work on the step."""
        c, s = self.corrections, self.state
        chunks = sum((x.count for x in s.chunks), 0.0)
        return c.step + c.sequence * s.sequences + c.chunk * chunks * self.ranks + c.token * s.prompt_tokens

    @cached_property
    def time(self) -> Num:
        """Seconds of the step; longer where it would draw more than the machine may."""
        return maximum(num(self._joined(self.device)), num(self.least_time))

    def _joined(self, device: Num) -> Num:
        """Seconds of the step from those of the device."""
        if self.joined:
            return step_time(device, self.launch, self.host, self.ahead)
        return step_time(maximum(num(device), num(self.launch)), 0.0, self.host, self.ahead)

    @cached_property
    def least_time(self) -> Num:
        """Seconds that the step takes at the least at the watts that its device may draw; 0 where it could not ask for
        more."""
        if self.power is None:
            return 0.0
        return stretch(self.spent_apart(self.power)[0], 0.0, self.cap, self.power.idle)

    def joules(self, of: Actions, seconds: Num) -> dict[str, Num]:
        """Joules of one device by component, over so many seconds."""
        priced = ((self.parts * p.segment.repeat, p.op, p.cost) for p in self.on_device)
        return joules(priced, seconds, minimum(num(self.busy), num(seconds)), of, self.target)

    def spent(self, of: Actions, names: Ops | None = None) -> Num:
        """Joules of one device beside what it draws all the time, and of its part of the host's processors: of the
        whole step, or of some ops of it alone."""
        device, host = self.spent_apart(of, names)
        return device + host

    def spent_apart(self, of: Actions, names: Ops | None = None) -> tuple[Num, Num]:
        """(the device's joules, those of the host's processors, which no limit of the device's power counts)."""
        mine = [p for p in self.on_device if names is None or (p.segment.name, p.op.name) in names]
        busy = self.busy if names is None else self._working(mine)
        each = joules(((self.parts * p.segment.repeat, p.op, p.cost) for p in mine), 0.0, busy, of, self.target)
        return sum((v for k, v in each.items() if k not in ("idle", PROCESSORS)), 0.0), each.get(PROCESSORS, 0.0)

    @cached_property
    def groups(self) -> tuple[str, ...]:
        """Classes of ops whose errors go together (device family, op class, engine build), and the engine's own."""
        found = dict.fromkeys(group(p.op, self.target) for p in self.on_device)
        return (*found, ENGINE) if self.corrections.interval != (1.0, 1.0) else tuple(found)

    def moved(self, name: str, end: int) -> Num:
        """Seconds of the step when a group's ops take as long as the lower (0) or upper (1) end of their interval."""
        if name == ENGINE:
            return self.time * self.corrections.interval_of(self.state)[end]
        mine = [p for p in self.on_device if group(p.op, self.target) == name]
        if not mine:
            return self.time
        waits = self.last is not None and not is_zero(self.launch)
        if is_zero(self.overlap) and not self.schedule and self.power is None and not waits:
            more = self.parts * sum((p.time * (p.cost.interval[end] - 1.0) for p in mine), 0.0)
            return self._joined(self.device + more)
        if np.size(self.time) == 1:
            return self._at_ends[name, end]
        return self._with(lambda p: p.cost.interval[end] if group(p.op, self.target) == name else 1.0)

    @cached_property
    def _at_ends(self) -> dict[tuple[str, int], Num]:
        """What :meth:`moved` says of every group of one configuration: both ends of each in one play of them all."""
        ends = [(name, end) for name in self.groups if name != ENGINE for end in (0, 1)]

        def factors(p: PricedOp) -> Num:
            mine = group(p.op, self.target)
            return np.asarray([np.asarray(p.cost.interval[end]).item() if name == mine else 1.0 for name, end in ends])

        seconds = np.broadcast_to(self._with(factors), len(ends))
        return dict(zip(ends, map(float, seconds), strict=True))

    def _with(self, factor: Callable[[PricedOp], Num]) -> Num:
        """Seconds of the step when ops take so many times as long on the device."""
        return self._scaled(factor).time

    def _scaled(self, factor: Callable[[PricedOp], Num]) -> StepCost:
        changed = replace(self, last=self.last and self.last._scaled(factor))
        changed.__dict__["costs"] = self.costs
        changed.__dict__["on_device"] = tuple(replace(p, cost=scaled(p.cost, factor(p))) for p in self.on_device)
        return changed

    def by_segment(self) -> Iterator[tuple[Segment, list[PricedOp]]]:
        for segment in self.program.segments:
            yield segment, [p for p in self.ops if p.segment is segment]

    def total(self, of: Callable[[PricedOp], Num]) -> Num:
        """Sum of ``of(priced op) × executions``."""
        return self.parts * sum((p.segment.repeat * of(p) for p in self.ops), 0.0)

    @cached_property
    def flops(self) -> Num:
        """Arithmetic on one device."""
        return self.total(lambda p: p.cost.flops)

    @cached_property
    def traffic(self) -> dict[str, Num]:
        """Bytes on one device, by tier and link."""
        out: dict[str, Num] = {}
        for p in self.ops:
            for tier, size in p.cost.bytes.items():
                out[tier] = out.get(tier, 0.0) + self.parts * p.segment.repeat * size
        return out

    @cached_property
    def bounds(self) -> dict[str, Num]:
        """Seconds that each resource adds to the step, by the one that bounds each op, dispatch and latency apart; and
        what the host adds. Ops beside others count with what these leave uncovered.

        For arrays, seconds are split at each configuration by its own bound.
        """
        if self.schedule:
            out = self._uncovered(self.schedule)
        else:
            out = split((self.parts * p.segment.repeat, p.cost) for p in self.ops)
            self._add_host(out)
        if is_zero(self.overlap):
            return out
        beside = self._uncovered(BESIDE)
        on = np.asarray(self.overlap) > 0
        return beside if on.all() else {k: where(on, beside.get(k, 0.0), out.get(k, 0.0)) for k in {**beside, **out}}

    def _uncovered(self, schedule: str) -> dict[str, Num]:
        """The same of a schedule with several lanes."""
        made, timeline = self.played(schedule)
        lane_of = lanes_of(made)
        known, shares = {id(p.op): p.cost for p in self.on_device}, self._shares
        rows: list[tuple[int, Num, Cost]] = []
        for lane, op, times in zip(lane_of, made.work, executions(made), strict=True):
            assert op is not None
            rows.append((lane, shares.get(id(op), 1.0) * times, known.get(id(op)) or self.priced(op)))
        # Where ops of several lanes slow each other, more passes than their own seconds.
        alone = [sum((n * c.time for x, n, c in rows if x == lane), 0.0) for lane in range(len(made.lanes))]
        left = [share(timeline.exposed[x], t) for x, t in zip(made.lanes, alone, strict=True)]
        copies = 1.0 if parts(schedule) > 1 else self.parts
        out = split((copies * n * left[lane], cost) for lane, n, cost in rows)
        self._add_host(out)
        return out

    def _add_host(self, out: dict[str, Num]) -> None:
        """What is left of the step: the engine's host, its gap, and launches that the device waits for."""
        left = self.time - sum(out.values(), 0.0)
        # What the sums of floating point leave is no work of the host.
        left = where(np.asarray(left) > 1e-9 * np.asarray(self.time), left, 0.0)
        if not is_zero(left):
            out[HOST] = left

    @property
    def bound_by(self) -> Names:
        """The resource most of the step is spent on."""
        return name_of_largest(self.bounds)

    @cached_property
    def busy(self) -> Num:
        """Seconds in which the binding resource of each op works; launching is the host's work."""
        return minimum(num(self._working(self.on_device)), num(self.device))

    def _working(self, priced: Sequence[PricedOp]) -> Num:
        """Seconds that the binding resource of each op works; copies and the host's work leave the device idle."""
        return self.parts * sum((p.segment.repeat * p.cost.busy for p in priced if works(p.op)), 0.0)
