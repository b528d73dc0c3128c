"""Optimizers whose state depends on the shapes of matrices, and training without gradients."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.shapes import a100s, gpt
from tierwise.core.errors import BadField, UnknownName
from tierwise.machines.types import Host
from tierwise.training import Layout, TrainingFramework, train_step
from tierwise.training.checkpoint import checkpoint
from tierwise.training.launch import files
from tierwise.training.optimizers import asked_for
from tierwise.training.recipe import method
from tierwise.training.step import TrainStep

PLAIN = TrainingFramework("plain")
WIDTH, LAYERS, VOCAB = 1024.0, 4, 51200.0
MODEL = gpt(LAYERS, WIDTH, 16.0, tied=False)


def step(optimizer: str, projection: float = 0.0, way: str = "full", **layout: float) -> TrainStep:
    recipe = replace(method(way, PLAIN.recipe), master=0.0)
    if way == "full":
        recipe = replace(recipe, optimizer=optimizer, projection=projection)
    shape = {"global_batch": 8.0, "seq": 256.0, **layout}
    return train_step(MODEL, a100s(int(layout.get("dp", 1.0))), Layout(**shape), replace(PLAIN, recipe=recipe))  # type: ignore[arg-type]


def states(optimizer: str, projection: float = 0.0, **layout: float) -> float:
    return float(step(optimizer, projection, **layout).memory.parts["optimizer states"])


# Matrices of a layer: four square ones, and two that are four times as long.
MATRICES = LAYERS * 12.0 * WIDTH**2
OTHERS = float(MODEL.parameters) - MATRICES


def test_muon_keeps_one_moment_of_matrices_and_two_of_the_rest() -> None:
    assert states("muon") == pytest.approx(4.0 * MATRICES + 8.0 * OTHERS, rel=1e-9)


def test_projected_states_follow_the_shapes() -> None:
    r = 64.0
    # GaLore, arXiv:2403.03507, table 1: two moments of rank x longer side, a projection of rank x shorter side.
    galore = LAYERS * r * (4.0 * (2.0 + 1.0) + 2.0 * (8.0 + 1.0)) * WIDTH
    assert states("galore", r) == pytest.approx(4.0 * galore + 8.0 * OTHERS, rel=1e-9)
    cosmos = LAYERS * (r * (4.0 * 2.0 + 2.0 * 5.0) * WIDTH + 6.0 * r * r)
    assert states("cosmos", r) == pytest.approx(4.0 * (MATRICES + cosmos) + 8.0 * OTHERS, rel=1e-9)


def test_a_share_of_matrices_has_states() -> None:
    assert states("frugal", 0.25) == pytest.approx(0.25 * 8.0 * MATRICES + 8.0 * OTHERS, rel=1e-9)
    assert states("frugal", 1.0) == pytest.approx(states("adamw")) and states("frugal", 0.0) < states("muon")
    # Half a byte of what was left out, and ten times a hundredth of two 16-bit numbers.
    assert states("microadam") == pytest.approx(0.9 * float(MODEL.parameters), rel=1e-9)
    assert asked_for("frugal:density=0.25") == ("frugal", 0.25)
    for wrong in ("frugal", "frugal:r=4", "frugal:density=2", "microadam:r=4"):
        with pytest.raises(BadField):
            asked_for(wrong)


def test_a_random_share_needs_a_mask_and_sixteen_bits_halve_the_moments() -> None:
    # A byte says of each element whether it has moments, also where all have.
    assert states("spam", 0.25) == pytest.approx(states("frugal", 0.25) + MATRICES, rel=1e-9)
    assert states("spam", 1.0) == pytest.approx(states("adamw") + MATRICES, rel=1e-9)
    assert states("spam-bf16", 0.25) == pytest.approx(0.5 * states("frugal", 0.25) + MATRICES, rel=1e-9)
    assert states("galore-bf16", 64.0) == pytest.approx(0.5 * states("galore", 64.0), rel=1e-9)
    assert asked_for("spam:density=0.5") == ("spam", 0.5)
    with pytest.raises(BadField, match="spam:density"):
        asked_for("spam:r=4")


def test_gradients_that_are_made_projected_are_never_whole() -> None:
    def parts(optimizer: str, rank: float = 64.0, **layout: float) -> tuple[float, float]:
        found = step(optimizer, rank, **layout).memory.parts
        return float(found["gradients"]), float(found["optimizer states"])

    each = PLAIN.recipe.gradients
    rows = LAYERS * 64.0 * (4.0 + 2.0 * 4.0) * WIDTH  # the rank times the longer side of every matrix
    assert parts("grass") == pytest.approx((each * (rows + OTHERS), 8.0 * (rows + OTHERS)), rel=1e-9)
    # GaLore makes them whole and projects them then, by a matrix that it keeps.
    assert parts("galore")[0] == pytest.approx(each * float(MODEL.parameters))
    assert parts("galore")[1] > parts("grass")[1]
    # A rank as high as the shorter side leaves nothing out.
    assert parts("grass", 1e9) == pytest.approx(parts("adamw"), rel=1e-9)


def test_a_rank_is_at_most_the_shorter_side() -> None:
    assert states("galore", 1e9) == states("galore", WIDTH)
    assert states("galore", 16.0) < states("galore", 32.0) < states("adamw") < states("galore", WIDTH)


def test_shaped_states_are_divided_read_written_and_saved_as_others_are() -> None:
    whole, parted = states("cosmos", 64.0), states("cosmos", 64.0, dp=4.0, zero=1.0)
    assert parted == pytest.approx(whole / 4.0)
    assert states("cosmos", 64.0, tp=1.0) == whole
    assert float(step("cosmos", 512.0).parts["update"]) > float(step("cosmos", 64.0).parts["update"])
    assert checkpoint(step("cosmos", 64.0), MODEL) == pytest.approx(whole + 2.0 * float(MODEL.parameters), rel=1e-3)


def test_a_rank_is_asked_for_by_those_that_project() -> None:
    assert asked_for("galore:r=128") == ("galore", 128.0) and asked_for("muon") == ("muon", 0.0)
    for wrong in ("galore", "galore:r=0", "galore:128", "muon:r=4"):
        with pytest.raises(BadField):
            asked_for(wrong)
    with pytest.raises(UnknownName, match="galore"):
        asked_for("galor:r=4")


def test_without_gradients_a_step_is_two_forward_passes_and_keeps_nothing() -> None:
    full, blind = step("adamw"), step("", way="zeroth")
    assert blind.flops == pytest.approx(float(full.flops) * 2.0 / 3.0)
    for name in ("matmul", "attention"):
        assert 0.0 < float(blind.parts[name]) < float(full.parts[name])
    held = {k: float(v) for k, v in blind.memory.parts.items()}
    assert held["gradients"] == held["optimizer states"] == 0.0
    assert held["parameters"] == 2.0 * float(MODEL.parameters)
    # What grows with depth is weights alone.
    deeper = train_step(gpt(2 * LAYERS, WIDTH, 16.0, tied=False), a100s(1), blind.layout, blind.how)
    assert float(deeper.memory.parts["activations"]) == held["activations"]
    # Replicas tell each other one number.
    assert float(step("", way="zeroth", dp=8.0).parts["gradients on the wire"]) < 1e-4


def test_weights_that_come_and_go_leave_two_layers_and_the_ends() -> None:
    # ZO2's loop hands a layer back before it works on the next, and asks for the one behind that (zo2.py, 2025-02-23).
    node = replace(a100s(1), host=Host(1e12, 400e9, None, 2, (), "test"))
    recipe = method("zeroth", PLAIN.recipe)
    how = replace(PLAIN, recipe=recipe)

    def offloaded(seq: float) -> TrainStep:
        return train_step(MODEL, node, Layout(global_batch=1.0, seq=seq, offload=2.0), how)

    here = float(offloaded(64.0).memory.parts["parameters"]) / 2.0
    assert here == pytest.approx(2.0 / LAYERS * MATRICES + 2.0 * VOCAB * WIDTH, rel=1e-3)
    assert float(offloaded(64.0).memory.host) + 2.0 * here == pytest.approx(2.0 * float(MODEL.parameters))
    short, long = (float(offloaded(s).parts["copies to the host"]) for s in (64.0, 65536.0))
    assert short > 0.0 and long == 0.0


def test_no_launch_file_pretends_to_train_another_way() -> None:
    assert files(step("adamw"), MODEL, "gpt") != {}
    assert files(step("", way="zeroth"), MODEL, "gpt") == {} == files(step("galore", 64.0), MODEL, "gpt")


def test_the_largest_weight_sets_what_its_change_takes() -> None:
    wide = gpt(LAYERS, WIDTH, 16.0, vocab=8.0 * VOCAB, tied=False)
    how = replace(PLAIN, recipe=method("zeroth", PLAIN.recipe))
    held = train_step(wide, a100s(1), Layout(global_batch=1.0, seq=64.0), how).memory.parts["activations"]
    # Four tensors as large as the embedding, in 16 bits, beside two residual streams.
    assert float(held) == pytest.approx(4.0 * 2.0 * 8.0 * VOCAB * WIDTH + 2.0 * 2.0 * 64.0 * WIDTH)


def compacted(share: float) -> TrainStep:
    how = replace(PLAIN, recipe=replace(PLAIN.recipe, compact=share, master=0.0))
    return train_step(MODEL, a100s(1), Layout(global_batch=4.0, micro_batch=4.0, seq=256.0), how)


def test_inputs_kept_as_projections_are_counted_map_by_map() -> None:
    whole, eighth = compacted(1.0).memory, compacted(1.0 / 8.0).memory
    tokens = 4.0 * 256.0
    # Of queries, keys and values one input was kept, and now a projection for each; of the MLP two; attention keeps its
    # output anyway (arXiv:2410.15352, appendix E).
    less = (1.0 - 3.0 / 8.0) + (1.0 - 1.0 / 8.0) + 4.0 * (1.0 - 1.0 / 8.0)
    assert float(whole.kept - eighth.kept) == pytest.approx(LAYERS * less * 2.0 * tokens * WIDTH)
    # Gradients and moments of all but attention's output are as thin.
    thin = (1.0 - 1.0 / 8.0) * LAYERS * 11.0 * WIDTH**2
    for part, each in (("gradients", 4.0), ("optimizer states", 8.0)):
        assert float(whole.parts[part] - eighth.parts[part]) == pytest.approx(each * thin)
    assert float(whole.parts["parameters"]) == float(eighth.parts["parameters"])


def test_thinner_projections_never_need_more() -> None:
    peaks = [float(compacted(s).memory.peak) for s in (1.0, 0.25, 0.125, 0.0625)]
    assert peaks == sorted(peaks, reverse=True)
