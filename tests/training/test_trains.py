"""What is trained of a model: all of it, adapters beside it, slices of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tests.training.shapes import a100s, gpt
from tierwise.core.errors import BadField
from tierwise.training import Layout, TrainStep, framework, train_step
from tierwise.training.checkpoint import checkpoint
from tierwise.training.recipe import Recipe, method

LAYERS, WIDTH = 8, 2048.0
MODEL = gpt(LAYERS, WIDTH, 16.0)
PLAIN = framework("fsdp")


def step(**recipe: Any) -> TrainStep:
    how = replace(PLAIN, recipe=replace(PLAIN.recipe, **recipe))
    return train_step(MODEL, a100s(1), Layout(micro_batch=2.0, global_batch=2.0, seq=1024.0), how)


def states(found: TrainStep) -> float:
    return float(np.asarray(found.memory.parts["optimizer states"]))


def time(found: TrainStep) -> float:
    return float(np.asarray(found.time))


def test_slices_have_states_for_their_share_of_their_maps_alone() -> None:
    found = step(slices=(("o_proj", 0.25), ("down", 0.125)))
    elements = LAYERS * (0.25 * WIDTH**2 + 0.125 * 4.0 * WIDTH**2)
    assert states(found) == pytest.approx(PLAIN.recipe.states * elements, rel=1e-9)
    assert checkpoint(found, MODEL) == pytest.approx(PLAIN.recipe.states * elements, rel=1e-9)
    # Twice the share, twice the states; and what is not trained has none.
    assert states(step(slices=(("o_proj", 0.5),))) == pytest.approx(2.0 * states(step(slices=(("o_proj", 0.25),))))


def test_frozen_maps_keep_no_inputs_and_have_no_gradients_of_weights() -> None:
    full, some, none = step(), step(slices=(("down", 1.0),)), step(slices=(("down", 1e-9),))
    kept = [float(np.asarray(s.memory.kept)) for s in (full, some, none)]
    assert kept[0] > kept[1] > kept[2]
    # The input of the map down, in 16 bits, of all tokens.
    assert kept[1] - kept[2] == pytest.approx(LAYERS * PLAIN.saves * 2.0 * 2048.0 * 4.0 * WIDTH, rel=1e-6)
    assert time(full) > time(some) > time(none)
    # Two of three products are left, and neither the update nor its states.
    update = float(np.asarray(full.parts["update"]))
    assert 0.5 * (time(full) - update) < time(none) < time(full) - update


def test_adapters_are_products_of_their_own_beside_the_maps() -> None:
    """They take time that frozen maps alone would not, more where more maps have them."""
    frozen = step(slices=(("down", 1e-9),))
    few, all_ = step(rank=16.0, adapted=(("qkv_proj", 3.0),)), step(rank=16.0)
    assert time(frozen) < time(few) < time(all_) < time(step())
    # q, k, v: a thin matrix in and one out of each.
    assert states(few) == pytest.approx(PLAIN.recipe.states * LAYERS * 16.0 * (3 * WIDTH + 3 * WIDTH), rel=1e-9)
    assert states(step(rank=16.0, adapted=(("qkv_proj", 1.0),))) == pytest.approx(states(few) / 3.0)
    assert states(step(rank=32.0)) == pytest.approx(2.0 * states(all_))
    assert float(np.asarray(all_.flops)) == pytest.approx(float(np.asarray(frozen.flops)))


def test_ways_to_fine_tune_are_read_and_refused() -> None:
    assert method("sliced:o_proj=0.05,down=0.02", Recipe()).slices == (("o_proj", 0.05), ("down", 0.02))
    assert dict(method("lora:r=8,on=qkv_proj+down", Recipe()).adapted).keys() == {"qkv_proj", "down"}
    for wrong in ("sliced", "sliced:o_proj", "sliced:o_proj=2", "lora:r=8,qkv_proj", "lora:on=down"):
        with pytest.raises(BadField):
            method(wrong, Recipe())


def test_frozen_maps_of_four_bits_keep_inputs_of_their_own() -> None:
    plain, small = (step(**{f: getattr(method(m, PLAIN.recipe), f) for f in ("rank", "parameters", "inputs")})
                    for m in ("lora:r=16", "qlora:r=16"))  # fmt: skip
    kept = [float(np.asarray(s.memory.kept)) for s in (plain, small)]
    # What queries, keys and values, the output, up and down read: six times the stream of a GPT, in 16 bits.
    assert kept[1] - kept[0] == pytest.approx(LAYERS * PLAIN.saves * 2.0 * 2048.0 * 7.0 * WIDTH, rel=0.2)
    assert small.memory.peak < plain.memory.peak  # And yet a quarter of the bytes of the weights is worth more.
