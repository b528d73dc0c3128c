"""What PyTorch's allocator takes from the driver for steps of training, by the rules of :mod:`tierwise.memory.caching`.

Of steps with a backward pass :mod:`tierwise.training.comings` says when tensors come and go. In zeroth-order ones each
weight is changed with random numbers beside it and temporaries, each op's results come and what nothing reads any more
goes, layers that lie on the host come in behind the one that is worked on, which goes out before the next is.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from itertools import count

from tierwise.core.errors import TierwiseError
from tierwise.core.num import greatest
from tierwise.memory.activations import score_bytes
from tierwise.memory.caching import CachingPool, TensorEvent, played
from tierwise.memory.weights import local_elements
from tierwise.models.lower import lower
from tierwise.models.types import Block, Model
from tierwise.program.types import Op
from tierwise.training.comings import comings
from tierwise.training.layout import Layout
from tierwise.training.recipe import Recipe, TrainingFramework
from tierwise.training.work import decoder, plan_of, training_step

# Streams: what stays from the beginning, what is computed, what comes in.
STAYS, WORKS, COMES = "stays", "works", "comes"
# A second step changes the weights by what the first told; a third is like it.
STEPS = 2
HALF = 2.0  # bytes of a score or logit in 16 bits


def reserved_of(model: Model, layout: Layout, how: TrainingFramework, flash: bool = True) -> float:
    """Bytes of segments after steps, the driver's own left out.

    Raises:
        TierwiseError: a layout that nothing is known of (:func:`tierwise.training.comings.comings`; zeroth-order steps
            on more than one device).
    """
    return float(_played(model, layout, how, flash).reserved)


def fragmented(model: Model, layout: Layout, how: TrainingFramework, flash: bool = True) -> float:
    """Bytes of segments beyond all that lies there at once: what a step reserves over its peak (:class:`TrainMemory`).

    Raises:
        TierwiseError: as :func:`reserved_of`.
    """
    pool = _played(model, layout, how, flash)
    return float(pool.reserved - pool.most)


def _played(model: Model, layout: Layout, how: TrainingFramework, flash: bool) -> CachingPool:
    if how.recipe.forwards <= 0:
        return played(comings(model, layout, how, flash))
    if greatest(layout.devices) > 1:
        raise TierwiseError("what the allocator reserves for zeroth-order steps is known of one device")
    return played(_Steps(model, layout, how.recipe, flash).events())


class _Steps:
    """The events of steps, one after the other."""

    def __init__(self, model: Model, layout: Layout, recipe: Recipe, flash: bool) -> None:
        self.layout, self.recipe, self.passes = layout, recipe, int(recipe.forwards)
        plan = plan_of(layout, flash=flash)
        stack = decoder(model)
        program = lower(training_step(model, plan, layout))
        ops = {s.name: s.ops for s in program.segments}
        names = [s.name for s in program.segments]

        def weights(blocks: tuple[Block, ...]) -> list[float]:
            return [greatest(local_elements(plan, w)) * recipe.parameters
                    for b in blocks for w in b.weights()]  # fmt: skip

        self.before, self.after = weights(stack.before), weights(stack.after)
        self.kinds = [(weights(k.blocks), int(greatest(n))) for k, n in stack.runs()]
        self.input, self.output = ops[names[0]], ops[names[-1]]
        self.bodies = [ops[n] for n in names[1:-1]]
        self.numbers, self.logits = count(), list[tuple[str, float]]()

    def events(self) -> Iterator[TensorEvent]:
        away = greatest(self.layout.offload) >= 2
        layers = [(w, body) for (w, n), body in zip(self.kinds, self.bodies, strict=True) for _ in range(n)]
        resident = [*self.before, *self.after, *([] if away else [s for w, _ in layers for s in w])]
        for size in resident:
            yield TensorEvent(self._name(), size, STAYS)
        for step in range(STEPS):
            streams = [""] * self.passes
            streams = yield from self._through(self.before, self.input, streams, step)
            there: dict[int, list[str]] = {}
            for i, (weights, body) in enumerate(layers):
                if away and i == 0:
                    there[0] = yield from self._come(weights)
                if away and i >= 1:
                    yield from self._go(there.pop(i - 1))
                streams = yield from self._through(weights, body, streams, step)
                if away and i + 1 < len(layers):
                    there[i + 1] = yield from self._come(layers[i + 1][0])
            for names in there.values():
                yield from self._go(names)
            streams = yield from self._through(self.after, self.output, streams, step)
            yield from self._go([s for s in streams if s])
            yield from self._loss()

    def _name(self) -> str:
        return str(next(self.numbers))

    def _take(self, size: float, out: list[str], stream: str = WORKS) -> Iterator[TensorEvent]:
        out.append(self._name())
        yield TensorEvent(out[-1], size, stream)

    def _come(self, sizes: list[float]) -> Generator[TensorEvent, None, list[str]]:
        names: list[str] = []
        for size in sizes:
            yield from self._take(size, names, COMES)
        return names

    def _go(self, names: list[str]) -> Iterator[TensorEvent]:
        for name in names:
            yield TensorEvent(name)

    def _through(
        self, weights: list[float], body: tuple[Op, ...], streams: list[str], step: int
    ) -> Generator[TensorEvent, None, list[str]]:
        """All passes through a body: its weights are told (from the second step on), disturbed before each pass, and
        put back behind the last. Returns the residual stream of each pass."""
        if step > 0:
            yield from self._changed(weights, self.recipe.noise - 1.0)
        out: list[str] = []
        for stream in streams:
            yield from self._changed(weights, self.recipe.noise - 2.0)
            out.append((yield from self._pass(body, stream)))
        yield from self._changed(weights, self.recipe.noise - 2.0)
        return out

    def _changed(self, weights: list[float], beside: float) -> Iterator[TensorEvent]:
        """Every weight in turn: random numbers, which stay until the next ones are drawn, and tensors made of them."""
        drawn: list[str] = []
        for size in weights:
            yield from self._take(size, drawn)
            if len(drawn) > 1:
                yield from self._go([drawn.pop(0)])
            made: list[str] = []
            for _ in range(int(beside)):
                yield from self._take(size, made)
            yield from self._go(made)
        yield from self._go(drawn)

    def _pass(self, ops: tuple[Op, ...], stream: str) -> Generator[TensorEvent, None, str]:
        """One pass: results come, what nothing reads any more goes; returns the residual stream."""
        last = {o.name: i for i, op in enumerate(ops) for o in (*op.reads, *op.writes)}
        held = {"x": stream} if stream else {}
        for i, op in enumerate(ops):
            made: list[str] = []
            inside: list[str] = []
            scores = greatest(score_bytes(op, 1.0)) if op.kind == "attention" else 0.0
            if scores > 0:
                yield from self._scores(scores, inside)
            results = [o for o in op.writes if o.role in ("act", "kv")]
            for o in results:
                yield from self._take(greatest(o.bytes), made)
            yield from self._go(inside)
            for o, name in zip(results, made, strict=True):
                if o.name in held:
                    yield from self._go([held[o.name]])
                held[o.name] = name
                if o.name == "logits":
                    self.logits.append((held.pop(o.name), greatest(o.bytes)))
            # Keys and values are kept for no later pass.
            yield from self._go([held.pop(n) for n in list(held) if last[n] <= i and n != "x"])
        return held.pop("x", "")

    def _scores(self, scores: float, inside: list[str]) -> Iterator[TensorEvent]:
        """Unfused attention: scores, the same masked, their softmax (in 32 bits where the recipe says so) and its cast;
        the softmax stays until the result is there."""
        yield from self._take(HALF * scores, inside)
        yield from self._take(HALF * scores, inside)
        yield from self._go([inside.pop(0)])
        wide: list[str] = []
        if self.recipe.score > 2.0 * HALF:
            yield from self._take((self.recipe.score - 2.0 * HALF) * scores, wide)
        yield from self._take(HALF * scores, inside)
        yield from self._go([*wide, inside.pop(0)])

    def _loss(self) -> Iterator[TensorEvent]:
        """The losses of all passes: a shifted copy of each one's logits, then a softmax of each, one at a time: what
        the recipe holds of a logit beyond logits and copies."""
        copies: list[str] = []
        for _, size in self.logits:
            yield from self._take(size, copies)
        rest = self.recipe.logits / HALF - 2.0 * self.passes
        for _, size in self.logits:
            inside: list[str] = []
            if rest > 0:
                yield from self._take(rest * size, inside)
            yield from self._go(inside)
        yield from self._go([*(name for name, _ in self.logits), *copies])
        self.logits.clear()
