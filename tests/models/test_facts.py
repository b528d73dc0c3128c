"""What blocks declare is what they do: heads are what divides, experts are where expert weights are, caches grow."""

from __future__ import annotations

from dataclasses import fields

import pytest
from tests.conftest import decoder

import tierwise as tw
from tierwise.core.numerics import fmt
from tierwise.models.blocks.moe import MoE
from tierwise.models.facts import POLICIES, blocks, facts_of
from tierwise.models.load import load_model, model_names
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.models.wrapper import Wrapper, adapt, inside
from tierwise.scenario.types import KV

# One name of each family that keeps something: dense, windows, chunks, shared caches, latents, indexers, recurrences.
NAMES = [n for n in (
    "llama-3.1-8b", "gemma-3-4b", "llama-4-scout", "deepseek-v3", "deepseek-v3.2", "deepseek-v4-flash", "mixtral-8x7b",
    "gpt-oss-20b", "mamba-130m", "jamba-v0.1", "qwen3-next-80b-a3b", "minimax-text-01", "t5-base", "whisper-large-v3",
    "bert-base", "vit-base-patch16-224",
) if n in model_names()]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_declared_caches_and_states_are_those_that_are_kept(name: str) -> None:
    model = load_model(name)
    for stack in model.stacks:
        for block, _ in blocks(stack):
            facts = facts_of(block)
            short, long = ({s.name: s for s in block.state(Step(model, tw.Plan(), 1.0, 1.0, past, "decode"))}
                           for past in (16.0, 32.0))  # fmt: skip
            grows = any(long[n].elements > short[n].elements for n in short if short[n].role == "kv")
            own = facts.cache is not None and facts.cache.layout in ("keys", "latent", "entries", "rebuilt")
            assert grows == own, block
            assert bool(facts.state) == any(n == facts.state for n in short), block
            assert (facts.experts is not None) == any(w.role == "expert" for w in block.weights()), block
            if facts.cache is not None:
                assert set(facts.cache.refuses) <= set(POLICIES)
                assert all(len(why) > 10 for why in facts.cache.refuses.values())


@pytest.mark.parametrize("name", NAMES)
def test_active_parameters_are_those_of_the_experts_a_token_visits(name: str) -> None:
    model = load_model(name)
    experts = [facts_of(b) for s in model.stacks for b, _ in blocks(s) if facts_of(b).experts is not None]
    if experts:
        assert model.active_parameters < model.parameters
    else:
        assert model.active_parameters == pytest.approx(model.parameters)


def test_policies_of_a_plan_are_named_like_those_of_a_cache() -> None:
    plain = KV()
    assert plain.policies() == frozenset()
    on = {"key": fmt("fp8"), "value": fmt("fp8"), "keep": 0.5, "budget": 10.0, "read": 0.5, "read_budget": 10.0,
          "selector": 4.0, "rank": 0.5, "remat": True, "shared_prefix": 64.0, "relay": True}  # fmt: skip
    for name, value in on.items():
        assert len(KV(**{name: value}).policies()) == 1, name  # type: ignore[arg-type]
    everything = KV(**on)  # type: ignore[arg-type]
    assert everything.policies() < set(POLICIES)
    # What is not named here only qualifies another policy.
    assert {f.name for f in fields(KV)} - set(on) == {"residual", "window"}


def wrapped(model: Model) -> Model:
    return model.map_blocks(Wrapper)


def test_a_wrapper_that_overrides_nothing_changes_nothing() -> None:
    plain = decoder(MoE(1024.0, 16.0, 2.0, 512.0))
    plan = tw.Plan(tp=2.0, ep=2.0)
    one, other = (tw.evaluate(tw.Scenario(m, "8xh100-sxm", plan=plan)) for m in (plain, wrapped(wrapped(plain))))
    assert one.time == other.time and one.memory.parts == other.memory.parts
    head = wrapped(plain).stacks[0].after[-1]
    assert facts_of(adapt(head, "logits", True)).last_only is False
    assert inside(head, lambda b: b) == head


def test_whoever_reads_behind_a_collective_reads_what_it_wrote() -> None:
    model = decoder(MoE(1024.0, 16.0, 2.0, 512.0))
    step = Step(model, tw.Plan(tp=4.0, ep=4.0), 4.0, 1.0, 64.0, "decode")
    ops = [op for block in model.stacks[0].kinds[0].blocks for op in block.ops(step)]
    sends = [i for i, op in enumerate(ops) if op.kind == "collective"]
    assert len(sends) >= 2
    for i in sends:
        written = {o.name for o in ops[i].writes}
        assert written == {o.name for o in ops[i].reads}
        # The last one of a layer is read by the next layer's norm.
        later = [op for op in ops[i + 1 :] if written & {o.name for o in op.reads}]
        assert later or i == sends[-1]
