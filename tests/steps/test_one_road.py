"""One question, one number: explain, the simulator's tables, the planner's arrays and the step function itself."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import NamedTuple

import numpy as np
import pytest

import tierwise as tw
from tierwise.core.num import Num
from tierwise.cost.energy import actions
from tierwise.machines import system
from tierwise.memory.account import account
from tierwise.memory.rules import rules
from tierwise.models.step import Step as Pass
from tierwise.scenario.types import KV, Plan
from tierwise.serving.coefficients import calibration, own_steps
from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.pricing import engine_of, pool_of, step_prices
from tierwise.serving.reordered import DRAWN, FIRST, LEVELS, SCALE
from tierwise.serving.steady import START, step_curve
from tierwise.serving.step_times import ClosedLoopPoint, room, step_times
from tierwise.serving.steps import StepPrices
from tierwise.serving.traffic.trace import trace
from tierwise.steps.price import EngineOn, price_step, recorded
from tierwise.steps.priced import step_time
from tierwise.steps.state import Chunk, StepState
from tierwise.techniques.tiers import partial_offload

# Each kind of model and layout: (model, machine, plan) by random draws from these.
KINDS = {
    "dense": (["llama-3.1-8b", "llama-2-13b", "qwen3-32b", "phi-4"], [{"tp": 1}, {"tp": 2}, {"tp": 4}]),
    "moe": (["mixtral-8x7b", "gpt-oss-20b", "qwen3-30b-a3b"], [{"tp": 2}, {"tp": 4}]),
    "mla": (["deepseek-v2-lite", "deepseek-v3"], [{"tp": 8}, {"tp": 8, "ep": 8}]),
    "hybrid": (["jamba-v0.1", "qwen3-next-80b-a3b"], [{"tp": 4}, {"tp": 8}]),
    "pipelined": (["llama-3.1-70b", "qwen3-32b"], [{"tp": 2, "pp": 2}, {"tp": 2, "pp": 4}]),
    "experts spread": (["mixtral-8x7b", "qwen3-235b-a22b"], [{"tp": 1, "dp": 8, "ep": 8}, {"tp": 4, "ep": 4}]),
    "in two batches": (["llama-3.1-70b", "mixtral-8x7b"], [{"tp": 8, "schedule": "two_batches"}]),
    "overlapped": (["llama-3.1-70b", "qwen3-32b"],
                   [{"tp": 4, "overlap": True, "library": True}, {"tp": 8, "overlap": True}]),
}  # fmt: skip
MACHINES = ("8xh100-sxm", "8xa100-sxm-80gb", "8xl40s", "8xb200-sxm", "8xmi300x", "8xh200-sxm")
ENGINES = ("vllm", "sglang", "trtllm")
# Those whose ops are not issued one after the other.
REORDERED = ("overlapped", "in two batches")
DRAWS = 30
# Fields of a plan that are no degrees.
ORDERED = ("overlap", "library", "schedule")


def draws(kind: str) -> int:
    return DRAWS if kind != "in two batches" else DRAWS // 5


@cache
def known() -> frozenset[str]:
    from tierwise.models.load import model_names

    return frozenset(model_names())


@cache
def drawn(kind: str, i: int) -> tuple[EngineOn, Replicas, StepPrices]:
    rng = np.random.default_rng([i, sum(map(ord, kind))])
    models, plans = KINDS[kind]
    models = [m for m in models if m in known()]
    plan = dict(plans[rng.integers(len(plans))])
    flags = {k: plan.pop(k) for k in ORDERED if k in plan}
    kv = tw.fmt("fp8") if rng.random() < 0.3 else None
    model = tw.load_model(models[rng.integers(len(models))])
    p = Plan(**{k: float(v) for k, v in plan.items()}, **flags, kv=KV(key=kv, value=kv))  # type: ignore[arg-type]
    settings = Settings(engine=ENGINES[rng.integers(3)], max_seqs=int(rng.choice([64, 256])),
                        budget=int(rng.choice([512, 2048])), max_len=32768)  # fmt: skip
    replicas = Replicas(system(MACHINES[rng.integers(len(MACHINES))]), p, settings=settings)
    return engine_of(model, replicas), replicas, step_prices(model, replicas)


class Step(NamedTuple):
    """Seconds of a step of the whole engine, and joules of its devices meanwhile."""

    time: float
    energy: float


def looked_up(p: StepPrices, on: EngineOn, decodes: float, context: float, chunks: list[tuple[float, float]]) -> Step:
    """A step from the tables, as the compiled loop adds them up."""

    def between(table: np.ndarray, xs: np.ndarray, ys: np.ndarray, x: float, y: float) -> np.ndarray:
        i, j = (int(np.clip(np.searchsorted(a, v, "right") - 1, 0, len(a) - 2)) for a, v in ((xs, x), (ys, y)))
        u, v = (x - xs[i]) / (xs[i + 1] - xs[i]), (y - ys[j]) / (ys[j + 1] - ys[j])
        low, high = (table[k, j] * (1 - v) + table[k, j + 1] * v for k in (i, i + 1))
        return low * (1 - u) + high * u

    prompt = sum(q for q, _ in chunks)
    tokens, replayed = decodes + prompt, False
    if (not prompt or tokens <= p.mixed_graphs) and len(p.graph_sizes):
        at = int(np.searchsorted(p.graph_sizes, tokens))
        if at < len(p.graph_sizes):
            tokens, replayed = float(p.graph_sizes[at]), True
    other, yields = p.reordered, int(decodes + len(chunks))
    apart = other is not None and prompt and (decodes or len(chunks) > 1)
    heads = other.heads[yields] if apart else p.heads[yields]
    found = p.tokens[int(tokens)] + heads + np.array([p.gap_sequence * yields, 0.0, 0.0, 0.0, 0.0, 0.0])
    if decodes:
        table = p.decode_mixed if prompt and p.decode_mixed is not None else p.decode
        found = found + between(table, p.decode_seqs, p.decode_context, decodes, context)
    if other is not None and len(chunks) == 1 and not decodes:
        found = found + between(other.alone, p.prefill_new, p.prefill_context, *chunks[0])
    else:
        more = sum((between(p.prefill, p.prefill_new, p.prefill_context, q, c) for q, c in chunks), np.zeros(6))
        found = found + more
        if apart:
            draw = more[:3] + other.once * len(chunks)
            busy, chunk, own = min(draw[0], max(draw[1:])), draw[1:] / draw[0], 0.0
            i = int(np.clip(np.searchsorted(other.rows, tokens, "right") - 1, 0, len(other.rows) - 2))
            w = min((tokens - other.rows[i]) / (other.rows[i + 1] - other.rows[i]), 1.0)
            row = (1.0 - w) * other.covering[i] + w * other.covering[i + 1]
            off = 0.0
            if decodes:
                alone = between(other.decode, p.decode_seqs, p.decode_context, decodes, context)
                own, *drawn = alone + other.once
                busy += min(own, max(drawn))
                off = covered(row, other.draws, drawn[0] / own, drawn[1] / own, own)
                off -= covered(row, other.draws, *chunk, own)
            device = found[0] - off - covered(row, other.draws, *chunk, own + draw[0])
            joules, working = other.work[min(int(tokens), len(other.work) - 1)]
            joules -= other.active * min(device - working - heads[0] - busy, 0.0)
            found = found - np.array([found[0] - device, 0.0, 0.0, 0.0, joules, 0.0])
    host = p.host[0] + p.host[1] * (decodes + len(chunks)) + p.host[2] * len(chunks) + p.host[3] * prompt
    time = float(np.asarray(step_time(found[0], 0.0 if replayed else p.launch, host, bool(p.ahead))))
    time = max(time, found[-2] / p.power_left)  # of what the devices spend, not the host
    # With stages there are as many steps at once, which share what the engine draws all the time.
    return Step(time, found[-2] + found[-1] + p.power_idle / p.stages * time)


def covered(row: np.ndarray, draws: int, x: float, y: float, seconds: float) -> float:
    """Seconds that sequences take off which draw ``x`` on the engines and ``y`` on the memory."""
    found = row[FIRST:].reshape(draws, draws, len(LEVELS))
    cells = np.asarray([[np.interp(seconds / row[SCALE], LEVELS, cell) for cell in line] for line in found])
    if draws == 1:
        return float(cells[0, 0])
    return float(np.interp(x, DRAWN, [np.interp(y, DRAWN, line) for line in cells]))


def asked(on: EngineOn, decodes: Num, context: Num, chunks: list[tuple[Num, Num]]) -> np.ndarray:
    """The same from the step function; ranks share what there is evenly. Sizes may be arrays: (..., 2)."""
    ranks = float(on.plan.dp)
    parts = tuple(Chunk(q, c, 1.0 / ranks) for q, c in chunks)
    logits = (decodes + len(chunks)) / ranks
    cost = price_step(on, StepState(decodes / ranks, decodes / ranks * context, chunks=parts, logits=logits))
    each = sum(cost.joules(actions(on.device), cost.time).values()) + on.target.system.overhead_power * cost.time
    return np.stack([cost.time, float(on.plan.devices / on.plan.pp) * each], axis=-1)


@pytest.mark.parametrize("kind", KINDS)
def test_the_tables_say_what_the_step_function_says_at_their_nodes(kind: str) -> None:
    """Time and energy of steps that decode and of chunks."""
    for i in range(draws(kind) // 6):
        on, _, p = drawn(kind, i)
        rng = np.random.default_rng(i)
        d, c = rng.choice(p.decode_seqs[p.decode_seqs >= on.plan.dp], 6), rng.choice(p.decode_context[1:], 6)
        found = [looked_up(p, on, *x, []) for x in zip(d, c, strict=True)]
        assert np.asarray(found) == pytest.approx(asked(on, d, c, []), rel=1e-9)
        if float(on.plan.dp) == 1:
            q, past = rng.choice(p.prefill_new[1:], 6), rng.choice(p.prefill_context, 6)
            found = [looked_up(p, on, 0.0, 0.0, [x]) for x in zip(q, past, strict=True)]
            assert np.asarray(found) == pytest.approx(asked(on, 0.0, 0.0, [(q, past)]), rel=1e-9)


def mixed_steps(p: StepPrices, rng: np.random.Generator, n: int, ranks: float = 1.0) -> list[np.ndarray]:
    """Sequences that decode, their context, new tokens of a chunk and those before it, wherever they lie: (n,) each."""
    d = rng.integers(ranks, min(int(p.decode_seqs[-1]), len(p.heads) - 1), n) * 1.0
    c = np.round(np.exp(rng.uniform(np.log(64.0), np.log(p.decode_context[-1]), n)))
    most = np.minimum(p.prefill_new[-1], len(p.tokens) - 1 - d)
    q = np.floor(np.exp(rng.uniform(0.0, np.log(np.maximum(most, 1.0)))))
    past = np.round(np.exp(rng.uniform(0.0, np.log(p.prefill_context[-1]), n))) * (rng.random(n) < 0.7)
    return [x[most >= 1.0] for x in (d, c, q, past)]


def off_nodes(kind: str, scenarios: int, n: int) -> np.ndarray:
    """How far time and energy of mixed steps are off, wherever they lie: (m, 2)."""
    off: list[np.ndarray] = []
    for i in range(scenarios):
        on, _, p = drawn(kind, i)
        d, c, q, past = mixed_steps(p, np.random.default_rng([13, i]), n, float(on.plan.dp))
        found = [looked_up(p, on, *x[:2], [x[2:]]) for x in zip(d, c, q, past, strict=True)]
        off += [*np.abs(np.asarray(found) / asked(on, d, c, [(q, past)]) - 1.0)]
    return np.asarray(off)


@pytest.mark.parametrize("kind", KINDS)
def test_steps_that_decode_beside_chunks_are_close_wherever_they_lie(kind: str) -> None:
    """Decoding sequences and a chunk cover a collective, or the other micro-batch, together: what each takes off alone
    does not add up."""
    off = off_nodes(kind, {"overlapped": DRAWS}.get(kind, 6), 20 if kind == "overlapped" else 60)
    assert len(off) >= 300
    assert np.all(np.quantile(off, 0.99, axis=0) <= (0.005, 0.01)) and np.all(np.max(off, axis=0) <= 0.015)


def test_the_compiled_loop_looks_a_mixed_step_up_the_same_way() -> None:
    pytest.importorskip("numba")
    from tierwise.serving.loop import layout
    from tierwise.serving.loop.price import chunk_price, step_price
    from tierwise.serving.loop.tables import tables

    for kind, i in (("overlapped", 3), ("in two batches", 3), ("dense", 1)):
        on, replicas, p = drawn(kind, i)
        groups, flat, graphs = tables(Deployment(on.model, (replicas,)), [p])
        for d, c, q, past in zip(*mixed_steps(p, np.random.default_rng([17, i]), 12), strict=True):
            for decodes, chunks in ((d, [(q, past)]), (0.0, [(q, past)]), (0.0, [(1.0, past), (q, 0.0)]), (d, [])):
                engine = np.zeros(1, layout.ENGINE)[0]
                engine["decoding"], engine["context"] = int(decodes), int(decodes * c)
                engine["prompts"], engine["yields"] = len(chunks), int(decodes) + len(chunks)
                engine["prompt_tokens"] = int(sum(x for x, _ in chunks))
                for x, before in chunks:
                    chunk_price(groups[0], flat, engine, int(x), int(before))
                step_price(groups[0], flat, graphs, engine)
                said = looked_up(p, on, decodes, c, chunks)
                found = (engine["dt"], engine["joules"] + p.power_idle / p.stages * engine["dt"])
                assert found == pytest.approx(said, rel=1e-12)


def test_between_their_nodes_the_tables_are_close() -> None:
    off: list[np.ndarray] = []
    for kind in KINDS:
        for i in range(3):
            on, _, p = drawn(kind, i)
            rng = np.random.default_rng([7, i])
            d = rng.integers(int(on.plan.dp), int(p.decode_seqs[-1]) + 1, 25) * 1.0
            c = np.round(np.exp(rng.uniform(np.log(64.0), np.log(p.decode_context[-1]), 25)))
            found = np.asarray([looked_up(p, on, *x, []) for x in zip(d, c, strict=True)])
            off += [*np.abs(found / asked(on, d, c, []) - 1.0)]
    # Of the time, and of the energy.
    assert np.all(np.quantile(off, 0.99, axis=0) <= (0.005, 0.01))
    assert np.all(np.max(off, axis=0) <= 0.015)


@pytest.mark.parametrize("kind", KINDS)
def test_explain_says_what_the_step_function_says(kind: str) -> None:
    for i in range(draws(kind)):
        rng = np.random.default_rng([3, i])
        on, replicas = lightly(kind, i)
        batch, prompt = float(rng.choice([1, 3, 32, 100]) * on.plan.dp * on.plan.pp), float(rng.integers(16, 4096))
        r = tw.evaluate(tw.Scenario(on.model, replicas.machine, tw.Batch(prompt, 3.0, batch), replicas.plan,
                                    engine=replicas.settings.engine))  # fmt: skip
        seqs = batch / on.plan.dp / on.plan.pp
        context = prompt + 0.5
        direct = price_step(on, StepState(seqs, seqs * context)).time
        assert float(np.asarray(r.phase("decode").pass_time)) == pytest.approx(float(np.asarray(direct)), rel=1e-9)


def lightly(kind: str, i: int) -> tuple[EngineOn, Replicas]:
    """A draw without its tables."""
    rng = np.random.default_rng([i, 5, sum(map(ord, kind))])
    models, plans = KINDS[kind]
    models = [m for m in models if m in known()]
    plan = dict(plans[rng.integers(len(plans))])
    flags = {k: plan.pop(k) for k in ORDERED if k in plan}
    model = tw.load_model(models[rng.integers(len(models))])
    p = Plan(**{k: float(v) for k, v in plan.items()}, **flags)  # type: ignore[arg-type]
    replicas = Replicas(system(MACHINES[rng.integers(len(MACHINES))]), p,
                        settings=Settings(engine=ENGINES[rng.integers(3)]))  # fmt: skip
    return engine_of(model, replicas), replicas


def planned(on: EngineOn, n: float, isl: float, osl: float) -> float:
    """Seconds of a decode step of ``n`` sequences a rank by the planner's arrays."""
    one = np.ones(1)
    point = ClosedLoopPoint(one * on.plan.tp, one * on.plan.dp, one * on.plan.ep, one * n * on.plan.dp, one * isl,
                            one * osl, 0.0 * one)  # fmt: skip
    coef = {name: np.asarray([start]) for name, start in START.items()}
    return float(step_curve(point, step_times(on, point), own_steps(coef, on.fixes)).seconds(one * n)[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_planners_arrays_say_what_the_step_function_says(kind: str) -> None:
    for i in range(DRAWS):
        on, _ = lightly(kind, i)
        rng = np.random.default_rng([9, i])
        n = float(rng.choice([1, 8, 32, 128, 700] if kind != "in two batches" else [8, 32]))
        isl, osl = float(rng.integers(32, 4096)), float(rng.integers(2, 512))
        direct = price_step(on, StepState(n, n * (isl + osl / 2.0))).time
        assert planned(on, n, isl, osl) == pytest.approx(float(np.asarray(direct)), rel=1e-9)


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
        final = Pass(on.model, replicas.plan, 0.0, 1.0, length - 1.0, "decode")
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


@pytest.mark.parametrize(("kind", "i"), [("dense", 1), ("moe", 2), ("pipelined", 1)])
def test_a_cap_on_power_holds_in_the_tables_as_it_does_in_a_step(kind: str, i: int) -> None:
    on, replicas = lightly(kind, i)
    machine = replicas.machine
    capped = replace(replicas, machine=replace(machine, power_cap=0.6 * machine.device.power.rated))
    p, free = step_prices(on.model, capped), step_prices(on.model, replicas)
    slow = engine_of(on.model, capped)
    longer = []
    for q, past in ((float(p.prefill_new[-1]), 0.0), (1.0, 1024.0)):
        found = looked_up(p, slow, 0.0, 0.0, [(q, past)])
        assert [*found] == pytest.approx([*asked(slow, 0.0, 0.0, [(q, past)])], rel=1e-9)
        longer.append(found.time / looked_up(free, on, 0.0, 0.0, [(q, past)]).time)
    # The planner's arrays say the same of decode steps, which the cap makes longer where they draw most.
    n = 256.0
    direct = float(np.asarray(price_step(slow, StepState(n, n * 1152.0)).time))
    assert planned(slow, n, 1024.0, 256.0) == pytest.approx(direct, rel=1e-9)
    # A full step would draw more than the cap, and more above it than one token does.
    assert longer[0] > 1.1 and longer[0] >= longer[1] >= 1.0


@pytest.mark.parametrize(("plan", "machine"), [({}, "1xh100-sxm"), ({"tp": 2.0}, "2xh100-sxm"), ({"pp": 2.0}, "2xl40s"),
                                               ({"tp": 2.0, "overlap": True}, "2xl40s"), ({"dp": 2.0}, "2xl40s"),
                                               ({"pp": 4.0, "chunk": 64.0}, "4xl40s")])  # fmt: skip
def test_a_request_takes_the_joules_in_the_simulator_that_explain_says(plan: dict[str, float], machine: str) -> None:
    pytest.importorskip("numba")
    from tierwise.serving.simulate import simulate

    model, run_as = tw.load_model("llama-3.1-8b"), tw.Plan(**plan)  # type: ignore[arg-type]
    r = tw.evaluate(tw.Scenario(model, machine, tw.Batch(512.0, 65.0, 1.0), run_as, engine="vllm"))
    said = sum(float(np.asarray(v)) for k, v in r.energy_parts.items() if k not in ("idle", "system"))
    settings = Settings(engine="vllm", budget=int(run_as.chunk))
    served = Deployment(model, (Replicas(system(machine), run_as, settings=settings),))
    run = simulate(trace([0.0], [512], [65]), served)
    idle = float(r.devices) * (r.scenario.machine.device.power.idle + r.scenario.machine.overhead_power)
    found = run.totals["energy"] - idle * run.totals["replica_seconds"]
    # Its 64 steps stand at contexts of their own, one by one, where explain takes their mean.
    assert found == pytest.approx(said, rel=2e-3)


def test_calibrations_are_read_from_file_once() -> None:
    assert calibration() is calibration()
    assert recorded(lightly("dense", 0)[0], StepState(3.0, 300.0))[0].padding >= 0.0


def test_a_cap_counts_what_the_device_draws_and_not_the_host_that_computes_for_it() -> None:
    pytest.importorskip("numba")
    from tierwise.serving.simulate import simulate

    base = tw.Scenario("llama-3.1-8b", "rtx4090 + 64GB ddr5", tw.Batch(512.0, 16.0, 1.0)).apply(
        partial_offload(layers=16.0)
    )
    times = []
    for cap in (450.0, 60.0):
        scenario = replace(base, machine=replace(base.resolved().machine, power_cap=cap))
        s, said = scenario.resolved(), tw.evaluate(scenario)
        group = Replicas(s.machine, s.plan, settings=Settings(engine=s.engine, max_len=1024))
        run = simulate(trace([0.0], [512], [16]), Deployment(s.model, (group,)))
        tpot = float(run.requests.last[0] - run.requests.first[0]) / 15.0
        assert tpot == pytest.approx(float(np.asarray(said.tpot)), rel=5e-3)
        times.append(tpot)
    # A host that computes half of the layers draws more than this card may; the card does not wait for that.
    assert 1.0 < times[1] / times[0] < 1.5
