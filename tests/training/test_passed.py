"""Bytes that devices of a layer pass on to each other, by the widths that papers count."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.shapes import a100s, gpt
from tierwise.models.load import load_model
from tierwise.models.types import Model
from tierwise.training import Layout, Recipe, TrainingFramework, train_step
from tierwise.training.passed import passed

HIDDEN, HEADS, SEQ = 1024.0, 16.0, 8192.0
MODEL = gpt(2, HIDDEN, HEADS)
KEYS, QUERIES = Recipe(), Recipe(queries=1.0)


def sent(recipe: Recipe, model: Model = MODEL, **layout: float) -> float:
    x = Layout(seq=SEQ, micro_batch=1.0, global_batch=1.0, **layout)
    step = train_step(model, a100s(8), x, TrainingFramework("plain", recipe))
    return float(passed(step.work, step.layout, recipe))


def test_tensor_parallelism_sends_eight_widths_of_a_sequence() -> None:
    """Four all-reduces, each of the stream twice (arXiv:2403.09347, table 1), less what stays at home."""
    width = 2.0 * SEQ * HIDDEN
    assert sent(KEYS, tp=8.0) == pytest.approx(8.0 * width * 7.0 / 8.0)


def test_a_ring_of_keys_sends_six_widths_and_one_of_queries_five() -> None:
    width = 2.0 * SEQ * HIDDEN
    assert sent(KEYS, cp=8.0) == pytest.approx(6.0 * width * 7.0 / 8.0)
    # And for each head and query the logarithm of a sum and the sum of a product, in fp32.
    numbers = 2.0 * 4.0 * HEADS * SEQ
    assert sent(QUERIES, cp=8.0) == pytest.approx((5.0 * width + numbers) * 7.0 / 8.0)


def test_where_heads_share_keys_it_is_better_that_these_go_round() -> None:
    shared = load_model("llama-3.1-8b")
    assert sent(KEYS, shared, cp=8.0) < 0.5 * sent(QUERIES, shared, cp=8.0)


def test_what_goes_round_backward_shows_in_the_time_of_a_step_that_waits_for_it() -> None:
    how = TrainingFramework("plain", replace(KEYS))
    slow = replace(how, link=100.0)
    x = Layout(seq=SEQ, micro_batch=1.0, global_batch=1.0, cp=8.0)
    keys, queries = (
        float(train_step(MODEL, a100s(8), x, replace(slow, recipe=r)).parts["link"]) for r in (KEYS, QUERIES)
    )
    # Attention hides little of either: the ratio is that of the widths, six to five.
    assert keys / queries == pytest.approx(6.0 / 5.0, rel=0.03)
