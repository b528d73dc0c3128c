"""What a framework runs in place of a forward pass's ops, and what its kernels take over what ops are priced as."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from tierwise.core.num import Num, maximum, minimum, where
from tierwise.core.numerics import fmt
from tierwise.cost import Target
from tierwise.program.program import Body, Program, Repeat, each_op
from tierwise.program.types import Op, Operand
from tierwise.training.recipe import Recipe, TrainingFramework, sustained

# Of what the choice of experts decides the shape.
ROUTED = {"routed": True}
# Elements of 16 bits in what a matrix engine's operands are loaded by.
_ALIGNED = 8.0


def as_trained(program: Program, how: TrainingFramework) -> Program:
    """The program with a loss over divided logits in place of their gathering and of picking a token, experts as the
    products they are (serving's fused kernels are made for few tokens), and their tokens sent as the framework does."""

    def change(op: Op, body: str) -> list[Op | Body | Repeat]:
        if op.name == "sample":
            return [_loss(op)]
        if op.kind == "moe":
            return _products(op, body, how.recipe)
        if "choices" in op.dims:
            return [replace(op, options={**op.options, "once": how.recipe.dispatch > 0})]
        return [] if "head.all_gather" in op.name else [op]

    return each_op(program, change)


def _products(op: Op, body: str, recipe: Recipe) -> list[Op | Body | Repeat]:
    """A GEMM in front of the activation and one behind it, each expert's rows by themselves (of as many experts at once
    as there are streams, or of all as one kernel), between kernels that sort rows by expert and put them back."""
    d, touched = op.dims, maximum(op.dims["touched"], 1e-9)
    batch = touched if recipe.grouped > 0 else minimum(touched, recipe.streams)
    rows, wide = d["tokens"] / touched, d["up"] * d["inner"]
    given = next(o for o in op.reads if o.role == "act")
    weight = next(o for o in op.reads if o.role == "weight")

    def product(name: str, n: Num, k: Num, source: str, target: str) -> Op:
        rows_in = replace(given, name=source, elements=batch * rows * k)
        return Op(
            "matmul",
            f"{op.name}.{name}",
            op.role,
            {"m": rows, "n": n, "k": k, "batch": batch},
            2.0 * batch * rows * n * k,
            (rows_in, replace(weight, name=f"{name}.w", elements=batch * n * k)),
            (replace(given, name=target, elements=batch * rows * n),),
            op.arithmetic,
            options={"density": 1.0, "parts": 1, **ROUTED},
        )

    def bound(name: str, size: Num, reads: tuple[Operand, ...], writes: tuple[Operand, ...], flops: Num = 0.0) -> Op:
        return Op("elementwise", f"{op.name}.{name}", op.role, {"elements": size}, flops, reads, writes, "fp32",
                  options=ROUTED)  # fmt: skip

    size = d["tokens"] * d["hidden"]
    sent = replace(given, name="permuted", elements=size)
    back = replace(sent, name="y")
    # Sorted by rank and then by expert where no one kernel does both.
    times = 1.0 if recipe.dispatch > 0 else 2.0

    def moved(name: str, source: Operand, target: Operand) -> Repeat:
        return Repeat(name, (Body(body, (bound(name, size, (source,), (target,)),)),), count=times)

    inner, read = batch * rows * d["inner"], replace(given, name="xu", elements=batch * rows * wide)
    act = bound("act", inner, (read,), (replace(given, name="xa", elements=inner),), 6.0 * inner)
    up, down = product("up", wide, d["hidden"], "permuted", "xu"), product("down", d["hidden"], d["inner"], "xa", "y")
    products = Repeat("experts", (Body(body, (up, act, down)),), count=touched / batch)
    out: list[Op | Body | Repeat] = [moved("permute", given, sent), products]
    if op.options.get("bias") and recipe.grouped <= 0:
        out.append(_biased(bound, size, back))
    return [*out, moved("unpermute", back, back)]


def _biased(bound: Callable[..., Op], size: Num, out: Operand) -> Op:
    """Experts' biases: each weighted by its tokens' probabilities in fp32, added, joined and cast back, a kernel for
    each of them (Megatron-Core's TEGroupedMLP._apply_bias, which AMD's Primus inherits)."""
    wide = replace(out, name="biased", format=fmt("fp32"))
    return bound("bias", size, (out, wide, wide, wide), (wide, wide, wide, out), 2.0 * size)


def _loss(sample: Op) -> Op:
    """Cross-entropy: logits read and their exponentials written in fp32."""
    logits = next(o for o in sample.reads if o.role == "act")
    wide = replace(logits, name="exponentials", format=fmt("fp32"))
    return replace(sample, name="loss", dims={"elements": logits.elements}, flops=6.0 * logits.elements, writes=(wide,))


def kernels(on: Target, how: TrainingFramework) -> Callable[[Op], Num]:
    """What kernels of a framework take over those that ops are priced as.

    Of the loss, the bytes that all its kernels move. Of activations in the kernel of experts' products, nothing. Of
    unfused attention, dropout of the scores: a kernel that reads and writes them and a mask of a byte (5/2 of a pass,
    beside four in the forward pass and seven in the backward one).
    Of fused attention on devices whose matrix engines older instructions cannot fill, those instructions' share.
    Of unfused attention whose heads' rows do not begin every 16 bytes, vector units in place of matrix engines: the
    library's batched products load 16 bytes at a time for these (BLOOM's sweep of heads, bigscience tr11: 78 layers of
    13,824 take 147 s with heads of 108, 104 to 107 with heads of 216 and 144; facebookresearch/xformers #434: rows of
    197 take 3.4 times as long as their products have more work than rows of 128).
    """
    recipe, share = how.recipe, sustained(on.device.family).older
    vector = on.rate("bf16")[0] / on.rate("fp32", "vector")[0]

    def factor(op: Op) -> Num:
        if op.name in ("loss", "loss.grad"):
            of = op.name != "loss"
            return recipe.loss[of] / (6.0, 8.0)[of]
        if op.kind != "attention":
            return 0.0 if recipe.grouped > 0 and ".experts.act" in op.name else 1.0
        fused = np.asarray(op.options.get("flash", True), dtype=bool)
        dropped = 1.0 + recipe.dropout * 2.5 / (7.0 if op.name.endswith(".grad") else 4.0)
        apart = np.mod(op.dims["head_dim"], _ALIGNED) + np.mod(op.dims["v_dim"], _ALIGNED) > 0
        unfused = where(apart, vector, 1.0) * dropped
        return where(fused, 1.0 / share if recipe.older_attention > 0 else 1.0, unfused)

    return factor
