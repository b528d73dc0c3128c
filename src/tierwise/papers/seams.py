"""Where an engine can be made wrong in one way: contexts that replace a function or a property of it while they last.

A seam is replaced wherever the engine holds it, also in modules loaded meanwhile.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from tierwise.core.numerics import Format
from tierwise.papers import overheads

Seam = Callable[[], Any]  # makes a context in which the engine is wrong


def rated(part: str, factor: float) -> tuple[Seam, ...]:
    """A machine's bandwidth, arithmetic or links faster by a factor; a host's times longer by it."""
    beside: dict[str, Seam] = {"links": lambda: wires(factor), "host": lambda: hosts(factor)}
    machine: Seam = lambda: machines(**{part: factor})  # noqa: E731
    return (machine, beside[part]) if part in beside else (machine,)


def machines(
    memory: float = 1.0, compute: float = 1.0, links: float = 1.0, host: float = 1.0, capacity: float = 1.0
) -> Any:
    """Machines as they are looked up, with some of their numbers scaled. Of links all: those between devices, between
    domains, and to the host; of memories those of devices, the host's, and its disks."""
    from tierwise.machines import load as machines

    def link(x: Any) -> Any:
        return x and replace(x, bandwidth=x.bandwidth * links, latency=x.latency / links)

    def device(d: Any) -> Any:
        tiers = tuple(
            replace(t, bandwidth=t.bandwidth * memory, write_bandwidth=t.write_bandwidth * memory,
                    capacity=t.capacity * (capacity if t.kind == "memory" else 1.0))
            if t.kind in ("memory", "storage") else t
            for t in d.tiers
        )  # fmt: skip
        engines = tuple(replace(e, rates={k: v * compute for k, v in e.rates.items()}) for e in d.engines)
        dispatch = replace(d.dispatch, eager=d.dispatch.eager * host, graph=d.dispatch.graph * host)
        return replace(d, tiers=tiers, engines=engines, links=tuple(map(link, d.links)), dispatch=dispatch)

    def around(h: Any) -> Any:
        return h and replace(
            h, bandwidth=h.bandwidth * memory, cpu=h.cpu and device(h.cpu), storage=tuple(map(device, h.storage))
        )

    def system(s: Any) -> Any:
        own = replace(s, device=device(s.device), host=around(s.host))
        return replace(own, scale_up=link(s.scale_up), scale_out=link(s.scale_out))

    found, part = machines.system, machines.device
    inside = [0]  # a machine is made of devices that are looked up on the way: each is scaled once, with the whole

    def whole(*args: Any, **options: Any) -> Any:
        inside[0] += 1
        try:
            made = found(*args, **options)
        finally:
            inside[0] -= 1
        return made if inside[0] else system(made)

    def single(*args: Any, **options: Any) -> Any:
        made = part(*args, **options)
        return made if inside[0] else device(made)

    return _all(_instead(found, whole), _instead(part, single))


# Of the coefficients of a collective: seconds that pass on the links whatever the size.
_TRIPS = ("start", "step", "middle_extra", "middle_step", "bulk_extra", "bulk_step")


def wires(factor: float) -> Any:
    """What of links is in no machine's numbers: the latencies of measured protocols."""
    from tierwise import cost
    from tierwise.cost import collective

    def protocols(found: Any) -> Any:
        fit, own = found
        if fit is None:
            return found
        return replace(fit, values={k: v / factor if k in _TRIPS else v for k, v in fit.values.items()}), own

    def bases(e: Any) -> Any:
        return replace(e, collective={k: (base / factor, hop, rate) for k, (base, hop, rate) in e.collective.items()})

    return _all(_everywhere(collective.fitted, protocols), _everywhere(cost.efficiency, bases))


def hosts(factor: float) -> Any:
    """What the host's software takes: a framework's interpreter, in inference and in training, an engine's steps,
    launches that a kernel was measured with."""
    from tierwise.cost import framework
    from tierwise.cost.types import Efficiency
    from tierwise.steps import corrections as steps

    times = ("gap", "gap_sequence", "gap_expert", "step", "sequence", "chunk", "token", "launch", "request")
    fit = Efficiency.fit

    def slower(self: Efficiency, *args: Any, **options: Any) -> Any:
        found = fit(self, *args, **options)
        if found is None or "host" not in found.values:
            return found
        return replace(found, values={**found.values, "host": found.values["host"] * factor})

    return _all(
        _everywhere(framework.load, lambda f: replace(f, host=f.host * factor)),
        _everywhere(steps.corrections, lambda c: replace(c, **{t: getattr(c, t) * factor for t in times})),
        _attribute(Efficiency, "fit", slower),
        _trainers(lambda how: replace(how, launch=how.launch * factor)),
    )


def _trainers(change: Callable[[Any], Any]) -> Any:
    """Training frameworks, as a step is priced with them: whatever a paper changed of their recipes stays."""
    from tierwise.training import step

    train = step.train_step

    def otherwise(model: Any, system: Any, layout: Any, how: Any, *args: Any, **options: Any) -> Any:
        return train(model, system, layout, change(how), *args, **options)

    return _instead(train, otherwise)


def formats(name: str, factor: float) -> Any:
    """Bytes of every weight (``weight``) or cached key (``key``) or value (``value``), wherever a pass meets them."""
    from tierwise.models.step import Step

    def wider(f: Format) -> Format:
        return replace(f, bits=f.bits * factor, meta=f.meta * factor)

    old = Step.__dict__[name]
    if isinstance(old, property):
        return _attribute(Step, name, property(lambda step: wider(old.fget(step))))  # type: ignore[misc]
    return _attribute(Step, name, lambda step, role: wider(old(step, role)))


def copies(factor: float) -> Any:
    """Bytes of the weights that training keeps: the copy it works with and the one the optimizer updates."""

    def wider(how: Any) -> Any:
        r = how.recipe
        return replace(how, recipe=replace(r, parameters=r.parameters * factor, master=r.master * factor))

    return _trainers(wider)


def elements(kind: str, factor: float) -> Any:
    """Elements of every parameter tensor (``Weight``) or of what a sequence keeps (``State``)."""
    from tierwise.models import types

    scaled = {"Weight": ("elements", "grain"), "SequenceState": ("elements", "once")}[kind]
    return _built(getattr(types, kind), scaled, factor)


def work(factor: float) -> Any:
    """Arithmetic and bytes of every op."""
    from tierwise.program.types import Op, Operand

    old: Any = Operand.bytes
    moved = _attribute(Operand, "bytes", property(lambda operand: old.fget(operand) * factor))
    return _all(moved, _built(Op, ("flops",), factor))


def unapplied() -> Any:
    """Techniques do nothing."""
    from tierwise.scenario.types import Scenario

    return _attribute(Scenario, "apply", lambda self, *techniques: self)


def undiffering() -> Any:
    """The changed side of a contrast is its baseline."""
    from tierwise.papers import base

    return _attribute(base, "_differing", lambda baseline, changed: baseline)


def free() -> Any:
    """Techniques cost nothing beside what they save."""
    from tierwise.scenario.types import Scenario

    def apply(self: Scenario, *techniques: Callable[[Scenario], Scenario]) -> Scenario:
        out = self
        for technique in techniques:
            out = overheads.without(out, technique(out))
        return out

    return _attribute(Scenario, "apply", apply)


@contextmanager
def _all(*contexts: Any) -> Iterator[None]:
    with ExitStack() as stack:
        for context in contexts:
            stack.enter_context(context)
        yield


@contextmanager
def _everywhere(function: Callable[..., Any], change: Callable[[Any], Any]) -> Iterator[None]:
    """What a function returns is changed, in every module of the engine that holds it, also those loaded meanwhile."""

    def replaced(*args: Any, **options: Any) -> Any:
        return change(function(*args, **options))

    with _instead(function, replaced):
        yield


@contextmanager
def _instead(function: Callable[..., Any], other: Callable[..., Any]) -> Iterator[None]:
    """Another function wherever the engine holds this one."""
    _rebind(function, other)
    try:
        yield
    finally:
        _rebind(other, function)


def _rebind(old: object, new: object) -> None:
    for module in [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == "tierwise" and m]:
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)


@contextmanager
def _attribute(owner: Any, name: str, value: object) -> Iterator[None]:
    old = owner.__dict__[name]
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, old)


@contextmanager
def _built(kind: Any, fields: tuple[str, ...], factor: float) -> Iterator[None]:
    """Values of a class come with some of their fields scaled."""
    old = kind.__init__

    def init(self: Any, *args: Any, **given: Any) -> None:
        old(self, *args, **given)
        for name in fields:
            object.__setattr__(self, name, getattr(self, name) * factor)

    with _attribute(kind, "__init__", init):
        yield
