"""Trees of requests: every path repeats itself, shares what it shares, and costs what can be counted by hand."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.serving import traffic
from tierwise.serving.outcome import SimulatedRun
from tierwise.serving.traffic import Search, Trace
from tierwise.serving.traffic.arriving import rooted
from tierwise.serving.traffic.blocks import content_blocks

searches = st.builds(
    lambda keep, branch, depth, step: Search(keep * branch, keep, depth, step, score=0.5),
    st.integers(1, 3), st.integers(1, 3), st.integers(1, 4), st.sampled_from([1, 16, 40, "uniform:low=1,high=50"]),
)  # fmt: skip
questions = st.builds(
    lambda n, prompt, system, seed: traffic.synthetic(n, rate=1.0, prompt=prompt, system=system, seed=seed),
    st.integers(1, 4), st.sampled_from([1, 32, "uniform:low=1,high=30"]), st.sampled_from([0, 40]),
    st.integers(0, 9),
)  # fmt: skip


def one(prompt: int, search: str, seed: int = 0) -> Trace:
    """The tree of a single question."""
    return traffic.searching(traffic.trace([0.0], [prompt], [1]), search, seed=seed)


def levels(t: Trace) -> np.ndarray:
    """Depth of every request in its tree (n,), 0 for the question."""
    return rooted(t.after, np.ones(len(t)))[1].astype(int)


@settings(max_examples=60, deadline=None)
@given(questions, searches)
def test_each_level_has_its_nodes_and_only_the_kept_go_on(asked: Trace, how: Search) -> None:
    t = traffic.searching(asked, how, seed=3)
    assert len(t) == len(asked) * (1 + how.width * how.depth)
    assert (t.after < np.arange(len(t))).all()
    assert (np.diff(t.arrival) >= 0).all()
    root, level = rooted(t.after, t.think)[0], levels(t)
    children = np.bincount(t.after[t.after >= 0], minlength=len(t))
    for q in np.flatnonzero(t.after < 0):
        assert children[q] == how.width
        for depth in range(1, how.depth + 1):
            nodes = np.flatnonzero((root == q) & (level == depth))
            assert len(nodes) == how.width
            went_on = children[nodes][children[nodes] > 0]
            assert went_on.tolist() == ([] if depth == how.depth else [how.width // how.keep] * how.keep)
    assert np.sort(t.prompt[t.after < 0]).tolist() == np.sort(asked.prompt).tolist()
    assert (t.output[t.after < 0] == 1).all()
    for i in np.flatnonzero(t.after >= 0):
        up = t.after[i]
        assert t.prompt[i] == t.prompt[up] + (t.output[up] if level[up] else 0)


@settings(max_examples=60, deadline=None)
@given(questions, searches)
def test_blocks_are_equal_exactly_where_the_tokens_are(asked: Trace, how: Search) -> None:
    """Against tokens written out one by one: all of a question's own but the system prompt, each node's new."""
    t = traffic.searching(asked, how, seed=1)
    level = levels(t)
    system, fresh = 40 if asked.prompt.min() > 40 else 0, count(10**6)
    paths: list[list[int]] = []
    told: dict[int, list[int]] = {}  # a node's tokens, the same for all of its children
    for i, up in enumerate(t.after):
        if up < 0:
            paths.append([*range(system), *(next(fresh) for _ in range(t.prompt[i] - system))])
        else:
            made = [next(fresh) for _ in range(t.output[up] if level[up] else 0)]
            paths.append(paths[up] + told.setdefault(int(up), made))
    start = np.concatenate([[0], np.cumsum(t.prompt)])
    ids, at = content_blocks(np.array([x for p in paths for x in p], np.int64), start, t.block_size)
    assert np.array_equal(at, t.block_start)
    pairs = set(zip(ids.tolist(), t.blocks.tolist(), strict=True))
    assert len(pairs) == len(set(ids.tolist())) == len(set(t.blocks.tolist()))


def test_a_level_is_scored_together_and_the_first_not_at_all() -> None:
    asked = traffic.synthetic(50, rate=1.0, prompt=64)
    t = traffic.searching(asked, "width=6,keep=2,depth=4,step=uniform:low=8,high=99,score=exponential:mean=2s")
    root, level = rooted(t.after, t.think)[0], levels(t)
    waited = np.zeros(len(t))
    for q in np.flatnonzero(t.after < 0):
        assert not t.think[(root == q) & (level <= 1)].any()
        for depth in (2, 3, 4):
            nodes = np.flatnonzero((root == q) & (level == depth))
            assert len(set(t.think[nodes])) == 1 and t.think[nodes[0]] > 0
            waited[nodes] = waited[t.after[nodes]] + t.think[nodes]
    assert t.arrival == pytest.approx(t.arrival[root] + waited)
    assert t.think[level > 1].mean() == pytest.approx(2.0, rel=0.4)  # 150 draws: five deviations
    assert t.output[level > 0].min() >= 8 and t.output.max() <= 99
    assert len(set(t.output[level == 2])) > 20


def test_the_same_seed_is_the_same_tree_and_survivors_are_as_likely() -> None:
    asked = traffic.synthetic(2000, rate=1.0, prompt=64)
    a, b, c = (traffic.searching(asked, "width=8,keep=2,depth=3,step=64", seed=s) for s in (4, 4, 5))
    assert all(np.array_equal(getattr(a, f.name), getattr(b, f.name)) for f in fields(Trace))
    assert not np.array_equal(a.after, c.after)
    went_on = np.isin(np.flatnonzero(levels(a) == 1), a.after).reshape(2000, 8)
    # A quarter of each place survives, within five deviations of 2000 draws.
    assert went_on.mean(axis=0) == pytest.approx(np.full(8, 0.25), abs=5 * np.sqrt(0.25 * 0.75 / 2000))


def test_large_blocks_of_a_trace_are_divided_so_that_steps_fill_some() -> None:
    asked = traffic.trace([0, 1], [1024, 800], [9, 9], blocks=np.array([70, 71, 70, 99]),
                          block_start=np.array([0, 2, 4]), block_size=512)  # fmt: skip
    t = traffic.searching(asked, "width=2,keep=1,depth=2,step=32")
    assert t.block_size == 16
    heads = [t.blocks[t.block_start[i] : t.block_start[i + 1]] for i in np.flatnonzero(t.after < 0)]
    assert [len(h) for h in heads] == [64, 50]
    assert np.array_equal(heads[0][:32], heads[1][:32])
    assert not set(heads[0][32:]) & set(heads[1][32:])


def test_the_plain_csv_gives_back_the_tree(tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    from tierwise.serving.traffic.formats import simple

    t = one(50, "width=4,keep=2,depth=3,step=20,score=1")
    path = tmp_path / "tree.csv"
    path.write_text(simple.text(t), encoding="utf-8")
    back = traffic.load(path)
    for name in ("prompt", "output", "after", "think", "blocks", "block_start"):
        assert np.array_equal(getattr(back, name), getattr(t, name)), name


@pytest.mark.parametrize(
    ("search", "told"),
    [
        ("width=16,keep=5,depth=8,step=64", "keep: found 5; allowed: a divisor of width, 16: 1, 2, 4, 8, 16"),
        ("width=16,keep=4,depth=8", "needs step, as in"),
        ("width=16,keep=4,depth=0,step=64", "depth: found 0; allowed: a whole number of at least 1"),
        ("width=2.5,keep=4,depth=1,step=64", "width: found 2.5; allowed: a whole number"),
        ("width=nan,keep=4,depth=1,step=64", "width: found nan; allowed: a whole number"),
        ("width=16,keep=4,depth=8,step=0", "step: found 0"),
        ("width=16,keep=4,depth=8,step=64,score=-1", "score: found -1"),
        ("width=16,keep=4,depth=8,step=uniform:low=9", "needs high"),
        ("16", "found '16'; allowed: key=value"),
        ("", "needs width, keep, depth, step"),
    ],
)  # fmt: skip
def test_searches_that_cannot_be_say_why(search: str, told: str) -> None:
    with pytest.raises(TierwiseError, match=told):
        one(100, search)


def test_questions_that_cannot_be_searched_say_why() -> None:
    how = "width=2,keep=1,depth=2,step=8"
    for asked, told in ((traffic.synthetic(9, concurrency=3), "closed loop"),
                        (traffic.synthetic(10, rate=1, turns=2), "5 of 10 follow another one's answer"),
                        (traffic.synthetic(4, rate=1, samples=3), "4 of 4 want several samples")):  # fmt: skip
        with pytest.raises(TierwiseError, match=told):
            traffic.searching(asked, how)
    with pytest.raises(UnknownName, match="did you mean 'width'"):
        one(100, "widht=2,keep=1,depth=2,step=8")


class TestPlayed:
    """What a simulated engine does with a tree."""

    @pytest.fixture(autouse=True)
    def _compiled(self) -> None:
        pytest.importorskip("numba")

    @staticmethod
    def play(t: Trace, **how: Any) -> SimulatedRun:
        from tests.serving.test_simulate import served
        from tierwise.serving.simulate import simulate
        from tierwise.serving.steps import plain_prices

        prices = plain_prices(fixed=10e-3, per_token=0.0, per_context=0.0, quadratic=0.0)
        return simulate(t, served(**how), [replace(prices, kv_token=1024.0, kv_room=1e4 * 16 * 1024.0)])

    @pytest.mark.parametrize("step", ["64", "50", "uniform:low=1,high=99"])
    def test_a_path_is_computed_once_but_for_the_block_that_is_not_full(self, step: str) -> None:
        t = one(500, f"width=16,keep=4,depth=5,step={step}")
        run, off = self.play(t), self.play(t, prefix_cache=False)
        assert run.totals["output_tokens"] == off.totals["output_tokens"] == t.output.sum()
        # Full blocks of what was computed before; one token of a prompt is always left to compute.
        known = np.where(t.after < 0, 0, (t.prompt - 1) // 16 * 16)
        assert run.requests.cached.tolist() == known.tolist()
        assert run.totals["prompt_tokens"] == (t.prompt - known).sum()
        assert off.totals["cached_tokens"] == 0
        assert off.totals["prompt_tokens"] == t.prompt.sum()

    def test_sharing_keeps_one_copy_of_a_path_in_memory(self) -> None:
        width, keep, depth, step, prompt = 16, 4, 6, 64, 1024
        t = one(prompt, f"width={width},keep={keep},depth={depth},step={step}")
        # A level's prompts fit into one step, or it would not be in step where each is read whole.
        with_, without = (self.play(t, budget=2**15, prefix_cache=x).totals["kv_peak"] * 1e4 for x in (True, False))
        # The last level's nodes run together. Each has its whole path, or the kept nodes' paths stand there once, with
        # each node's own step and the block that it fills itself because its parent's last token was never computed.
        assert without == width * (prompt + depth * step) / 16
        assert with_ <= (prompt + keep * (depth - 1) * step + width * step) / 16 + width
        assert without > 3 * with_

    def test_a_tree_of_one_branch_is_a_chain_of_turns(self) -> None:
        from tierwise.serving.traffic.blocks import session_blocks

        n, prompt, step, depth = 3, 200, 40, 4
        tree = traffic.searching(traffic.trace(np.arange(n) * 5.0, np.full(n, prompt), np.full(n, 7)),
                                 f"width=1,keep=1,depth={depth},step={step},score=0.3")  # fmt: skip
        session, turn = np.repeat(np.arange(n), depth + 1), np.tile(np.arange(depth + 1), n)
        lengths = prompt + np.maximum(turn - 1, 0) * step
        blocks, start = session_blocks(lengths, session, 16)
        chain = traffic.trace(session * 5.0 + turn * 0.01, lengths, np.where(turn, step, 1),
                              after=np.where(turn, np.arange(len(turn)) - 1, -1), think=np.where(turn > 1, 0.3, 0.0),
                              blocks=blocks, block_start=start, block_size=16)  # fmt: skip
        a, b = self.play(tree), self.play(chain)
        assert np.sort(a.requests.last) == pytest.approx(np.sort(b.requests.last))
        assert a.totals["cached_tokens"] == b.totals["cached_tokens"] > 0
        # One question: a step that reads it, then a step a token for each node, and the score between them.
        assert a.requests.last.min() == pytest.approx(0.01)
        assert np.sort(a.requests.last)[depth] == pytest.approx(0.01 * (1 + depth * step) + 0.3 * (depth - 1))

    def test_a_level_of_equal_steps_ends_together(self) -> None:
        t = one(512, "width=8,keep=2,depth=4,step=32")
        run, level = self.play(t), levels(t)
        for depth in range(1, 5):
            assert np.ptp(run.requests.last[level == depth]) == pytest.approx(0.0)
        assert run.totals["steps"] == 1 + 4 * 32


def test_the_flag_makes_trees_and_says_that_requests_are_counted(capsys: pytest.CaptureFixture[str]) -> None:
    from tierwise.cli import main

    def said(*args: str) -> tuple[int, str]:
        with pytest.raises(SystemExit) as exit_:
            main([*args, "--search", "width=4,keep=2,depth=3,step=20"])
        found = capsys.readouterr()
        return int(exit_.value.code or 0), " ".join((found.out + found.err).split())

    for args in (("traffic", "--requests", "5"),
                 ("simulate", "llama-3.1-8b", "--on", "h100-sxm", "--rate", "1/s", "--requests", "5")):  # fmt: skip
        if args[0] == "simulate":
            pytest.importorskip("numba")
        code, text = said(*args)
        assert code == 0
        assert "65 requests" in text and "5 questions, each a tree of 13 requests" in text
    code, text = said("simulate", "llama-3.1-8b", "--on", "h100-sxm", "--concurrency", "4")
    assert code == 2 and "closed loop" in text and "Traceback" not in text
