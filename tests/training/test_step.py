"""Time and memory of a training step: known arithmetic, conservation, and what changes which way."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tests.training.shapes import a100s, gpt
from tierwise.core.errors import TierwiseError
from tierwise.models.load import load_model
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.program.backward import backward
from tierwise.search.train import confirmed
from tierwise.training import Layout, TrainingFramework, framework, frameworks, train_step
from tierwise.training.optimizers import OPTIMIZERS, SHAPED
from tierwise.training.recipe import method
from tierwise.training.work import plan_of, work_of

PLAIN = TrainingFramework("plain")
MODEL = gpt(8, 2048.0, 16.0)


def test_the_backward_pass_is_twice_the_forward_and_two_and_a_half_times_for_attention() -> None:
    layout = Layout(micro_batch=2.0, seq=1024.0)
    forward = lower(Step(MODEL, plan_of(layout), 2.0, 1024.0, 0.0, "prefill", 1024.0))
    behind = backward(forward)

    def flops(program: object, kind: str) -> float:
        return float(sum(s.repeat * op.flops for s, op in program.walk() if op.kind == kind))  # type: ignore[attr-defined]

    assert flops(behind, "matmul") == pytest.approx(2.0 * flops(forward, "matmul"))
    assert flops(behind, "attention") == pytest.approx(2.5 * flops(forward, "attention"))
    assert flops(backward(forward, share=lambda op: 0.0), "matmul") == pytest.approx(flops(forward, "matmul"))


def test_gradients_are_written_for_every_weight_that_is_read() -> None:
    forward = lower(Step(MODEL, plan_of(Layout()), 1.0, 512.0, 0.0, "prefill", 512.0))
    read = sum(float(s.repeat * o.elements) for s, op in forward.walk() for o in op.reads if o.role == "weight")
    written = sum(
        float(s.repeat * o.elements) / 2.0
        for s, op in backward(forward).walk()
        if op.name.endswith(".wgrad")
        for o in op.writes
        if o.role == "grad"
    )
    assert written == pytest.approx(read)


def test_activations_are_those_of_korthikanti() -> None:
    """34 s b h bytes a layer with dropout, of which its masks are 2 (arXiv:2205.05198, equation 1); unfused scores add
    5 a s² b."""
    s, b, h, a = 1024.0, 2.0, 2048.0, 16.0
    layout = Layout(micro_batch=b, seq=s)
    fused, plain = (work_of(MODEL, a100s(), layout, PLAIN, flash=f).layers[0][0] for f in (True, False))
    sums = 4.0 * a * s * b
    assert float(fused.saved) == pytest.approx(32.0 * s * b * h + sums)
    assert float(plain.saved - fused.saved) == pytest.approx(5.0 * a * s * s * b)
    assert float(plain.scores) == pytest.approx(5.0 * a * s * s * b)


def test_tensor_parallelism_divides_what_it_can_and_sequence_parallelism_the_rest() -> None:
    """s b h (10 + 24 / t) without, 34 s b h / t with sequence parallelism (arXiv:2205.05198, table 2), less masks."""
    s, b, h, t = 1024.0, 2.0, 2048.0, 8.0
    sums = 4.0 * 16.0 * s * b / t
    without, with_ = (
        work_of(MODEL, a100s(), Layout(tp=t, micro_batch=b, seq=s, sequence_parallel=x), PLAIN).layers[0][0]
        for x in (0.0, 1.0)
    )
    assert float(without.saved) == pytest.approx(s * b * h * (8.0 + 24.0 / t) + sums)
    assert float(with_.saved) == pytest.approx(32.0 * s * b * h / t + sums)


def test_states_add_up_to_sixteen_or_eighteen_bytes_a_parameter() -> None:
    step = train_step(MODEL, a100s(1), Layout(global_batch=1.0, seq=512.0), PLAIN)
    held = sum(float(step.memory.parts[k]) for k in ("parameters", "gradients", "optimizer states"))
    # 2 and 4 and 12: a copy in 16 bits, gradients in fp32, master weights and two moments (arXiv:1910.02054).
    assert held == pytest.approx(18.0 * float(MODEL.parameters))


def test_zero_divides_states_one_after_the_other() -> None:
    n = 8.0
    found = [
        train_step(MODEL, a100s(), Layout(dp=n, global_batch=8.0, seq=512.0, zero=float(z)), PLAIN).memory
        for z in range(4)
    ]
    states, gradients, parameters = (
        [float(m.parts[k]) for m in found] for k in ("optimizer states", "gradients", "parameters")
    )
    assert states[1] == pytest.approx(states[0] / n) and states[3] == states[1]
    assert gradients[1] == gradients[0] and gradients[2] == pytest.approx(gradients[0] / n)
    assert parameters[2] == parameters[0] and parameters[3] < parameters[0]
    peaks = [float(m.peak) for m in found]
    assert peaks == sorted(peaks, reverse=True)


def test_recomputation_costs_a_forward_pass_and_frees_memory() -> None:
    none, full = (
        train_step(MODEL, a100s(1), Layout(global_batch=4.0, seq=2048.0, recompute=r), PLAIN) for r in (0.0, 2.0)
    )
    forward = sum(float(v) for v in none.work.layers[0][0].forward.values()) * 8.0 * 4.0
    assert float(full.time - none.time) == pytest.approx(forward, rel=1e-9)
    assert float(full.memory.peak) < float(none.memory.peak)
    assert float(full.mfu) < float(none.mfu)


@pytest.mark.parametrize(("stages", "parts", "count"), [(1, 1, 4), (4, 1, 8), (4, 2, 8), (8, 1, 32), (2, 4, 6)])
def test_the_sum_is_what_playing_the_pipeline_gives(stages: int, parts: int, count: int) -> None:
    x = Layout(pp=float(stages), interleave=float(parts), global_batch=float(count), seq=1024.0)
    step = train_step(gpt(16, 2048.0, 16.0), a100s(), x, PLAIN)
    assert confirmed(step)[0] == pytest.approx(1.0, abs=0.01)


def test_interleaving_divides_the_bubble() -> None:
    one, four = (
        train_step(gpt(16, 2048.0, 16.0), a100s(), Layout(pp=4.0, interleave=v, global_batch=8.0), PLAIN)
        for v in (1.0, 4.0)
    )
    assert float(four.parts["bubble"]) == pytest.approx(float(one.parts["bubble"]) / 4.0)


def test_many_layouts_are_the_same_as_one_by_one() -> None:
    tp, mb = np.asarray([1.0, 2.0, 4.0, 8.0]), np.asarray([1.0, 2.0, 4.0, 1.0])
    many = Layout(
        tp=tp,
        dp=8.0 / tp,
        micro_batch=mb,
        global_batch=32.0,
        seq=1024.0,
        zero=np.asarray([0.0, 1.0, 1.0, 0.0]),
        sequence_parallel=np.asarray([0.0, 1.0, 1.0, 1.0]),
        recompute=np.asarray([0.0, 1.0, 2.0, 0.0]),
    )
    together = train_step(MODEL, a100s(), many, framework("megatron"))
    for i in range(4):
        alone = train_step(MODEL, a100s(), many.at(i), framework("megatron"))
        assert float(alone.time) == pytest.approx(float(np.asarray(together.time)[i]), rel=1e-12)
        assert float(alone.memory.peak) == pytest.approx(float(np.asarray(together.memory.peak)[i]), rel=1e-12)


def test_useful_arithmetic_is_six_for_a_parameter_and_token() -> None:
    x = Layout(tp=2.0, dp=2.0, pp=2.0, global_batch=16.0, seq=128.0)
    step = train_step(gpt(8, 4096.0, 32.0), a100s(), x, PLAIN)
    dense = 12.0 * 8.0 * 4096.0**2 + 51200.0 * 4096.0
    attention = 3.0 * 8.0 * 2.0 * 129.0 * 4096.0  # two products over half of the pairs
    assert float(step.flops) == pytest.approx((6.0 * dense + attention) * 16.0 * 128.0, rel=0.002)


def test_adapters_train_little_and_hold_little() -> None:
    base = PLAIN.recipe
    steps = {
        name: train_step(
            MODEL, a100s(1), Layout(global_batch=1.0, seq=512.0), replace(PLAIN, recipe=method(name, base))
        )
        for name in ("full", "lora:r=16", "qlora:r=16")
    }
    held = {k: float(s.memory.peak) for k, s in steps.items()}
    assert held["qlora:r=16"] < held["lora:r=16"] < held["full"]
    # A rank adds (in + out) parameters to each linear map: q, k, v, o and both of the MLP.
    trained = 16.0 * 8.0 * (4.0 * 2.0 + 2.0 * 5.0) * 2048.0
    assert float(steps["lora:r=16"].memory.parts["gradients"]) == pytest.approx(4.0 * trained)
    assert float(steps["lora:r=16"].time) < float(steps["full"].time)


def test_more_for_each_optimizer_is_more_memory() -> None:
    held = {
        name: float(
            train_step(
                MODEL, a100s(1), Layout(), replace(PLAIN, recipe=replace(PLAIN.recipe, optimizer=name))
            ).memory.parts["optimizer states"]
        )
        for name in set(OPTIMIZERS) - set(SHAPED)
    }
    for name, size in held.items():
        assert size == pytest.approx((OPTIMIZERS[name] + 4.0) * float(MODEL.parameters))


def test_a_model_without_a_decoder_is_refused() -> None:
    with pytest.raises(TierwiseError, match="decoder"):
        train_step(load_model("bert-base"), a100s(1), Layout(), PLAIN)


@pytest.mark.parametrize("name", frameworks())
def test_every_framework_says_what_it_rests_on(name: str) -> None:
    how = framework(name)
    assert how.source and how.interval[0] <= 1.0 <= how.interval[1]


def test_modules_that_run_again_are_kept_no_more_and_take_their_forward_time() -> None:
    from dataclasses import replace

    model, base = gpt(8, 2048.0, 16.0), Layout(micro_batch=2.0, global_batch=2.0, seq=1024.0)
    how = framework("megatron")

    def run(**again: float) -> tuple[float, float]:
        found = train_step(model, a100s(1), replace(base, **again), how)
        return float(np.asarray(found.memory.kept)), float(np.asarray(found.time))

    plain, stream = run(), 2.0 * 1024.0 * 2048.0 * 2.0 * how.saves
    norm, act, mlp = run(again_norm=1.0), run(again_act=1.0), run(again_mlp=1.0)
    # Two norms a layer write the stream; the activation function four times as much, and the map before it as well.
    assert plain[0] - norm[0] == pytest.approx(8 * 2 * stream)
    assert plain[0] - act[0] == pytest.approx(8 * 4 * stream)
    assert plain[0] - mlp[0] == pytest.approx(8 * 8 * stream)
    both, full = run(again_norm=1.0, again_act=1.0), run(recompute=2.0)
    assert plain[0] - both[0] == pytest.approx((plain[0] - norm[0]) + (plain[0] - act[0]))
    assert both[1] - plain[1] == pytest.approx((norm[1] - plain[1]) + (act[1] - plain[1]))
    assert plain[1] < norm[1] < mlp[1] < full[1] and full[0] < mlp[0]
    # A feed-forward layer has its activation function inside; everything holds all modules.
    assert run(again_act=1.0, again_mlp=1.0) == mlp
    assert run(recompute=2.0, again_norm=1.0, again_mlp=1.0) == full
