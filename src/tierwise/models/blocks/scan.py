"""Recurrences over tokens with a state of fixed size: one op for all of them.

Every head keeps a matrix state ``S`` of ``key`` × ``value`` numbers. The update rules:

- ``selective`` (Mamba): ``S = exp(Δ A) S + (Δ x) B``, ``y = C S``; A differs per channel, so nothing is
  shared and the scan runs on vector units;
- ``linear`` (Mamba-2, Lightning Attention, RetNet, GLA): ``S = a S + k v``, ``y = q S``, where the decay
  ``a`` is constant, one number a head, or one number a key channel;
- ``delta`` (Gated DeltaNet): ``S = a S + k β (v - k S)``, ``y = q S``;
- ``wkv`` (RWKV-4): an exponentially decayed weighted average per channel, kept as numerator, denominator and
  the running maximum of its exponents.

``linear`` and ``delta`` have a chunked form that turns the work inside a chunk of ``chunk`` tokens into matrix
products.
"""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, minimum, where
from tierwise.core.numerics import Format
from tierwise.models.blocks.common import act
from tierwise.models.step import Step
from tierwise.program.types import Op, Operand

# Vector operations per token and state element. selective: Δ·A, exp, (Δx)·B, and two multiply-adds (update,
# output); linear: decay, two multiply-adds; delta: one more multiply-add, to read what the state predicts.
_STEP_FLOPS = {"selective": 7.0, "linear": 5.0, "delta": 7.0, "wkv": 0.0}

# Per token and channel. selective: softplus of Δ, Δ·x, the skip D·x and its addition; wkv: output and update
# each take a sum, a maximum, two differences, two exponentials, and the two weighted sums (5), the output a
# division more.
_CHANNEL_FLOPS = {"selective": 4.0, "linear": 0.0, "delta": 0.0, "wkv": 23.0}

_CHUNKED = ("linear", "delta")


def scan(
    step: Step,
    name: str,
    rule: str,
    heads: Num,
    key: Num,
    value: Num,
    *,
    groups: Num | None = None,
    chunk: Num = 64.0,
    by_token: bool = False,
    decays: Num = 0.0,
    gates: Num = 0.0,
    parameters: Num = 0.0,
    spill: bool = False,
    directions: float = 1.0,
    state_format: Format | None = None,
    state_name: str = "ssm_state",
    result: str = "scan.y",
) -> Op:
    """The recurrence of one layer on one device: chunked over a prompt, token by token when decoding.

    Args:
        rule: ``selective``, ``linear``, ``delta`` or ``wkv``.
        heads, key, value: heads on this device; the state of one is ``key × value``. A Mamba layer is one
            head a channel with ``value`` 1.
        groups: distinct key and query vectors per token (heads share them); as many as heads by default.
        chunk: tokens per chunk of the chunked form; ``by_token`` when a prompt is not chunked either.
        decays, gates: input-dependent decay and write-strength numbers per token.
        parameters: weight elements the kernel itself reads (A and D).
        spill: the state at every chunk's start goes through memory (kernels parallel over chunks).
        directions: scans over the same tokens (2: forward and backward, vision models).
        state_format: how the running state is stored; the activations' format by default.
        result: name of the output, where two scans' outputs are alive at once.

    Returns:
        An op of kind ``scan`` with dims ``batch, tokens, heads, key, value, groups, channels`` (heads ×
        value), ``state`` (numbers per channel), ``chunk`` (1 when token by token) and ``directions``. FLOPs inside a
        chunk are those of the causal half.
    """
    groups = heads if groups is None else groups
    t = step.tokens * directions
    form = state_format or step.act
    chunked = rule in _CHUNKED and not by_token and step.phase != "decode"
    block = minimum(chunk, step.new) if chunked else 1.0
    flops = (
        chunk_flops(rule, heads, groups, key, value, block)
        if chunked
        else (heads * value * (_STEP_FLOPS[rule] * key + _CHANNEL_FLOPS[rule]))
    )
    size = step.seqs * heads * key * value * directions
    earlier = where(np.asarray(step.past) > 0, size, 0.0)
    through = t / block * heads * key * value if chunked and spill else 0.0
    reads = [
        act(step, "scan.v", t * heads * value),
        act(step, "scan.qk", 2.0 * t * groups * key),
        act(step, "scan.decay", t * (decays + gates)),
        Operand(state_name, "state", earlier, form),
        act(step, "scan.chunks", through),
        Operand(f"{name}.w", "weight", parameters, step.weight("norm")),
    ]
    writes = [
        act(step, result, t * heads * value),
        Operand(state_name, "state", size, form),
        act(step, "scan.chunks", through),
    ]
    return Op(
        kind="scan",
        name=name,
        role="ssm",
        dims={
            "batch": step.seqs,
            "tokens": step.new,
            "heads": heads,
            "key": key,
            "value": value,
            "groups": groups,
            "channels": heads * value,
            "state": key,
            "chunk": block,
            "directions": directions,
        },
        flops=t * flops,
        reads=tuple(reads),
        writes=tuple(writes),
        arithmetic=step.act.arithmetic if chunked else "fp32",
        options={"rule": rule, "chunked": chunked, "phase": step.phase},
    )


def chunk_flops(rule: str, heads: Num, groups: Num, key: Num, value: Num, chunk: Num) -> Num:
    """FLOPs per token of the chunked form with chunks of ``chunk`` tokens, causal halves only.

    ``linear`` (Mamba-2, arXiv:2405.21060, section 6): scores ``Q Kᵀ`` once a group, scores times values, the
    chunk's state ``Kᵀ V``, the earlier state's output ``Q S``. ``delta`` (Gated DeltaNet, arXiv:2412.06464,
    section 3.3) adds ``K Kᵀ``, the triangular solve for the two right-hand sides β V and β K, and ``W S``.
    """
    seen = chunk + 1.0
    if rule == "linear":
        return seen * (groups * key + heads * value) + 4.0 * heads * key * value
    # K Kᵀ and the solve stay strictly below the diagonal.
    return heads * ((chunk - 1.0) * (2.0 * key + value) + seen * (key + value) + 6.0 * key * value)
