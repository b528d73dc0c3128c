"""What one engine step costs, as tables the simulator looks up: prices of the cost model, evaluated once as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.serving.reordered import Reordered

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# What the last axis of a table holds: seconds, of them those that compute, memory and link are busy, and the joules of
# the devices that the step runs on, beside what they draw all the time, and of the host's processors that compute for
# them.
QUANTITIES = ("time", "compute", "memory", "link", "energy", "on host")


@dataclass(frozen=True)
class StepPrices:
    """Costs of the steps of one kind of replica. Seconds, bytes, watts; tables end in ``QUANTITIES`` (6).

    A step of ``d`` decoding sequences with mean context ``c`` and prefill chunks ``(q_i, c_i)`` takes

        ``hypot(device, launch if not replayed) + host``, where
        ``device = tokens[d + sum q_i] + heads[sequences that yield a token] + decode(d, c) + sum prefill(q_i, c_i)``

    with ``d`` padded to the next of ``graph_sizes`` for steps without prefill that are replayed. Where steps are
    scheduled ``ahead`` of the one in flight, the host works beside the device: ``max(hypot(device, launch), host)``.
    What would draw more than ``power_left`` takes longer, at the same joules.

    Attributes:
        tokens: (budget + 1, 6), by tokens in the step: all but attention over the context and what follows.
        experts: (budget + 1, 6), what of ``tokens`` follows from the tokens of all data-parallel ranks, not from those
            of the busiest, which sets the step's pace; None where nothing does.
        heads: (max_seqs + 1, 6), by sequences that yield a token: last projection and sampling.
        decode_seqs, decode_context, decode: axes (a,), (b,) and table (a, b, 6) of attention of decode steps,
            bilinear between grid points; context is the mean over the sequences.
        decode_mixed: the table for steps with prefill, where one kernel serves both kinds of rows; None: ``decode``.
        verifying: (k, a, b, 6), what attention takes more in steps in which each decoding sequence brings 1, 2, ... k
            drafts to verify; None: it is never asked.
        reordered: where collectives run beside compute, or ops in another order: steps that are more than one kind of
            sequence. ``decode_mixed`` and ``prefill`` are then those of ops one after the other.
        prefill_new, prefill_context, prefill: the same for one chunk of new tokens after cached ones (0 is a point).
        host: seconds per step, per sequence in it, per prefill chunk in it, per scheduled prompt token.
        gap_sequence: seconds that the device waits for each token that is sampled.
        launch: seconds the host needs to launch a step's kernels one by one. ``joined``: it shows beside what the
            device does, as :func:`tierwise.steps.priced.step_time` says it; 0: the slower alone does.
        graph_sizes: batch sizes replayed from recorded graphs, ascending; empty for none. ``mixed_graphs``: steps
            with prefill of at most so many tokens are replayed too.
        request: seconds a request spends outside the engine before its first token is seen (client, tokenizer).
        kv_token: bytes of KV of one token in one replica; ``kv_fixed``: of one sequence whatever its length.
        kv_room: bytes for KV in one replica.
        swap: bytes per second to host memory and back; ``transfer``: bytes per second and ``transfer_latency``
            seconds to another replica.
        disk: bytes per second of the disk tier.
        power_idle: watts of the whole replica all the time; ``power_left``: watts beside them that the devices of a
            step (one stage's) may draw; ``rent``: dollars per second of the whole replica.
        interval: factors on the time that 80 % of measurements lie between; ``basis``: what the prices rest on.
        stages: pipeline stages: as many steps are in flight at once. ``pace``: how much longer than an even share of a
            step its slowest stage takes, of one that decodes and of one with chunks. ``follow``: a prompt's next chunk
            enters the first stage while the one before it is in a later one, 0 or 1.
        ahead: steps put together while one is in flight (asynchronous scheduling), 0 or 1. With 1, a step that begins
            at t was put together when the step before it began: requests that came later, and places and blocks that
            the step before gave back, count from the next one on. An engine that stood idle begins at once.
    """

    tokens: Floats
    heads: Floats
    decode_seqs: Floats
    decode_context: Floats
    decode: Floats
    prefill_new: Floats
    prefill_context: Floats
    prefill: Floats
    host: Floats
    launch: float
    gap_sequence: float
    graph_sizes: Ints
    mixed_graphs: int
    request: float
    kv_token: float
    kv_fixed: float
    kv_room: float
    swap: float
    transfer: float
    transfer_latency: float
    disk: float
    power_idle: float
    rent: float
    interval: tuple[float, float] = (1.0, 1.0)
    basis: str = "datasheet"
    stages: int = 1
    follow: int = 1
    pace: tuple[float, float] = (1.0, 1.0)
    decode_mixed: Floats | None = None
    verifying: Floats | None = None
    ahead: int = 0
    reordered: Reordered | None = None
    power_left: float = float("inf")
    experts: Floats | None = None
    joined: int = 1


def plain_prices(
    *, fixed: float = 8e-3, per_token: float = 3e-5, per_context: float = 1e-9, quadratic: float = 1e-10,
    budget: int = 8192, max_seqs: int = 256, room: float = 16e9, kv_token: float = 131072.0,
) -> StepPrices:  # fmt: skip
    """Prices of an imaginary engine, for tests and for explaining: a step takes ``fixed`` seconds or ``per_token``
    for each token, whichever is more, and ``per_context`` for each token of context read; a chunk of q tokens after
    c takes ``quadratic * q * (c + q / 2)`` more. It draws 100 W, and 600 W more while it works."""

    def table(seconds: Floats) -> Floats:
        none = 0.0 * seconds
        return np.stack([seconds, none, seconds, none, 600.0 * seconds, none], axis=-1)

    t = np.arange(budget + 1.0)
    seqs, context = np.array([0.0, max_seqs]), np.array([0.0, 2.0**20])
    # Bilinear in the mean context is exact for d * c; the square of q is not, so its axis is fine.
    new = np.unique(np.concatenate([np.arange(0.0, 65.0), np.linspace(64.0, budget, 256).round()]))
    return StepPrices(
        tokens=table(np.where(t > 0, np.maximum(fixed, per_token * t), 0.0)),
        heads=table(np.zeros(max_seqs + 1)),
        decode_seqs=seqs, decode_context=context, decode=table(per_context * seqs[:, None] * context),
        prefill_new=new, prefill_context=context,
        prefill=table(quadratic * new[:, None] * (context + new[:, None] / 2.0)),
        host=np.zeros(4), launch=0.0, gap_sequence=0.0, graph_sizes=np.zeros(0, np.int64), mixed_graphs=0, request=0.0,
        kv_token=kv_token, kv_fixed=0.0, kv_room=room, swap=25e9, transfer=50e9, transfer_latency=1e-5, disk=5e9,
        power_idle=100.0, rent=0.001,
    )  # fmt: skip
