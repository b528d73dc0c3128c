"""ZAYA: parameters as `transformers` counts them, a cache of the narrow keys, and the convolutions' state."""

from __future__ import annotations

import pytest

from tierwise.models.load import load_model
from tierwise.models.lower import state_bytes
from tierwise.models.step import Step
from tierwise.scenario.types import Plan

MODEL = load_model("zaya1-8b")


def test_parameters_are_those_of_transformers() -> None:
    # sum(p.numel()) of AutoModelForCausalLM.from_config(ZayaConfig()), transformers 5.24, on the meta device. A scale
    # and a shift behind the embedding (4096) are left out, and the first router's scale (256) is one too many.
    assert float(MODEL.parameters) == 8_840_488_784 - 4096 + 256
    assert not MODEL.notes


def test_one_expert_of_sixteen_is_active() -> None:
    experts = 40 * 16 * 3 * 2048.0 * 2048.0
    assert float(MODEL.parameters - MODEL.active_parameters) == pytest.approx(experts * 15 / 16)


def test_a_sequence_keeps_narrow_keys_and_the_last_inputs() -> None:
    one, two = (state_bytes(Step(MODEL, Plan(), 1.0, 1.0, n, "decode")) for n in (1000.0, 2000.0))  # past tokens
    grows = 40 * 2 * 2 * 128 * 2.0  # keys and values of two heads of 128 in 16 bits, 40 layers
    fixed = 40 * (1280 * 2 + 2048) * 2.0  # two taps before the newest of 1280 channels, and the last hidden state
    assert float(two[0] - one[0]) == pytest.approx(1000 * grows)
    assert float(one[1]) == pytest.approx(fixed)
