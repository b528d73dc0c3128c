"""Tokens that travel to the devices of their experts and back, over several scale-up domains: DeepEP's kernels.

Two kinds (github.com/deepseek-ai/DeepEP, README, H800 with 50 GB/s of network a device). *Normal* ones send a token
once to every domain that holds one of its experts, and on from there over the links inside; both levels work at once,
on streaming multiprocessors taken from the rest. *Low-latency* ones write every copy to its expert's device, over the
network beyond the domain, and take no multiprocessors while they wait. What they reach (cost/constants.yaml) follows
from the published bandwidths of the one kind and times of the other.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where
from tierwise.cost.constants import constant
from tierwise.cost.types import Cost, Target
from tierwise.program.types import Op

if TYPE_CHECKING:
    from tierwise.machines.types import Link

NEAR, FAR, START = constant("exchange.near"), constant("exchange.far"), constant("exchange.start")
UNITS = constant("exchange.units")
# Of DeepEP's twenty published figures, eight in ten lie between these factors on the prediction.
INTERVAL = (0.96, 1.11)


def price(op: Op, inside: Num, outside: Num, near: Link, far: Link) -> Cost:
    """Time of one exchange among ``inside`` devices of each of ``outside`` domains.

    ``op.dims``: ``copy`` bytes of one copy of a device's tokens, ``choices`` experts a token goes to, ``most`` devices
    these lie on at the most, ``copies`` distinct devices. ``op.options["prompts"]``: by normal kernels.
    """
    d = op.dims
    group = inside * outside
    # Domains a token has experts in, its own among them, and devices.
    domains = minimum(outside * (1.0 - (1.0 - 1.0 / outside) ** d["choices"]), d["most"])
    across = d["copy"] * domains * (1.0 - 1.0 / outside)
    within = d["copy"] * d["copies"]
    normal = maximum(within / (NEAR * near.bandwidth), across / (FAR * far.bandwidth))
    each = d["copy"] * d["choices"]
    beyond, beside = each * (1.0 - inside / group), each * (inside - 1.0) / group
    quick = START + maximum(beside / (NEAR * near.bandwidth), beyond / far.bandwidth)
    prompts = np.asarray(op.options["prompts"], dtype=bool)
    time = where(prompts, normal, quick)
    moved = {"link": where(prompts, within, beside), "network": where(prompts, across, beyond)}
    return Cost({"link": time}, {}, 0.0, moved, "transferred", INTERVAL)


def spans(on: Target, op: Op) -> bool:
    """Whether an exchange goes beyond one scale-up domain, for every configuration, in an engine that serves (vLLM,
    SGLang and TensorRT-LLM bring these kernels) or a framework that trains with them (the op's option ``once``);
    others call a library's all-to-all."""
    if not (on.efficiency.engine or op.options.get("once")) or on.system.scale_out is None:
        return False
    return bool(np.all(np.asarray(op.dims["group"]) > on.system.per_node))


def beside(ops: Iterable[Op], on: Target) -> Target:
    """What is left of a device to kernels that run beside normal exchanges: engines launch them on the other
    multiprocessors (SGLang's and DeepSeek's two batches). The same where there are none."""
    sends = [op for op in ops if "choices" in op.dims and np.asarray(op.options["prompts"]).any()]
    if not sends or not spans(on, sends[0]):
        return on
    x = on.device
    engines = tuple(replace(e, units=e.units - int(UNITS), rates={k: v * (1.0 - UNITS / e.units) for k, v in
                    e.rates.items()}) if e.units > UNITS else e for e in x.engines)  # fmt: skip
    return replace(on, system=replace(on.system, device=replace(x, engines=engines)))
