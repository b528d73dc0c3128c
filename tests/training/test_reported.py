"""Threads in which people could not foretell memory or speed: their surprise comes out, in direction and size."""

from __future__ import annotations

import pytest
from benchmarks.accuracy import reported_cases as cases


def test_unfused_attention_does_not_fit_where_states_do() -> None:
    assert cases.gpt2_large() > 33.4


def test_selective_recomputation_frees_nothing_of_fused_attention() -> None:
    assert cases.selective() == pytest.approx(24.94 / 25.52, abs=0.03)


def test_experts_are_slow_where_one_rank_has_twice_the_load() -> None:
    even, busy = cases.mixtral(), cases.mixtral(2.0)
    assert 323.0 <= even <= 438.0  # what its developers publish of it
    assert busy < 0.65 * even  # how uneven they were the thread does not say


def test_what_a_recipe_says_is_what_even_experts_take_and_it_does_not_fit() -> None:
    seconds, size = cases.qwen()
    assert seconds == pytest.approx(13.97, rel=0.1)
    assert size > 84.4
    assert cases.qwen(2.0)[0] > 1.3 * seconds


def test_sharding_over_a_slow_network_is_slow() -> None:
    elsewhere = cases.sharded("96xh100-sxm", 96.0, None, 4096.0, 2.0)
    assert elsewhere == pytest.approx(890.0, rel=0.1)
    # 200 where 890 were expected (0.22). How slow the network was the thread does not say; a fortieth of what the
    # machine should have is enough.
    assert cases.sharded("32xh200-sxm", 32.0, 1.25e9) < 0.25 * elsewhere


def test_two_cards_of_24_gib_are_all_but_full_of_a_70b_in_four_bits() -> None:
    assert 0.85 < cases.qlora() / 25.06 < 1.0


def test_low_memory_tuning_needs_less_than_its_readme_says() -> None:
    assert cases.paged() < 24.1 and cases.paged() == pytest.approx(20.2, rel=0.1)


def test_sixteen_bits_of_everything_are_eight_bytes_a_parameter() -> None:
    assert cases.pure() == pytest.approx(519.0 * 1.0737, rel=0.03)  # the estimator counts GiB
