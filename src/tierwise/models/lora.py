"""LoRA adapters (Hu et al., arXiv:2106.09685): which matrices they change, what they keep in memory, what they compute.

An engine allocates its buffers once, for the most adapters of the largest rank it is started with, whether or not any
is loaded (vLLM's ``--max-loras`` and ``--max-lora-rank``; SGLang's ``--max-loras-per-batch``). A step multiplies every
row by the two thin matrices of its adapter, in one kernel for all adapters each (Punica, arXiv:2310.18547).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tierwise.core.num import Num, is_zero, maximum
from tierwise.core.numerics import fmt
from tierwise.models.step import Step
from tierwise.models.types import Block, Model, Weight
from tierwise.program.types import Op, Operand
from tierwise.scenario.types import Plan

# Adapters are in 16 bits, also beside quantized weights.
FORMAT = fmt("bf16")
# Modules that people name together; the names of single matrices (q_proj+v_proj) are taken as they are.
_NAMES = {"qkv": ("q_proj", "k_proj", "v_proj"), "qv": ("q_proj", "v_proj")}
MODULES = ("all", "attention", "mlp", *_NAMES)
# Matrices that engines multiply by together, and so their adapters too.
_TOGETHER = {"q_proj": "qkv", "k_proj": "qkv", "v_proj": "qkv", "gate_proj": "gate_up", "up_proj": "gate_up"}


def adapter_bytes(plan: Plan, weight: Weight) -> Num:
    """Bytes that all adapters of a plan keep on one device for a matrix; 0 where they leave it as it is."""
    if not changes(plan.lora_modules, weight):
        return 0.0
    inputs, outputs = _sides(plan, weight)
    return plan.adapters * plan.lora_rank * FORMAT.bytes * (inputs + outputs)


def one_adapter(model: Model, plan: Plan) -> Num:
    """Bytes of one adapter as a file holds it: of every layer, divided among no devices."""
    whole = Plan(adapters=1.0, lora_rank=plan.lora_rank, lora_modules=plan.lora_modules)
    return sum((times / layer.copies * adapter_bytes(whole, w) for stack in model.stacks if stack.active
                for layer, times in stack.runs() for w in layer.weights()), 0.0)  # fmt: skip


def changes(modules: str, weight: Weight) -> bool:
    """Whether adapters of these modules change a matrix."""
    if weight.shape is None or is_zero(weight.elements) or weight.role not in ("attn", "mlp", "shared_expert"):
        return False
    if modules == "all":
        return True
    if modules in ("attention", "mlp"):
        return (weight.role == "attn") == (modules == "attention")
    names = _NAMES.get(modules) or tuple(modules.split("+"))
    return weight.name.split(".")[-1] in names


def lora_ops(step: Step, block: Block) -> Iterator[Op]:
    """What adapters add to a block's work: for each of its products one kernel into the rank and one out of it."""
    if is_zero(step.plan.adapters):
        return
    found: dict[str, list[Weight]] = {}
    for w in block.weights():
        if changes(step.plan.lora_modules, w):
            found.setdefault(_TOGETHER.get(w.name, w.name), []).append(w)
    for name, weights in found.items():
        yield from _pair(step, name, weights)


def _pair(step: Step, name: str, weights: Iterable[Weight]) -> Iterator[Op]:
    plan, rows = step.plan, step.tokens
    sides = [_sides(plan, w) for w in weights]
    inputs, outputs = sides[0][0], sum((out for _, out in sides), 0.0)
    rank = plan.lora_rank * len(sides)
    # Adapters that any row of the step uses, each row one of them at random.
    used = plan.adapters * (1.0 - (1.0 - 1.0 / maximum(plan.adapters, 1.0)) ** rows)
    for half, n, k, elements in (("a", rank, inputs, rank * inputs),
                                 ("b", outputs, plan.lora_rank, outputs * plan.lora_rank)):  # fmt: skip
        yield Op(
            kind="matmul", name=f"lora.{name}.{half}", role="lora", dims={"m": rows, "n": n, "k": k},
            flops=2.0 * rows * elements,
            # Names of their own: what they read is there, and what they write is added to what is there.
            reads=(Operand(f"lora.{name}.{half}.in", "act", rows * k, FORMAT),
                   Operand(f"lora.{name}.{half}.w", "weight", used * elements, FORMAT)),
            writes=(Operand(f"lora.{name}.{half}.out", "act", rows * n, FORMAT),),
            arithmetic=FORMAT.arithmetic,
        )  # fmt: skip


def _sides(plan: Plan, weight: Weight) -> tuple[Num, Num]:
    """Widths of a matrix on one device as its adapter sees them.

    A matrix cut by its outputs has the map into the rank whole on every device and the one out of it cut; one cut by
    its inputs the other way round.
    """
    assert weight.shape is not None
    inputs, outputs = weight.shape
    return (inputs / plan.tp if weight.cut == "in" else inputs, outputs / plan.tp if weight.cut == "out" else outputs)
