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


def way(text: str) -> TrainStep:
    return train_step(MODEL, a100s(1), Layout(micro_batch=2.0, global_batch=2.0, seq=1024.0),
                      replace(PLAIN, recipe=method(text, PLAIN.recipe)))  # fmt: skip


def test_weights_in_four_bits_are_unpacked_for_both_passes() -> None:
    """Read in half a byte and written in two, twice: no less than the memory's bandwidth lets through."""
    elements = LAYERS * 12.0 * WIDTH**2
    least = 2.0 * elements * 2.5 / a100s(1).device.memory.bandwidth
    more = time(way("qlora:r=16")) - time(way("lora:r=16"))
    assert least < more < 4.0 * least


def test_lengths_of_columns_are_trained_beside_adapters() -> None:
    plain, lengths = way("lora:r=16"), way("dora:r=16")
    # Queries, keys, values, output, up, down: a length for each of what they give.
    columns = LAYERS * (3.0 + 1.0 + 4.0 + 1.0) * WIDTH
    assert states(lengths) - states(plain) == pytest.approx(PLAIN.recipe.states * columns, rel=1e-9)
    assert checkpoint(lengths, MODEL) - checkpoint(plain, MODEL) == pytest.approx(PLAIN.recipe.states * columns)
    # The weight and what is added to it are gone over six times to measure columns, in one pass of the two.
    least = 6.0 * 2.0 * LAYERS * 12.0 * WIDTH**2 / a100s(1).device.memory.bandwidth
    assert time(lengths) > time(plain) + least
    # What is scaled by trained lengths is kept for their gradients: what each map and its adapter gave.
    kept = float(np.asarray(lengths.memory.kept)) - float(np.asarray(plain.memory.kept))
    assert kept == pytest.approx(PLAIN.saves * 2.0 * 2.0 * 2048.0 * columns, rel=0.05)


def test_a_prefix_is_keys_and_values_of_every_layer_and_nothing_else() -> None:
    few, many, frozen = way("prefix:n=16"), way("prefix:n=1024"), step(slices=(("down", 1e-9),))
    assert states(few) == pytest.approx(PLAIN.recipe.states * LAYERS * 2.0 * 16.0 * WIDTH, rel=1e-9)
    assert checkpoint(many, MODEL) == pytest.approx(64.0 * checkpoint(few, MODEL), rel=1e-9)
    # Tokens attend to it, and nothing else is computed: what a frozen model takes, and the attention.
    assert time(frozen) < time(few) < time(way("lora:r=16"))
    attention = [float(np.asarray(s.parts["attention"])) for s in (frozen, few, many)]
    assert attention[0] < attention[1] < attention[2]
    # As many again in front of all tokens as there are: causal attention to half becomes attention to three halves.
    assert 1.5 < attention[2] / attention[0] < 3.2
    with pytest.raises(BadField):
        method("prefix:n=0", Recipe())
