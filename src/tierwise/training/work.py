"""The work of one micro-batch on one device: a forward and a backward pass by body, and what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num, maximum, minimum, num, where
from tierwise.core.numerics import fmt
from tierwise.machines.types import System
from tierwise.models.lower import lower, running
from tierwise.models.step import Step
from tierwise.models.types import Model, Stack
from tierwise.program.backward import WEIGHTS, backward
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.types import Op
from tierwise.scenario.types import Plan
from tierwise.steps.cost import StepCost
from tierwise.steps.price import KERNELS, engine_on, price_program
from tierwise.steps.state import StepState
from tierwise.training.layout import Layout
from tierwise.training.recipe import TrainingFramework
from tierwise.training.trains import ADAPTED, ADAPTER, adapted, share

CLASSES = ("matmul", "attention", "memory", "link")
_CLASS = {"matmul": "matmul", "moe": "matmul", "attention": "attention", "collective": "link"}
# Roles of linear maps whose inputs may be kept as projections.
PROJECTED = ("attn", "mlp")
# Modules of a layer that may be computed again one by one: norms, activation functions, whole feed-forward layers.
MODULES = ("norm", "act", "mlp")
_FEED_FORWARD = ("mlp", "moe")
# What stands before the layers, and after them.
INPUT, OUTPUT = "input", "output"
# Kernels that are linear in what they read: their gradients need nothing of it.
_LINEAR = ("rope", "merge", "permute", "positions")


@dataclass(frozen=True)
class BodyRun:
    """One execution of a body for one micro-batch.

    Attributes:
        forward, backward: seconds by class of op (:data:`CLASSES`). ``weights``: of the backward pass, gradients of
            weights, which no other pass waits for.
        launches: kernels of the forward pass, and of the backward pass.
        flops: of the forward pass.
        adapters: parameters that a rank of one adds to all linear maps. ``sliced``: those in slices that are trained.
        keys: bytes of the keys and values that attention computes anew.
        saved: bytes kept for the backward pass; ``scores``: of them, what selective recomputation drops; ``dropped``:
            what recomputation of a module drops (:data:`MODULES`), and ``redone``: the seconds that it takes, by module
            and class (``"norm memory"``); ``given``:
            the body's input alone; ``whole``: what inputs take more where they are kept as gathered; ``working``: the
            largest op's tensors, while it runs.
    """

    forward: Mapping[str, Num]
    backward: Mapping[str, Num]
    weights: Mapping[str, Num]
    launches: tuple[Num, Num]
    flops: Num
    adapters: Num
    sliced: Num
    keys: Num
    saved: Num
    scores: Num
    dropped: Mapping[str, Num]
    redone: Mapping[str, Num]
    given: Num
    whole: Num
    working: Num


@dataclass(frozen=True)
class ModelWork:
    """All bodies of a model: the ends, and each kind of layer with how many there are."""

    ends: Mapping[str, BodyRun]
    layers: tuple[tuple[BodyRun, Num], ...]
    logits: Num

    @property
    def depth(self) -> Num:
        return sum((n for _, n in self.layers), 0.0)


def plan_of(layout: Layout, precision: str = "bf16", flash: bool = True) -> Plan:
    """The plan that ops are sharded and priced by: kernels alone, collectives by the library."""
    form = None if precision in ("bf16", "fp16") else fmt(precision)
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
    plain = plan_of(layout, flash=flash)
    step = _step(model, plain, layout)
    trains = share(how.recipe)
    forward = adapted(_as_trained(lower(step)), how.recipe)
    costs = _priced(model, system, plain, forward), _priced(model, system, plain, backward(forward, share=trains))
    low = costs
    if how.recipe.low:
        less = plan_of(layout, how.recipe.precision, flash)
        again = adapted(_as_trained(lower(_step(model, less, layout))), how.recipe)
        low = _priced(model, system, less, again), _priced(model, system, less, backward(again, share=trains))
    divided = where(np.asarray(layout.sequence_parallel) > 0, layout.tp, 1.0)
    counts = _repeats(forward)
    kept = how.recipe.compact
    pieces = {name: _piece(name, costs, low, forward, counts[name], divided, plain.imbalance, kept, trains,
                           how.recipe.rank)
              for name in counts}  # fmt: skip
    layers = tuple(
        (p, num(counts[name]) if depth is None else depth)
        for name, p in pieces.items()
        if not name.endswith((INPUT, OUTPUT))
    )
    ends = {name: p for name, p in pieces.items() if name.endswith((INPUT, OUTPUT))}
    return ModelWork(ends, layers, step.tokens * model.vocab / layout.tp)


def decoder(model: Model) -> Stack:
    """The stack that is trained.

    Raises:
        TierwiseError: a model without one.
    """
    for stack in running(model, "prefill"):
        return stack
    raise TierwiseError(f"{model.name}: training is told of models with a decoder; this one has none")


def _step(model: Model, plan: Plan, layout: Layout) -> Step:
    new = layout.seq / layout.cp
    # Context-parallel ranks hold early and late parts of a sequence, so that each attends to half of it.
    past = (layout.seq - new) / 2.0
    return Step(model, plan, layout.micro_batch, new, past, "prefill", new, ranks=layout.cp)


def _priced(model: Model, system: System, plan: Plan, program: Program) -> StepCost:
    return price_program(engine_on(model, plan, system, KERNELS), program, StepState())


def _as_trained(program: Program) -> Program:
    """The program with a loss over divided logits in place of their gathering and of picking a token, and experts as
    the products they are (serving's fused kernels are made for few tokens)."""
    return replace(program, items=tuple(_changed(x) for x in program.items))


def _changed(item: Body | Repeat) -> Body | Repeat:
    if isinstance(item, Repeat):
        return replace(item, bodies=tuple(_changed_body(b) for b in item.bodies))
    return _changed_body(item)


def _changed_body(body: Body) -> Body:
    out: list[Op | Body | Repeat] = []
    losses = []
    for x in body.items:
        if not isinstance(x, Op):
            out.append(_changed(x))
        elif x.name == "sample":
            losses.append(_loss(x))
        elif x.kind == "moe":
            out += _products(x, body.name)
        elif "head.all_gather" not in x.name:
            out.append(x)
    return replace(body, items=(*out, *losses))


def _products(op: Op, body: str) -> list[Op | Body | Repeat]:
    """A grouped GEMM in front of the activation and one behind it, each expert's rows by themselves."""
    d, touched = op.dims, maximum(op.dims["touched"], 1e-9)
    rows, wide = d["tokens"] / touched, d["up"] * d["inner"]
    given = next(o for o in op.reads if o.role == "act")
    weight = next(o for o in op.reads if o.role == "weight")

    def product(name: str, n: Num, k: Num, source: str, target: str) -> Op:
        return Op(
            "matmul",
            f"{op.name}.{name}",
            op.role,
            {"m": rows, "n": n, "k": k},
            2.0 * rows * n * k,
            (replace(given, name=source, elements=rows * k), replace(weight, name=f"{name}.w", elements=n * k)),
            (replace(given, name=target, elements=rows * n),),
            op.arithmetic,
            options={"density": 1.0, "parts": 1, "routed": True},
        )

    act = Op(
        "elementwise",
        f"{op.name}.act",
        op.role,
        {"elements": rows * d["inner"]},
        6.0 * rows * d["inner"],
        (replace(given, name="xu", elements=rows * wide),),
        (replace(given, name="xa", elements=rows * d["inner"]),),
        "fp32",
    )
    sent = replace(given, name="permuted", elements=d["tokens"] * d["hidden"])
    moved = Op(
        "elementwise", f"{op.name}.permute", op.role, {"elements": sent.elements}, 0.0, (given,), (sent,), "fp32"
    )
    each = Body(
        body,
        (product("up", wide, d["hidden"], "permuted", "xu"), act, product("down", d["hidden"], d["inner"], "xa", "y")),
    )
    return [moved, Repeat("experts", (each,), count=touched)]


def _loss(sample: Op) -> Op:
    """Cross-entropy: logits read and their exponentials written in fp32."""
    logits = next(o for o in sample.reads if o.role == "act")
    wide = replace(logits, name="exponentials", format=fmt("fp32"))
    return replace(sample, name="loss", dims={"elements": logits.elements}, flops=6.0 * logits.elements, writes=(wide,))


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
    count: Num,
    divided: Num,
    imbalance: Num = 1.0,
    compact: Num = 1.0,
    trains: Callable[[Op], float] = lambda op: 1.0,
    rank: float = 0.0,
) -> BodyRun:
    def seconds(
        plain: StepCost, less: StepCost, only: str = "", of: Callable[[Op], bool] = lambda op: True
    ) -> dict[str, Num]:
        out: dict[str, Num] = dict.fromkeys(CLASSES, 0.0)
        for a, b in zip(plain.on_device, less.on_device, strict=True):
            if a.segment.name != name or not a.op.name.endswith(only) or not of(a.op):
                continue
            kind = _CLASS.get(a.op.kind, "memory")
            # The head stays in the format of the residual stream.
            time = b.cost.time if kind == "matmul" and not name.endswith(OUTPUT) else a.cost.time
            if kind == "memory" and a.op.role in ("norm", "embed"):
                time = time / divided
            out[kind] = out[kind] + time * a.segment.repeat / count
        return out

    ops = [(op, s.repeat / count) for s in forward.segments if s.name == name for op in s.ops]
    by_module, scores = kept_by_module(ops, divided, compact, trains)
    kept = sum(by_module.values(), 0.0) + scores
    whole = {"norm": by_module["norm"], "act": by_module["act"], "mlp": by_module["act"] + by_module["mlp"]}
    own = [(op, n) for op, n in ops if not op.options.get(ADAPTER)]
    thin = [op for op, _ in ops if op.kind == "matmul" and op.options.get(ADAPTER)]
    return BodyRun(
        forward=seconds(costs[0], low[0]),
        backward=seconds(costs[1], low[1]),
        weights=seconds(costs[1], low[1], WEIGHTS),
        launches=(_launches(forward, name), _launches(costs[1].program, name)),
        # What the busiest rank does more than the mean is of no use.
        flops=sum((n * op.flops / (imbalance if op.options.get("routed") else 1.0) for op, n in own), 0.0),
        adapters=sum((op.dims["k"] * op.dims["n"] / rank for op in thin), 0.0)
        if thin
        else sum((float(str(op.options.get("parts", 1))) * op.dims["k"] + op.dims["n"]
                  for op, _ in own if op.kind == "matmul" and op.role in ADAPTED), 0.0),
        sliced=sum((trains(op) * op.dims["k"] * op.dims["n"] for op, _ in own if op.kind == "matmul"), 0.0),
        keys=sum((o.bytes for op, _ in ops if op.kind == "attention" for o in op.reads[1:] if o.role == "act"), 0.0),
        saved=kept,
        scores=scores,
        dropped=whole,
        redone={f"{m} {k}": v for m in MODULES for k, v in seconds(costs[0], low[0], of=_OF[m]).items()},
        given=_given(op for op, _ in ops) / divided,
        whole=(1.0 - 1.0 / divided)
        * sum((o.bytes for op, _ in ops if op.kind == "matmul" for o in op.reads if o.name == "h"), 0.0),
        working=maximum(
            0.0, *(n * sum((o.bytes for o in (*op.reads, *op.writes) if o.role == "act"), 0.0) for op, n in ops)
        ),
    )


def _launches(program: Program, name: str) -> Num:
    """Kernels of a body; experts' products are grouped into one, and a group of one device needs no collective."""
    some = [op for s in program.segments if s.name == name for op in s.ops]
    one = [where(np.asarray(op.dims["group"]) > 1, 1.0, 0.0) if op.kind == "collective" else 1.0 for op in some]
    return sum(one, 0.0)


def _given(ops: Iterable[Op]) -> Num:
    """Bytes of the residual stream that a body starts from."""
    return next((o.bytes for op in ops for o in op.reads if o.name == "x"), 0.0)


def kept_by_module(
    ops: Iterable[tuple[Op, Num]],
    divided: Num = 1.0,
    compact: Num = 1.0,
    trains: Callable[[Op], float] = lambda op: 1.0,
) -> tuple[dict[str, Num], Num]:
    """Bytes of tensors that gradients need, each tensor once, by what would make them again, and those of attention
    scores: ``norm``: what norms wrote, ``act``: what activation functions did, ``mlp``: what else is inside of
    feed-forward layers; ``""``: the rest.

    A matrix product needs its input, attention its queries, keys, values, output and the logarithm of each row's sum
    (or, unfused, its scores, their softmax and what dropout left of it), a norm the stream it normalised, an activation
    what it was applied to.

    Args:
        ops: with how often each runs (once for every expert).
        divided: devices among which the residual stream and its normalised copies are divided.
        compact: share of its width in which each linear map of a layer keeps its input, by a projection of its own.
            What something else keeps anyway (attention its output) stays whole.
        trains: the share of an op's weight that has gradients, for which a product needs its input.
    """
    version: dict[str, int] = {}
    kept: dict[tuple[str, int], Num] = {}
    made: dict[tuple[str, int], str] = {}
    scores: Num = 0.0

    def keep(name: str, size: Num, fresh: bool = False, module: str = "") -> None:
        key = (name, version.get(name, 0))
        kept[key] = maximum(kept.get(key, 0.0), size / divided if fresh else size)
        made[key] = module

    for op, n in ops:
        acts = [o for o in op.reads if o.role == "act"]
        if op.kind == "matmul":
            thin = float(str(op.options.get("parts", 1))) * compact if op.role in PROJECTED else 1.0
            size = n * acts[0].bytes * where(np.asarray(compact) < 1.0, thin, 1.0) * trains(op)
            inside = ("mlp" if acts[0].name == "permuted" else "act") if op.role in _FEED_FORWARD else ""
            keep(acts[0].name, size, acts[0].name == "h", "norm" if acts[0].name == "h" else inside)
        elif op.kind == "attention":
            for o in acts:
                keep(op.name + o.name, o.bytes)
            scores = scores + _scores(op)
        for o in op.writes:
            version[o.name] = version.get(o.name, 0) + 1
        if op.kind == "attention":
            out = op.writes[0]
            keep(out.name, out.bytes)
            keep("sums", op.dims["batch"] * op.dims["heads"] * op.dims["q"] * 4.0)
        elif op.kind == "norm":
            x = next((o for o in op.writes if o.name == "x"), op.reads[0])
            keep("x", x.bytes, fresh=True)
        elif op.kind == "elementwise" and not any(word in op.name for word in _LINEAR) and op.name != "loss":
            for o in acts:
                key = (op.name + o.name, 0)
                kept[key] = n * o.bytes
                made[key] = "mlp" if op.role in _FEED_FORWARD else ""
    total: dict[str, Num] = {"": 0.0, **dict.fromkeys(MODULES, 0.0)}
    for key, size in kept.items():
        total[made[key]] = total[made[key]] + size
    return total, scores


# What runs again for each module.
_OF: Mapping[str, Callable[[Op], bool]] = {
    "norm": lambda op: op.kind == "norm",
    "act": lambda op: op.kind == "elementwise" and op.role in _FEED_FORWARD and op.name.endswith("act"),
    "mlp": lambda op: op.role in _FEED_FORWARD,
}


def _scores(op: Op) -> Num:
    """Of unfused attention: scores, their softmax (16 bits each) and a mask of a byte."""
    if bool(np.all(np.asarray(op.options.get("flash", True), dtype=bool))):
        return 0.0
    d = op.dims
    return 5.0 * d["batch"] * d["heads"] * d["q"] * d["columns"]
