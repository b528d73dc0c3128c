"""Offloading: a step takes at least what the path to where its tensors lie needs for them."""

from __future__ import annotations

import numpy as np
import pytest

import tierwise as tw
from tierwise.core.errors import TierwiseError
from tierwise.models.types import Model
from tierwise.techniques import compute_in, offload_kv, offload_weights
from tierwise.techniques._make import NothingMatched

BASE = tw.Scenario("llama-2-7b", "a100-80gb", tw.Batch(prompt=512, output=64, batch=8), tw.Plan())


def link() -> float:
    found = tw.load_system("a100-80gb").device.link("host")
    assert found is not None
    return float(found.bandwidth)


def test_weights_on_the_host_take_at_least_their_bytes_over_the_link() -> None:
    plain, away = (tw.evaluate(s) for s in (BASE, BASE.apply(offload_weights())))
    # Attention, gated MLP and head of Llama 2 7B in 16 bits.
    size = 2.0 * (32 * (4 * 4096**2 + 3 * 4096 * 11008) + 32000 * 4096)
    floor = size / link()
    assert plain.tpot < 0.05 < floor <= away.tpot < 2 * floor


def test_half_of_the_weights_take_half_as_long() -> None:
    whole, half, none = (tw.evaluate(BASE.apply(*t)).tpot for t in ((offload_weights(),), (offload_weights(0.5),), ()))
    # Each transfer pays its latency, however little it carries.
    assert 1.0 <= (half - none) / ((whole - none) / 2) <= 1.02


def test_fractions_sweep_as_an_array() -> None:
    many = tw.evaluate(BASE.apply(offload_weights(np.array([0.25, 1.0])))).tpot
    each = [tw.evaluate(BASE.apply(offload_weights(f))).tpot for f in (0.25, 1.0)]
    assert many == pytest.approx(each, rel=1e-12)


def test_a_cache_on_the_host_is_read_over_the_link_each_step() -> None:
    plain, away = (tw.evaluate(s) for s in (BASE, BASE.apply(offload_kv())))
    cached = 8 * (512 + 31) * 32 * 2 * 4096 * 2.0
    assert away.tpot - plain.tpot >= 0.99 * cached / link()


def test_a_model_without_a_cache_has_nothing_to_offload() -> None:
    s = tw.Scenario("mamba-2.8b", "a100-80gb", tw.Batch(prompt=512, output=64, batch=8), tw.Plan())
    with pytest.raises(NothingMatched, match="KV cache on host"):
        s.apply(offload_kv())
    assert s.apply(offload_weights()).applied[-1].name == "weights on host"


def test_nothing_of_nothing_is_refused(dense: Model) -> None:
    with pytest.raises(NothingMatched, match="a fraction above 0"):
        tw.Scenario(dense, "a100-80gb", plan=tw.Plan()).apply(offload_weights(0.0))


def test_a_place_that_is_not_there_is_refused_at_once(dense: Model) -> None:
    s = tw.Scenario(dense, "a100-80gb", plan=tw.Plan())
    with pytest.raises(TierwiseError, match="no node 'attic'"):
        s.apply(offload_weights(to="attic"))
    with pytest.raises(TierwiseError, match="nothing computes on 'hbm'"):
        s.apply(compute_in("hbm"))
