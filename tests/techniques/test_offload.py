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


def _drive(dense: Model, drive: str) -> tw.Scenario:
    return tw.Scenario(dense, f"rtx-a6000 + 96GB ddr4 + {drive}", tw.Batch(prompt=512, output=64, batch=64), tw.Plan())


def test_attention_in_a_drive_reads_at_the_rate_inside_it(dense: Model) -> None:
    there = tw.evaluate(_drive(dense, "csd-8ch").apply(compute_in("nvme"))).phase("decode")
    away = tw.evaluate(_drive(dense, "csd-8ch").apply(offload_kv(to="nvme"))).phase("decode")
    cache = float(away.reads("kv"))
    assert cache / 11.2e9 < float(there.pass_time) < cache / 7e9 < float(away.pass_time)


def test_a_plain_drive_computes_nothing(dense: Model) -> None:
    with pytest.raises(TierwiseError, match="nothing computes on 'nvme'"):
        _drive(dense, "nvme-gen4").apply(compute_in("nvme"))


def test_files_are_read_more_slowly_than_the_drive(dense: Model) -> None:
    files, drive = (tw.evaluate(_drive(dense, "nvme-gen4").apply(offload_kv(to="nvme", mapped=m))).phase("decode")
                    for m in (True, False))  # fmt: skip
    assert float(files.pass_time) > 1.5 * float(drive.pass_time)
    assert files.traffic == drive.traffic
