"""Engines that are wrong in one way: that they are, that they are put right again, and (slowly) who notices."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import tierwise as tw
from tierwise import papers, techniques
from tierwise.papers import mutations as m
from tierwise.papers.base import Layout, TrainStep, contrast, scenario, trained
from tierwise.papers.types import Claim, Outcome, Paper

WAYS = {way.name: way for way in m.mutations()}


def _decode(**plan: float) -> tw.Result:
    base = scenario("llama-2-7b", f"{int(plan.get('tp', 1))}xa100-sxm-80gb", tw.Batch(512, 32, 1), tw.Plan(**plan))
    return tw.evaluate(base)


def _time() -> float:
    return float(_decode().tpot)


def _prompt() -> float:
    return float(tw.evaluate(scenario("llama-2-7b", "a100-sxm-80gb", tw.Batch(4096, 1, 1))).ttft)


def _exchange() -> float:
    ops = _decode(tp=8.0).phase("decode").ops
    return sum(float(p.cost.time) for p in ops if p.op.kind == "collective")


def _between_cards() -> float:
    """Devices without links of their own, whose collectives go through the host."""
    base = scenario("llama-2-7b", "2xl40s", tw.Batch(512, 32, 1), tw.Plan(tp=2.0))
    return sum(float(p.cost.time) for p in tw.evaluate(base).phase("decode").ops if p.op.kind == "collective")


def _between_nodes() -> float:
    base = scenario("llama-2-7b", "16xh100-sxm", tw.Batch(512, 32, 64), tw.Plan(tp=16.0))
    return sum(float(p.cost.time) for p in tw.evaluate(base).phase("decode").ops if p.op.kind == "collective")


def _copied() -> float:
    """A cache on the host, whose copies set the pace."""
    base = scenario("llama-2-7b", "a100-sxm-80gb", tw.Batch(2048, 32, 8))
    return float(tw.evaluate(base.apply(techniques.offload_kv(1.0))).tpot)


PARTS = "rtx4090 + epyc-7742 + 512GB ddr4 + nvme-gen4"


def _of_parts() -> float:
    """A computer that was put together from parts, each looked up on the way."""
    return float(tw.evaluate(scenario("llama-2-7b", PARTS, tw.Batch(512, 32, 1))).tpot)


def _from_disk() -> float:
    base = scenario("llama-2-7b", PARTS, tw.Batch(512, 32, 1))
    return float(tw.evaluate(base.apply(techniques.offload_weights(1.0, to="nvme"))).tpot)


def _on_host() -> float:
    """Attention over a long cache, on the host's processor."""
    base = scenario("llama-2-7b", PARTS, tw.Batch(16384, 32, 8))
    return float(tw.evaluate(base.apply(techniques.compute_in("host"))).tpot)


def _engine() -> float:
    """What the engine's software adds to a step."""
    base = scenario("llama-2-7b", "h100-sxm", tw.Batch(512, 32, 16), engine="vllm")
    cost = tw.evaluate(base).phase("decode").cost
    return float(cost.host + cost.gap)


def _launches() -> float:
    """Launches of an engine's kernels in a prompt's step, one by one."""
    base = scenario("llama-2-7b", "h100-sxm", tw.Batch(4096, 32, 1), engine="vllm")
    return float(tw.evaluate(base).phase("prefill").cost.launch)


def _eager() -> float:
    under = [techniques.eager("transformers")]
    return float(tw.evaluate(scenario("bert-base", "h100-sxm", tw.Batch(16, 1, 1), under=under)).ttft)


def _weights() -> float:
    return float(_decode().memory.weight_bytes)


def _cache() -> float:
    return float(_decode().memory.kv)


def _parameters() -> float:
    return float(_decode().scenario.model.parameters)


def _capacity() -> float:
    return float(_decode().memory.capacity)


def _flops() -> float:
    return float(_decode().phase("decode").flops)


def _quantized() -> float:
    base = scenario("llama-2-7b", "a100-sxm-80gb", tw.Batch(512, 32, 1))
    return float(tw.evaluate(base.apply(techniques.quantize_kv(bits=4, group=32))).memory.kv)


def _training(model: str = "llama-2-7b", seq: float = 4096.0, how: str = "fsdp") -> TrainStep:
    layout = Layout(dp=8.0, global_batch=8.0, seq=seq)
    return trained(model, "8xa100-sxm-80gb", layout, how, optimizer="sgd-momentum")


def _small_steps() -> float:
    """Steps so small that the host's launches are most of them."""
    return float(_training("opt-125m", 64.0, "megatron").time)


def _products() -> float:
    return float(_training().parts["matmul"])


def _update() -> float:
    return float(_training().parts["update"])


def _averaged() -> float:
    return float(_training().parts["gradients on the wire"])


def _states() -> float:
    """An fp32 copy of the weights and one moment; a quarter more of the copy is an eighth more of both."""
    return float(_training().memory.parts["optimizer states"])


def _copy() -> float:
    return float(_training().memory.parts["parameters"])


def _room() -> float:
    return float(_training().memory.capacity)


@pytest.mark.parametrize(
    ("name", "measure", "low", "high"),
    [
        ("memory x0.5", _time, 1.7, 2.0),
        ("memory x2", _time, 0.5, 0.65),
        ("memory x0.5", _of_parts, 1.7, 2.0),
        ("memory x0.5", _from_disk, 1.9, 2.0),
        ("memory x0.5", _on_host, 1.7, 2.0),
        ("memory x2", _from_disk, 0.5, 0.55),
        ("compute x0.5", _prompt, 1.6, 2.0),
        ("compute x2", _prompt, 0.5, 0.75),
        # A pass over local memory is no link's.
        ("links x0.5", _exchange, 1.9, 2.0),
        ("links x2", _exchange, 0.5, 0.55),
        ("links x0.5", _between_cards, 1.9, 2.0),
        ("links x2", _between_cards, 0.5, 0.55),
        ("links x0.5", _between_nodes, 1.9, 2.0),
        ("links x0.5", _copied, 1.7, 2.0),
        ("host x2", _engine, 2.0, 2.0),
        ("host x0.5", _engine, 0.5, 0.5),
        ("host x2", _launches, 2.0, 2.0),
        ("host x2", _eager, 1.9, 2.0),
        ("host x0.5", _eager, 0.5, 0.55),
        ("host x2", _small_steps, 1.7, 2.0),
        ("host x0.5", _small_steps, 0.5, 0.7),
        ("compute x0.5", _products, 1.7, 2.0),
        ("compute x2", _products, 0.5, 0.7),
        ("memory x0.5", _update, 2.0, 2.0),
        ("links x0.5", _averaged, 1.9, 2.0),
        ("weight bytes +25%", _copy, 1.25, 1.25),
        ("weight bytes +25%", _states, 9 / 8, 9 / 8),
        ("parameters +10%", _states, 1.10, 1.10),
        ("all counts +25%", _states, 1.25, 1.25),
        ("capacity -20%", _room, 0.79, 0.8),
        ("weight bytes +25%", _weights, 1.25, 1.25),
        ("KV bytes +25%", _cache, 1.25, 1.25),
        ("parameters +10%", _parameters, 1.10, 1.10),
        ("capacity -20%", _capacity, 0.8, 0.8),
        ("all times", _time, 2.0, 3.0),
        ("all counts +25%", _parameters, 1.25, 1.25),
        ("all counts +25%", _flops, 1.25, 1.251),
        ("all counts +25%", _cache, 1.25, 1.25),
        ("contrast removed", _quantized, 4.0 * 16 / 17, 16 / 5),
        ("free technique", _quantized, 4 / 5, 4 / 5),
    ],
)
def test_an_engine_is_wrong_as_it_says_and_put_right_again(
    name: str, measure: Callable[[], float], low: float, high: float
) -> None:
    """``low`` and ``high``: between which the wrong engine's value is, over the right one's."""
    before = measure()
    with WAYS[name].applied():
        wrong = measure()
    low, high = min(low, high), max(low, high)
    assert low * (1 - 1e-6) <= wrong / before <= high * (1 + 1e-6)
    assert measure() == before


def test_without_the_contrast_both_sides_are_the_baseline_under_the_same_conditions() -> None:
    eager = techniques.eager()
    with WAYS["contrast removed"].applied():
        assert contrast(1, 2) == 1
        base = scenario("llama-2-7b", "a100-sxm-80gb", under=[eager])
        assert base.plan is not None and not base.plan.graphs
        assert base.apply(techniques.quantize_weights("int4")) is base
    assert contrast(1, 2) == 2


def _paper(metric: str, compute: Callable[[], float]) -> Paper:
    return Paper("p", "P", "arXiv:0", "none", (Claim("c", 1.0, "x", "ratio", "abstract", compute, metric=metric),))


def test_the_rule_names_papers_blind_claims_and_mutations_that_nobody_notices() -> None:
    paper = _paper("time", lambda: 1.0)
    (o,) = papers.run(paper)
    nothing = m.Noticed(paper, [o], (), {"c": ()})
    broken = m.broken_rules([nothing])
    assert "p is reproduced, whatever is wrong with the engine" in broken
    assert any("notices none of memory, compute, links, host" in text for text in broken)
    assert sum("is noticed by 0 papers" in text for text in broken) == len(WAYS)
    counts = m.Noticed(paper, [o], ("parameters +10%",), {"c": ("parameters +10%",)})
    assert m.blind(counts) == ["c"]
    all_of_them = m.Noticed(paper, [o], tuple(WAYS), {"c": tuple(WAYS)})
    assert m.broken_rules([all_of_them] * m.FEWEST) == []
    marked = m.Noticed(paper, [Outcome(o.claim, 1.0, "blind")], tuple(WAYS), {"c": tuple(WAYS)})
    assert m.broken_rules([marked] * m.FEWEST) == ["p: 'c' is marked blind and is not"] * m.FEWEST
    # Only what is reproduced has to notice.
    off = Outcome(o.claim, 3.0, "off")
    assert not any("whatever" in text for text in m.broken_rules([m.Noticed(paper, [off], (), {})]))


def test_a_paper_that_fails_on_a_wrong_engine_has_noticed() -> None:
    def broken() -> float:
        raise ZeroDivisionError

    assert m._noticed(_paper("time", broken), papers.run(_paper("time", lambda: 1.0)), {"w": []}).claims == {"c": ()}
    found = m._noticed(_paper("time", broken), papers.run(_paper("time", lambda: 1.0)), {"w": [float("nan")]})
    assert found.by == ("w",) and found.claims == {"c": ("w",)}


def test_a_verdict_changes_either_way_and_what_was_not_computed_has_none() -> None:
    """A wrong engine that brings a claim into its tolerance is noticed as one that takes it out."""
    off = _paper("time", lambda: 3.0)
    found = m._noticed(off, papers.run(off), {"w": [1.1], "v": [2.5], "u": [float("nan")]})
    assert found.claims == {"c": ("w",)} and found.by == ("w",) and m.blind(found) == []
    claim = Claim("c", 1.0, "x", "ratio", "abstract", missing="needs-setup")
    waiting = Paper("p", "P", "arXiv:0", "none", (claim,))
    assert m._noticed(waiting, papers.run(waiting), {"w": [float("nan")]}).claims == {}


@pytest.mark.truth
def test_no_paper_is_reproduced_by_an_engine_that_is_wrong_in_every_way() -> None:
    pytest.importorskip("numba")
    broken = m.broken_rules(m.mutated(papers.slugs()))
    assert broken == [], "\n".join(broken)
