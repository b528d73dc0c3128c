"""What must be true of papers on drafts and on long caches, whatever the numbers."""

from __future__ import annotations

import pytest

from tierwise.papers.catalog import distributed_speculative_inference as dsi
from tierwise.papers.catalog import scale_test_time, shadowkv, smartspec_goodput


@pytest.mark.parametrize("pair", dsi.PAIRS)
def test_copies_of_the_target_help_every_pair(pair: str) -> None:
    turns, beside = dsi.times(pair)
    target = dsi.PAIRS[pair][0]
    assert beside < min(turns)
    assert beside < dsi.TOKENS * target


def test_long_chains_cost_more_than_as_many_tokens_in_short_ones() -> None:
    Spent = scale_test_time.Spent
    whole, halves = (scale_test_time.work("qwen3-32b", Spent(each, 16384.0)) for each in (16384.0, 8192.0))
    assert halves < whole


def test_a_longer_context_leaves_throughput_of_both_in_proportion() -> None:
    """Twice the context at half the batch: the cache read a step is the same, and so is the time of a step."""
    short, long = shadowkv.ROWS[1:3]
    for shadow in (False, True):
        assert shadowkv.rate(short, shadow) / shadowkv.rate(long, shadow) == pytest.approx(2.0, rel=0.05)


def test_drafts_that_are_right_more_often_pay_more() -> None:
    gains = [smartspec_goodput.gain(1.0, accept) for accept in smartspec_goodput.ACCEPT]
    assert gains == sorted(gains) and gains[0] >= 1.0


@pytest.mark.parametrize("accept", smartspec_goodput.MEASURED)
def test_as_many_drafts_as_pay_are_no_worse_than_any_fixed_number(accept: float) -> None:
    """Within the few percent that the tail of the last requests can move."""
    adaptive = smartspec_goodput.throughput(accept, 7, True)
    assert all(adaptive > 0.97 * smartspec_goodput.throughput(accept, k, False) for k in (0, 1, 3, 5, 7))
