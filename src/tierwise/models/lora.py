"""LoRA adapters (Hu et al., arXiv:2106.09685): which matrices they change, what they keep in memory, what they compute.

An engine allocates its buffers once, for the most adapters of the largest rank it is started with, whether or not any
is loaded (vLLM's ``--max-loras`` and ``--max-lora-rank``; SGLang's ``--max-loras-per-batch``). A step multiplies every
row by the two thin matrices of its adapter, in one kernel for all adapters each (Punica, arXiv:2310.18547).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

import numpy as np

from tierwise.core.num import Num, ceil_div, is_zero, maximum
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

# Matrices with a role of their own, as adapters name them. Engines that are started for ``all`` keep buffers for every
# map of every expert (vLLM: ``FusedMoEWithLoRA.create_lora_weights``); the head and the table only where named.
_OWN = {"expert": "experts", "head": "lm_head", "embed": "embed_tokens"}


@runtime_checkable
class Routed(Protocol):
    """A block that sends tokens to experts."""

    experts: Num
    top_k: Num

    def placement(self, step: Step) -> tuple[Num, Num, Num]: ...


def adapter_bytes(plan: Plan, weight: Weight) -> Num:
    """Bytes that all adapters of a plan keep on one device for a matrix; 0 where they leave it as it is."""
    if not changes(plan.lora_modules, weight):
        return 0.0
    each = ceil_div(weight.elements / weight.grain, plan.ep) if weight.role == "expert" else 1.0
    sides = sum((count * (inputs + outputs) for _, inputs, outputs, count in _maps(plan, weight)), 0.0)
    return plan.adapters * plan.lora_rank * FORMAT.bytes * each * sides


def one_adapter(model: Model, plan: Plan) -> Num:
    """Bytes of one adapter as a file holds it: of every layer, divided among no devices."""
    whole = Plan(adapters=1.0, lora_rank=plan.lora_rank, lora_modules=plan.lora_modules)
    of_layers = sum((times / layer.copies * adapter_bytes(whole, w) for stack in model.stacks if stack.active
                     for layer, times in stack.runs() for w in layer.weights()), 0.0)  # fmt: skip
    return of_layers + sum((adapter_bytes(whole, w) for w in ends(model)), 0.0)


def ends(model: Model) -> Iterator[Weight]:
    """Matrices before and after the layers."""
    for stack in model.stacks:
        if stack.active:
            for block in (*stack.before, *stack.after):
                yield from block.weights()


def changes(modules: str, weight: Weight) -> bool:
    """Whether adapters of these modules change a matrix."""
    if weight.matrix is None or is_zero(weight.elements):
        return False
    names = _NAMES.get(modules) or tuple(modules.split("+"))
    if own := _OWN.get(weight.role):
        return own in names or (own == "experts" and modules in ("all", "mlp"))
    if weight.shape is None or weight.role not in ("attn", "mlp", "shared_expert"):
        return False
    if modules == "all":
        return True
    if modules in ("attention", "mlp"):
        return (weight.role == "attn") == (modules == "attention")
    return module(weight) in names


def module(weight: Weight) -> str:
    """What adapters call a matrix."""
    return _OWN.get(weight.role, weight.name.split(".")[-1])


def lora_ops(step: Step, block: Block) -> Iterator[Op]:
    """What adapters add to a block's work: for each of its products one kernel into the rank and one out of it.

    The table of embeddings is looked up, which takes no time to speak of.
    """
    if is_zero(step.plan.adapters):
        return
    plan, found = step.plan, defaultdict[str, list[tuple[Num, Num]]](list)
    for w in block.weights():
        if w.role == "embed" or not changes(plan.lora_modules, w):
            continue
        if w.role != "expert":
            found[_TOGETHER.get(w.name, w.name)] += [(i, o) for _, i, o, _ in _maps(plan, w)]
            continue
        if isinstance(block, Routed):
            local, _, reaching = block.placement(step)
            rows = reaching * block.top_k * (local / block.experts) * plan.imbalance
            for name, inputs, outputs, count in _maps(plan, w):
                yield from _pair(step, f"experts.{name}", rows, plan.adapters * local, inputs, count * outputs, count)
    for name, sides in found.items():
        rows = step.seqs * step.logits if name == "head" else step.tokens
        yield from _pair(step, name, rows, plan.adapters, sides[0][0], sum((o for _, o in sides), 0.0), len(sides))


def _pair(step: Step, name: str, rows: Num, kept: Num, inputs: Num, outputs: Num, count: int) -> Iterator[Op]:
    """The two products of ``count`` maps of the same inputs, of ``kept`` pairs of thin matrices for each."""
    plan = step.plan
    rank = plan.lora_rank * count
    # Those that any row of the step uses, each row one of them at random.
    used = kept * (1.0 - (1.0 - 1.0 / maximum(kept, 1.0)) ** rows)
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


def _maps(plan: Plan, weight: Weight) -> Iterator[tuple[str, Num, Num, int]]:
    """(name, inputs, outputs, how many) of the linear maps of a matrix on one device as their adapters see them.

    A matrix cut by its outputs has the map into the rank whole on every device and the one out of it cut; one cut by
    its inputs the other way round. Of a table or head every device has both whole (vLLM: ``LogitsProcessorWithLoRA``).
    """
    assert weight.matrix is not None
    inputs, outputs = weight.matrix
    if weight.role == "expert":
        inner = outputs / maximum(plan.tp / plan.ep, 1.0)
        # Two maps or three, and biases beside them.
        count = int(np.max(np.asarray(weight.grain) // (inputs * outputs)))
        yield "up" if count < 3 else "gate_up", inputs, inner, count - 1
        yield "down", inner, inputs, 1
    elif weight.role in _OWN:
        yield weight.name, inputs, outputs, 1
    else:
        yield (weight.name, inputs / plan.tp if weight.cut == "in" else inputs,
               outputs / plan.tp if weight.cut == "out" else outputs, 1)  # fmt: skip
