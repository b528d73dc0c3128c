"""What a framework runs in place of a forward pass's ops, and what its kernels take over what ops are priced as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tierwise.core.num import Num, maximum, where
from tierwise.core.numerics import fmt
from tierwise.machines.types import System
from tierwise.program.program import Body, Program, Repeat, each_op
from tierwise.program.types import Op
from tierwise.training.recipe import TrainingFramework, sustained


def as_trained(program: Program, how: TrainingFramework) -> Program:
    """The program with a loss over divided logits in place of their gathering and of picking a token, experts as the
    products they are (serving's fused kernels are made for few tokens), and their tokens sent as the framework does."""

    def change(op: Op, body: str) -> list[Op | Body | Repeat]:
        if op.name == "sample":
            return [_loss(op)]
        if op.kind == "moe":
            return _products(op, body)
        if "choices" in op.dims:
            return [replace(op, options={**op.options, "once": how.recipe.dispatch > 0})]
        return [] if "head.all_gather" in op.name else [op]

    return each_op(program, change)


def _products(op: Op, body: str) -> list[Op | Body | Repeat]:
    """A grouped GEMM in front of the activation and one behind it, each expert's rows by themselves."""
    d, touched = op.dims, maximum(op.dims["touched"], 1e-9)
    rows, wide = d["tokens"] / touched, d["up"] * d["inner"]
    given = next(o for o in op.reads if o.role == "act")
    weight = next(o for o in op.reads if o.role == "weight")

    def product(name: str, n: Num, k: Num, source: str, target: str) -> Op:
        return Op(
            "matmul",
            f"{op.name}.{name}",
            op.role,
            {"m": rows, "n": n, "k": k},
            2.0 * rows * n * k,
            (replace(given, name=source, elements=rows * k), replace(weight, name=f"{name}.w", elements=n * k)),
            (replace(given, name=target, elements=rows * n),),
            op.arithmetic,
            options={"density": 1.0, "parts": 1, "routed": True},
        )

    act = Op(
        "elementwise",
        f"{op.name}.act",
        op.role,
        {"elements": rows * d["inner"]},
        6.0 * rows * d["inner"],
        (replace(given, name="xu", elements=rows * wide),),
        (replace(given, name="xa", elements=rows * d["inner"]),),
        "fp32",
    )
    sent = replace(given, name="permuted", elements=d["tokens"] * d["hidden"])
    moved = Op(
        "elementwise", f"{op.name}.permute", op.role, {"elements": sent.elements}, 0.0, (given,), (sent,), "fp32"
    )
    each = Body(
        body,
        (product("up", wide, d["hidden"], "permuted", "xu"), act, product("down", d["hidden"], d["inner"], "xa", "y")),
    )
    return [moved, Repeat("experts", (each,), count=touched)]


def _loss(sample: Op) -> Op:
    """Cross-entropy: logits read and their exponentials written in fp32."""
    logits = next(o for o in sample.reads if o.role == "act")
    wide = replace(logits, name="exponentials", format=fmt("fp32"))
    return replace(sample, name="loss", dims={"elements": logits.elements}, flops=6.0 * logits.elements, writes=(wide,))


def kernels(system: System, how: TrainingFramework) -> Callable[[Op], Num]:
    """What kernels of a framework take over those that ops are priced as.

    Of the loss, the bytes that all its kernels move. Of unfused attention, dropout of the scores: a kernel that reads
    and writes them and a mask of a byte (5/2 of a pass, beside four in the forward pass and seven in the backward one).
    Of fused attention on devices whose matrix engines older instructions cannot fill, those instructions' share.
    """
    recipe, share = how.recipe, sustained(system.device.family).older

    def factor(op: Op) -> Num:
        if op.name in ("loss", "loss.grad"):
            of = op.name != "loss"
            return recipe.loss[of] / (6.0, 8.0)[of]
        if op.kind != "attention":
            return 1.0
        fused = np.asarray(op.options.get("flash", True), dtype=bool)
        dropped = 1.0 + recipe.dropout * 2.5 / (7.0 if op.name.endswith(".grad") else 4.0)
        return where(fused, 1.0 / share if recipe.older_attention > 0 else 1.0, dropped)

    return factor
