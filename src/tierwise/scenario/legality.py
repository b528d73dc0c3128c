"""Which degrees of parallelism a model and a machine allow. Asked here, and only here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField
from tierwise.core.num import Num
from tierwise.core.numerics import blocks
from tierwise.core.units import RANGE
from tierwise.models.facts import depth, experts, facts_of, heads

if TYPE_CHECKING:
    from tierwise.machines.types import System
    from tierwise.models.types import Model, Weight
    from tierwise.scenario.types import Plan


@dataclass(frozen=True)
class Refusal:
    """A rule that some degrees break.

    Attributes:
        field: of the plan.
        broken: which elements of the plan break it, in the shape of their degrees.
        found: what they hold there.
        allowed: what may be there.
    """

    field: str
    broken: NDArray[np.bool_]
    found: object
    allowed: str


@dataclass(frozen=True)
class Legality:
    """Which elements of a plan are allowed, and why the others are not.

    Attributes:
        mask: True where allowed, in the common shape of the degrees (0-d for plain numbers).
        refusals: the rules broken anywhere, most basic first.
    """

    mask: NDArray[np.bool_]
    refusals: tuple[Refusal, ...]

    @property
    def reason(self) -> str:
        """The first rule broken, in words; ``""`` when every element is allowed."""
        if not self.refusals:
            return ""
        first = self.refusals[0]
        return f"{first.field}: found {first.found}; allowed: {first.allowed}"


def legal(plan: Plan, model: Model, machine: System) -> Legality:
    """Which of a plan's degrees (plain numbers, or arrays that broadcast) the model and the machine allow."""
    tp, pp, dp, ep = (np.asarray(x, dtype=float) for x in (plan.tp, plan.pp, plan.dp, plan.ep))
    rules: list[Refusal] = []

    def rule(field: str, broken: Any, found: Any, allowed: str) -> None:
        if np.any(broken):
            rules.append(Refusal(field, np.asarray(broken), _show(found, broken), allowed))

    for name, x in (("tp", tp), ("pp", pp), ("dp", dp), ("ep", ep)):
        rule(name, (x < 1) | (x != np.floor(x)), x, "whole numbers of at least 1")
    used = tp * pp * dp
    count = machine.count
    rule("tp × pp × dp", used > count, used, f"at most the {_words(count)} device(s) of {machine.name}")
    whole = heads(model)
    if whole is not None:
        # A zero degree has its own rule above.
        rule("tp", whole % np.maximum(tp, 1.0) != 0, tp, f"a divisor of the {_words(whole)} attention heads"
             + _divisors(whole, count))  # fmt: skip
    layers = depth(model)
    rule("pp", pp > layers, pp, f"at most the {layers} layers")
    routed = experts(model)
    if routed is None:
        rule("ep", ep > 1, ep, f"1: {model.name} has no routed experts")
    else:
        group = tp * dp
        apart = (ep > 1) & ((ep > group) | (group % np.maximum(ep, 1.0) != 0))
        rule("ep", apart, ep, f"a divisor of tp × dp = {_show(group, apart)}")
        rule("ep", (ep > 1) & (ep > routed), ep, f"at most the {_words(routed)} experts")
    for cut in cuts(plan, model):
        rule("tp", cut.broken, tp, cut.allowed)
    mask = np.ones(np.broadcast_shapes(tp.shape, pp.shape, dp.shape, ep.shape), dtype=bool)
    for r in rules:
        mask = mask & ~r.broken
    return Legality(mask, tuple(rules))


def cuts(plan: Plan, model: Model) -> list[Refusal]:
    """Degrees that would cut a block of weights which share a scale: no engine loads such a part (vLLM and SGLang:
    "output_size ... is not divisible by weight quantization block_n"). Queries, keys and values are loaded with the
    scales of all blocks that their heads touch (vLLM from 0.13, ``_maybe_allow_fp8_block_shape_mismatch``; SGLang's
    ``skip_block_quant_check``): keys of 192 channels a head are none too few."""
    # Lowering knows plans, so it cannot be there before them.
    from tierwise.models.blocks.common import share
    from tierwise.models.step import Step

    out: list[Refusal] = []
    step = Step(model, replace(plan, mtp=False), 1.0, 1.0, 0.0, "decode")
    tp, ep = np.asarray(plan.tp, dtype=float), np.asarray(plan.ep, dtype=float)
    seen: set[tuple[object, ...]] = set()
    for w, inner in _matrices(model):
        inputs, outputs = blocks(step.weight(w.role))
        width: Num
        grain: Num
        if w.role == "expert":
            # Groups along the inputs of experts are dealt with by kernels of their own (moe_wna16).
            width, block, parts, grain = inner, outputs, np.maximum(tp / np.maximum(ep, 1.0), 1.0), 0.0
        elif w.name in _HEADS and w.cut == "out":
            continue
        elif w.shape is not None and w.cut:
            side = w.shape[0] if w.cut == "in" else w.shape[1]
            width, block, parts = side, inputs if w.cut == "in" else outputs, tp
            grain = w.grain / (w.elements / side)
        else:
            continue
        key = (np.asarray(width).tobytes(), block, w.role == "expert", np.asarray(grain).tobytes())
        if block == 1 or key in seen:
            continue
        seen.add(key)
        part = share(width, grain, np.maximum(parts, 1.0))
        # A width that holds no whole blocks to begin with is padded as it is.
        broken = np.asarray((parts > 1) & (np.asarray(width) % block == 0) & (np.asarray(part) % block != 0))
        if broken.any():
            experts_only = " of an expert" if w.role == "expert" else ""
            way = ", or ep = tp, which leaves experts whole" if w.role == "expert" else ""
            fits = _fitting(width, grain, block)
            out.append(Refusal("tp", broken, None, f"degrees that leave whole blocks of {block} of the {_words(width)} "
                               f"channels{experts_only} ({w.name} in {step.weight(w.role)}){fits}{way}"))  # fmt: skip
    return out


# What is cut between heads, which need not be whole blocks.
_HEADS = ("q_proj", "k_proj", "v_proj")


def _matrices(model: Model) -> Iterator[tuple[Weight, Num]]:
    """Matrices of the layers that run, and the inner width of the experts beside them."""
    for stack in model.stacks:
        if stack.active and stack.stream in ("text", "encode"):
            for layer, _ in stack.runs():
                for block in layer.blocks:
                    shape = facts_of(block).expert_shape
                    for w in block.weights():
                        yield w, 0.0 if shape is None else shape[1]


def _fitting(width: Num, grain: Num, block: int) -> str:
    """The degrees that do, as far as they are few."""
    from tierwise.models.blocks.common import share

    if np.ndim(width) or np.ndim(grain):
        return ""
    found = [d for d in range(1, 65) if share(width, grain, float(d)) % block == 0 and width % d == 0]
    return ": " + ", ".join(map(str, found)) if found else ""


def check_plan(plan: Plan, model: Model, machine: System) -> None:
    """Refuse a plan with any degree or fraction that cannot be, saying which can.

    Raises:
        BadField: the first of them.
    """
    for name, value in (("framework", plan.framework), ("mtp", plan.mtp), ("schedule", plan.schedule),
                        ("kv.remat", plan.kv.remat)):  # fmt: skip
        if np.ndim(value):
            one = "one value: what runs follows from it, so each is a scenario of its own"
            raise BadField("plan", name, np.asarray(value).tolist(), one)
    for broken in legal(plan, model, machine).refusals:
        raise BadField("plan", broken.field, broken.found, broken.allowed)
    for name, least, most, allowed in _BOUNDS:
        number: Any = attrgetter(name)(plan)
        found = np.asarray(number, dtype=float)
        if not np.all((found >= least) & (found <= most)):
            raise BadField("plan", name, number, allowed)


_MOST = RANGE["count"][1]
_BELOW_ONE = float(np.nextafter(1.0, 0.0))
# (field of a plan, least, most, in words); what is no number is between none.
_BOUNDS = (
    ("sparsity", 0.0, _BELOW_ONE, "a fraction from 0 up to 1"),
    ("chunk", 1.0, np.inf, "at least 1 token"),
    ("imbalance", 1e-6, 1e6, "a number from 1e-6 to 1e6"),
    ("reserve", 0.0, _BELOW_ONE, "a fraction from 0 up to 1"),
    ("adapters", 0.0, 1e6, "a number from 0 to 1e6"),
    ("lora_rank", 1.0, 1e6, "a rank from 1 to 1e6"),
    *((f"kv.{name}", 0.0, 1.0, "a fraction from 0 to 1") for name in ("keep", "rank", "read")),
    *((f"kv.{name}", 0.0, np.inf, "tokens, 0 or more") for name in ("residual", "budget", "window", "read_budget")),
    ("kv.shared_prefix", 0.0, _MOST, f"tokens from 0 to {_MOST:,.0f}"),
    ("kv.selector", 0.0, 64.0, "bits from 0 to 64"),
)


def _divisors(heads: Any, count: Any) -> str:
    if np.ndim(heads) or np.ndim(count):
        return ""
    return ": " + ", ".join(str(d) for d in range(1, int(min(heads, count)) + 1) if heads % d == 0)


def _show(x: Any, where: Any) -> object:
    """The values that break a rule: one, or the first eight."""
    x, where = np.broadcast_arrays(x, where)
    values = _whole(x[where])[:8]
    return values[0] if len(values) == 1 else values


def _words(x: Any) -> object:
    values = _whole(x)
    return values[0] if np.ndim(x) == 0 else values


def _whole(x: Any) -> list[float]:
    """The distinct numbers of it, without a point where they need none."""
    return [int(v) if float(v).is_integer() else v for v in np.unique(x).tolist()]
