"""Drafting in turns and side by side: counts known in closed form, and who can never lose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tierwise as tw
from tierwise.serving.drafts import expected_tokens, in_turns, servers, side_by_side, verification

SHARE = st.floats(0.0, 1.0)
SECONDS = st.floats(1e-3, 1.0)


@pytest.mark.parametrize("accept, tokens", [(0.0, 1.0), (1.0, 6.0), (0.5, 2.0 - 2.0**-5)])
def test_a_verification_of_five_drafts(accept: float, tokens: float) -> None:
    assert expected_tokens(accept, 5) == pytest.approx(tokens)


@given(SHARE, st.integers(1, 20))
def test_more_drafts_never_yield_fewer_tokens_nor_more_than_there_are(accept: float, length: int) -> None:
    few, more = expected_tokens(accept, length), expected_tokens(accept, length + 1)
    assert 1.0 <= few <= more + 1e-12
    assert few <= length + 1.0 + 1e-12


def test_drafts_that_are_never_right_cost_their_time_in_turns_and_nothing_side_by_side() -> None:
    assert in_turns(0.0, 1, 0.25, 1.0, 10, samples=8) == pytest.approx(10.0 + 9 * 0.25)
    assert side_by_side(0.0, 4, 0.25, 1.0, 10, samples=8) == pytest.approx(10.0)


def test_drafts_that_are_always_right_leave_one_verification_side_by_side() -> None:
    assert side_by_side(1.0, 1, 0.1, 1.0, 50, samples=4) == pytest.approx(49 * 0.1 + 1.0)
    # In turns each verification is waited for: ten drafts and the target's own token make eleven.
    assert in_turns(1.0, 10, 0.1, 1.0, 44, samples=4) == pytest.approx(4 * (10 * 0.1 + 1.0))


@given(SHARE, st.integers(1, 12), SHARE, SECONDS)
def test_side_by_side_never_loses_to_turns_of_one_draft(accept: float, length: int, cost: float, target: float) -> None:
    tokens = 24
    turns = in_turns(accept, 1, cost * target, target, tokens, samples=200)
    beside = side_by_side(accept, 1, cost * target, target, tokens, samples=200)
    plain = tokens * target
    assert beside <= plain * (1.0 + 1e-9)
    assert beside <= turns * 1.05  # other texts were drawn once lengths differ
    assert side_by_side(accept, length, cost * target, target, tokens, samples=200) >= beside * (1.0 - 1e-9)


def test_long_texts_approach_the_rates_of_a_cycle() -> None:
    accept, cost, tokens = 0.8, 0.2, 4000
    turns = in_turns(accept, 4, cost, 1.0, tokens, samples=20) / tokens
    assert turns == pytest.approx((4 * cost + 1.0) / expected_tokens(accept, 4), rel=0.03)
    run = accept / (1.0 - accept)
    beside = side_by_side(accept, 1, cost, 1.0, tokens, samples=20) / tokens
    assert beside == pytest.approx((run * cost + 1.0) / (run + 1.0), rel=0.03)


def test_settings_may_be_arrays_and_give_what_each_gives_alone() -> None:
    lengths = np.array([1.0, 5.0, 10.0])
    together = side_by_side(0.9, lengths, 0.3, 1.0, 50)
    assert np.asarray(together).tolist() == pytest.approx([side_by_side(0.9, k, 0.3, 1.0, 50) for k in lengths])


def test_a_copy_of_the_target_for_each_pass_in_flight() -> None:
    assert list(np.asarray(servers(np.array([1.0, 5.0, 20.0]), 0.1, 1.0))) == [10.0, 2.0, 1.0]


def test_verifying_reads_the_weights_once_whatever_the_drafts() -> None:
    s = tw.Scenario("llama-3-8b", "1xh100-sxm", tw.Batch(prompt=500, output=2, batch=1))
    one, few = verification(s, 0.0), verification(s, 7.0)
    plain = tw.evaluate(s).phase("decode")
    assert one.pass_time == pytest.approx(plain.pass_time)
    assert few.reads("weight") == pytest.approx(plain.reads("weight"))
    matmuls = [p.total(lambda x: x.op.flops if x.op.kind == "matmul" else 0.0) for p in (few, plain)]
    assert matmuls[0] == pytest.approx(8.0 * matmuls[1])
    assert plain.pass_time < few.pass_time < 2.0 * plain.pass_time
