"""Which degrees are allowed: the same answer one by one and many at once, wrapped or not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import HEAD_DIM, HEADS, HIDDEN, KV_HEADS, decoder

import tierwise as tw
from tierwise.core.errors import BadField
from tierwise.machines import system
from tierwise.models import facts
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.moe import MoE
from tierwise.models.blocks.sparse import BlockSparseAttention
from tierwise.models.load import load_model
from tierwise.models.types import Layer, Model, Stack
from tierwise.models.wrapper import Wrapper
from tierwise.scenario.legality import check_plan, legal
from tierwise.techniques import rebuild_keys

MACHINE = system("16xh200-sxm")
EXPERTS = decoder(MoE(HIDDEN, 16.0, 2.0, 512.0))
MODELS = {
    "dense": decoder(),
    "experts": EXPERTS,
    "wrapped": EXPERTS.map_blocks(Wrapper).map_blocks(Wrapper),
    "hybrid": load_model("qwen3-next-80b-a3b"),
    "recurrent": load_model("mamba-130m"),
}
degrees = st.sampled_from([0.0, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 8.0, 16.0, 32.0])


def allowed(plan: tw.Plan, model: Model) -> bool:
    try:
        check_plan(plan, model, MACHINE)
    except BadField:
        return False
    return True


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(*[degrees] * 4), min_size=1, max_size=12), st.sampled_from(sorted(MODELS)))
def test_many_at_once_are_as_legal_as_each(rows: list[tuple[float, ...]], name: str) -> None:
    model = MODELS[name]
    tp, pp, dp, ep = np.asarray(rows).T
    found = legal(tw.Plan(tp=tp, pp=pp, dp=dp, ep=ep), model, MACHINE)
    each = [allowed(tw.Plan(*row), model) for row in rows]
    assert found.mask.tolist() == each
    assert bool(found.reason) == (not all(each))


@settings(max_examples=40, deadline=None)
@given(degrees, degrees, degrees, degrees)
def test_a_wrapper_changes_nothing(tp: float, pp: float, dp: float, ep: float) -> None:
    answers = [legal(tw.Plan(tp, pp, dp, ep), MODELS[n], MACHINE) for n in ("experts", "wrapped")]
    assert answers[0].mask == answers[1].mask and answers[0].reason == answers[1].reason


def test_every_allowed_plan_keeps_the_rules() -> None:
    grid = np.meshgrid(*[[1.0, 2.0, 3.0, 4.0, 5.0, 8.0, 16.0]] * 4, indexing="ij")
    tp, pp, dp, ep = (g.ravel() for g in grid)
    mask = legal(tw.Plan(tp, pp, dp, ep), EXPERTS, MACHINE).mask
    assert mask.any() and not mask.all()
    by_hand = (tp * pp * dp <= 16) & (HEADS % tp == 0) & (pp <= 4) & ((tp * dp) % ep == 0) & (ep <= 16)
    assert (mask == by_hand).all()


def test_a_cache_that_is_rebuilt_still_has_heads() -> None:
    base = tw.Scenario("llama-2-7b", "8xa100-80gb", tw.Batch(512, 8, 4), tw.Plan())
    for s in (base, base.apply(rebuild_keys(160, 8, 256))):
        with pytest.raises(BadField, match="divisor of the 32 attention heads"):
            tw.evaluate(s.with_plan(tp=5))


def test_an_indexers_heads_are_not_the_attentions() -> None:
    block = BlockSparseAttention(Attention(HIDDEN, HEADS, KV_HEADS, HEAD_DIM), 3.0, 32.0, 64.0, 8.0)
    model = Model("m", "test", HIDDEN, 0.0, (Stack("decoder", (Layer("l", (block,)),), (0,)),))
    assert facts.heads(model) == HEADS


def test_sizes_that_are_arrays_are_asked_element_by_element() -> None:
    heads = np.array([16.0, 12.0, 10.0])
    block = Attention(HIDDEN, heads, 1.0, HEAD_DIM)
    model = Model("m", "test", HIDDEN, 0.0, (Stack("decoder", (Layer("l", (block,)),), (0,)),))
    assert legal(tw.Plan(tp=4.0), model, MACHINE).mask.tolist() == [True, True, False]


def test_the_reason_names_what_breaks_it() -> None:
    found = legal(tw.Plan(tp=np.array([1.0, 3.0, 2.0, 5.0])), MODELS["dense"], MACHINE)
    assert found.mask.tolist() == [True, False, True, False]
    assert found.reason == "tp: found [3, 5]; allowed: a divisor of the 16 attention heads: 1, 2, 4, 8, 16"


@pytest.mark.parametrize(
    ("name", "values"),
    [("framework", ["", "transformers"]), ("mtp", [True, False]), ("schedule", ["", "two_batches"]),
     ("kv.remat", [True, False])],
)  # fmt: skip
def test_what_decides_what_runs_has_one_value_in_a_sweep(name: str, values: list[object]) -> None:
    many = np.asarray(values)
    plan = tw.Plan(kv=tw.KV(remat=many)) if name == "kv.remat" else tw.Plan(**{name: many})  # type: ignore[arg-type]
    with pytest.raises(BadField, match=rf"{name}.*one value"):
        tw.evaluate(tw.Scenario("llama-3.1-8b", MACHINE, plan=plan))


@pytest.mark.parametrize("name", ["keep", "rank", "read", "residual", "budget", "window", "read_budget", "selector",
                                  "shared_prefix"])  # fmt: skip
@pytest.mark.parametrize("value", [float("nan"), -1.0])
def test_a_cache_keeps_no_fewer_than_none(name: str, value: float) -> None:
    plan = tw.Plan(kv=tw.KV(**{name: value}))
    with pytest.raises(BadField, match=rf"kv\.{name}"):
        tw.evaluate(tw.Scenario("llama-3.1-8b", MACHINE, plan=plan))
