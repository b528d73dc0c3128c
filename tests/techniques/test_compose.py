"""Techniques on every kind of model: each changes a number or says why it cannot, and two of them compose."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, is_dataclass, replace
from inspect import signature
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import HEAD_DIM, HEADS, HIDDEN, KV_HEADS, decoder

import tierwise as tw
from tierwise import techniques as t
from tierwise.core.errors import TierwiseError
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.compressed import CompressedAttention
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mla import MLA, Indexer
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.moe import MoE
from tierwise.models.blocks.rebuilt import RebuiltAttention
from tierwise.models.blocks.sparse import BlockSparseAttention
from tierwise.models.blocks.ssm import Mamba2
from tierwise.models.types import Block, Layer, Model, Stack
from tierwise.techniques._make import NothingMatched, Technique
from tierwise.techniques._parse import example

ATTENTION = Attention(HIDDEN, HEADS, KV_HEADS, HEAD_DIM)
MOE = MoE(HIDDEN, 16.0, 2.0, 512.0, shared_inner=256.0)


def model(name: str, *blocks: Block) -> Model:
    """Four layers of these blocks, a norm before each."""
    layer = Layer("layer", tuple(x for b in blocks for x in (Norm(HIDDEN), b)))
    ends: tuple[tuple[Block, ...], tuple[Block, ...]] = (
        (Embedding(32000.0, HIDDEN),), (Norm(HIDDEN), Head(HIDDEN, 32000.0)))  # fmt: skip
    return Model(name, "test", HIDDEN, 32000.0, (Stack("decoder", (layer,), (0,) * 4, *ends),))


LATENT = MLA(HIDDEN, HEADS, 256.0, 128.0, 64.0, 32.0, 64.0)
MODELS: dict[str, Model | str] = {
    "dense": model("dense", ATTENTION, MLP(HIDDEN, 2816.0)),
    "experts": model("experts", ATTENTION, MOE),
    "latent": model("latent", LATENT, MOE),
    "indexed": model("indexed", replace(LATENT, indexer=Indexer(4.0, 32.0, 512.0)), MOE),
    "block-sparse": model("block-sparse", BlockSparseAttention(ATTENTION, 4.0, 32.0, 64.0, 8.0), MOE),
    "compressed": model("compressed", CompressedAttention(HIDDEN, HEADS, 64.0, 256.0, 4.0, 64.0, 256.0, 8.0), MOE),
    "hybrid": model("hybrid", Mamba2(HIDDEN, 32.0, 64.0, 64.0), ATTENTION, MLP(HIDDEN, 2816.0)),
    "chunked": model("chunked", replace(ATTENTION, chunk=2048.0), MLP(HIDDEN, 2816.0)),
    "recurrent": "mamba-130m",
    "image": "vit-base-patch16-224",
    "encoder": "bert-base",
    "encoder-decoder": "t5-base",
    "speech": "whisper-large-v3",
}

# Techniques that take Python functions; the others are made from the example of their docstring.
IN_PYTHON: dict[str, Callable[[], Technique]] = {
    "drop_blocks": lambda: t.drop_blocks(lambda b: b.facts().experts is not None),
}


def made(name: str, maker: Callable[..., Any]) -> Technique:
    """A technique with arguments that matter."""
    if name in IN_PYTHON:
        return IN_PYTHON[name]()
    needed = [p.name for p in signature(maker).parameters.values() if p.default is p.empty]
    assert example(maker) or not needed, f'{name}: its docstring needs a line "Example: ``{name}:{needed[0]}=...``"'
    found: Technique = t.parse(example(maker) or name)
    return found


def base(name: str, **changes: Any) -> tw.Scenario:
    traffic = tw.Batch(prompt=2048, output=4096, batch=8)
    return tw.Scenario(MODELS[name], "4xh100-sxm", traffic, tw.Plan(tp=2.0, **changes))


def numbers(s: tw.Scenario) -> dict[str, float]:
    """What an evaluation comes to: times, arithmetic, traffic, memory."""
    r = tw.evaluate(s)
    out = {f"memory: {k}": float(v) for k, v in r.memory.parts.items()}
    for phase in r.phases:
        out[f"{phase.name}: time"] = float(phase.pass_time)
        out[f"{phase.name}: flops"] = float(phase.flops)
        for role in ("weight", "act", "kv", "state", "host", "table"):
            out[f"{phase.name}: {role}"] = float(phase.reads(role))
    return out


@pytest.mark.parametrize("name", MODELS)
def test_a_technique_changes_a_number_or_says_why_it_cannot(name: str) -> None:
    plain = base(name)
    before, silent, applied = numbers(plain), [], 0
    for technique, maker in t.all_techniques().items():
        try:
            changed = plain.apply(made(technique, maker))
        except TierwiseError as error:
            assert len(str(error)) > 30, technique
            continue
        applied += 1
        after = numbers(changed)
        record = changed.applied[-1]
        assert record.matched and all(n > 0 for _, n in record.matched), technique
        assert changed.techniques[-1] == record.name
        if after == before:
            silent.append(technique)
    assert not silent
    assert applied >= 5


@pytest.mark.parametrize(
    ("name", "technique", "why"),
    [
        ("latent", t.rematerialize_kv(), "its latent is already what keys and values are recomputed from"),
        ("latent", t.expand_heads(), "there are no keys to copy"),
        ("latent", t.rebuild_keys(64, 8, 256), "already of low rank"),
        ("indexed", t.sparse_attention(0.1), "an indexer already chooses"),
        ("compressed", t.sparsify_attention(0.5), "a static pattern already"),
        ("recurrent", t.quantize_kv(bits=4), "recurrent blocks keep a state of fixed size"),
        ("image", t.evict_kv(0.5), "sees all tokens at once"),
        ("encoder", t.all_logits(), "no output head"),
        ("dense", t.drop_scans(1), "has a recurrence"),
        ("dense", t.dictionary_experts(0.9), "no routed experts"),
        ("dense", t.quantize_roles("fp8", "experts"), "weight role"),
        ("encoder-decoder", t.share_prefix(64), "prompts go to an encoder"),
        ("recurrent", t.unfuse_attention(), "no attention scores"),
    ],
)
def test_what_cannot_be_done_is_refused_with_the_reason(name: str, technique: Technique, why: str) -> None:
    with pytest.raises(TierwiseError, match=why):
        base(name).apply(technique)


def test_nothing_communicates_on_one_device() -> None:
    with pytest.raises(NothingMatched, match="shard it first"):
        tw.Scenario(MODELS["dense"], "h100-sxm", plan=tw.Plan()).apply(t.ladder_residual())


@pytest.mark.parametrize("name", ["latent", "indexed", "compressed", "block-sparse", "hybrid", "chunked"])
def test_half_the_tokens_are_half_the_cache_on_every_kind_of_it(name: str) -> None:
    plain, half = (tw.evaluate(base(name).apply(*x)).memory.kv for x in ((), (t.evict_kv(0.5),)))
    assert half == pytest.approx(plain / 2, rel=1e-9)


def kv(s: tw.Scenario) -> float:
    """What sequences keep; of a window also what the chunk in work takes, once for an engine."""
    memory = tw.evaluate(s).memory
    return float(memory.kv - memory.chunk)


def reads(s: tw.Scenario) -> float:
    """Cache bytes that attention reads in a decode step, copies of the cache aside."""
    ops = tw.evaluate(s).phase("decode").ops
    return float(sum(p.op.bytes_of("kv") for p in ops if p.op.kind == "attention"))


ALL_KV = {
    "quantize": t.quantize_kv(bits=4, group=64),
    "evict": t.evict_kv(0.5),
    "read": t.sparse_attention(0.25),
    "rank": t.low_rank_kv(0.5),
    "remat": t.rematerialize_kv(),
    "prefix": t.share_prefix(512),
    "window": t.slide_window(700.0),
    "density": t.sparsify_attention(0.5),
    "copied": t.concatenate_cache(),
    "expanded": t.expand_heads(),
    "rebuilt": t.rebuild_keys(64.0, 8.0, 256.0),
}


@pytest.mark.parametrize("name", ["dense", "latent", "compressed", "block-sparse", "chunked"])
def test_cache_policies_compose_in_any_order_or_refuse_in_any_order(name: str) -> None:
    plain = base(name)
    alone = {}
    for key, technique in ALL_KV.items():
        try:
            alone[key] = numbers(plain.apply(technique))
        except TierwiseError:
            continue
    for a, b in combinations(alone, 2):
        results: list[dict[str, float] | None] = []
        for first, second in ((a, b), (b, a)):
            try:
                results.append(numbers(plain.apply(ALL_KV[first], ALL_KV[second])))
            except TierwiseError:
                results.append(None)
        one, other = results
        if one is None or other is None:
            assert one is other, (a, b)
            continue
        assert one == pytest.approx(other), (a, b)
        # Neither is lost: together they are not what either is alone.
        assert one not in (alone[a], alone[b]), (a, b)


def test_formats_reach_keys_that_are_rebuilt() -> None:
    rebuilt = base("dense").apply(t.rebuild_keys(64.0, 8.0, 256.0))
    coded = rebuilt.apply(t.quantize_kv(bits=4, group=64))
    tokens, g = 2048 + 4095, KV_HEADS / 2  # on one of two devices
    bits = 4 + (16 + 16) / 64
    low, marks = tokens * 64.0, tokens / 8 * g * HEAD_DIM
    basis, buffer = g * 64.0 * HEAD_DIM, 256.0 * g * HEAD_DIM
    expected = (low + marks + basis + buffer) * bits / 8 + buffer * 2.0
    assert kv(coded) == pytest.approx(8 * 4 * expected)
    host = (tw.evaluate(s).phase("decode").reads("host") for s in (coded, rebuilt))
    assert next(host) == pytest.approx(next(host) * bits / 16)


def test_two_of_a_kind_compose_by_their_meaning_or_refuse() -> None:
    s = base("dense")
    quarter = s.apply(t.evict_kv(keep=0.5), t.evict_kv(keep=0.5))
    assert kv(quarter) == pytest.approx(kv(s) / 4)
    budgets = s.apply(t.evict_kv(budget=300.0), t.evict_kv(keep=0.5))
    assert kv(budgets) == pytest.approx(kv(s.apply(t.evict_kv(budget=300.0))))
    assert kv(s.apply(t.low_rank_kv(0.5), t.low_rank_kv(0.5))) == pytest.approx(kv(s) / 4)
    narrow = [kv(s.apply(*map(t.slide_window, w))) for w in ((64.0, 256.0), (256.0, 64.0), (64.0,))]
    assert narrow[0] == narrow[1] == narrow[2]
    twice = s.apply(t.concatenate_cache(), t.concatenate_cache())
    assert numbers(twice) == numbers(s.apply(t.concatenate_cache(2)))
    for technique in (t.quantize_kv(bits=4), t.rematerialize_kv(), t.share_prefix(64), t.sparsify_attention(0.5),
                      t.rebuild_keys(64.0, 8.0, 256.0)):  # fmt: skip
        with pytest.raises(TierwiseError):
            s.apply(technique, technique)
    for pair in ((t.rematerialize_kv(), t.low_rank_kv(0.5)), (t.expand_heads(), t.rematerialize_kv())):
        for order in (pair, pair[::-1]):
            with pytest.raises(TierwiseError):
                s.apply(*order)


@settings(max_examples=40, deadline=None)
@given(st.floats(0.05, 1.0), st.floats(1.0, 4000.0), st.integers(1, 64), st.sampled_from(["dense", "latent"]))
def test_a_relayed_prefix_is_read_between_once_and_as_often_as_there_are_sequences(
    fraction: float, prefix: float, batch: int, name: str
) -> None:
    s = base(name).with_traffic(batch=float(batch)).apply(t.sparse_attention(fraction))
    apart, once = reads(s.apply(t.share_prefix(prefix))), reads(s.apply(t.share_prefix(prefix, relay=True)))
    assert apart / batch <= once * (1 + 1e-9) and once <= apart * (1 + 1e-9)
    if batch == 1:
        assert once == pytest.approx(apart)


def test_a_window_shares_only_the_part_of_a_prefix_it_still_sees() -> None:
    s = base("dense").apply(t.slide_window(700.0))
    # The last 700 of 2,095 tokens reach back to token 1,395: of a prefix of 1,500 tokens 105 are in sight.
    s = s.with_traffic(output=48)
    shared = kv(s.apply(t.share_prefix(1500.0)))
    assert shared == pytest.approx(kv(s) / 8 / 700 * (8 * (700 - 105) + 105))
    assert kv(s.apply(t.share_prefix(1000.0))) == pytest.approx(kv(s))


def test_a_window_inside_chunks_is_the_mean_over_places() -> None:
    chunk, window = 64, 16
    attn = replace(ATTENTION, chunk=float(chunk), window=float(window))
    step = tw_step(new=float(chunk))
    seen = np.mean([min(i, window) for i in range(1, chunk + 1)])
    core = next(op for op in attn.ops(step) if op.name == "attn.core")
    assert core.dims["kv"] == pytest.approx(seen)
    wide = replace(attn, window=float(chunk))
    plain = replace(attn, window=None)
    for new, past in ((64.0, 0.0), (1.0, 500.0)):
        ops = [next(o for o in a.ops(tw_step(new, past)) if o.name == "attn.core") for a in (wide, plain)]
        assert ops[0].flops == pytest.approx(ops[1].flops)


def tw_step(new: float, past: float = 0.0) -> Any:
    from tierwise.models.step import Step

    return Step(decoder(), tw.Plan(), 1.0, new, past, "decode" if new == 1 else "prefill")


def test_bits_of_the_cache_may_be_an_array() -> None:
    swept = tw.evaluate(base("dense").apply(t.quantize_kv(bits=np.array([2.0, 4.0]), group=64)))
    each = [tw.evaluate(base("dense").apply(t.quantize_kv(bits=b, group=64))) for b in (2, 4)]
    assert np.asarray(swept.memory.kv).tolist() == pytest.approx([float(r.memory.kv) for r in each])
    assert np.asarray(swept.tpot).tolist() == pytest.approx([float(r.tpot) for r in each])


USER_FILE = '''
"""Techniques of a user: collectives in fewer bits, and layers whose weights are read twice."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from tierwise.core.num import Num
from tierwise.core.numerics import fmt
from tierwise.models.step import Step
from tierwise.models.wrapper import Wrapper
from tierwise.program.types import Op
from tierwise.techniques._make import Technique, on_model, on_ops


def narrow_collectives(bits: Num = 8.0) -> Technique:
    """Collectives send fewer bits."""

    def narrow(op: Op) -> Op:
        return replace(op, dims={**op.dims, "bytes": op.dims["bytes"] * bits / 16.0})

    return on_ops("narrow collectives", lambda op: op.kind == "collective", narrow, "nothing is sent: shard it first")


@dataclass(frozen=True)
class Twice(Wrapper):
    """A block that computes everything again."""

    def ops(self, step: Step) -> Iterator[Op]:
        for _ in range(2):
            yield from self.block.ops(step)


def run_twice() -> Technique:
    """Every block runs twice."""
    return on_model("twice", lambda m: m.map_blocks(Twice))
'''


@pytest.fixture
def file(tmp_path: Path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(USER_FILE)
    return str(path)


@pytest.mark.parametrize("name", ["narrow_collectives", "run_twice"])
def test_a_users_wrapper_hides_nothing(file: str, name: str) -> None:
    technique = t.parse(f"{file}:{name}")
    wrapped = base("experts").apply(technique)
    for bad, words in (({"tp": 3.0}, "divisor of the 16 attention heads"), ({"tp": 2.0, "ep": 32.0}, "divisor of tp")):
        with pytest.raises(TierwiseError, match=words):
            tw.evaluate(wrapped.with_plan(**bad))
    assert tw.evaluate(wrapped.with_plan(tp=2.0, ep=2.0)).fits
    assert wrapped.resolved().model.active_parameters == base("experts").resolved().model.active_parameters
    assert numbers(wrapped) != numbers(base("experts"))


@pytest.mark.parametrize("name", ["narrow_collectives:bits=4", "run_twice"])
@pytest.mark.parametrize("other", sorted(ALL_KV))
def test_a_users_wrapper_composes_with_every_cache_policy(file: str, name: str, other: str) -> None:
    technique, plain = t.parse(f"{file}:{name}"), base("dense")
    first, second = (numbers(plain.apply(*x)) for x in ((technique, ALL_KV[other]), (ALL_KV[other], technique)))
    assert first == pytest.approx(second)
    assert first != numbers(plain.apply(technique)) and first != numbers(plain.apply(ALL_KV[other]))


def test_a_users_technique_that_matches_nothing_says_so(file: str) -> None:
    with pytest.raises(NothingMatched, match="shard it first"):
        base("dense").with_plan(tp=1.0).apply(t.parse(f"{file}:narrow_collectives"))
    with pytest.raises(NothingMatched):
        base("dense").apply(t.parse(f"{file}:run_twice"), t.drop_blocks(lambda b: False))


def test_a_block_that_declares_nothing_is_told_what_to_add() -> None:
    class Silent:
        def weights(self) -> tuple[()]:
            return ()

        ops = state = lambda self, step: ()

    silent = model("silent", ATTENTION, Silent())  # type: ignore[arg-type]
    with pytest.raises(TierwiseError, match=r"Silent has no facts\(\)"):
        tw.evaluate(tw.Scenario(silent, "h100-sxm", plan=tw.Plan()))


def test_no_facts_are_lost_on_the_way_through_wrappers() -> None:
    inner = RebuiltAttention(ATTENTION, 64.0, 8.0, 256.0, 0.0, 0.0)
    facts = inner.facts()
    assert (facts.heads, facts.kv_heads) == (HEADS, KV_HEADS)
    assert is_dataclass(facts) and {f.name for f in fields(facts)} >= {"heads", "kv_heads", "experts", "cache"}
