"""What must be true of mechanisms that run things beside each other, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest

import tierwise as tw
from tierwise import techniques
from tierwise.core.errors import BadField
from tierwise.papers.base import scenario
from tierwise.papers.catalog import alisa, nanoflow
from tierwise.papers.serving import served

V100 = ("opt-6.7b", "1xv100-sxm-32gb")


def test_two_batches_beside_each_other_gain_at_most_what_the_slower_lane_leaves() -> None:
    """A step is no shorter than the ops of any one lane, each of which comes in two halves."""
    for name in ("prefill", "decode"):
        plain, beside = (nanoflow.ran(nanoflow.CONSTANT, beside=b).phase(name) for b in (False, True))
        lanes = [0.0, 0.0, 0.0]
        for p in beside.ops:
            lanes[{"attention": 1, "collective": 2}.get(p.op.kind, 0)] += 2.0 * float(p.time)
        assert max(lanes) * (1 - 1e-9) <= float(beside.pass_time) <= sum(lanes) * (1 + 1e-9)
        assert float(beside.pass_time) < float(plain.pass_time)


def test_a_sparse_cache_fetches_what_is_attended_to_in_half_the_bits() -> None:
    """Bytes into the device: a fifth of the tokens at 8 of 16 bits."""
    base = alisa.base(*V100).with_traffic(batch=64.0)
    few = (techniques.sparse_attention(alisa.KEPT), techniques.quantize_kv(bits=alisa.BITS))
    whole, part = (
        float(tw.evaluate(s.apply(techniques.offload_kv(1.0))).phase("decode").traffic["host.in"])
        for s in (base, base.apply(*few))
    )
    # Formats of the cache may keep scales beside the bits.
    assert alisa.KEPT / 2.0 * whole <= part <= 1.1 * alisa.KEPT / 2.0 * whole


def test_more_of_the_cache_away_is_slower_and_copies_ahead_never_are() -> None:
    base = alisa.base(*V100).with_traffic(batch=16.0)
    away = base.apply(techniques.offload_kv(np.array([0.25, 0.5, 1.0])))
    serial, ahead = (np.asarray(tw.evaluate(s).tpot) for s in (away, away.apply(techniques.schedule("offload"))))
    assert np.all(np.diff(serial) > 0) and np.all(np.diff(ahead) > 0)
    assert np.all(ahead <= serial * (1 + 1e-9))


def test_a_server_at_the_same_prices_refuses_what_prices_depend_on() -> None:
    pytest.importorskip("numba")
    server = served(scenario("opt-6.7b", "1xa100-sxm-80gb", tw.Batch(1, 1, 1)), max_len=512, budget=512, max_seqs=8)
    assert server.but(kv="reserve_max").prices is server.prices
    assert server.but(kv="reserve_max").deployment.groups[0].settings.kv == "reserve_max"
    with pytest.raises(BadField, match="budget"):
        server.but(budget=1024)
