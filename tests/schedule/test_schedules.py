"""Schedules on one device, against values derived by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import tierwise as tw
from tests.schedule.programs import layers, op, time, timed
from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.cost import Target, efficiency, price
from tierwise.cost.mapping import Loop, Mapping, moved
from tierwise.machines.types import System
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.residency import cyclic_lru
from tierwise.scenario.hash import scenario_hash
from tierwise.schedule import order, parse, schedules
from tierwise.schedule.copies import in_flight
from tierwise.schedule.play import play
from tierwise.schedule.rows import rows
from tierwise.schedule.types import Demand

L = 6


def test_in_order_adds_everything_up() -> None:
    made = order("in_order", layers(L, op("a", "x", "y"), op("sum", "y", kind="collective"), op("b", "x y", "x")))
    done = time(made, {"embed": 1.0, "a": 2.0, "sum": 0.5, "b": 3.0, "head": 4.0})
    assert done.time == pytest.approx(1.0 + L * 5.5 + 4.0)
    assert done.exposed == {"device": done.time}


# Compute c, collective s, in each layer; the residual is read by the next block.
@pytest.mark.parametrize("c, s", [(2.0, 1.0), (1.0, 3.0)])
def test_collectives_beside_the_next_block(c: float, s: float) -> None:
    block = (op("block", "x y", "x y"), op("sum", "y", kind="collective", collective="all_reduce"))
    plain = order("overlap_collectives", layers(L, *block))
    assert time(plain, {"block": c, "sum": s}).time == pytest.approx(L * (c + s))
    # Read one late, a sum has the whole next block to run: the slower of the two sets the pace, and the other one
    # shows once, at the end (a sum after the last block) or at the start (a block before the first sum).
    late = order("overlap_collectives", layers(L, *block), behind=1)
    done = time(late, {"block": c, "sum": s})
    assert done.time == pytest.approx(L * max(c, s) + min(c, s))
    assert done.exposed["link"] == pytest.approx(done.time - L * c)


def test_a_collective_nobody_reads_early_is_waited_for() -> None:
    # An all_to_all is no residual: what reads it needs it, however far behind sums may be read.
    block = (op("block", "x y", "x y"), op("swap", "y", kind="collective", collective="all_to_all"))
    late = order("overlap_collectives", layers(L, *block), behind=1)
    assert time(late, {"block": 2.0, "swap": 1.0}).time == pytest.approx(L * 3.0)


@pytest.mark.parametrize("ahead, k, c", [(0, 2.0, 3.0), (1, 2.0, 3.0), (1, 3.0, 2.0), (2, 3.0, 2.0)])
def test_weights_copied_in_ahead(ahead: int, k: float, c: float) -> None:
    # No layer ahead: copy, compute, copy, compute. Ahead: after the first copy the slower of the two sets the pace,
    # and the last layer is computed after the last copy.
    made = order("prefetch", layers(L, op("mlp", "x weight:w", "x")), ahead=ahead)
    seconds = {"mlp": k, "weights": c}
    hand = L * (c + k) if ahead == 0 else (c + L * k if k >= c else L * c + k)
    assert time(made, seconds).time == pytest.approx(hand)
    assert in_flight(made) == {"layers.weights": ahead + 1}


@pytest.mark.parametrize(
    "into, k, out, buffers, hand",
    [
        (1.0, 3.0, 2.0, 2, 1.0 + L * 3.0 + 2.0),  # bound by compute: the first copy in and the last one out show
        (3.0, 1.0, 2.0, 2, L * 3.0 + 1.0 + 2.0),  # bound by copies in, which never wait for a buffer (1 <= 3)
        (1.0, 2.0, 5.0, 2, 1.0 + 2.0 + L * 5.0),  # bound by copies out
        (3.0, 1.0, 2.0, 1, L * (3.0 + 1.0) + 2.0),  # one buffer: the next copy in starts when this layer is done
    ],
)
def test_buffered_offload(into: float, k: float, out: float, buffers: int, hand: float) -> None:
    made = order("offload", layers(L, op("attn", "x kv:cache", "x kv:cache")), buffers=buffers)
    assert made.lanes == ("device", "in", "out")
    assert time(made, {"attn": k, "in": into, "out": out}).time == pytest.approx(hand)


def test_copies_move_what_the_layer_reads_and_can_be_priced(machine: Callable[..., System]) -> None:
    made = order("prefetch", layers(L, op("mlp", "x weight:w weight:v", "x")))
    copied = made.work[made.ops.index("layers.weights")]
    assert copied is not None and copied.dims["bytes"] == 2.0
    found = machine("h100-sxm")
    assert price(copied, Target(found, efficiency(found.device))).time > 0.0


@pytest.mark.parametrize("back, layer", [(3.0, 14.0), (5.0, 18.0)])
def test_batches_half_a_layer_apart_hide_what_travels(back: float, layer: float) -> None:
    """There: behind the other batch's last part and the first of its next layer (2 s). Back: behind its attention
    (3 s), and what takes longer shows, once a batch and layer."""
    block = (op("proj", "x", "q"), op("attend", "q x", "x", kind="attention"),
             op("send", "x", kind="collective", collective="all_to_all"), op("experts", "x", "y"),
             op("return", "y", kind="collective", collective="all_to_all"), op("merge", "x y", "x"))  # fmt: skip
    seconds = {"proj": 1.0, "attend": 3.0, "send": 1.5, "experts": 2.0, "return": back, "merge": 1.0}
    done = [time(order("staggered", layers(n, *block)), seconds) for n in (6, 12)]
    assert (done[1].time - done[0].time) / 6.0 == pytest.approx(layer)
    assert done[0].busy["compute"] == pytest.approx(6.0 * 2.0 * 7.0)
    plain = order("staggered", layers(6, op("mlp", "x", "x")))
    assert time(plain, {"mlp": 2.0}).time == pytest.approx(6.0 * 2.0 * 2.0)


def test_two_batches_share_the_memory() -> None:
    # Attention needs all of the memory's bandwidth, the MLP half of it: side by side they ask for 1.5 and take 1.5
    # times as long, which is still better than one after the other. The first attention and the last MLP are alone,
    # the 2 L - 1 pairs between are not.
    program = layers(L, op("attn", "x", "y", kind="attention"), op("mlp", "y", "x"))
    made = order("two_batches", program)
    draws = {"attn": {"hbm": 1.0}, "mlp": {"hbm": 0.5, "sm": 1.0}}
    done = time(made, {"attn": 1.0, "mlp": 1.0}, draws)
    assert done.time == pytest.approx(1.0 + 1.5 * (2 * L - 1) + 1.0, rel=1e-9)
    assert done.drawn["hbm"] == pytest.approx(2 * L * 1.5)
    assert done.time < 2 * L * 2.0


def test_attention_in_memory_beside_a_device() -> None:
    # A memory that computes (PIM) is a lane of its own, and what it reads does not pass the device's port: attention
    # takes 3 and nothing of the port, the rest takes 2. With two batches the memory never waits after its first turn.
    program = layers(L, op("attn", "x", "y", kind="attention"), op("mlp", "y", "x"))
    made = order("two_batches", program)
    done = time(made, {"attn": 3.0, "mlp": 2.0}, {"attn": {"pim": 1.0}, "mlp": {"hbm": 1.0}})
    assert done.time == pytest.approx(2 * L * 3.0 + 2.0)
    assert done.busy["memory"] == pytest.approx(2 * L * 3.0)
    assert done.exposed["compute"] == pytest.approx(2 * L * 2.0)
    # One batch alone has nothing to put beside: attention and the rest take turns.
    alone = order("in_order", program)
    assert 2 * time(alone, {"attn": 3.0, "mlp": 2.0}).time == pytest.approx(2 * L * 5.0)


def test_cached_denoising() -> None:
    # A step in three is computed in full (two layers of 3 and 5), the others reuse what it left behind (1).
    n = 7.0
    inner = Repeat("layers", (Body("layer", (op("attn", "x", "y"), op("mlp", "y", "x"))),), count=2.0)
    full = Body("full", (inner, op("keep", "x", "kv:delta")))
    cached = Body("cached", (op("reuse", "x kv:delta", "x"),))
    steps = Repeat("steps", (full, cached), pattern=(0, 1, 1), count=n, carries={"delta": 1})
    made = order("in_order", Program((steps,)))
    assert time(made, {"attn": 3.0, "mlp": 5.0, "reuse": 1.0}).time == pytest.approx(n * (2 * 8.0 + 2 * 1.0))


def test_three_levels_of_an_array() -> None:
    # C (8x8) = A (8x8) B (8x8). A scratchpad holds tiles of 4; the array is 4 x 4 over m and n; k runs inside.
    # From the far memory: the loops over tiles are m, n, k (2 each). A (m, k): its tile changes with every turn of
    # the innermost loop: 8 fills of 16 = 128. B likewise 128. C (m, n): stays while k turns: 4 fills of 16 = 64.
    # From the scratchpad, with 8 x 4 steps of k before it: each fetches a column of A (4, shared along n) and a row
    # of B (4, shared along m): 32 x 4 = 128 each; C stays in the array while k turns: 4 x 16 = 64.
    outer = (Loop("m", 2.0), Loop("n", 2.0), Loop("k", 2.0))
    inner = (Loop("m", 4.0, True), Loop("n", 4.0, True), Loop("k", 4.0))
    tiles = Mapping((("dram", outer), ("scratchpad", inner), ("register", ())))
    got = moved(tiles, {"a": ("m", "k"), "b": ("k", "n"), "c": ("m", "n")})
    assert got == {("a", "dram"): 128.0, ("b", "dram"): 128.0, ("c", "dram"): 64.0,
                   ("a", "scratchpad"): 128.0, ("b", "scratchpad"): 128.0, ("c", "scratchpad"): 64.0}  # fmt: skip
    assert tiles.steps == 32.0
    # As a demand: 32 steps at 1 a second are 32 s; the far memory moves 320 elements, which at 16 a second is 20 s,
    # 62.5 % of its capacity meanwhile. Two arrays on one such memory ask for 125 %, and take 1.25 times as long.
    far = sum(v for (_, level), v in got.items() if level == "dram")
    demand = Demand(tiles.steps, {"dram": far / 16.0 / 32.0}, {"dram": far})
    two = layers(1.0, op("left", "x", "l"), op("right", "x", "r", kind="attention"))
    made = order("two_batches", two)
    asked = [demand if x.startswith("first") and x.endswith(("left", "right")) else Demand(0.0) for x in made.ops]
    done = play(made, asked)
    assert done.time == pytest.approx(32.0 * 1.25)
    assert done.bytes["dram"] == 640.0


def test_a_page_cache_finds_all_or_nothing() -> None:
    # 10 GB read 5 times through a cache of 16 GB: the first pass misses, four of five passes hit. Through one of
    # 8 GB: every byte is dropped before it comes round again.
    np.testing.assert_allclose(cyclic_lru(10e9, np.asarray([16e9, 10e9, 8e9]), 5.0), [0.8, 0.8, 0.0])
    assert cyclic_lru(10e9, 16e9, 5.0, warm=True) == 1.0
    # The same from a cache of pages.
    for pages, room in ((10, 16), (10, 10), (10, 8)):
        cache: list[int] = []
        hits = 0
        for page in list(range(pages)) * 5:
            hits += page in cache
            cache = [*(x for x in cache if x != page), page][-room:]
        assert hits / (5 * pages) == cyclic_lru(float(pages), float(room), 5.0)


def test_more_layers_in_an_array_each_take_their_own_time() -> None:
    counts = np.asarray([1.0, 6.0, 80.0])
    block = (op("attn", "x kv:c", "y kv:c", kind="attention"), op("sum", "y", kind="collective"),
             op("mlp", "x y weight:w", "x"))  # fmt: skip
    seconds = {"attn": 1.0, "sum": 0.4, "mlp": 1.5, "weights": 1.1, "in": 2.0, "out": 0.3}
    draws = {"attn": {"hbm": 0.9}, "mlp": {"hbm": 0.4, "sm": 1.0}, "weights": {"hbm": 0.3}}
    for name in ("in_order", "overlap_collectives", "prefetch", "offload", "two_batches"):
        many = time(order(name, layers(counts, *block)), seconds, draws).time
        alone = [time(order(name, layers(float(n), *block)), seconds, draws).time for n in counts]
        np.testing.assert_allclose(many, alone, rtol=1e-9)


def test_schedules_are_found_by_their_place() -> None:
    assert {"in_order", "overlap_collectives", "prefetch", "offload", "two_batches", "gpipe", "one_f_one_b",
            "interleaved"} <= set(schedules())  # fmt: skip
    assert all(make.__doc__ for make in schedules().values())
    with pytest.raises(UnknownName, match="one_f_one_b"):
        order("one_f_one")
    with pytest.raises(TierwiseError, match="it has: ahead, roles, tier"):
        order("prefetch", layers(1.0), depth=2)


def test_every_event_of_a_timeline_is_a_row() -> None:
    made = order("overlap_collectives", layers(2.0, op("a", "x y", "x y"), op("sum", "y", kind="collective")))
    done = play(made, timed(made, {"a": 2.0, "sum": 1.0, "head": 1.0}), events=True)
    got = [(r["lane"], r["name"], r["turn"], r["start"], r["duration"]) for r in rows(made, done)]
    busy = [x for x in got if x[4]]
    assert busy == [("device", "layer.a", 0, 0.0, 2.0), ("link", "layer.sum", 0, 2.0, 1.0),
                    ("device", "layer.a", 1, 3.0, 2.0), ("device", "output.head", 0, 5.0, 1.0),
                    ("link", "layer.sum", 1, 5.0, 1.0)]  # fmt: skip
    assert len(got) == 6


def test_where_all_lies_on_the_device_a_schedule_of_copies_copies_nothing() -> None:
    """What no placement puts elsewhere is not streamed: the step takes as long as in line, in the same memory."""
    scenario = tw.Scenario("llama-3.1-8b", "h100-sxm", tw.Batch(512.0, 32.0, 2.0))
    plain, ahead, both = (tw.evaluate(scenario.with_plan(schedule=s)) for s in ("", "prefetch:ahead=2", "offload"))
    assert ahead.time == pytest.approx(plain.time, rel=1e-9) and both.time == pytest.approx(plain.time, rel=1e-9)
    assert ahead.memory.peak == plain.memory.peak
    some = [tw.evaluate(scenario.apply(tw.techniques.offload_weights(f)).with_plan(schedule="prefetch:ahead=1")).time
            for f in (0.01, 0.1, 1.0)]  # fmt: skip
    assert plain.time <= some[0] < some[1] < some[2]


def test_a_schedule_of_ones_own_goes_by_its_path(tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text("from tierwise.schedule.overlap_collectives import order as usual\n\n"
                    "def order(program, times: int = 1):\n    return usual(program)\n")  # fmt: skip
    scenario = tw.Scenario("llama-3.1-8b", "4xh100-sxm", tw.Batch(512.0, 32.0, 2.0)).with_plan(tp=4.0)
    own, known = (scenario.with_plan(schedule=s) for s in (f"{mine}:times=2", "overlap_collectives"))
    assert tw.evaluate(own).time == pytest.approx(tw.evaluate(known).time, rel=1e-9)
    before = scenario_hash(own)
    mine.write_text(mine.read_text() + "\n# Another.\n")
    assert scenario_hash(own) != before
    for text, said in ((f"{mine}:depth=2", "option"), (str(tmp_path / "none.py"), "no such file")):
        with pytest.raises(TierwiseError, match=said):
            parse(text)
    mine.write_text("x = 1\n")
    with pytest.raises(TierwiseError, match="order"):
        parse(str(mine))
