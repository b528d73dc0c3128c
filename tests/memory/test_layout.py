"""Memory as engines lay it out: pipeline stages, windows, blocks of quantized weights, adapters, what they logged."""

import statistics
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml

import tierwise as tw
from tierwise import engines
from tierwise.core.errors import BadField
from tierwise.core.numerics import fmt
from tierwise.machines import system
from tierwise.memory.account import CachePool, cache_pool, stage_weights, weight_bytes
from tierwise.memory.rules import rules
from tierwise.memory.stages import split
from tierwise.models.load import load_model
from tierwise.models.types import Model
from tierwise.scenario.resolve import check_plan, default_plan
from tierwise.serving.constants import CONSTANTS
from tierwise.serving.deployment import Deployment, Replicas, Settings, Speculation
from tierwise.serving.pricing import pool_of, step_prices
from tierwise.serving.room import fitted


@pytest.mark.parametrize(
    ("rule", "depth", "stages", "layers"),
    [("middle", 61, 8, [7, 7, 8, 8, 8, 8, 8, 7]), ("middle", 5, 3, [2, 2, 1]), ("middle", 22, 4, [5, 6, 6, 5]),
     ("last", 61, 8, [7, 7, 7, 8, 8, 8, 8, 8]), ("first", 61, 8, [8, 8, 8, 8, 8, 7, 7, 7])],
)  # fmt: skip
def test_layers_left_over_go_where_the_engine_puts_them(rule: str, depth: int, stages: int, layers: list[int]) -> None:
    assert split(depth, stages, rule).tolist() == layers


def test_the_fullest_stage_decides_and_stages_hold_the_whole() -> None:
    """DeepSeek-V3: 3 dense layers, then 58 mixtures; eight of these on a stage (vllm-project/vllm#14120)."""
    model = load_model("deepseek-v3")
    whole = weight_bytes(model, tw.Plan())["expert"]
    stages = stage_weights(model, tw.Plan(pp=8.0))
    assert sum(stages["expert"]) == pytest.approx(whole)
    assert weight_bytes(model, tw.Plan(pp=8.0))["expert"] == pytest.approx(8 / 58 * whole)
    assert stages["expert"][0] == pytest.approx(4 / 58 * whole)
    assert stages["embed"][1:] == [0.0] * 7 and stages["head"][:-1] == [0.0] * 7


def test_stages_of_many_degrees_are_those_of_each() -> None:
    model = load_model("deepseek-v3")
    degrees = np.array([1.0, 4.0, 8.0, 3.0])
    found = weight_bytes(model, tw.Plan(pp=degrees, tp=np.array([8.0, 2.0, 1.0, 1.0])))
    each = [weight_bytes(model, tw.Plan(pp=float(p), tp=t)) for p, t in zip(degrees, (8.0, 2.0, 1.0, 1.0), strict=True)]
    total = [sum(x.values()) for x in each]
    assert sum(found.values()) == pytest.approx(total)


@pytest.mark.parametrize("context", [300.0, 4000.0, 60000.0])
def test_windows_hold_the_chunk_in_work_once(context: float) -> None:
    """vLLM keeps window - 1 + max_num_batched_tokens of a request at most, and frees what lies before the window before
    the next chunk (vllm/v1/kv_cache_interface.py, SlidingWindowSpec)."""
    model = load_model("gemma-3-27b")
    local = [b for s in model.stacks for k, n in s.runs() for b in k.blocks if getattr(b, "window", None) is not None]
    layer = local[0]
    count = sum(n for s in model.stacks for k, n in s.runs() for b in k.blocks if b in local)
    token = 2 * 2 * layer.kv_heads * layer.head_dim  # type: ignore[attr-defined]
    traffic = tw.Batch(context - 100.0, 100.0 + 1.0, 7.0)
    engine = tw.evaluate(tw.Scenario(model, "8xh200-sxm", traffic, tw.Plan(tp=1.0, chunk=8192.0), engine="vllm")).memory
    alone = tw.evaluate(tw.Scenario(model, "8xh200-sxm", traffic, tw.Plan(tp=1.0), engine="kernels")).memory
    window = layer.window  # type: ignore[attr-defined]
    more = min(context, window + 8192.0) - min(context, window)
    assert engine.kv - alone.kv == pytest.approx(count * token * more)
    assert engine.admitted == pytest.approx(engine.per_sequence + count * token * more)


def blockwise(model: Model) -> Model:
    return replace(model, formats={**model.formats, "expert": fmt("fp8-block"), "attn": fmt("fp8-block")})


def test_a_degree_that_cuts_a_block_of_quantized_weights_is_refused() -> None:
    """Experts of 1536 channels in blocks of 128: 192 an eighth (vllm-project/vllm#17569)."""
    model, machine = blockwise(load_model("qwen3-235b-a22b")), system("8xh200-sxm")
    with pytest.raises(BadField, match=r"tp.*128.*1536.*1, 2, 3, 4, 6, 12.*ep = tp"):
        check_plan(tw.Plan(tp=8.0), model, machine)
    check_plan(tw.Plan(tp=8.0, ep=8.0), model, machine)
    check_plan(tw.Plan(tp=4.0, pp=2.0), model, machine)
    check_plan(tw.Plan(tp=8.0), load_model("qwen3-235b-a22b"), machine)
    chosen = default_plan(model, machine)
    assert (chosen.tp, chosen.ep) == (8.0, 8.0)
    # Keys of 192 channels a head in blocks of 128, of four heads in some layers and eight in others: heads are loaded
    # with the scales they touch (vllm-project/vllm#30836), and replicated where there are more devices.
    for degree in (2.0, 4.0, 8.0, 16.0):
        check_plan(tw.Plan(tp=degree, ep=degree), load_model("mimo-v2-flash"), system("16xh200-sxm"))
    dense = replace(load_model("llama-3.1-8b"), formats={"*": fmt("int4-g512")})
    assert default_plan(dense, machine).tp == 4.0  # 14336 / 8 = 3.5 groups of 512


def test_adapters_take_what_the_cache_would_have() -> None:
    """83.9 MB each of rank 16 on all linear layers of Llama-3.1-8B (vllm-project/vllm#20160)."""
    model = load_model("llama-3.1-8b")

    def pool(**settings: object) -> CachePool:
        return pool_of(model, Replicas(system("rtx-4090"), tw.Plan(), settings=Settings(**settings)), 4096.0)  # type: ignore[arg-type]

    none, many = pool(), pool(adapters=64)
    assert none.room - many.room == pytest.approx(64 * 16 * 2 * 32 * (2 * 8192 + 2 * 5120 + 3 * (4096 + 14336)))
    # One request of 1,250 tokens is left room for, of 34.
    assert [int(p.room // (1250 * 131072)) for p in (none, many)] == [34, 1]
    few = pool(adapters=64, modules="qv")
    assert none.room - few.room == pytest.approx(64 * 16 * 2 * 32 * (2 * 4096 + 5120))
    assert pool(adapters=64, rank=8).room == pytest.approx((none.room + many.room) / 2)


def test_adapters_cost_time() -> None:
    model, machine = load_model("llama-3.1-8b"), system("h100-sxm")
    asked = (Settings(adapters=n, rank=r, max_len=2048) for n, r in ((0, 16), (8, 16), (8, 64)))
    plain, some, more = (step_prices(model, Replicas(machine, tw.Plan(), settings=s)).tokens[32, 0] for s in asked)
    assert plain < some < more < 2 * plain


def test_drafts_and_their_logits_are_counted() -> None:
    model = load_model("llama-3.1-8b")

    def pool(drafts: Speculation) -> CachePool:
        return pool_of(model, Replicas(system("h100-sxm"), tw.Plan(), settings=Settings(speculation=drafts)), 4096.0)

    none, some = pool(Speculation()), pool(Speculation(4, cost=0.05))
    assert some.memory.weights["draft model"] == pytest.approx(0.05 * (16.06e9 - 1.05e9), rel=0.01)
    assert some.room < none.room - 0.05 * 15e9
    own = load_model("deepseek-v3")
    assert any(not s.active for s in own.stacks)
    machine, plan = system("8xh200-sxm"), tw.Plan(tp=8.0, ep=8.0)
    found = [pool_of(own, Replicas(machine, plan, settings=Settings(speculation=d)), 4096.0)
             for d in (Speculation(), Speculation(1))]  # fmt: skip
    assert found[1].memory.weights["expert"] == pytest.approx(found[0].memory.weights["expert"] * 59 / 58)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_a_request_of_the_length_that_is_launched_fits(engine: str) -> None:
    """16 GiB for 131,072 tokens are more than an L4 has beside the weights (mlcommons/mlperf-automations#550)."""
    model = load_model("llama-3.1-8b")
    asks = Deployment(model, (Replicas(system("l4"), tw.Plan(), settings=Settings(engine=engine, budget=2048)),))
    length = fitted(asks).groups[0].settings.max_len
    assert 1250 < length < (40000 if engine == "trtllm" else 36000)
    assert fitted(asks, least=30000).groups[0].settings.max_len >= 30000
    wide = replace(asks, groups=(replace(asks.groups[0], machine=system("h200-sxm")),))
    assert fitted(wide).groups[0].settings.max_len == 0


def test_pools_are_those_that_engines_logged() -> None:
    """Median error of the tokens (or bytes) that engines found room for; the worst leaves the launch margin."""
    rows = yaml.safe_load(Path(__file__).with_name("recorded_pools.yaml").read_text())
    errors = []
    for r in (r for r in rows if "beside" not in r):
        model = load_model(r["model"])
        if r.get("weights"):
            model = blockwise(model)
        if r.get("window") == "none":
            model = model.map_blocks(lambda b: replace(b, window=None) if hasattr(b, "window") else b)  # type: ignore[type-var]
        plan = tw.Plan(tp=float(r.get("tp", 1)))
        how = rules(engines.load(r["engine"]), plan, share=r.get("share", 0.9), budget=float(r["budget"]))
        pool = cache_pool(model, system(r["machine"]), plan, how, float(r["longest"]))
        tokens = pool.room / (pool.token + pool.fixed / r["longest"])
        errors.append(tokens / r["tokens"] if "tokens" in r else pool.room / plan.tp / 2**30 / r["gib"])
    assert statistics.median(abs(x - 1.0) for x in errors) < 0.12
    assert all(CONSTANTS["room.margin"] < 1 / x < 1.1 for x in errors), errors


def test_the_slowest_stage_sets_the_pace() -> None:
    """Five layers on four stages take as long as eight on four: each stage but one waits for the one with two."""
    model = load_model("llama-3.1-8b")
    stack = model.stacks[0]

    def tpot(depth: int, pp: float) -> float:
        cut = replace(model, stacks=(replace(stack, pattern=(0,) * depth, before=(), after=()), *model.stacks[1:]))
        traffic, plan = tw.Batch(1000.0, 3.0, 64.0), tw.Plan(pp=pp)
        return float(tw.evaluate(tw.Scenario(cut, "4xh100-sxm", traffic, plan, engine="kernels")).tpot)

    assert tpot(8, 4.0) == pytest.approx(tpot(5, 4.0), rel=0.05)
    assert tpot(5, 4.0) > 1.4 * tpot(4, 4.0)
    assert tpot(5, 1.0) < 1.3 * tpot(4, 1.0)


def test_an_indexer_caches_132_bytes_a_token() -> None:
    """vLLM's DeepseekV32IndexerCache: 128 keys of a byte and an fp32 scale, beside 576 latents of 2 bytes."""
    from tierwise.models.blocks.mla import MLA, Indexer
    from tierwise.models.step import Step

    block = MLA(7168.0, 128.0, 1536.0, 512.0, 128.0, 64.0, 128.0, indexer=Indexer(64.0, 128.0, 2048.0))
    step = Step(load_model("deepseek-v3"), tw.Plan(), 1.0, 1.0, 999.0, "decode")
    assert sum(float(s.elements * s.format.bytes) for s in block.state(step)) == pytest.approx(1000 * (576 * 2 + 132))


def test_a_pool_of_its_own_for_windows() -> None:
    """SGLang divides its caches once: layers with a window have 0.8 of the others' tokens (sglang#22389)."""
    plan, machine = tw.Plan(), system("8xh200-sxm")

    def each(name: str, engine: str) -> float:
        model, found = load_model(name), rules(engines.load(engine), plan)
        return float(np.max(cache_pool(model, machine, plan, found, 100_000.0).memory.per_sequence))

    half = 36 / 2 * 2 * 2 * 8 * 64  # of a token of gpt-oss-120b, in layers of either kind
    assert each("gpt-oss-120b", "sglang") == pytest.approx(100_000 * half * 1.8)
    assert each("gpt-oss-120b", "vllm") == pytest.approx((100_000 + 128) * half)
    # Where all layers are alike there is one pool.
    assert each("llama-3.1-8b", "sglang") == each("llama-3.1-8b", "vllm")
