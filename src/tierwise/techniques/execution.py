"""How the same arithmetic is executed: sharded, fused, overlapped, launched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tierwise.core.num import Num, num
from tierwise.cost.framework import load
from tierwise.models.facts import facts_of
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Block, Model
from tierwise.models.wrapper import adapt
from tierwise.scenario.types import Resolved
from tierwise.schedule import order_of, parse
from tierwise.techniques._make import (
    Matched,
    NothingMatched,
    Technique,
    collectives,
    on_model,
    on_plan,
    ops_of,
    prompts_are_encoded,
)

_ALONE = "no two devices of the plan talk to each other inside a layer (tp and ep are 1): shard it first"


def shard(tp: Num = 1.0, pp: Num = 1.0, dp: Num = 1.0, ep: Num = 1.0) -> Technique:
    """Tensor, pipeline, data and expert parallel degrees (Megatron-LM, arXiv:1909.08053 and 2104.04473).

    Example: ``shard:tp=4``
    """
    used = num(tp) * num(pp) * num(dp)
    return on_plan("sharding", lambda plan: replace(plan, tp=num(tp), pp=num(pp), dp=num(dp), ep=num(ep)),
                   lambda _: (("devices", float(np.max(used))),))  # fmt: skip


def unfuse_attention() -> Technique:
    """Write the attention scores to memory, as before FlashAttention (arXiv:2205.14135)."""
    return on_plan("unfused attention", lambda plan: replace(plan, flash=False),
                   lambda r: (("attention kernels", ops_of(r, lambda op: "flash" in op.options)),),
                   "it computes no attention scores")  # fmt: skip


def eager(framework: str = "") -> Technique:
    """Launch kernels one by one instead of replaying a recorded graph.

    With a ``framework`` (``"transformers"``) its interpreter runs the model line by line: several kernels where an
    engine has one, host time for each (The Framework Tax, arXiv:2302.06117), and prompts in one pass, not in chunks.
    """
    if not framework:
        return on_plan("eager launches", lambda plan: replace(plan, graphs=False), _launches)
    load(framework)
    whole = float("inf")
    return on_plan(f"eager {framework}", lambda p: replace(p, graphs=False, framework=framework, chunk=whole),
                   _launches)  # fmt: skip


def all_logits() -> Technique:
    """Logits of every prompt token, as `transformers` computed them before 4.45, though only the last are used."""

    def change(block: Block) -> Block:
        return adapt(block, "logits", True) if facts_of(block).last_only else block

    def model(m: Model) -> Model:
        if prompts_are_encoded(m):
            why = "its prompts go to an encoder, which has no output head"
            raise NothingMatched("logits of every token", m.name, why)
        stacks = tuple(replace(s, after=tuple(change(b) for b in s.after)) for s in m.stacks)
        return replace(m, stacks=stacks)

    return on_model("logits of every token", model, needs="it has no output head that sees a prompt's last token only")


def ladder_residual() -> Technique:
    """A residual stream that lets each tensor-parallel all-reduce run beside the next block
    (Ladder Residual, arXiv:2501.06589)."""
    return on_plan("ladder residual", lambda plan: replace(plan, overlap=True), collectives, _ALONE)


def schedule(name: str, options: str = "") -> Technique:
    """Ops are issued in the order of a schedule: ``prefetch``, ``offload``, ``overlap_collectives``, ``two_batches``,
    or any other file of ``schedule/``.

    Args:
        options: of the schedule, ``ahead=2``; several joined by ``;``.

    Example: ``schedule:name=two_batches``
    """
    text = name + (":" + options.replace(";", ",") if options else "")
    parse(text)
    needs = "no op of its layers has a lane of its own there: shard the model, or place tensors elsewhere, first"
    return on_plan(f"schedule {text}", lambda plan: replace(plan, schedule=text), lambda r: _beside(r, text), needs)


def _beside(r: Resolved, text: str) -> Matched:
    """Ops that a schedule issues beside the device's first lane, in a step of each kind."""
    name, options = parse(text)
    several = 0
    for phase in ("decode", "encode", "vision", "audio"):
        program = lower(Step(r.model, r.plan, 2.0, 1.0, 1.0, phase))
        if program.segments:
            made = order_of(name, program, **options)
            first, *_ = made.lanes
            several += sum(len(x) for s in made.sections for lane, x in s.lanes.items() if lane != first)
    return (("ops beside the device's", float(several)),)


def library_collectives() -> Technique:
    """All-reduces by a collective library (NCCL), as frameworks without one-shot kernels of their own do."""
    return on_plan("library collectives", lambda plan: replace(plan, library=True), collectives, _ALONE)


def _launches(r: Resolved) -> Matched:
    return (("kernels", ops_of(r, lambda op: op.kind != "collective")),)
