"""Small programs that the tests reason about by hand."""

from __future__ import annotations

from tierwise.core.num import Num
from tierwise.core.numerics import fmt
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.types import Op, Operand
from tierwise.schedule.play import play
from tierwise.schedule.types import Demand, Order, Timeline


def operand(text: str) -> Operand:
    """``x``: an activation; ``kv:cache``, ``weight:w``: of another role. One element each."""
    role, _, name = text.rpartition(":")
    return Operand(name, role or "act", 1.0, fmt("int8"))


def op(name: str, reads: str = "", writes: str = "", kind: str = "matmul", **options: object) -> Op:
    """An op; operands are named in one string, apart by blanks."""
    return Op(kind, name, "x", {}, 1.0, tuple(map(operand, reads.split())), tuple(map(operand, writes.split())), "fp32",
              options=options)  # fmt: skip


def layers(count: Num, *ops: Op) -> Program:
    """An input, equal layers, an output."""
    return Program((Body("input", (op("embed", "ids", "x"),)), Repeat("layers", (Body("layer", ops),), count=count),
                    Body("output", (op("head", "x", "logits"),))))  # fmt: skip


def timed(order: Order, seconds: dict[str, float], draws: dict[str, dict[str, float]] | None = None) -> list[Demand]:
    """Demands by the last part of an op's name; nothing where it is not named."""
    last = [name.rpartition(".")[2] for name in order.ops]
    return [Demand(seconds.get(x, 0.0), (draws or {}).get(x, {})) for x in last]


def time(order: Order, seconds: dict[str, float], draws: dict[str, dict[str, float]] | None = None) -> Timeline:
    return play(order, timed(order, seconds, draws))
