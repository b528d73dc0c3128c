"""How the same arithmetic is executed: sharded, fused, overlapped, launched."""

from __future__ import annotations

from dataclasses import replace

from tierwise.cost.framework import load
from tierwise.num import Num, num
from tierwise.techniques._make import Technique, on_plan


def shard(tp: Num = 1.0, pp: Num = 1.0, dp: Num = 1.0, ep: Num = 1.0) -> Technique:
    """Tensor, pipeline, data and expert parallel degrees (Megatron-LM, arXiv:1909.08053 and 2104.04473)."""
    return on_plan("sharding", lambda plan: replace(plan, tp=num(tp), pp=num(pp), dp=num(dp), ep=num(ep)))


def unfuse_attention() -> Technique:
    """Write the attention scores to memory, as before FlashAttention (arXiv:2205.14135)."""
    return on_plan("unfused attention", lambda plan: replace(plan, flash=False))


def eager(framework: str = "") -> Technique:
    """Launch kernels one by one instead of replaying a recorded graph.

    With a ``framework`` (``"transformers"``) its interpreter runs the model line by line: several kernels where an
    engine has one, and host time for each (The Framework Tax, arXiv:2302.06117).
    """
    if framework:
        load(framework)
    name = f"eager {framework}" if framework else "eager launches"
    return on_plan(name, lambda plan: replace(plan, graphs=False, framework=framework))


def ladder_residual() -> Technique:
    """A residual stream that lets each tensor-parallel all-reduce run beside the next block
    (Ladder Residual, arXiv:2501.06589)."""
    return on_plan("ladder residual", lambda plan: replace(plan, overlap=True))


def library_collectives() -> Technique:
    """All-reduces by a collective library (NCCL), as frameworks without one-shot kernels of their own do."""
    return on_plan("library collectives", lambda plan: replace(plan, library=True))
