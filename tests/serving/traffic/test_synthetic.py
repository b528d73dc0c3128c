"""Made-up traffic has the rates and lengths asked for, shares what it says it shares, and repeats by its seed."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.serving import traffic
from tierwise.serving.traffic import Trace
from tierwise.serving.traffic.arriving import rooted
from tierwise.serving.traffic.blocks import content_blocks
from tierwise.serving.traffic.summary import shared
from tierwise.serving.traffic.trace import ROWS

N = 40_000


def blocks(t: Trace, i: int) -> list[int]:
    return [int(x) for x in t.blocks[t.block_start[i] : t.block_start[i + 1]]]


def same(a: Trace, b: Trace) -> bool:
    return all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Trace))


@pytest.mark.parametrize(
    ("arrivals", "cv"),
    [("poisson", 1.0), ("gamma:cv=3", 3.0), ("gamma:cv=0.3", 0.3), ("uniform", 0.0)],
)
def test_rate_and_variation_are_what_was_asked(arrivals: str, cv: float) -> None:
    s = traffic.synthetic(N, arrivals, rate=7.0, seed=1).summary()
    assert s.rate == pytest.approx(7.0, rel=5 * max(cv, 0.001) / np.sqrt(N))  # five deviations of the mean
    assert s.cv == pytest.approx(cv, rel=0.1, abs=1e-6)


def test_bursts_come_and_go_around_the_same_rate() -> None:
    t = traffic.synthetic(200_000, "bursty:rate=10,peak=3,on=30,off=90", seed=1)
    assert t.summary().rate == pytest.approx(10, rel=0.06)  # some 170 bursts: 1 / sqrt(170) of their share
    counts = np.histogram(t.arrival, np.arange(0, t.duration, 1.0))[0]
    assert counts.var() / counts.mean() > 5  # Poisson has 1
    # 25 % of the time at 30/s and 75 % at 3.33/s
    assert np.mean(counts > 16) == pytest.approx(0.25, abs=0.04)
    quiet = traffic.synthetic(20_000, "bursty:rate=10,peak=4,on=30,off=90", seed=1)  # nothing between bursts
    counts = np.histogram(quiet.arrival, np.arange(0, quiet.duration, 1.0))[0]
    assert np.mean(counts == 0) == pytest.approx(0.75, abs=0.15)
    with pytest.raises(TierwiseError, match="peak: found 5; allowed: 1 to 4"):
        traffic.synthetic(10, "bursty:rate=10,peak=5,on=30,off=90")


def test_a_day_is_busy_at_its_peak_and_quiet_half_a_day_away() -> None:
    t = traffic.synthetic(200_000, "diurnal:rate=20,period=1000s,swing=0.8,peak=0.25", seed=2)
    assert t.summary().rate == pytest.approx(20, rel=0.02)
    phase = (t.arrival % 1000.0) / 1000.0
    at = [np.mean(np.abs(phase - x) < 0.02) / 0.04 for x in (0.25, 0.75, 0.5)]
    assert at[0] == pytest.approx(1.8, rel=0.05)
    assert at[1] == pytest.approx(0.2, rel=0.15)
    assert at[2] == pytest.approx(1.0, rel=0.05)


@pytest.mark.parametrize(
    ("rule", "mean", "low", "high"),
    [
        ("fixed:value=300", 300, 300, 300),
        ("300", 300, 300, 300),
        ("uniform:low=10,high=50", 30, 10, 50),
        ("lognormal:mean=1k,cv=1.5", 1000, 1, 1e6),
        ("exponential:mean=200", 200.0, 1, 1e5),
        ("zipf:low=1,high=3,exponent=1", (1 + 1 + 1) / (1 + 1 / 2 + 1 / 3), 1, 3),
    ],
)
def test_lengths_have_the_mean_they_were_given(rule: str, mean: float, low: float, high: float) -> None:
    t = traffic.synthetic(N, rate=1, prompt=rule, output=rule, seed=3)
    for x in (t.prompt, t.output):
        assert x.mean() == pytest.approx(mean, rel=0.03)
        assert low <= x.min() <= x.max() <= high
    assert not np.array_equal(t.prompt, t.output) or t.prompt.std() == 0


def test_lengths_of_a_trace_are_drawn_together_or_apart(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    path = tmp_path / "t.csv"
    path.write_text("arrival,prompt,output\n0,10,1\n1,20,2\n2,30,3\n")
    t = traffic.synthetic(300, rate=1, like=traffic.load(path))
    assert (t.prompt == 10 * t.output).all()
    assert set(t.output) == {1, 2, 3}
    u = traffic.synthetic(300, rate=1, prompt=f"empirical:path={path},field=prompt", output=5)
    assert set(u.prompt) == {10, 20, 30}


def test_ones_own_arrivals_are_a_file(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("import numpy as np\ndef times(n, rng, *, gap: float):\n    return np.arange(n) * gap\n")
    assert traffic.synthetic(3, f"{path}:gap=2").arrival.tolist() == [0, 2, 4]
    for text, told in (("def times(n, rng):\n    return [3.0, 2.0]\n", "2 finite times that do not decrease"),
                       ("def times(n, rng)\n", "line 1: SyntaxError"), ("x = 1\n", "neither times")):  # fmt: skip
        path.write_text(text)
        with pytest.raises(TierwiseError, match=told):
            traffic.synthetic(2, str(path))


sessions = st.fixed_dictionaries(
    {
        "requests": st.integers(1, 60),
        "seed": st.integers(0, 99),
        "turns": st.sampled_from(["1", "3", "uniform:low=1,high=6"]),
        "think": st.sampled_from(["0", "exponential:mean=20s"]),
        "system": st.integers(0, 100),
        "systems": st.integers(1, 3),
        "prompt": st.sampled_from(["5", "uniform:low=1,high=90"]),
        "output": st.sampled_from(["1", "uniform:low=1,high=70"]),
        "block_size": st.sampled_from([1, 16, 64]),
    }
)


@settings(max_examples=60)
@given(sessions)
def test_a_turn_begins_with_the_whole_of_the_turn_before(how: dict[str, object]) -> None:
    t = traffic.synthetic(rate=2.0, **how)  # type: ignore[arg-type]
    assert len(t) == how["requests"]
    assert (np.diff(t.arrival) >= 0).all()
    assert (t.after < np.arange(len(t))).all()
    for i in np.flatnonzero(t.after >= 0):
        before = t.after[i]
        assert t.prompt[i] > t.prompt[before] + t.output[before] - 1
        if len(t.blocks):
            assert blocks(t, i)[: len(blocks(t, before))] == blocks(t, before)
    if len(t.blocks):
        assert (np.diff(t.block_start) == t.prompt // t.block_size).all()


@settings(max_examples=30)
@given(sessions)
def test_sessions_share_their_system_prompt_and_nothing_else(how: dict[str, object]) -> None:
    t = traffic.synthetic(rate=2.0, **how)  # type: ignore[arg-type]
    if not len(t.blocks):
        return
    full = int(how["system"]) // t.block_size  # type: ignore[call-overload]
    root, _ = rooted(t.after, t.think)
    seen: dict[int, set[int]] = {}
    heads = set()
    for i in range(len(t)):
        heads.add(tuple(blocks(t, i)[:full]))
        for b in blocks(t, i)[full:]:
            seen.setdefault(b, set()).add(int(root[i]))
    assert len(heads) <= int(how["systems"])  # type: ignore[call-overload]
    assert all(len(owners) == 1 for owners in seen.values())


@given(sessions)
@settings(max_examples=20)
def test_the_same_seed_is_the_same_trace_and_another_is_not(how: dict[str, object]) -> None:
    a, b = (traffic.synthetic(rate=2.0, **how) for _ in range(2))  # type: ignore[arg-type]
    assert same(a, b)
    c = traffic.synthetic(rate=2.0, **how | {"seed": 1234})  # type: ignore[arg-type]
    assert not np.array_equal(a.arrival, c.arrival)


@given(sessions)
@settings(max_examples=20, deadline=None)
def test_the_plain_csv_gives_back_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, how: dict[str, object]
) -> None:
    pytest.importorskip("pyarrow")
    from tierwise.serving.traffic.formats import simple

    more = {"tenants": {"a, b": 2, 'say "x"': 1}, "priorities": {-1: 1, 5: 1}, "adapters": 3, "samples": 2}
    t = traffic.synthetic(rate=2.0, **how, **more)  # type: ignore[arg-type]
    path = tmp_path_factory.mktemp("csv") / "t.csv"
    path.write_text(simple.text(t), encoding="utf-8")
    back = traffic.load(path)
    assert not back.notices
    for name in (*ROWS[:3], *ROWS[4:], "blocks", "block_start"):  # tenants are numbered as they come
        assert np.array_equal(getattr(back, name), getattr(t, name)), name
    assert [back.tenants[i] for i in back.tenant] == [t.tenants[i] for i in t.tenant]


def test_tenants_priorities_and_adapters_have_their_weights_and_stay_with_a_session() -> None:
    t = traffic.synthetic(
        N, rate=1, turns=4, tenants={"big": 3, "small": 1}, priorities={0: 9, 7: 1}, adapters=[1, 1, 2]
    )
    assert t.summary().tenants["big"] == pytest.approx(0.75, abs=0.02)
    assert np.mean(t.priority == 7) == pytest.approx(0.1, abs=0.02)
    assert np.bincount(t.adapter) / N == pytest.approx([0.25, 0.25, 0.5], abs=0.02)
    follows = np.flatnonzero(t.after >= 0)
    for name in ("tenant", "priority", "adapter"):
        column = getattr(t, name)
        assert (column[follows] == column[t.after[follows]]).all()


def test_a_closed_loop_keeps_so_many_in_flight() -> None:
    t = traffic.synthetic(50, concurrency=8)
    assert t.closed_loop == 8
    assert t.duration == 0


def test_what_is_shared_is_counted_by_hand() -> None:
    t = traffic.trace([0, 1, 2], [20, 40, 40], [1, 1, 1], blocks=np.array([0, 1, 0, 1, 2, 0, 3, 4]),
                      block_start=np.array([0, 2, 5, 8]), block_size=16)  # fmt: skip
    # The second has the first's 20 tokens seen before (block 1 held 4 there), the third 16.
    assert shared(t) == pytest.approx((20 + 16) / 100)


@given(st.lists(st.lists(st.integers(0, 2), max_size=9), min_size=1, max_size=8), st.integers(1, 3))
def test_known_tokens_share_a_block_exactly_where_they_share_the_prefix(prompts: list[list[int]], size: int) -> None:
    start = np.concatenate([[0], np.cumsum([len(p) for p in prompts])])
    ids, at = content_blocks(np.array([t for p in prompts for t in p], np.int64), start, size)
    if not len(ids):
        assert max(map(len, prompts)) < size
        return
    known: dict[int, tuple[int, ...]] = {}
    for i, p in enumerate(prompts):
        assert at[i + 1] - at[i] == len(p) // size
        for j, b in enumerate(ids[at[i] : at[i + 1]]):
            prefix = tuple(p[: (j + 1) * size])
            assert known.setdefault(int(b), prefix) == prefix
    assert len(set(known.values())) == len(known)


@given(sessions)
@settings(max_examples=30)
def test_other_arrivals_keep_the_requests_and_their_sessions(how: dict[str, object]) -> None:
    t = traffic.synthetic(rate=2.0, **how)  # type: ignore[arg-type]
    u = traffic.arriving(t, "uniform:rate=4", seed=5)
    assert sorted(u.prompt) == sorted(t.prompt)
    assert u.arrival[u.after < 0].tolist() == [i / 4 for i in range(int((t.after < 0).sum()))]
    follows = np.flatnonzero(u.after >= 0)
    assert u.arrival[follows] == pytest.approx(u.arrival[u.after[follows]] + u.think[follows])
    assert np.nan_to_num(shared(u)) == pytest.approx(np.nan_to_num(shared(t)))


@given(sessions, st.integers(1, 60), st.floats(0.1, 9))
@settings(max_examples=30)
def test_parts_of_a_trace_keep_what_they_hold(how: dict[str, object], n: int, scale: float) -> None:
    t = traffic.synthetic(rate=2.0, **how)  # type: ignore[arg-type]
    part = t.head(n)
    assert len(part) == min(n, len(t))
    assert np.array_equal(part.after, t.after[: len(part)])  # what a request follows comes before it
    if len(part.blocks):
        for i in range(len(part)):
            assert blocks(part, i) == blocks(t, i)
    assert t.scaled(scale).duration == pytest.approx(t.duration / scale)
    half = t.window(t.arrival[len(t) // 2], np.inf)
    assert len(half) >= len(t) - len(t) // 2
    assert half.arrival[0] == 0
    with pytest.raises(TierwiseError, match="no request arrives in it"):
        t.window(-2, -1)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"arrivals": "poisson"}, "needs rate"),
        ({"arrivals": "poisson:rate=0"}, "rate: found 0"),
        ({"arrivals": "poisson:rate=fast"}, "rate: found 'fast'; allowed: a number"),
        ({"arrivals": "poisson:rate"}, "found 'rate'; allowed: key=value"),
        ({"arrivals": "none.py"}, "there is no such file"),
        ({"rate": -1.0}, "rate: found -1"),
        ({"arrivals": "closed:concurrency=0.5"}, "concurrency: found 0.5; allowed: 1 or more"),
        ({"arrivals": "bursty:rate=1,on=0"}, "on: found 0"),
        ({"rate": 1.0, "prompt": "uniform:low=9,high=1"}, "high: found 1; allowed: at least low, 9"),
        ({"rate": 1.0, "prompt": "zipf:low=1,high=1e12"}, "high: found 1e"),
        ({"rate": 1.0, "prompt": "lognormal:mean=0"}, "mean: found 0"),
        ({"rate": 1.0, "prompt": "1e30"}, "prompt: found 1e30; allowed: a number from 1 to"),
        ({"rate": 1.0, "prompt": "0"}, "prompt: found 0; allowed: a number from 1"),
        ({"rate": 1.0, "output": 0}, "output: found 0; allowed: a number from 1"),
        ({"rate": 1.0, "turns": "0"}, "turns: found 0"),
        ({"rate": 1.0, "think": float("nan")}, "think: found nan"),
        ({"rate": 1.0, "seed": -1}, "seed: found -1; allowed: a whole number of at least 0"),
        ({"rate": 1.0, "system": 10**13}, "system: found 1"),
        ({"concurrency": -3}, "concurrency: found -3; allowed: a whole number of at least 1"),
        ({"rate": 1.0, "output": lambda n, rng: [np.nan] * n}, "allowed: 10 numbers from 0"),
        ({"rate": 1.0, "output": lambda n, rng: [1.0]}, r"found an array of shape \(1,\); allowed: 10 numbers"),
        ({"rate": 1.0, "prompt": -5}, "found -5"),
        ({"rate": 1.0, "prompt": "lognormal"}, "needs mean"),
        ({"rate": 1.0, "turns": "-3"}, "found -3"),
        ({"rate": 1.0, "requests": 0}, "requests: found 0"),
        ({"rate": 1.0, "tenants": {"a": -1.0}}, "weights"),
        ({"rate": 1.0, "system": -1}, "system: found -1"),
        ({"concurrency": 0}, "concurrency: found 0"),
        ({"arrivals": "diurnal:rate=1,swing=2"}, "swing: found 2"),
    ],
)
def test_rules_that_cannot_be_say_why(how: dict[str, object], told: str) -> None:
    with pytest.raises(TierwiseError, match=told):
        traffic.synthetic(**{"requests": 10} | how)  # type: ignore[arg-type]


def test_unknown_rules_name_the_closest() -> None:
    with pytest.raises(UnknownName, match="did you mean 'poisson'"):
        traffic.synthetic(1, "poison:rate=1")
    with pytest.raises(UnknownName, match="'lognormal'"):
        traffic.synthetic(1, rate=1, prompt="lognorm:mean=3")
    with pytest.raises(UnknownName, match=r"'rates'.*it takes rate"):
        traffic.synthetic(1, "poisson:rates=1")
