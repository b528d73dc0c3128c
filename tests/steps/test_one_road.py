"""One question, one number: explain, the simulator's tables, the planner's arrays and the step function itself."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import tierwise as tw
from tierwise.machines import system
from tierwise.memory.account import account
from tierwise.memory.rules import rules
from tierwise.models.step import Step
from tierwise.scenario.types import KV, Plan
from tierwise.serving.coefficients import calibration, own_steps
from tierwise.serving.deployment import Replicas, Settings
from tierwise.serving.pricing import engine_of, pool_of, step_prices
from tierwise.serving.steady import START, step_seconds
from tierwise.serving.step_times import ClosedLoopPoint, room, step_times
from tierwise.serving.steps import StepPrices
from tierwise.steps.cost import step_time
from tierwise.steps.price import EngineOn, price_step, recorded
from tierwise.steps.state import Chunk, StepState

# Each kind of model and layout: (model, machine, plan) by random draws from these.
KINDS = {
    "dense": (["llama-3.1-8b", "llama-2-13b", "qwen3-32b", "phi-4"], [{"tp": 1}, {"tp": 2}, {"tp": 4}]),
    "moe": (["mixtral-8x7b", "gpt-oss-20b", "qwen3-30b-a3b"], [{"tp": 2}, {"tp": 4}]),
    "mla": (["deepseek-v2-lite", "deepseek-v3"], [{"tp": 8}, {"tp": 8, "ep": 8}]),
    "hybrid": (["jamba-v0.1", "qwen3-next-80b-a3b"], [{"tp": 4}, {"tp": 8}]),
    "pipelined": (["llama-3.1-70b", "qwen3-32b"], [{"tp": 2, "pp": 2}, {"tp": 2, "pp": 4}]),
    "experts spread": (["mixtral-8x7b", "qwen3-235b-a22b"], [{"tp": 1, "dp": 8, "ep": 8}, {"tp": 4, "ep": 4}]),
    "overlapped": (["llama-3.1-70b", "qwen3-32b"],
                   [{"tp": 4, "overlap": True, "library": True}, {"tp": 8, "overlap": True}]),
}  # fmt: skip
MACHINES = ("8xh100-sxm", "8xa100-sxm-80gb", "8xl40s", "8xb200-sxm", "8xmi300x", "8xh200-sxm")
ENGINES = ("vllm", "sglang", "trtllm")
DRAWS = 30


@cache
def known() -> frozenset[str]:
    from tierwise.models.load import model_names

    return frozenset(model_names())


def drawn(kind: str, i: int) -> tuple[EngineOn, Replicas, StepPrices]:
    rng = np.random.default_rng([i, sum(map(ord, kind))])
    models, plans = KINDS[kind]
    models = [m for m in models if m in known()]
    plan = dict(plans[rng.integers(len(plans))])
    flags = {k: plan.pop(k) for k in ("overlap", "library") if k in plan}
    kv = tw.fmt("fp8") if rng.random() < 0.3 else None
    model = tw.load_model(models[rng.integers(len(models))])
    p = Plan(**{k: float(v) for k, v in plan.items()}, **flags, kv=KV(key=kv, value=kv))  # type: ignore[arg-type]
    settings = Settings(engine=ENGINES[rng.integers(3)], max_seqs=int(rng.choice([64, 256])),
                        budget=int(rng.choice([512, 2048])), max_len=32768)  # fmt: skip
    replicas = Replicas(system(MACHINES[rng.integers(len(MACHINES))]), p, settings=settings)
    return engine_of(model, replicas), replicas, step_prices(model, replicas)


def looked_up(p: StepPrices, on: EngineOn, decodes: float, context: float, chunks: list[tuple[float, float]]) -> float:
    """Seconds of a step of the whole engine from the tables, as the compiled loop adds them up."""

    def between(table: np.ndarray, xs: np.ndarray, ys: np.ndarray, x: float, y: float) -> float:
        rows = [np.interp(y, ys, row) for row in table[..., 0]]
        return float(np.interp(x, xs, rows))

    prompt = sum(q for q, _ in chunks)
    tokens, replayed = decodes + prompt, False
    if (not prompt or tokens <= p.mixed_graphs) and len(p.graph_sizes):
        at = int(np.searchsorted(p.graph_sizes, tokens))
        if at < len(p.graph_sizes):
            tokens, replayed = float(p.graph_sizes[at]), True
    device = p.tokens[int(tokens), 0] + p.heads[int(decodes + len(chunks)), 0]
    if decodes:
        table = p.decode_mixed if prompt and p.decode_mixed is not None else p.decode
        device += between(table, p.decode_seqs, p.decode_context, decodes, context)
    device += sum(between(p.prefill, p.prefill_new, p.prefill_context, q, c) for q, c in chunks)
    host = p.host[0] + p.host[1] * (decodes + len(chunks)) + p.host[2] * len(chunks) + p.host[3] * prompt
    return float(np.asarray(step_time(device, 0.0 if replayed else p.launch, host, bool(p.ahead))))


def asked(on: EngineOn, decodes: float, context: float, chunks: list[tuple[float, float]]) -> float:
    """The same from the step function; ranks share what there is evenly."""
    ranks = float(on.plan.dp)
    parts = tuple(Chunk(q, c, 1.0 / ranks) for q, c in chunks)
    logits = (decodes + len(chunks)) / ranks
    return float(np.asarray(price_step(on, StepState(decodes / ranks, decodes / ranks * context, chunks=parts,
                                                     logits=logits)).time))  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_the_tables_say_what_the_step_function_says_at_their_nodes(kind: str) -> None:
    for i in range(DRAWS // 6):
        on, _, p = drawn(kind, i)
        rng = np.random.default_rng(i)
        for _ in range(6):
            d = float(rng.choice(p.decode_seqs[p.decode_seqs >= on.plan.dp]))
            c = float(rng.choice(p.decode_context[1:]))
            assert looked_up(p, on, d, c, []) == pytest.approx(asked(on, d, c, []), rel=1e-9)
            if float(on.plan.dp) > 1:
                continue
            q, past = float(rng.choice(p.prefill_new[1:])), float(rng.choice(p.prefill_context))
            assert looked_up(p, on, 0.0, 0.0, [(q, past)]) == pytest.approx(asked(on, 0.0, 0.0, [(q, past)]), rel=1e-9)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "overlapped"])
def test_steps_that_decode_beside_chunks_add_up(kind: str) -> None:
    for i in range(DRAWS // 10):
        on, _, p = drawn(kind, i)
        rng = np.random.default_rng(i)
        for _ in range(4):
            d = float(rng.choice(p.decode_seqs[p.decode_seqs >= on.plan.dp]))
            c = float(rng.choice(p.decode_context[3:]))
            q, past = float(rng.choice(p.prefill_new[1:])), float(rng.choice(p.prefill_context))
            if d + q > len(p.tokens) - 1 or d + 1 > len(p.heads) - 1:  # more than a step takes
                continue
            # Rows of both are rarely a node of the table by tokens.
            assert looked_up(p, on, d, c, [(q, past)]) == pytest.approx(asked(on, d, c, [(q, past)]), rel=5e-3)


def test_between_their_nodes_the_tables_are_close() -> None:
    off = []
    for kind in KINDS:
        for i in range(3):
            on, _, p = drawn(kind, i)
            rng = np.random.default_rng([7, i])
            for _ in range(25):
                d = float(rng.integers(int(on.plan.dp), int(p.decode_seqs[-1]) + 1))
                c = float(np.round(np.exp(rng.uniform(np.log(64.0), np.log(p.decode_context[-1])))))
                off.append(abs(looked_up(p, on, d, c, []) / asked(on, d, c, []) - 1.0))
    assert np.quantile(off, 0.99) <= 0.005
    assert np.max(off) <= 0.015


@pytest.mark.parametrize("kind", KINDS)
def test_explain_says_what_the_step_function_says(kind: str) -> None:
    for i in range(DRAWS):
        rng = np.random.default_rng([3, i])
        on, replicas = lightly(kind, i)
        batch, prompt = float(rng.choice([1, 3, 32, 100]) * on.plan.dp * on.plan.pp), float(rng.integers(16, 4096))
        r = tw.evaluate(tw.Scenario(on.model, replicas.machine, tw.Batch(prompt, 3.0, batch), replicas.plan,
                                    engine=replicas.settings.engine))  # fmt: skip
        seqs = batch / on.plan.dp / on.plan.pp
        context = prompt + 0.5
        direct = price_step(on, StepState(seqs, seqs * context)).time
        assert float(np.asarray(r.tpot)) == pytest.approx(float(np.asarray(direct)), rel=1e-9)


def lightly(kind: str, i: int) -> tuple[EngineOn, Replicas]:
    """A draw without its tables."""
    rng = np.random.default_rng([i, 5, sum(map(ord, kind))])
    models, plans = KINDS[kind]
    models = [m for m in models if m in known()]
    plan = dict(plans[rng.integers(len(plans))])
    flags = {k: plan.pop(k) for k in ("overlap", "library") if k in plan}
    model = tw.load_model(models[rng.integers(len(models))])
    p = Plan(**{k: float(v) for k, v in plan.items()}, **flags)  # type: ignore[arg-type]
    replicas = Replicas(system(MACHINES[rng.integers(len(MACHINES))]), p,
                        settings=Settings(engine=ENGINES[rng.integers(3)]))  # fmt: skip
    return engine_of(model, replicas), replicas


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "overlapped"])
def test_the_planners_arrays_say_what_the_step_function_says(kind: str) -> None:
    for i in range(DRAWS):
        on, _ = lightly(kind, i)
        rng = np.random.default_rng([9, i])
        one = np.ones(1)
        n, isl, osl = float(rng.choice([1, 8, 32, 128])), float(rng.integers(32, 4096)), float(rng.integers(2, 512))
        point = ClosedLoopPoint(one * on.plan.tp, one * on.plan.dp, one * on.plan.ep, one * n * on.plan.dp, one * isl,
                                one * osl, 0.0 * one)  # fmt: skip
        coef = {name: np.asarray([start]) for name, start in START.items()}
        steps = step_seconds(point, step_times(on, point), own_steps(coef, on.fixes), one * n)
        direct = price_step(on, StepState(n, n * (isl + osl / 2.0))).time
        assert float(steps[0]) == pytest.approx(float(np.asarray(direct)), rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_one_account_to_the_last_byte(kind: str) -> None:
    for i in range(DRAWS // 3):
        on, replicas = lightly(kind, i)
        s, length = replicas.settings, 2048.0
        r = tw.evaluate(tw.Scenario(on.model, replicas.machine, tw.Batch(length - 1.0, 2.0, 1.0), replicas.plan,
                                    engine=s.engine))  # fmt: skip
        pool = pool_of(on.model, replicas, length)
        held = pool.memory
        how = rules(on.facts, replicas.plan)
        final = Step(on.model, replicas.plan, 0.0, 1.0, length - 1.0, "decode")
        planned = room(on.model, replicas.machine, replicas.plan, how, length) * replicas.plan.pp
        direct = account(on.model, replicas.machine, replicas.plan, how, final)
        assert float(np.asarray(r.memory.cache_room)) == float(np.asarray(held.cache_room))
        assert float(np.asarray(direct.cache_room)) == float(np.asarray(held.cache_room))
        assert float(np.asarray(direct.sequences)) == float(np.asarray(planned))
        most = tw.evaluate(tw.Scenario(on.model, replicas.machine, tw.Batch(length - 1.0, 2.0, "max"), replicas.plan,
                                       engine=s.engine)).batch  # fmt: skip
        seats = float(np.floor(np.asarray(direct.sequences))) * float(on.plan.dp)
        if seats <= float(np.asarray(how.max_seqs)) * float(on.plan.dp):
            assert float(np.asarray(most)) == seats


def test_calibrations_are_read_from_file_once() -> None:
    assert calibration() is calibration()
    assert recorded(lightly("dense", 0)[0], StepState(3.0, 300.0))[0].padding >= 0.0
