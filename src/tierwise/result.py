"""What an evaluation says: phases, memory, rates, energy, money. Everything may be an array."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.intervals import Change, Interval, change, factors
from tierwise.core.num import Num, maximum, minimum, num, where
from tierwise.core.numerics import Names
from tierwise.cost.energy import Actions, actions
from tierwise.cost.energy import interval as energy_interval
from tierwise.cost.types import name_of_largest
from tierwise.memory.account import Memory
from tierwise.models.step import Step
from tierwise.program.program import Program
from tierwise.program.types import Segment
from tierwise.scenario.types import Resolved
from tierwise.steps.cost import StepCost
from tierwise.steps.energy import by_op
from tierwise.steps.priced import PricedOp


@dataclass(frozen=True)
class Phase:
    """Equal passes: a chunk of prefill, a decode step, an image through the tower.

    Attributes:
        name: of the workload's pass: ``vision``, ``audio``, ``encode``, ``prefill``, ``decode``, ...
        step: what one pass sees.
        cost: what one pass costs, priced when somebody asks (a sweep that wants decode only never prices prefill).
        passes: how many passes one batch needs.
        pipeline_stretch: passes-times a pass takes end to end over its own time (pipeline fill; 1 without).
        share: of a pass's work that one device does in its time (less than 1 where pipeline stages stand idle).
    """

    name: str
    step: Step
    cost: StepCost
    passes: Num
    pipeline_stretch: Num = 1.0
    share: Num = 1.0

    @property
    def program(self) -> Program:
        """The ops of one pass on one device."""
        return self.cost.program

    @property
    def graph(self) -> Program:
        """What :attr:`program` was called; goes with the next minor version."""
        warnings.warn("phase.graph is called phase.program now", DeprecationWarning, stacklevel=2)
        return self.program

    @property
    def ops(self) -> tuple[PricedOp, ...]:
        """Every op with its price, in the order of ``program.walk()``."""
        return self.cost.ops

    @property
    def pass_time(self) -> Num:
        """Seconds of one pass through all layers."""
        return self.cost.time

    @property
    def time(self) -> Num:
        """Seconds of all passes."""
        return self.pass_time * self.passes * self.pipeline_stretch

    def by_segment(self) -> Iterator[tuple[Segment, list[PricedOp]]]:
        """The ops of each segment."""
        return self.cost.by_segment()

    def total(self, of: Callable[[PricedOp], Num]) -> Num:
        """Sum of ``of(priced op) × executions`` over one pass."""
        return self.cost.total(of)

    @property
    def time_at_peak(self) -> Num:
        """Seconds of a pass's arithmetic alone, every op at the device's peak (:meth:`time_at_peak_of`)."""
        return self.total(self.time_at_peak_of)

    def time_at_peak_of(self, p: PricedOp) -> Num:
        """Seconds of one execution's arithmetic alone at the device's peak in its format, or in 16 bits where that is
        higher, as utilization is stated."""
        on = self.cost.target
        wide = [r for e in on.device.engines for d, r in e.rates.items() if d in _WIDE]
        rate, engine = on.rate(p.op.arithmetic)
        own = rate * (engine.sparse if p.op.options.get("structured") else 1.0)
        return p.cost.flops / maximum(own, *wide)

    @property
    def flops(self) -> Num:
        """Arithmetic of one pass on one device."""
        return self.cost.flops

    @property
    def traffic(self) -> dict[str, Num]:
        """Bytes of one pass on one device, by tier and link."""
        return self.cost.traffic

    @property
    def bounds(self) -> dict[str, Num]:
        """Seconds of one pass by what bounds it, see :attr:`tierwise.steps.cost.StepCost.bounds`."""
        return self.cost.bounds

    @property
    def bound_by(self) -> Names:
        """The resource most of the pass is spent on."""
        return self.cost.bound_by

    @property
    def busy(self) -> Num:
        """Seconds of one pass in which the binding resource of each op works; launching is the host's work."""
        return self.cost.busy

    def reads(self, role: str) -> Num:
        """Bytes of one operand role that one pass moves once each."""
        return self.program.bytes_of(role)


@dataclass(frozen=True)
class Result:
    """The answer for a scenario.

    Attributes:
        scenario: what was evaluated, every name looked up.
        batch: requests at once over the whole system.
        phases: in order of execution.
        memory: of the fullest device.
    """

    scenario: Resolved
    batch: Num
    phases: tuple[Phase, ...]
    memory: Memory

    def phase(self, name: str) -> Phase:
        """The phase of a name; raises KeyError when it does not run."""
        for p in self.phases:
            if p.name == name:
                return p
        raise KeyError(f"no phase {name!r}; this scenario has {', '.join(p.name for p in self.phases)}")

    def has(self, name: str) -> bool:
        """Whether a phase of that name runs."""
        return any(p.name == name for p in self.phases)

    @property
    def fits(self) -> bool | NDArray[np.bool_]:
        """Whether the memory suffices and at least one request runs."""
        ok = np.asarray(self.memory.fits) & (np.asarray(self.batch) >= 1)
        return ok if ok.ndim else bool(ok)

    @cached_property
    def ttft(self) -> Num:
        """Seconds until the last request of the batch has its first token (all arrive together)."""
        return sum((p.time for p in self.phases if p.name != "decode"), 0.0)

    @property
    def request_overhead(self) -> float:
        """Seconds that a client waits for its first token beside :attr:`ttft`: outside the engine, in tokenizer and
        transport, as measured of it; 0 without an engine. A run of requests over time counts them."""
        return max((p.cost.corrections.request for p in self.phases), default=0.0)

    @cached_property
    def tpot(self) -> Num:
        """Seconds between tokens of one request at mean context; nan when nothing is decoded."""
        decode = self.phase("decode") if self.has("decode") else None
        return float("nan") if decode is None else decode.pass_time * decode.pipeline_stretch

    @cached_property
    def time(self) -> Num:
        """Seconds from arrival to the last token of the batch."""
        return sum((p.time for p in self.phases), 0.0)

    @property
    def output_tokens(self) -> Num:
        """Tokens generated by the batch (for encoders: requests)."""
        generates = self.scenario.model.task == "generate"
        return self.batch * (self.scenario.traffic.output if generates else 1.0)

    @property
    def throughput(self) -> Num:
        """Generated tokens (encoders: requests) per second over the whole system; 0 where it does not fit."""
        return where(self.fits, self.output_tokens / maximum(self.time, 1e-30), 0.0)

    @property
    def decode_throughput(self) -> Num:
        """Tokens per second of the whole system while decoding."""
        return self.batch / self.tpot

    @property
    def devices(self) -> Num:
        """Devices that the plan uses."""
        return self.scenario.plan.devices

    @property
    def mfu(self) -> Num:
        """Model FLOPs utilization over the whole run: the time that its arithmetic would take at the device's peaks in
        the formats it is done in (16 bits where that is faster), over the time it takes."""
        return sum((p.time_at_peak * p.passes * p.share for p in self.phases), 0.0) / self.time

    @cached_property
    def energy_parts(self) -> dict[str, Num]:
        """Joules of the whole system for the batch by component: engines, tiers and links by what they do, ``active``
        while a device works, ``idle`` all the time, ``system`` for what is around the devices. They add up to
        :attr:`energy`."""
        of = self._actions
        out: dict[str, Num] = {}
        for p in self.phases:
            for name, x in p.cost.joules(of, p.pass_time).items():
                # A pipeline that fills keeps its devices on, though they do no more, nor do stages that stand idle for
                # want of micro-batches; passes that follow each other share the time, each with its own work.
                done = p.pipeline_stretch if name == "idle" else p.share
                out[name] = out.get(name, 0.0) + self.devices * p.passes * done * x
        out["system"] = self.devices * self.scenario.machine.overhead_power * self.time
        return out

    def energy_by_op(self, phase: Phase) -> tuple[list[dict[str, Num]], dict[str, Num]]:
        """Joules of the whole system for the batch in a phase, by component: of every op, in the order of its ``ops``,
        and what is drawn between them. Over all phases, with ``system``, they add up to :attr:`energy`."""
        c, seconds = phase.cost, phase.pass_time
        priced = [(c.parts * p.segment.repeat, p.op, p.cost) for p in c.on_device]
        each, left = by_op(priced, seconds, minimum(num(c.busy), num(seconds)), self._actions, c.target)
        whole = self.devices * phase.passes

        def done(parts: dict[str, Num]) -> dict[str, Num]:
            return {k: whole * (phase.pipeline_stretch if k == "idle" else phase.share) * x for k, x in parts.items()}

        return [done(parts) for parts in each], done(left)

    @cached_property
    def _actions(self) -> Actions:
        return actions(self.scenario.machine.device)

    @cached_property
    def energy(self) -> Num:
        """Joules of the whole system for the batch."""
        return sum(self.energy_parts.values(), 0.0)

    @property
    def energy_interval(self) -> tuple[Num, Num]:
        """Joules that the energy lies between, as far as sources of single actions and the rated power tell."""
        parts = {k: v for k, v in self.energy_parts.items() if k != "system"}
        each = {k: v / self.devices for k, v in parts.items()}
        low, high = energy_interval(each, self._actions)
        around = self.energy_parts["system"]
        return self.devices * low + around, self.devices * high + around

    @property
    def cost(self) -> Num:
        """Dollars of rent for the batch; nan when no rental price is known."""
        return self.scenario.machine.rent(self.devices) * self.time

    @property
    def cost_per_million(self) -> Num:
        """Dollars per million generated tokens (encoders: requests); nan where nothing runs."""
        tokens = self.output_tokens
        return where(np.asarray(tokens) > 0, self.cost * 1e6 / maximum(tokens, 1e-30), float("nan"))

    @cached_property
    def interval(self) -> Interval:
        """Seconds that 80 % of measurements of ``time`` are expected between (:mod:`tierwise.core.intervals`)."""
        low, high = factors(changes(self.phases).values())
        return self.time * low, self.time * high

    @cached_property
    def bases(self) -> dict[str, Num]:
        """Share of the time that rests on each basis, 0 to 1, by name; they add up to 1.

        Ops count with their own time, also where they overlap.
        """
        found: dict[str, Num] = {}
        for p in self.phases:
            for x in p.ops:
                found[x.cost.basis] = found.get(x.cost.basis, 0.0) + x.time * p.passes * p.pipeline_stretch
        if not found:
            return {"datasheet": 1.0}
        whole = maximum(sum(found.values(), 0.0), 1e-300)
        return {name: found[name] / whole for name in BASES if name in found}

    def __repr__(self) -> str:
        from tierwise.report import notebook

        return notebook.text(self)

    def _repr_html_(self) -> str:
        from tierwise.report import notebook

        return notebook.html(self)

    def to_dict(self) -> dict[str, Any]:
        """The JSON form that ``tierwise explain --json`` writes (``docs/json.md``), without advice."""
        from tierwise.report import notebook

        return notebook.as_dict(self)

    def to_frame(self) -> Any:
        """A pandas (else polars) frame with one row a configuration: what was asked and what comes out, in SI units.

        Raises:
            TierwiseError: neither is installed; says what to install.
        """
        from tierwise.report import notebook

        return notebook.frame(self)

    @property
    def basis(self) -> Names:
        """What most of the time rests on (for a sweep: at each configuration)."""
        return name_of_largest(self.bases)


def changes(phases: Sequence[Phase]) -> dict[str, Change]:
    """What each error does to the logarithm of the time of these phases, by what goes wrong together: a class of ops
    (device family, op class, engine build), or a step of the engine as a whole."""
    usual = sum((p.time for p in phases), 0.0)

    def moved(group: str, end: int) -> Num:
        return sum((p.cost.moved(group, end) * p.passes * p.pipeline_stretch for p in phases), 0.0)

    known = dict.fromkeys(group for p in phases for group in p.cost.groups)
    return {group: change(partial(moved, group), usual) for group in known}


# What a price may rest on, the surest first.
BASES = ("measured", "calibrated", "transferred", "datasheet")
# Formats in which the peak is stated that utilization is of.
_WIDE = ("bf16", "fp16", "tf32", "fp32")

__all__ = ["BASES", "Phase", "PricedOp", "Result", "changes"]
