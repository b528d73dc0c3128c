"""When tensors of a step with a backward pass come and go: what PyTorch's allocator is asked for.

Weights lie there from the beginning, gradients too unless they are freed after every step, optimizer states from the
first update on. A forward pass takes what each op writes and gives back what neither a later op nor the backward pass
reads (:func:`tierwise.training.kept.kept_tensors`); the backward pass takes gradients of what ops wrote and gives back
what an op had kept once its gradients are there. Layers that are computed again keep what they were given.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from itertools import count

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import greatest, maximum
from tierwise.core.numerics import fmt
from tierwise.memory.caching import TensorEvent
from tierwise.memory.weights import local_elements
from tierwise.models.lower import lower
from tierwise.models.types import Block, Model
from tierwise.program.backward import WEIGHTS, backward
from tierwise.program.program import Program
from tierwise.program.types import Op
from tierwise.training.kept import Kept, kept_scores, kept_tensors
from tierwise.training.kernels import as_trained
from tierwise.training.layout import Layout, held, of_schedule
from tierwise.training.pipeline import in_flight
from tierwise.training.recipe import TrainingFramework
from tierwise.training.trains import adapted, adapter_elements, prefix_elements, share, slice_elements
from tierwise.training.work import INPUT, OUTPUT, decoder, plan_of, training_step

WORKS, GATHERS = "works", "gathers"
# The first step ends with the optimizer's states, and a third is like the second.
STEPS = 2
# Ends of the names of ops that compute gradients, and of what they write.
_GRADIENTS = (".dgrad", WEIGHTS, ".grad")
_CARRIED = ("x", "y")
# What a body hands to the next one, by name; what of it waits for the backward pass, and since which op.
Streams = dict[str, str]
Waiting = dict[str, int]


@dataclass(frozen=True)
class _Body:
    """One body: its ops with how often each runs, those of its backward pass, what they need, and (bytes of a weight,
    elements of it that are trained)."""

    ops: list[tuple[Op, float]]
    behind: list[tuple[Op, float]]
    kept: list[Kept]
    weights: list[tuple[float, float]]


def comings(model: Model, layout: Layout, how: TrainingFramework, flash: bool = True) -> Iterator[TensorEvent]:
    """The events of steps on a device of the first stage, one after the other.

    Raises:
        TierwiseError: parts of a layout that nothing is known of here: interleaved stages, experts on several devices,
            states that lie elsewhere.
    """
    x = layout
    unknown = [x.interleave - 1.0, x.ep - 1.0, x.vocabulary, x.offload, x.offload_activations,
               of_schedule(x, lambda c: c.shape.copies) - 1.0]  # fmt: skip
    if any(greatest(a) > 0 for a in unknown):
        raise TierwiseError("what the allocator reserves is known of stages in one piece, with experts and states on "
                            "the device")  # fmt: skip
    return _Steps(model, layout, how, flash).events()


class _Steps:
    def __init__(self, model: Model, layout: Layout, how: TrainingFramework, flash: bool) -> None:
        self.x, self.recipe, self.how = layout, how.recipe, how
        plan, stack = plan_of(layout, flash=flash, ahead=how.recipe.ahead > 0), decoder(model)
        forward = adapted(as_trained(lower(training_step(model, plan, layout, self.recipe.prefix)), how), self.recipe)
        trains = share(self.recipe)
        form = fmt("bf16" if self.recipe.adds or self.recipe.gradients <= 2 else "fp32")
        behind = backward(forward, form, trains)
        divided = greatest(layout.tp) if greatest(layout.sequence_parallel) > 0 else 1.0
        first = greatest(layout.pp) <= 1

        def weights(blocks: Iterable[Block], ops: list[tuple[Op, float]], each: float) -> list[tuple[float, float]]:
            plain = [greatest(local_elements(plan, w)) for b in blocks for w in b.weights()]
            if not self.recipe.frozen:
                return [(n * each, n) for n in plain]
            own = [op for op, _ in ops]
            beside = adapter_elements(own) + prefix_elements(own, self.recipe)
            found = [(n * each, 0.0) for n in plain] + [(2.0 * greatest(n), greatest(n)) for n in beside]
            return found + [(0.0, greatest(n)) for n in slice_elements(own, self.recipe)]

        def body(name: str, blocks: Iterable[Block], least: float = 0.0) -> _Body:
            ops = _ops(forward, name)
            kept = kept_tensors(ops, divided, self.recipe.compact, trains, self.recipe.inputs)
            return _Body(ops, _ops(behind, name), kept, weights(blocks, ops, max(self.recipe.parameters, least)))

        outside = (INPUT, OUTPUT, "pipeline")
        names = list(dict.fromkeys(s.name for s in forward.segments if not s.name.endswith(outside)))
        kinds = [(body(n, k.blocks), int(greatest(c))) for n, (k, c) in zip(names, stack.runs(), strict=False)]
        layers = [b for b, c in kinds for _ in range(c)]
        mine = layers[: int(np.ceil(greatest(held(layout, float(len(layers)))[0])))]
        ends = [s.name for s in forward.segments]
        # Of four-bit weights embedding and head are in 16 bits.
        self.bodies = [body(ends[0], stack.before, 2.0), *mine]
        self.bodies += [body(ends[-1], stack.after, 2.0)] if first else []
        self.flying = max(int(greatest(in_flight(layout, 0.0))), 1)
        self.shards = float(min(greatest(layout.replicas), greatest(layout.shard)))
        self.numbers, self.sizes = count(), dict[str, float]()
        self.pinned = set[str]()

    def events(self) -> Iterator[TensorEvent]:
        zero, recipe = greatest(self.x.zero), self.recipe
        gradients: list[str] = []
        for b in self.bodies:
            for size, trained in _flat(b.weights, zero >= 3):
                yield from self._take(size / (self.shards if zero >= 3 else 1.0), [])
                if recipe.transient <= 0:
                    kept = trained * recipe.gradients / (self.shards if zero >= 2 else 1.0)
                    yield from self._take(kept, [])
        for step in range(STEPS):
            turns = min(int(greatest(self.x.micro_batches)), self.flying + 1)
            waiting: list[list[tuple[Streams, Waiting]]] = []
            for turn in range(turns):
                waiting.append((yield from self._forward()))
                if len(waiting) >= self.flying or turn == turns - 1:
                    while waiting and (len(waiting) >= self.flying or turn == turns - 1):
                        fresh = gradients if recipe.transient > 0 and not gradients else None
                        yield from self._backward(waiting.pop(0), fresh)
            if step == 0:
                for b in self.bodies:
                    for _, trained in _flat(b.weights, zero >= 3):
                        each = trained / (self.shards if zero >= 1 else 1.0)
                        yield from self._take(each * recipe.master, [])
                        for _ in range(2):
                            yield from self._take(each * (recipe.states - recipe.master) / 2.0, [])
            yield from self._go(gradients)
            gradients.clear()

    def _forward(self) -> Generator[TensorEvent, None, list[tuple[Streams, Waiting]]]:
        """All bodies: what each was given, and what of it waits."""
        again = greatest(self.x.recompute) >= 2
        out: list[tuple[Streams, Waiting]] = []
        streams: Streams = {}
        for i, b in enumerate(self.bodies):
            whole = yield from self._gather(b)
            layer = again and i > 0 and not self._last(i)
            given = dict(streams)
            if layer:
                self.pinned |= set(given.values())
            streams, saved = yield from self._pass(b, streams, not layer)
            if self._last(i):
                # Logits and what the loss makes of them wait, whatever else there is of them.
                logits = sum(greatest(o.elements) for op, _ in b.ops for o in op.writes if o.name == "logits")
                more: list[str] = []
                yield from self._take(logits * max(self.recipe.logits - 8.0, 0.0), more)
                saved |= dict.fromkeys((*more, *streams.values()), 0)
                streams = {}
            self.pinned |= set(saved)
            out.append((given if layer else {}, saved))
            yield from self._go(whole)
        # To the next stage, which has it now.
        yield from self._go([n for n in streams.values() if n not in self.pinned])
        return out

    def _last(self, i: int) -> bool:
        return i == len(self.bodies) - 1 and greatest(self.x.pp) <= 1

    def _backward(self, waiting: list[tuple[Streams, Waiting]], fresh: list[str] | None) -> Iterator[TensorEvent]:
        upstream: Streams = {}
        for b, (given, kept) in zip(reversed(self.bodies), reversed(waiting), strict=True):
            whole = yield from self._gather(b)
            scattered: list[str] = []
            if whole:
                yield from self._take(sum(t for _, t in b.weights) * self.recipe.reduced, scattered, GATHERS)
            saved = kept
            if given:
                again, saved = yield from self._pass(b, given, True)
                self.pinned |= set(saved)
                saved |= dict.fromkeys((*given.values(), *again.values()), 0)
            upstream = yield from self._gradients(b, saved, upstream, fresh)
            yield from self._go([*whole, *scattered])
        yield from self._go(upstream.values())

    def _pass(self, b: _Body, given: Streams, keep: bool) -> Generator[TensorEvent, None, tuple[Streams, Waiting]]:
        """A forward pass through a body: what it hands on, and what waits."""
        last = {o.name: i for i, (op, _) in enumerate(b.ops) for o in (*op.reads, *op.writes)}
        since: dict[int, list[Kept]] = {}
        for k in b.kept:
            since.setdefault(k.since, []).append(k)
        there, saved = dict(given), dict[str, int]()
        for i, (op, n) in enumerate(b.ops):
            inside: list[str] = []
            if op.kind == "attention" and greatest(kept_scores(op)) > 0:
                yield from self._take(greatest(kept_scores(op)), inside)
                if keep and greatest(self.x.recompute) < 1:
                    saved[inside.pop()] = i
            gone: list[str] = []
            for o in (o for o in op.writes if o.role in ("act", "kv")):
                made: list[str] = []
                yield from self._take(n * greatest(o.bytes), made)
                if made:
                    gone += [there[o.name]] if o.name in there else []
                    there[o.name] = made[0]
            for k in since.get(i, ()) if keep else ():
                name, size = there.get(k.operand, ""), greatest(k.size)
                if not name or abs(self.sizes[name] - size) > 0.01 * size:
                    made = []
                    yield from self._take(size, made)
                    name = made[0] if made else ""
                if name:
                    saved.setdefault(name, i)
            gone += [there.pop(name) for name in list(there) if last.get(name, -1) <= i and name not in _CARRIED]
            keeps = self.pinned | set(saved)
            yield from self._go(n for n in (*inside, *gone) if n not in keeps)
        yield from self._go(n for name, n in there.items() if name not in _CARRIED and n not in saved)
        return {name: n for name, n in there.items() if name in _CARRIED}, saved

    def _gradients(
        self, b: _Body, saved: Waiting, upstream: Streams, fresh: list[str] | None
    ) -> Generator[TensorEvent, None, Streams]:
        """A body's backward pass: gradients of what it was given."""
        number = {op.name: i for i, (op, _) in enumerate(b.ops)}
        whose = [_whose(op.name) for op, _ in b.behind]
        ends = {name: j for j, name in enumerate(whose)}
        last = {o.name: j for j, (op, _) in enumerate(b.behind) for o in (*op.reads, *op.writes)}
        carried = tuple("d" + name for name in _CARRIED)
        there = dict(upstream)
        for j, (op, n) in enumerate(b.behind):
            gone: list[str] = []
            weights: set[str] = set()
            for o in op.writes:
                made: list[str] = []
                if o.role == "grad":
                    if o.name not in weights and (fresh is not None or self.recipe.adds):
                        size = n * greatest(o.elements) * (self.recipe.gradients if fresh is not None else 2.0)
                        yield from self._take(size, fresh if fresh is not None else gone)
                    weights.add(o.name)
                    continue
                yield from self._take(n * greatest(o.bytes), made)
                if made:
                    gone += [there[o.name]] if o.name in there else []
                    there[o.name] = made[0]
            gone += [there.pop(name) for name in list(there) if last.get(name, -1) <= j and name not in carried]
            if ends[whose[j]] == j and whose[j] in number:
                gone += [name for name, since in saved.items() if since == number[whose[j]]]
            yield from self._go(gone)
        yield from self._go(name for name in saved if name in self.sizes)
        yield from self._go(name for key, name in there.items() if key not in carried)
        return {key: name for key, name in there.items() if key in carried}

    def _gather(self, b: _Body) -> Generator[TensorEvent, None, list[str]]:
        """Sharded weights of a body, whole."""
        out: list[str] = []
        if greatest(self.x.zero) >= 3:
            yield from self._take(sum(size for size, _ in b.weights), out, GATHERS)
        return out

    def _take(self, size: float, out: list[str], stream: str = WORKS) -> Iterator[TensorEvent]:
        if size >= 1.0:
            out.append(str(next(self.numbers)))
            self.sizes[out[-1]] = size
            yield TensorEvent(out[-1], size, stream)

    def _go(self, names: Iterable[str]) -> Iterator[TensorEvent]:
        for name in list(names):
            if self.sizes.pop(name, None) is not None:
                self.pinned.discard(name)
                yield TensorEvent(name)


def _ops(program: Program, name: str) -> list[tuple[Op, float]]:
    """A body's ops, and how often each runs in one execution of it."""
    some = [s for s in program.segments if s.name == name]
    whole = some[0].repeat if some else 1.0
    return [(op, greatest(s.repeat / maximum(whole, 1.0))) for s in some for op in s.ops]


def _flat(weights: list[tuple[float, float]], joined: bool) -> list[tuple[float, float]]:
    """Weights one by one, or as the one tensor that they are where a unit is sharded."""
    return [(sum(a for a, _ in weights), sum(b for _, b in weights))] if joined else weights


def _whose(name: str) -> str:
    """The op whose gradients an op of the backward pass computes."""
    return next((name[: -len(end)] for end in _GRADIENTS if name.endswith(end)), name)
