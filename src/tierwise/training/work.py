"""The work of one micro-batch on one device: a forward and a backward pass by body, and what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, maximum, minimum, num, where
from tierwise.core.numerics import fmt
from tierwise.cost.types import Cost
from tierwise.machines.types import System
from tierwise.memory.activations import score_bytes
from tierwise.models.lower import lower, running
from tierwise.models.step import Step
from tierwise.models.types import Model, Stack
from tierwise.program.backward import WEIGHTS, backward
from tierwise.program.program import Program
from tierwise.program.types import Op
from tierwise.scenario.types import Plan
from tierwise.steps.cost import StepCost
from tierwise.steps.price import KERNELS, engine_on, price_program
from tierwise.steps.state import StepState
from tierwise.training.casts import cast, lowered
from tierwise.training.kept import MODULES, OF, behind_attention, by_module, kept_scores, kept_tensors
from tierwise.training.kernels import as_trained, kernels
from tierwise.training.launches import launches, looped
from tierwise.training.layout import Layout
from tierwise.training.positions import pattern_of
from tierwise.training.recipe import Recipe, SustainedRates, TrainingFramework, sustained
from tierwise.training.trains import ADAPTED, ADAPTER, adapted, adapter_elements, prefix_elements, share, slice_elements

# ``sent``: tokens on their way to experts and back; ``link``: all other collectives inside layers.
CLASSES = ("matmul", "routed", "attention", "memory", "link", "sent")
PORTS = "ports"
_CLASS = {"matmul": "matmul", "moe": "matmul", "attention": "attention", "collective": "link"}
# What stands before the layers, and after them.
INPUT, OUTPUT = "input", "output"


@dataclass(frozen=True)
class BodyRun:
    """One execution of a body for one micro-batch.

    Attributes:
        forward, backward: seconds by class of op (:data:`CLASSES`), and ``ports``, what the ports of a device take for
            the bytes of its ``link`` at their full rate. ``weights``: of the backward pass, gradients of
            weights, which no other pass waits for.
        ends: seconds of the product that ends the forward pass.
        launches: ops of the forward pass, and of the backward pass, that the host launches; ``looped``: seconds that
            kernels of single experts take it beside them.
        flops: of the forward pass.
        adapters: parameters that a rank of one adds to all linear maps. ``sliced``: those that are trained in slices,
            or in a prefix.
        keys: bytes of the keys and values that attention computes anew; ``queries``: of its queries, and ``sums``: of
            two numbers in fp32 for each row of scores. ``sent``: bytes that a device sends in the collectives of both
            passes.
        saved: bytes kept for the backward pass; ``scores``: of them, what selective recomputation drops; ``dropped``:
            what recomputation of a module drops (:data:`MODULES`), and ``redone``: the seconds that it takes, by module
            and class (``"norm memory"``); ``given``:
            the body's input alone; ``whole``: what inputs take more where they are kept as gathered; ``working``: the
            largest op's tensors, while it runs.
        attending: bytes of attention's own tensors, and how many scores it writes (none where it is fused).
        freed: bytes of `saved` that belong to what runs behind attention: its backward pass finds them gone.
    """

    forward: Mapping[str, Num]
    backward: Mapping[str, Num]
    weights: Mapping[str, Num]
    ends: Num
    launches: tuple[Num, Num]
    looped: tuple[Num, Num]
    flops: Num
    adapters: Num
    sliced: Num
    keys: Num
    queries: Num
    sums: Num
    sent: Num
    saved: Num
    scores: Num
    dropped: Mapping[str, Num]
    redone: Mapping[str, Num]
    given: Num
    whole: Num
    working: Num
    attending: tuple[Num, Num]
    freed: Num


@dataclass(frozen=True)
class ModelWork:
    """All bodies of a model: the ends, and each kind of layer with how many there are.

    Attributes:
        pattern: kinds of the layers in the order they are executed; empty where there is one kind.
    """

    ends: Mapping[str, BodyRun]
    layers: tuple[tuple[BodyRun, Num], ...]
    logits: Num
    pattern: tuple[int, ...] = ()

    @property
    def depth(self) -> Num:
        return sum((n for _, n in self.layers), 0.0)


def plan_of(layout: Layout, precision: str = "bf16", flash: bool = True, ahead: bool = False) -> Plan:
    """The plan that ops are sharded and priced by: kernels alone, collectives by the library."""
    form = fmt("bf16" if precision == "fp16" else precision)
    ranks = layout.dp * layout.cp
    return Plan(
        tp=layout.tp,
        pp=1.0,
        dp=ranks,
        ep=layout.ep,
        weights=form,
        activations=form,
        flash=flash,
        library=True,
        chunk=float("inf"),
        imbalance=minimum(layout.imbalance, layout.capacity),
        mtp=ahead,
    )


def work_of(
    model: Model, system: System, layout: Layout, how: TrainingFramework, flash: bool = True, depth: Num | None = None
) -> ModelWork:
    """The work of one micro-batch.

    Args:
        model: its sizes may be arrays, for many models at once.
        depth: layers, where they are not those of the model's pattern (an array over models of one kind of layer).

    Raises:
        TierwiseError: a model without a decoder.
    """
    decoder(model)
    ahead = how.recipe.ahead > 0
    plain = plan_of(layout, flash=flash, ahead=ahead)
    step = training_step(model, plain, layout, how.recipe.prefix)
    trains, form = share(how.recipe), fmt("bf16" if how.recipe.adds or how.recipe.gradients <= 2 else "fp32")
    # What is scattered after every micro-batch is added up where it arrives.
    added = where(np.asarray(layout.zero) >= 3, 0.0, float(not how.recipe.adds))

    def passes(plan: Plan) -> tuple[tuple[Program, Program], tuple[StepCost, StepCost]]:
        """The forward and the backward pass, and what both cost with their casts."""
        forward = adapted(as_trained(lower(training_step(model, plan, layout, how.recipe.prefix)), how), how.recipe)
        both = forward, backward(forward, form, trains, added)
        first, second = (_priced(model, system, plan, cast(p, how.recipe, OUTPUT)) for p in both)
        return both, (first, second)

    (forward, behind), costs = passes(plain)
    low = passes(plan_of(layout, how.recipe.precision, flash, ahead))[1] if how.recipe.low else costs
    divided = where(np.asarray(layout.sequence_parallel) > 0, layout.tp, 1.0)
    counts = _repeats(forward)
    on = engine_on(model, plain, system, KERNELS).target
    factors, rates = kernels(on, how), sustained(system.device.family)
    faster = on.rate(fmt(how.recipe.precision).arithmetic)[0] / on.rate("bf16")[0]
    pieces = {name: _piece(name, costs, low, forward, behind, counts[name], divided, plain.imbalance, how.recipe,
                           factors, rates, faster, on.device.dispatch.eager, at_full_rate(on.system))
              for name in counts}  # fmt: skip
    layers = tuple(
        (p, num(counts[name]) if depth is None else depth)
        for name, p in pieces.items()
        if not name.endswith((INPUT, OUTPUT))
    )
    ends = {name: p for name, p in pieces.items() if name.endswith((INPUT, OUTPUT))}
    order = pattern_of(forward, [name for name in pieces if name not in ends])
    return ModelWork(ends, layers, step.tokens * model.vocab / layout.tp, order)


def decoder(model: Model) -> Stack:
    """The stack that is trained.

    Raises:
        TierwiseError: a model without one.
    """
    for stack in running(model, "prefill"):
        return stack
    raise TierwiseError(f"{model.name}: training is told of models with a decoder; this one has none")


def training_step(model: Model, plan: Plan, layout: Layout, prefix: float = 0.0) -> Step:
    """The pass of one micro-batch on one device, with so many keys and values in front of each sequence."""
    new = layout.seq / layout.cp
    # Context-parallel ranks hold early and late parts of a sequence, so that each attends to half of it.
    past = (layout.seq - new) / 2.0 + prefix
    return Step(model, plan, layout.micro_batch, new, past, "prefill", new, ranks=layout.cp)


def _priced(model: Model, system: System, plan: Plan, program: Program) -> StepCost:
    return price_program(engine_on(model, plan, system, KERNELS), program, StepState())


def at_full_rate(system: System) -> Callable[[Cost], Num]:
    """Seconds that the bytes of a collective take on a device's ports, if nothing else did."""
    over = {"link": system.scale_up, "network": system.scale_out}

    def seconds(cost: Cost) -> Num:
        return maximum(0.0, *(cost.bytes.get(k, 0.0) / way.bandwidth for k, way in over.items() if way is not None))

    return seconds


def _repeats(program: Program) -> dict[str, Num]:
    """How often each body runs; what it repeats inside (its experts) has its name too, and comes later."""
    out: dict[str, Num] = {}
    for s in program.segments:
        out.setdefault(s.name, s.repeat)
    return out


def _piece(
    name: str,
    costs: tuple[StepCost, StepCost],
    low: tuple[StepCost, StepCost],
    forward: Program,
    behind: Program,
    count: Num,
    divided: Num,
    imbalance: Num,
    recipe: Recipe,
    factor: Callable[[Op], Num],
    rates: SustainedRates,
    faster: Num,
    eager: float,
    ports: Callable[[Cost], Num],
) -> BodyRun:
    trains = share(recipe)

    def seconds(
        plain: StepCost, less: StepCost, only: str = "", of: Callable[[Op], bool] = lambda op: True
    ) -> dict[str, Num]:
        out: dict[str, Num] = dict.fromkeys((*CLASSES, PORTS), 0.0)
        for a, b in zip(plain.on_device, less.on_device, strict=True):
            if a.segment.name != name or not a.op.name.endswith(only) or not of(a.op):
                continue
            kind = _CLASS.get(a.op.kind, "memory")
            # Experts' products, permuting tokens for them, and adding up what comes back.
            kind = "routed" if a.op.role == "moe" and kind == "memory" else kind
            kind = "sent" if "choices" in a.op.dims else kind
            # The head stays in the format of the residual stream.
            time = a.cost.time
            if a.op.kind == "matmul":
                fewer = costs is not low and lowered(a.op, name, OUTPUT)
                time = time * rates.matmul
                # What a device sustains in fewer bits is no nearer to its peak than what it does in 16.
                time = maximum(b.cost.time * rates.low, time / faster) if fewer else time
            if kind == "memory" and a.op.role in ("norm", "embed"):
                time = time / divided
            out[kind] = out[kind] + factor(a.op) * time * a.segment.repeat / count
            if kind == "link":
                out[PORTS] = out[PORTS] + ports(a.cost) * a.segment.repeat / count
        return out

    ops = [(op, s.repeat / count) for s in forward.segments if s.name == name for op in s.ops]
    tensors = kept_tensors(ops, divided, recipe.compact, trains, recipe.inputs)
    of, scores = by_module(tensors), sum((kept_scores(op) for op, _ in ops if op.kind == "attention"), 0.0)
    whole = {m: of[m] + (of["act"] if m == "mlp" else 0.0) for m in MODULES}
    own = [(op, n) for op, n in ops if not op.options.get(ADAPTER)]
    bare = [op for op, _ in ops]
    thin = [op for op in bare if op.options.get(ADAPTER)]
    return BodyRun(
        forward=seconds(costs[0], low[0]),
        backward=seconds(costs[1], low[1]),
        weights=seconds(costs[1], low[1], WEIGHTS),
        ends=seconds(costs[0], low[0], _ending(forward, name))["matmul"],
        launches=(launches(forward, name, recipe.graphs), launches(behind, name, recipe.graphs)),
        looped=(eager * looped(forward, name, count, recipe), eager * looped(behind, name, count, recipe)),
        # What the busiest rank does more than the mean is of no use.
        flops=sum((n * op.flops / (imbalance if op.options.get("routed") else 1.0) for op, n in own), 0.0),
        adapters=sum(adapter_elements(thin), 0.0) / recipe.rank
        if thin
        else sum((float(str(op.options.get("parts", 1))) * op.dims["k"] + op.dims["n"]
                  for op, _ in own if op.kind == "matmul" and op.role in ADAPTED), 0.0),
        sliced=sum(slice_elements(bare, recipe) + prefix_elements(bare, recipe), 0.0),
        keys=sum((o.bytes for op, _ in ops if op.kind == "attention" for o in op.reads[1:] if o.role == "act"), 0.0),
        queries=sum((op.reads[0].bytes for op, _ in ops if op.kind == "attention"), 0.0),
        sums=sum((8.0 * op.dims["batch"] * op.dims["heads"] * op.dims["q"] for op, _ in ops if op.kind == "attention"),
                 0.0),
        sent=sum((s.repeat / count * sent(op) for p in (forward, behind) for s in p.segments if s.name == name
                  for op in s.ops if op.kind == "collective"), 0.0),
        saved=sum(of.values(), 0.0) + scores,
        scores=scores,
        dropped=whole,
        redone={f"{m} {k}": v for m in MODULES for k, v in seconds(costs[0], low[0], of=OF[m]).items()},
        given=_given(op for op, _ in ops) / divided,
        whole=(1.0 - 1.0 / divided)
        * sum((o.bytes for op, _ in ops if op.kind == "matmul" for o in op.reads if o.name == "h"), 0.0),
        working=maximum(
            0.0, *(n * sum((o.bytes for o in (*op.reads, *op.writes) if o.role == "act"), 0.0) for op, n in ops)
        ),
        attending=_attending(op for op, _ in ops),
        freed=behind_attention(ops, tensors),
    )


def sent(op: Op) -> Num:
    """Bytes that each device of a collective sends."""
    n = maximum(op.dims["group"], 1.0)
    return (2.0 if op.options.get("collective") == "all_reduce" else 1.0) * (n - 1.0) / n * op.dims["bytes"]


def _ending(program: Program, name: str) -> str:
    """The name of a body's last product."""
    products = [op.name for s in program.segments if s.name == name for op in s.ops
                if op.kind == "matmul" and not op.options.get(ADAPTER)]  # fmt: skip
    return products[-1] if products else "none"


def _given(ops: Iterable[Op]) -> Num:
    """Bytes of the residual stream that a body starts from."""
    return next((o.bytes for op in ops for o in op.reads if o.name == "x"), 0.0)


def _attending(ops: Iterable[Op]) -> tuple[Num, Num]:
    """(bytes of attention's own tensors, scores that it writes), each of the op that has most."""
    found = [op for op in ops if op.kind == "attention"]
    own = (sum((o.bytes for o in (*op.reads, *op.writes) if o.role == "act"), 0.0) for op in found)
    return maximum(0.0, *own), maximum(0.0, *(score_bytes(op, 1.0) for op in found))
