"""Long runs and other ways to train: failures and checkpoints, islands, compressed gradients, documents, experts."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.shapes import a100s, gpt
from tierwise.core.errors import BadField, TierwiseError
from tierwise.machines.load import system
from tierwise.models.load import load_model
from tierwise.training import Layout, TrainingFramework, train_step
from tierwise.training.checkpoint import checkpoint, consolidated
from tierwise.training.goodput import Reliability, goodput
from tierwise.training.recipe import Compression, compression

PLAIN = TrainingFramework("plain")
MODEL = gpt(8, 4096.0, 32.0, tied=False)
SIZE = 5e12


def simulated(what: Reliability, devices: float, interval: float, write: float, seed: int) -> float:
    """Share of a run that counts, played out: exponential failures, work since the last checkpoint lost."""
    rng = np.random.default_rng(seed)
    between = what.mtbf / devices
    clock = done = 0.0
    fails = rng.exponential(between)
    while done < 4000:
        if clock + interval + write <= fails:
            clock, done = clock + interval + write, done + 1
        else:
            clock = fails
            fails = clock + rng.exponential(between)
            while fails < clock + what.restart:
                clock, fails = fails, fails + rng.exponential(between)
            clock += what.restart
    return done * interval / clock


def test_goodput_is_what_playing_failures_out_gives() -> None:
    what = Reliability(mtbf=2e8, restart=300.0, storage=1e11, spares=1000.0)
    g = goodput(what, 16384.0, SIZE, 1.0)
    assert g.written == pytest.approx(50.0) and g.between == pytest.approx(2e8 / 16384.0)
    played = np.mean([simulated(what, 16384.0, g.interval, g.write, s) for s in range(8)])
    assert g.share == pytest.approx(played, rel=0.01)


def test_daly_is_near_young_and_no_other_interval_is_better() -> None:
    what = Reliability(mtbf=2e8, restart=300.0, storage=1e11, spares=1000.0)
    g = goodput(what, 16384.0, SIZE, 1.0)
    assert g.young == pytest.approx(math.sqrt(2.0 * 50.0 * g.between))
    assert g.interval == pytest.approx(g.young, rel=0.06)

    def share(interval: float) -> float:
        m = g.between
        return interval / (m * math.exp(what.restart / m) * math.expm1((interval + g.write) / m))

    assert all(share(g.interval) >= share(g.interval * f) for f in (0.6, 0.8, 1.25, 1.6))


def test_spares_and_checkpoints_in_the_background_help() -> None:
    base = Reliability(mtbf=2e8, storage=1e11)
    few, many = (goodput(replace(base, spares=s, repair=43200.0), 1024.0, SIZE, 1.0) for s in (0.0, 20.0))
    assert many.restart < few.restart and many.share > few.share
    behind = goodput(replace(base, spares=20.0, background=True), 1024.0, SIZE, 1.0)
    assert behind.write == 1.0 and behind.share > many.share
    # Hours of a month are lost to something.
    for g in (few, many, behind):
        assert sum(g.lost.values()) == pytest.approx(720.0 * (1.0 - g.share), rel=0.02)


def test_failures_faster_than_restarts_are_refused() -> None:
    with pytest.raises(BadField, match="mtbf"):
        goodput(Reliability(mtbf=3600.0), 100.0, SIZE, 1.0)


def test_a_checkpoint_holds_every_state_once() -> None:
    step = train_step(MODEL, a100s(), Layout(dp=8.0, global_batch=8.0, seq=512.0), PLAIN)
    assert checkpoint(step, MODEL) == pytest.approx(12.0 * float(MODEL.parameters))


def test_a_consolidated_file_has_the_weights_and_takes_reading_all_states() -> None:
    step = train_step(MODEL, a100s(), Layout(dp=8.0, global_batch=8.0, seq=512.0, zero=1.0), PLAIN)
    size, seconds = consolidated(step, MODEL, 1e9)
    assert size == pytest.approx(2.0 * float(MODEL.parameters))
    assert seconds == pytest.approx((12.0 + 2.0) * float(MODEL.parameters) / 1e9)
    # Of adapters, theirs alone.
    thin = train_step(MODEL, a100s(), Layout(dp=8.0, global_batch=8.0, seq=512.0),
                      replace(PLAIN, recipe=replace(PLAIN.recipe, rank=8.0)))  # fmt: skip
    assert consolidated(thin, MODEL, 1e9)[0] == pytest.approx(checkpoint(thin, MODEL) / 12.0 * 2.0)


def reduced(how: TrainingFramework = PLAIN, **changes: float) -> float:
    x = Layout(dp=64.0, global_batch=64.0, seq=256.0, overlap=0.0)
    return float(train_step(MODEL, a100s(64), replace(x, **changes), how).parts["gradients on the wire"])  # type: ignore[arg-type]


def test_compressed_gradients_take_less_of_the_wire() -> None:
    packed = {name: reduced(replace(PLAIN, compress=compression(name))) for name in
              ("none", "int8", "topk:0.001", "powersgd:4")}  # fmt: skip
    assert packed["powersgd:4"] < packed["int8"] < packed["none"]
    # Everyone's choice reaches everyone: what is sent grows with the number of replicas.
    assert packed["topk:0.001"] < packed["none"] < reduced(replace(PLAIN, compress=Compression("topk", 0.05)))
    for bad in ("int4", "topk", "topk:2", "powersgd:0.5", "int8:3"):
        with pytest.raises(TierwiseError):
            compression(bad)
    with pytest.raises(BadField, match="zero"):
        reduced(replace(PLAIN, compress=compression("powersgd:4")), zero=1.0)


def test_shared_parameters_and_gradients_go_over_slow_wires_in_eight_bits() -> None:
    """Half of 16 bits on the wire for parameters of fully sharded layers, which are gathered twice, and a quarter of
    fp32 for gradients; packing takes time, so that nothing is gained where the wire hides behind work anyway."""
    wide, packed = PLAIN, replace(PLAIN, compress=Compression("int8"))
    assert reduced(packed, zero=1.0) < reduced(wide, zero=1.0)
    slow = system("64xa100-sxm-80gb:link_share=0.02")
    x = Layout(dp=64.0, global_batch=64.0, seq=256.0, zero=3.0)
    before, after = (train_step(MODEL, slow, x, how) for how in (wide, packed))
    assert 2.0 < float(before.time) / float(after.time) < (2.0 + 2.0 + 4.0) / 3.0
    near = replace(x, micro_batch=8.0, global_batch=512.0, seq=2048.0)
    before, after = (train_step(MODEL, a100s(64), near, how) for how in (wide, packed))
    assert float(before.time) <= float(after.time) < 1.1 * float(before.time)


def test_islands_that_meet_seldom_wait_less() -> None:
    every, seldom = (reduced(islands=8.0, local_steps=n) for n in (1.0, 500.0))
    assert seldom < reduced() < every
    # What is left is the average inside an island.
    alone = reduced(islands=8.0, local_steps=1e12)
    assert seldom - alone == pytest.approx((every - alone) / 500.0, rel=1e-3)


def test_packed_documents_attend_to_less_and_padding_is_of_no_use() -> None:
    x = Layout(global_batch=4.0, seq=4096.0)
    plain, packed, padded = (
        train_step(MODEL, a100s(1), replace(x, **c), PLAIN) for c in ({}, {"attended": 0.25}, {"filled": 0.25})
    )
    assert float(packed.parts["attention"]) == pytest.approx(0.25 * float(plain.parts["attention"]))
    assert float(padded.time) == float(plain.time)
    assert float(padded.tokens) == pytest.approx(0.25 * float(plain.tokens))


def test_the_busiest_experts_set_the_pace_until_tokens_are_dropped() -> None:
    model, machine = load_model("mixtral-8x7b"), system("16xh100-sxm")
    x = Layout(dp=16.0, ep=8.0, global_batch=128.0, seq=2048.0, zero=1.0)
    even, busy, dropped = (
        train_step(model, machine, replace(x, **c), PLAIN)
        for c in ({}, {"imbalance": 2.0}, {"imbalance": 2.0, "capacity": 1.25})
    )
    assert float(even.time) < float(dropped.time) < float(busy.time)
    # Twice the rows on one rank are no more useful work.
    assert float(busy.flops) == pytest.approx(float(even.flops), rel=1e-3)


def test_slow_devices_hold_up_more_the_more_there_are() -> None:
    few, many = (
        train_step(MODEL, a100s(n), Layout(dp=float(n), global_batch=64.0, seq=512.0, straggler=0.02), PLAIN)
        for n in (8, 64)
    )
    relative = [float(s.parts["stragglers"] / sum(v for k, v in s.parts.items() if k in ("matmul", "attention")))
                for s in (few, many)]  # fmt: skip
    assert relative[1] > relative[0] > 0.02


def test_flags_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import json

    from tierwise.cli import main

    out = tmp_path / "a.json"
    asked = ["explain", "llama-3.1-8b", "--on", "64xh100-sxm", "--train", "--tp", "2", "--global-batch", "64", "--seq",
             "4096", "--train-tokens", "1T", "--json", str(out)]  # fmt: skip

    def run(*more: str) -> dict[str, object]:
        with pytest.raises(SystemExit) as caught:
            main([*asked, *more])
        assert not caught.value.code, capsys.readouterr().err
        found: dict[str, object] = json.loads(out.read_text())
        return found

    plain = run()
    failing = run("--mtbf", "1000h", "--storage", "20GB", "--spares", "8")
    share = failing["goodput"]["share"]  # type: ignore[index]
    assert 0.5 < share < 1.0
    assert failing["run"]["seconds"] == pytest.approx(plain["run"]["seconds"] / share)  # type: ignore[index]
    packed = run("--lengths", "fixed:value=1024")
    assert packed["parts"]["attention"] == pytest.approx(plain["parts"]["attention"] / 4.0)  # type: ignore[index]
    assert run("--lengths", "fixed:value=1024", "--padded")["tokens_per_s"] == pytest.approx(
        plain["tokens_per_s"] / 4.0  # type: ignore[operator]
    )


def test_hybrid_sharding_gathers_near_and_averages_far() -> None:
    x = Layout(dp=64.0, global_batch=64.0, seq=256.0, zero=3.0)
    whole, hybrid = (train_step(MODEL, a100s(64), replace(x, shard=s), PLAIN) for s in (64.0, 8.0))
    assert float(hybrid.parts["parameters on the wire"]) < float(whole.parts["parameters on the wire"])
    assert float(hybrid.parts["gradients on the wire"]) > float(whole.parts["gradients on the wire"]) == 0.0
    # Eight copies of everything in place of one.
    states = [float(s.memory.parts["optimizer states"]) for s in (hybrid, whole)]
    assert states[0] == pytest.approx(8.0 * states[1])


def test_a_shared_fabric_is_slower_the_more_nodes_take_part() -> None:
    shared = replace(PLAIN, far=0.5)
    assert reduced(shared, dp=8.0, tp=8.0, global_batch=8.0) > reduced(dp=8.0, tp=8.0, global_batch=8.0)
    assert reduced(shared, dp=8.0) == pytest.approx(reduced(dp=8.0))  # inside a node
    assert reduced(shared) == pytest.approx(8.0**0.5 * reduced())


def test_islands_tell_all_others_some_or_a_server() -> None:
    """Gossip costs a message a neighbour, however many islands there are; a server's port all messages, both ways."""
    every = {"islands": 8.0, "local_steps": 1.0}
    alone = reduced(islands=8.0, local_steps=1e12)
    one, two = (reduced(**every, averaging=1.0, peers=n) - alone for n in (1.0, 2.0))
    assert two == pytest.approx(2.0 * one) and one > 0.0
    # Nobody tells more islands than there are.
    assert reduced(**every, averaging=1.0, peers=100.0) - alone == pytest.approx(7.0 * one)
    served = reduced(**every, averaging=2.0) - alone
    assert served == pytest.approx(2.0 * 8.0 * one)
    fewer = reduced(islands=4.0, local_steps=1.0, averaging=2.0) - reduced(islands=4.0, local_steps=1e12)
    assert fewer < served


def test_averages_that_come_late_are_waited_for_only_where_a_round_is_too_short() -> None:
    alone = reduced(islands=8.0, local_steps=1e12)
    for averaging in (0.0, 1.0, 2.0):
        waited, late = (reduced(islands=8.0, local_steps=4.0, averaging=averaging, late=v) for v in (0.0, 1.0))
        assert alone <= late <= waited
    assert reduced(islands=8.0, local_steps=1000.0, averaging=2.0, late=1.0) == pytest.approx(alone)
