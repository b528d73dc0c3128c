"""RWKV: time mixing by decayed sums over the past, channel mixing by shifted tokens.

Version 4 (arXiv:2305.13048) keeps an average per channel; version 6 (Finch, arXiv:2404.05892) a matrix per head
with a decay that depends on the input; version 7 (Goose, arXiv:2503.14456) updates that matrix by the delta rule.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tierwise.core.num import Num, where
from tierwise.core.numerics import fmt
from tierwise.models.blocks.cache import fixed_state
from tierwise.models.blocks.common import GATE, GATED_NORM, Linear, all_reduce, elementwise, matmul, share
from tierwise.models.blocks.scan import scan
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import SequenceState, Weight
from tierwise.program.types import Op, Operand

_FP32 = fmt("fp32")

# Numerator, denominator and running maximum of the weighted average (version 4).
_WKV = 3.0


@dataclass(frozen=True)
class TimeMix:
    """Version 4's attention substitute: receptance, key, value, the WKV recurrence, output.

    Attributes:
        hidden, inner: widths.
    """

    hidden: Num
    inner: Num
    name: str = "time_mix"

    def _in(self) -> list[Linear]:
        return [Linear(n, self.hidden, self.inner, role="ssm", split="out") for n in ("receptance", "key", "value")]

    def _out(self) -> Linear:
        return Linear("output", self.inner, self.hidden, role="ssm", split="in")

    def weights(self) -> Iterator[Weight]:
        for linear in (*self._in(), self._out()):
            yield from linear.weights()
        yield Weight("time_mix", 3.0 * self.hidden, "norm")
        yield Weight("time_decay_first", 2.0 * self.inner, "norm", "tp")

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        d = share(self.inner, 0.0, step.plan.tp)
        yield _shift(step, f"{self.name}.shift", self.hidden, 3.0)
        for linear in self._in():
            yield matmul(step, f"{self.name}.{linear.name}", "ssm", t, [linear], "mixed", "rkv")
        # Every channel weighs its own values: its key is one more number per token, not a shared vector.
        yield scan(
            step,
            f"{self.name}.wkv",
            "wkv",
            d,
            _WKV,
            1.0,
            groups=0.0,
            decays=d,
            parameters=2.0 * d,
            state_format=_FP32,
            state_name="wkv_state",
        )
        yield elementwise(step, f"{self.name}.gate", "ssm", {"scan.y": t * d, "rkv": t * d}, {"o": t * d}, GATE)
        yield matmul(step, f"{self.name}.output", "ssm", t, [self._out()], "o", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")

    def state(self, step: Step) -> Iterator[SequenceState]:
        yield fixed_state("wkv_state", step, _WKV * share(self.inner, 0.0, step.plan.tp), _FP32)
        yield fixed_state("shift_state", step, self.hidden, step.act)

    def facts(self) -> BlockFacts:
        return BlockFacts(state="wkv_state")


@dataclass(frozen=True)
class MatrixTimeMix:
    """Version 6: receptance, key, value and gate; a decay per key channel; a matrix state per head.

    Attributes:
        hidden: width, of the residual stream and of the heads together.
        head_dim: width of a head; its state is the square.
        mix_rank: rank of the five input-dependent interpolations with the token before.
        decay_rank: rank of the input-dependent decay.
        chunk: tokens per chunk of the prompt's chunked form.
    """

    hidden: Num
    head_dim: Num = 64.0
    mix_rank: Num = 32.0
    decay_rank: Num = 64.0
    chunk: Num = 64.0
    name: str = "time_mix"

    def _in(self) -> list[Linear]:
        names = ("receptance", "key", "value", "gate")
        return [Linear(n, self.hidden, self.hidden, role="ssm", split="out", grain=self.head_dim) for n in names]

    def _low_rank(self) -> list[Linear]:
        mix, d = 5.0 * self.mix_rank, self.hidden
        return [
            Linear("mix_down", d, mix, role="ssm"),
            # Five maps of mix_rank inputs each: as many parameters and products as one of 5 × mix_rank inputs.
            Linear("mix_up", mix, d, role="ssm"),
            Linear("decay_down", d, self.decay_rank, role="ssm"),
            Linear("decay_up", self.decay_rank, d, role="ssm", split="out", grain=self.head_dim),
        ]

    def _out(self) -> Linear:
        return Linear("output", self.hidden, self.hidden, role="ssm", split="in", grain=self.head_dim)

    def weights(self) -> Iterator[Weight]:
        for linear in (*self._in(), *self._low_rank(), self._out()):
            yield from linear.weights()
        yield Weight("time_mix", 6.0 * self.hidden, "norm")
        yield Weight("time_decay_first", 2.0 * self.hidden, "norm", "tp", 2.0 * self.head_dim)
        yield Weight("group_norm", 2.0 * self.hidden, "norm", "tp", 2.0 * self.head_dim)

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        h = share(self.hidden / self.head_dim, 1.0, step.plan.tp)
        d = h * self.head_dim
        size = t * self.hidden
        mix_down, mix_up, decay_down, decay_up = self._low_rank()
        yield _shift(step, f"{self.name}.shift", self.hidden, 1.0)
        yield matmul(step, f"{self.name}.mix_down", "ssm", t, [mix_down], "mixed", "z")
        yield matmul(step, f"{self.name}.mix_up", "ssm", t, [mix_up], "z", "mix")
        # Five mixtures of this token and the one before, each with its own interpolation weights.
        reads = {"h": size, "shifted": size, "mix": 5.0 * size}
        yield elementwise(step, f"{self.name}.mix", "ssm", reads, {"mixed": 5.0 * size}, 3.0)
        for linear in self._in():
            yield matmul(step, f"{self.name}.{linear.name}", "ssm", t, [linear], "mixed", "rkvg")
        yield matmul(step, f"{self.name}.decay_down", "ssm", t, [decay_down], "mixed", "z")
        yield matmul(step, f"{self.name}.decay_up", "ssm", t, [decay_up], "z", "scan.decay")
        yield scan(
            step,
            f"{self.name}.wkv",
            "linear",
            h,
            self.head_dim,
            self.head_dim,
            chunk=self.chunk,
            decays=d,
            parameters=2.0 * d,
            state_format=_FP32,
            state_name="wkv_state",
        )
        yield from _leave(step, self.name, self._out(), {"scan.y": t * d, "rkvg": t * d})

    def state(self, step: Step) -> Iterator[SequenceState]:
        return _states(step, self.hidden, self.head_dim)

    def facts(self) -> BlockFacts:
        return BlockFacts(heads=self.hidden / self.head_dim, state="wkv_state")


@dataclass(frozen=True)
class DeltaTimeMix:
    """Version 7: receptance, key and value; low-rank decay, learning rate, gate and (``residual``, all layers but the
    first) weight of the first layer's values; a matrix state per head, written by the delta rule.

    Attributes:
        hidden: width, of the residual stream and of the heads together. ``head_dim``: of a head.
        decay_rank, rate_rank, gate_rank, value_rank: of the low-rank maps.
        chunk: tokens per chunk of the prompt's chunked form.
    """

    hidden: Num
    head_dim: Num
    decay_rank: Num
    rate_rank: Num
    gate_rank: Num
    value_rank: Num
    residual: bool = True
    chunk: Num = 64.0
    name: str = "time_mix"

    def _in(self) -> list[Linear]:
        names = ("receptance", "key", "value")
        return [Linear(n, self.hidden, self.hidden, role="ssm", split="out", grain=self.head_dim) for n in names]

    def _low_rank(self) -> list[tuple[Linear, Linear]]:
        ranks = [("decay", self.decay_rank), ("rate", self.rate_rank), ("gate", self.gate_rank)]
        ranks += [("residual", self.value_rank)] if self.residual else []
        return [
            (
                Linear(f"{n}_down", self.hidden, rank, role="ssm"),
                Linear(f"{n}_up", rank, self.hidden, n != "gate", "ssm", "out", self.head_dim),
            )
            for n, rank in ranks
        ]

    def _out(self) -> Linear:
        return Linear("output", self.hidden, self.hidden, role="ssm", split="in", grain=self.head_dim)

    def weights(self) -> Iterator[Weight]:
        for linear in (*self._in(), *(x for pair in self._low_rank() for x in pair), self._out()):
            yield from linear.weights()
        yield Weight("time_mix", 6.0 * self.hidden, "norm")
        yield Weight("key_and_bonus_scales", 3.0 * self.hidden, "norm", "tp", 3.0 * self.head_dim)
        yield Weight("group_norm", 2.0 * self.hidden, "norm", "tp", 2.0 * self.head_dim)

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        h = share(self.hidden / self.head_dim, 1.0, step.plan.tp)
        d = h * self.head_dim
        yield _shift(step, f"{self.name}.shift", self.hidden, 6.0)
        for linear in self._in():
            yield matmul(step, f"{self.name}.{linear.name}", "ssm", t, [linear], "mixed", "rkv")
        for down, up in self._low_rank():
            yield matmul(step, f"{self.name}.{down.name}", "ssm", t, [down], "mixed", "z")
            yield matmul(step, f"{self.name}.{up.name}", "ssm", t, [up], "z", "scan.decay")
        # Keys are normed and scaled by the rate, values mixed with those of the first layer.
        reads = {"rkv": 2.0 * t * d, "scan.decay": 2.0 * t * d}
        writes = {"scan.qk": 2.0 * t * d, "scan.v": t * d}
        yield elementwise(step, f"{self.name}.keys", "ssm", reads, writes, GATED_NORM)
        yield scan(step, f"{self.name}.wkv", "delta", h, self.head_dim, self.head_dim, chunk=self.chunk, decays=d,
                   gates=d, parameters=d, state_format=_FP32, state_name="wkv_state")  # fmt: skip
        yield from _leave(step, self.name, self._out(), {"scan.y": t * d, "rkv": 2.0 * t * d})

    def state(self, step: Step) -> Iterator[SequenceState]:
        return _states(step, self.hidden, self.head_dim)

    def facts(self) -> BlockFacts:
        return BlockFacts(heads=self.hidden / self.head_dim, state="wkv_state")


def _leave(step: Step, name: str, out: Linear, reads: dict[str, Num]) -> Iterator[Op]:
    """What follows the scan: the norm of its results by head, their gate, and the output ``out``."""
    gated = {"o": reads["scan.y"]}
    yield elementwise(step, f"{name}.norm_gate", "ssm", reads, gated, GATED_NORM)
    yield matmul(step, f"{name}.output", "ssm", step.tokens, [out], "o", "y")
    yield from all_reduce(step, f"{name}.all_reduce", out.d_out, "y")


def _states(step: Step, hidden: Num, head_dim: Num) -> Iterator[SequenceState]:
    """A matrix by head, and the token before."""
    yield fixed_state("wkv_state", step, share(hidden / head_dim, 1.0, step.plan.tp) * head_dim**2, _FP32)
    yield fixed_state("shift_state", step, hidden, step.act)


@dataclass(frozen=True)
class ChannelMix:
    """The MLP: ``V relu(K x)²`` on a mix of this token and the one before, up to version 6 times ``sigmoid(R x)``.

    Attributes:
        hidden, inner: widths. ``gated``: by a receptance.
    """

    hidden: Num
    inner: Num
    gated: bool = True
    name: str = "channel_mix"

    def _linears(self) -> tuple[Linear, ...]:
        linears = (
            Linear("key", self.hidden, self.inner, role="mlp", split="out"),
            Linear("value", self.inner, self.hidden, role="mlp", split="in"),
        )
        return (*linears, Linear("receptance", self.hidden, self.hidden, role="mlp")) if self.gated else linears

    def weights(self) -> Iterator[Weight]:
        for linear in self._linears():
            yield from linear.weights()
        yield Weight("time_mix", (2.0 if self.gated else 1.0) * self.hidden, "norm")

    def ops(self, step: Step) -> Iterator[Op]:
        t = step.tokens
        key, value, *receptance = self._linears()
        u = t * share(self.inner, 0.0, step.plan.tp)
        yield _shift(step, f"{self.name}.shift", self.hidden, 2.0 if self.gated else 1.0)
        yield matmul(step, f"{self.name}.key", "mlp", t, [key], "mixed", "u")
        yield elementwise(step, f"{self.name}.act", "mlp", {"u": u}, {"a": u}, 2.0)
        yield matmul(step, f"{self.name}.value", "mlp", t, [value], "a", "y")
        yield from all_reduce(step, f"{self.name}.all_reduce", self.hidden, "y")
        if receptance:
            yield matmul(step, f"{self.name}.receptance", "mlp", t, receptance, "mixed", "r")
            size = t * self.hidden
            yield elementwise(step, f"{self.name}.gate", "mlp", {"y": size, "r": size}, {"y": size}, GATE)

    def state(self, step: Step) -> Iterator[SequenceState]:
        yield fixed_state("shift_state", step, self.hidden, step.act)

    def facts(self) -> BlockFacts:
        return BlockFacts()


def _shift(step: Step, name: str, width: Num, mixes: float) -> Op:
    """``mixes`` interpolations between each token and the one before it, which the state holds."""
    size = step.tokens * width
    kept = step.seqs * width
    before = Operand("shift_state", "state", where(np.asarray(step.past) > 0, kept, 0.0), step.act)
    op = elementwise(
        step,
        name,
        "ssm",
        {"h": size},
        {"mixed": size * mixes},
        3.0,
        (Operand("shift_state", "state", kept, step.act),),
    )
    return Op(op.kind, op.name, op.role, op.dims, op.flops, (*op.reads, before), op.writes, op.arithmetic)
