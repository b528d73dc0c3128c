"""Static allocation: packings hold, what is proved impossible is, bad input is told."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.cli import main
from tierwise.core.errors import BadField, TierwiseError
from tierwise.memory.packing import Buffers, checked, first_fit, live, pack, read, smallest, verified

pytest.importorskip("numba")
SHARED = Path(__file__).resolve().parents[3] / "shared/data/allocation"


def buffers(*rows: tuple[int, int, int]) -> Buffers:
    lower, upper, size = np.asarray(rows, dtype=np.int64).T
    return Buffers(tuple(map(str, range(len(rows)))), lower, upper, size)


@st.composite
def few(draw: st.DrawFn) -> Buffers:
    n = draw(st.integers(2, 6))
    rows = []
    for _ in range(n):
        start = draw(st.integers(0, 6))
        rows.append((start, start + draw(st.integers(1, 4)), draw(st.integers(1, 5))))
    return buffers(*rows)


def least(b: Buffers) -> int:
    """The lowest of all packings: each is first-fit in some order."""
    return min(int(np.max(first_fit(b, order) + b.size)) for order in itertools.permutations(range(len(b))))


@given(few())
@settings(max_examples=60, deadline=None)
def test_the_smallest_arena_is_that_of_trying_every_order(b: Buffers) -> None:
    best = least(b)
    found = smallest(b, 20.0)
    assert found.height == best and found.offsets is not None and verified(b, found.offsets, best)
    assert live(b) <= best
    below = best - 1
    if below >= int(b.size.max()):
        assert pack(b, below, 20.0).status == "impossible"


def test_a_gap_that_first_fit_leaves_is_found() -> None:
    # Three moments full to the last byte; greedy orders leave holes.
    b = buffers((0, 2, 4), (0, 1, 4), (1, 3, 2), (2, 4, 4), (1, 2, 2), (3, 4, 2), (2, 3, 2), (3, 4, 2))
    assert live(b) == 8
    found = pack(b, 8, 20.0)
    assert found.status == "packed" and found.offsets is not None and verified(b, found.offsets, 8)


def test_what_overlaps_or_leaves_the_arena_is_no_packing() -> None:
    b = buffers((0, 2, 4), (1, 3, 4))
    assert verified(b, np.asarray([0, 4]), 8)
    assert not verified(b, np.asarray([0, 3]), 8)
    assert not verified(b, np.asarray([0, 5]), 8)
    assert not verified(b, np.asarray([-1, 4]), 8)


@pytest.mark.parametrize(
    ("rows", "word"),
    [([(3, 3, 1)], "after its start"), ([(0, 1, 1 << 53), (0, 1, 1 << 53)], "2"), ([(5, 2, 1)], "after its start")],
)
def test_buffers_that_cannot_be(rows: list[tuple[int, int, int]], word: str) -> None:
    with pytest.raises(BadField, match=word):
        checked(buffers(*rows))


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("a,b\n1,2\n", "id"),
        ("id,lower,upper,size\n1,0,2,x\n", "line 2"),
        ("id,lower,upper,size\n1,0,2,-4\n", "line 2"),
        ("id,lower,upper,size\n1,0,2,4\n1,0,2,4\n", "once"),
        ("id,lower,upper,size\n1,0,2,99999999999999999999\n", "line 2"),
    ],
)
def test_files_that_cannot_be(text: str, word: str, tmp_path: Path) -> None:
    path = tmp_path / "b.csv"
    path.write_text(text)
    with pytest.raises(TierwiseError, match=word):
        read(path)


def test_a_capacity_below_the_largest_buffer_says_the_bound() -> None:
    with pytest.raises(BadField, match="buffer 1") as caught:
        pack(buffers((0, 2, 3), (1, 3, 9)), 8)
    assert "12 live at once" in str(caught.value)


def test_the_command_writes_offsets_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out, html = tmp_path / "b.csv", tmp_path / "o.csv", tmp_path / "p.html"
    path.write_text("id,lower,upper,size\na,0,2,4\nb,1,3,4\nc,2,4,4\n")
    with pytest.raises(SystemExit) as caught:
        main(["allocate", str(path), "--capacity", "8", "-o", str(out), "--html", str(html)])
    assert not caught.value.code
    assert "fit into 8 bytes" in capsys.readouterr().out and 'id="packing"' in html.read_text()
    again = read(out)
    offsets = np.asarray([int(line.split(",")[4]) for line in out.read_text().splitlines()[1:]])
    assert verified(again, offsets, 8)
    with pytest.raises(SystemExit) as caught:
        main(["allocate", str(path), "--capacity", "7"])
    assert not caught.value.code and "do not fit" in capsys.readouterr().out


@pytest.mark.truth
@pytest.mark.parametrize("name", ["A", "B", "C", "D", "F"])
def test_hard_instances_are_packed(name: str) -> None:
    path = SHARED / f"{name}.1048576.csv"
    if not path.is_file():
        pytest.skip("no shared instances")
    b = read(path)
    found = pack(b, 1048576, 120.0)
    print(f"{name}: {found.status} in {found.seconds:.1f} s, {found.nodes:,} placements")
    assert found.offsets is not None and verified(b, found.offsets, 1048576)
    assert pack(b, live(b) - 1, 5.0).status == "impossible"


def test_a_try_that_never_began_does_not_keep_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    """One worker, two tries: the first is stopped when the time is up, the second is cancelled while it waits."""
    pytest.importorskip("numba")
    from tierwise.memory import packing_search as ps

    monkeypatch.setattr(ps, "ThreadPoolExecutor", lambda _: ThreadPoolExecutor(1))
    running: list[ps._Run] = []

    def run(way: int, limit: int) -> ps._Run:
        one = ps._Run(ps._state(1, 1))
        running.append(one)
        while one.state[3][0] < ps.STOP:
            time.sleep(0.001)
        return one

    found: list[tuple[str, object, int]] = []
    until = time.perf_counter() + 0.05
    search = threading.Thread(target=lambda: found.append(ps._raced(run, 2, until, running, None)), daemon=True)
    search.start()
    search.join(10.0)
    assert found and found[0][0] == "unknown"
