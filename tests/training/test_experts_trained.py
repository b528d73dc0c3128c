"""What frameworks do about experts in training: how tokens reach them, kernels, graphs, and modules that look ahead."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tierwise.machines.load import system
from tierwise.machines.types import System
from tierwise.models.load import load_model
from tierwise.report.training_report import CAUSES
from tierwise.training import Layout, TrainingFramework, TrainStep, train_step
from tierwise.training.recipe import Recipe
from tierwise.training.work import CLASSES, BodyRun, work_of

MODEL = load_model("qwen3-30b-a3b")
NODE = system("8xb200")
INSIDE = Layout(dp=8.0, ep=8.0, micro_batch=1.0, global_batch=32.0, seq=4096.0, zero=1.0)


def made(recipe: Recipe, layout: Layout = INSIDE, machine: System = NODE, model: Any = MODEL, **own: Any) -> TrainStep:
    return train_step(model, machine, layout, replace(TrainingFramework("plain", **own), recipe=recipe))


def layer(recipe: Recipe, model: Any = MODEL) -> BodyRun:
    return work_of(model, NODE, INSIDE, replace(TrainingFramework("plain"), recipe=recipe)).layers[0][0]


def test_the_host_loops_over_experts_and_graphs_leave_what_they_replay() -> None:
    found = {g: layer(Recipe(graphs=g)) for g in ("none", "router", "layers", "step")}
    # 16 of 128 experts a device, two products each; four in the backward pass; with a cast before each in fewer bits.
    eager = NODE.device.dispatch.eager
    assert found["none"].looped == pytest.approx((32.0 * eager, 64.0 * eager))
    assert layer(Recipe(precision="fp8")).looped == pytest.approx((64.0 * eager, 128.0 * eager))
    launched = [f.launches[0] for f in found.values()]
    assert launched[0] > launched[1] > launched[2] > launched[3] == 0.0
    assert found["layers"].looped == found["none"].looped and found["step"].looped == (0.0, 0.0)
    host = [float(made(Recipe(graphs=g), launch=250e-6).parts["host"]) for g in found]
    assert host[0] > host[1] > host[2] > host[3] == 0.0


def test_one_kernel_for_all_experts_does_the_same_work_with_fewer_launches_and_no_slower() -> None:
    each, one = layer(Recipe()), layer(Recipe(grouped=1.0))
    assert one.flops == pytest.approx(each.flops)
    assert one.forward["matmul"] < each.forward["matmul"] and one.backward["matmul"] < each.backward["matmul"]
    assert one.forward["routed"] < each.forward["routed"]  # The activation is in it.
    assert each.looped[0] > one.looped[0] == 0.0
    # And what waits for the backward pass is the same.
    assert one.saved == pytest.approx(each.saved)


def test_tokens_are_sorted_once_where_the_exchange_does_it_too() -> None:
    twice, once = layer(Recipe(dispatch=0.0)), layer(Recipe(dispatch=1.0))
    rows = 4096.0 * 8.0  # Eight experts a token, on a balanced rank.
    # Read and written in 16 bits, before the experts and after them.
    moved = 2.0 * 4.0 * rows * 2048.0 / NODE.device.memory.bandwidth
    assert twice.forward["routed"] - once.forward["routed"] == pytest.approx(moved, rel=0.5)


def test_tokens_travel_beside_all_other_micro_batches() -> None:
    apart = made(Recipe()).parts["sent"]
    for count in (1.0, 4.0):
        layout = replace(INSIDE, global_batch=8.0 * count)
        whole, beside = (made(Recipe(aside=a), layout).parts["sent"] for a in (0.0, 1.0))
        assert beside == pytest.approx(whole / count)
    assert apart > 0.0


def test_tokens_take_units_only_where_they_travel_beside_work_beyond_a_node() -> None:
    machine, away = system("64xh100-sxm"), replace(INSIDE, dp=64.0, ep=64.0, global_batch=64.0)
    for layout, slower in ((INSIDE, False), (away, True)):
        plain, aside = (made(Recipe(dispatch=1.0, aside=a), layout, machine).parts["matmul"] for a in (0.0, 1.0))
        assert (aside > 1.05 * plain) == slower


def test_biases_of_experts_are_kernels_of_their_own() -> None:
    model = load_model("gpt-oss-120b")
    with_, fused = layer(Recipe(), model), layer(Recipe(grouped=1.0), model)
    size = 4096.0 * 4.0 * 2880.0
    # Probabilities times biases, added, joined, cast: 28 bytes an element in the forward pass.
    assert with_.forward["routed"] - fused.forward["routed"] > 20.0 * size / NODE.device.memory.bandwidth


def test_a_module_that_looks_ahead_is_a_layer_and_a_pass_of_the_head() -> None:
    model, machine = load_model("deepseek-v3"), system("8xgb200")
    layout = Layout(pp=4.0, dp=64.0, ep=64.0, global_batch=256.0, seq=4096.0, zero=1.0, first=16.0)
    plain, ahead = (made(Recipe(ahead=a), replace(layout, last=13.0 + a), machine, model) for a in (0.0, 1.0))
    # 671 B parameters of which 37 B work on a token; the module has 14 B, 1.5 B of them at work, and a head of 0.9 B.
    assert 1.03 < ahead.flops / plain.flops < 1.10
    assert float(np.asarray(ahead.work.depth)) == 62.0
    assert ahead.time > plain.time


def test_reports_have_a_name_for_every_class_of_work() -> None:
    assert set(CLASSES) <= set(CAUSES)
