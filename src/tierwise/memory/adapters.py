"""LoRA adapters (Hu et al., arXiv:2106.09685): which matrices they change, and the bytes an engine keeps for them.

An engine allocates its buffers once, for the most adapters of the largest rank it is started with, whether or not any
is loaded (vLLM's ``--max-loras`` and ``--max-lora-rank``; SGLang's ``--max-loras-per-batch``).
"""

from __future__ import annotations

from tierwise.core.num import Num, is_zero
from tierwise.models.types import Model, Weight
from tierwise.scenario.types import Plan

# Bytes of an element: adapters are in the model's 16-bit type, also beside quantized weights.
ELEMENT = 2.0


def adapter_bytes(plan: Plan, weight: Weight) -> Num:
    """Bytes that all adapters of a plan keep on one device for a matrix; 0 where they leave it as it is.

    A matrix cut by its outputs has the down-projection whole on every device and the up-projection cut; one cut by its
    inputs the other way round.
    """
    if not changes(plan.lora_modules, weight):
        return 0.0
    assert weight.shape is not None
    inputs, outputs = weight.shape
    sides = inputs / (plan.tp if weight.cut == "in" else 1.0) + outputs / (plan.tp if weight.cut == "out" else 1.0)
    return plan.adapters * plan.lora_rank * ELEMENT * sides


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


# Modules that people name together; the names of single matrices (``q_proj+v_proj``) are taken as they are.
_NAMES = {"qkv": ("q_proj", "k_proj", "v_proj"), "qv": ("q_proj", "v_proj")}
MODULES = ("all", "attention", "mlp", *_NAMES)
