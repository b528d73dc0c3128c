"""What the steady state must do, whatever its coefficients: bounds, monotony, Little's law, scalar = array."""

from __future__ import annotations

from dataclasses import fields, replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.errors import BadField
from tierwise.serving.closed_loop import closed_loop
from tierwise.serving.coefficients import FILE, calibration
from tierwise.serving.predict import Priced, cache_format, find_model, predict, priced, solve
from tierwise.serving.recipes import CacheFormat, key_of
from tierwise.serving.rows import EngineGroup, ServingRow
from tierwise.serving.steady import Steady
from tierwise.serving.step_times import formats_of, take


def row(**changes: object) -> ServingRow:
    plain = ServingRow(2, "a", "llama-3.1-8b", "h100_sxm", "vllm", "", "agg", "", "fp8", "fp8", 1024.0, 512.0, 16.0,
                EngineGroup(1), None, None, None, None)  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def of(*rows: ServingRow) -> tuple[np.ndarray, np.ndarray, Priced]:
    p, refused = priced(rows)
    assert not refused
    found = predict(p)
    return found.ttft, found.tpot, p


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
@pytest.mark.parametrize("model", ["llama-3.1-8b", "qwen3-30b-a3b"])
def test_more_requests_take_longer_and_yield_more(engine: str, model: str) -> None:
    flight = [1.0, 4.0, 16.0, 64.0, 256.0]
    ttft, tpot, _ = of(*(row(model=model, engine=engine, concurrency=n) for n in flight))
    assert np.all(np.diff(tpot) > 0) and np.all(ttft[1:] > 0.97 * ttft[:-1])
    throughput = np.asarray(flight) / (ttft + 512.0 * tpot)
    assert np.all(np.diff(throughput) > 0)


def test_longer_prompts_take_longer() -> None:
    ttft, tpot, _ = of(*(row(isl=float(n)) for n in (128, 1024, 8192, 32768)))
    assert np.all(np.diff(ttft) > 0) and np.all(np.diff(tpot) > 0)


def test_more_devices_are_not_slower_for_large_models() -> None:
    ttft, tpot, _ = of(*(row(model="llama-3.1-70b", decode=EngineGroup(n), isl=4096.0) for n in (2, 4, 8)))
    assert np.all(np.diff(tpot) < 0) and np.all(np.diff(ttft) < 0)


def test_nothing_beats_reading_the_weights() -> None:
    _, tpot, _ = of(row(model="llama-3.1-70b", concurrency=1.0))
    floor = 70e9 / 3.35e12  # every weight once, at the memory's rate
    assert tpot[0] > floor


def test_requests_without_room_wait_for_others_to_end() -> None:
    crowded, free = row(model="qwen3-32b", dense="bf16", experts="bf16", concurrency=64.0, isl=8192.0), row()
    ttft, tpot, p = of(crowded, free)
    assert p.times.room[0] < 64
    assert ttft[0] > 0.5 * 512 * tpot[0]


def test_answers_take_their_place_as_they_come_but_under_tensorrt_llm() -> None:
    """Half of an answer is in the cache in the mean, which TensorRT-LLM keeps a place for from the start."""
    p, _ = priced([row(engine=name, isl=512.0, osl=4096.0) for name in ("vllm", "trtllm")])
    tokens = p.times.room * np.asarray([512.0 + 2048.0, 512.0 + 4096.0])
    assert p.times.room[0] > 1.5 * p.times.room[1]
    assert tokens[0] == pytest.approx(tokens[1], rel=0.2)  # each engine has its own share of the memory


def test_one_at_a_time_is_as_many() -> None:
    large = row(model="deepseek-v3", decode=EngineGroup(8, 1, 8), draft=3.0)
    two = replace(large, decode=EngineGroup(1, 8, 8, 2), draft=None, prefill=EngineGroup(8, workers=2), mode="disagg")
    rows = [row(), row(engine="sglang", concurrency=64.0), large, two]
    ttft, tpot, _ = of(*rows)
    for i, r in enumerate(rows):
        one_ttft, one_tpot, _ = of(r)
        assert one_ttft[0] == pytest.approx(ttft[i], rel=1e-9)
        assert one_tpot[0] == pytest.approx(tpot[i], rel=1e-9)


def test_drafts_that_are_right_save_steps() -> None:
    large = row(model="deepseek-v3", decode=EngineGroup(8, 1, 8), concurrency=4.0)
    _, tpot, _ = of(*(replace(large, draft=d) for d in (0.0, 3.0)))
    assert 0.25 < tpot[1] / tpot[0] < 1.0


def test_prefilling_apart_leaves_decoding_alone() -> None:
    heavy = {"model": "llama-3.1-70b", "isl": 8192.0, "osl": 256.0, "concurrency": 64.0, "decode": EngineGroup(8)}
    _, tpot, _ = of(row(**heavy), row(**heavy, prefill=EngineGroup(8, workers=4), mode="disagg"))
    assert tpot[1] < tpot[0]


def test_prompts_that_wait_apart_share_a_pass_as_far_as_it_has_room() -> None:
    """A pass of many prompts is launched once, so a prefilling engine under load answers sooner where passes hold more;
    a request alone does not see it."""
    many = row(model="deepseek-v3", system="b200_sxm", isl=512.0, osl=128.0, concurrency=256.0,
               decode=EngineGroup(8, workers=4), prefill=EngineGroup(8), mode="disagg")  # fmt: skip
    few, more = (settled(many, budget=b, captured=0.0) for b in (512.0, 8192.0))
    assert more.ttft[0] < 0.9 * few.ttft[0]
    assert few.parts["prompts of a pass"][0] == 1.0 < more.parts["prompts of a pass"][0] <= 16.0
    one = replace(many, concurrency=1.0, decode=EngineGroup(8))
    assert settled(one, budget=512.0).ttft[0] == pytest.approx(settled(one, budget=8192.0).ttft[0], rel=0.01)


def test_unknown_models_are_refused_alone() -> None:
    p, refused = priced(
        [row(), row(id="b", model="no-such-model"), row(id="c", system="abacus"), row(id="d", engine="unheard-of")]
    )
    assert [r.id for r in p.rows] == ["a"] and [r.id for r in refused] == ["b", "c", "d"]
    assert "no-such-model" in refused[0].reason and "unheard-of" in refused[2].reason


def test_quantized_names_are_their_originals() -> None:
    assert find_model("nvidia/Llama-3.1-8B-Instruct-FP8").name == "llama-3.1-8b"
    assert find_model("nvidia/DeepSeek-R1-NVFP4").name == "deepseek-r1"


def test_formats_are_scaled_as_the_checkpoint_scales_them() -> None:
    """DeepSeek's, MiniMax's and Qwen's 8 bits are scaled by blocks and gpt-oss's 4 bits are MXFP4, however coarsely a
    file of measurements names them; what a row says plainly holds."""
    large = {"concurrency": 8.0, "decode": EngineGroup(8), "system": "h200_sxm"}
    for model, coarse, fine in (("minimax-m2", "fp8", "fp8-block"), ("Qwen/Qwen3-235B-A22B-FP8", "fp8", "fp8-block"),
                                ("gpt-oss-120b", "nvfp4", "mxfp4")):  # fmt: skip
        _, tpot, _ = of(*(row(model=model, dense=name, experts=name, **large) for name in (coarse, fine)))
        assert tpot[0] == pytest.approx(tpot[1], rel=0.1)
    model = find_model("minimax-m2")
    assert str(formats_of(model, "nvfp4", "nvfp4").formats["expert"]) == "nvfp4"
    assert str(formats_of(find_model("llama-3.1-70b"), "fp8", "fp8").formats["mlp"]) == "fp8"


def test_intervals_are_wider_where_rows_are_harder() -> None:
    cal = calibration()
    for basis in ("calibrated", "transferred"):
        for quantity in ("tpot", "ttft"):
            flags = [dict.fromkeys(("experts", "drafts", "ranks"), flag) for flag in (False, True)]
            plain, harder = (cal.interval(basis, quantity, known) for known in flags)
            assert harder[0] <= plain[0] < 1.0 < plain[1] <= harder[1]


def test_intervals_know_what_was_measured_and_only_that() -> None:
    """How far an engine's and a machine's own rows scatter counts where they were fitted on, and nowhere else."""
    cal = calibration()
    for quantity in ("tpot", "ttft"):
        levels = {name.split("/")[0] for name in cal.wider["calibrated"][quantity]}
        assert {"engine", "system", "dense", "client", "model"} <= levels
        own = [cal.interval("calibrated", quantity, {f"engine/{name}": True}) for name in cal.seen["engine"]]
        assert len({float(high) for _, high in own}) > 1
        away = [cal.interval("transferred", quantity, {f"engine/{name}": True}) for name in cal.seen["engine"]]
        assert len({float(high) for _, high in away}) == 1
        # Levels have a mean of their own: none moves all intervals.
        factors = [np.log(v) for name, v in cal.wider["calibrated"][quantity].items() if name.startswith("system/")]
        assert min(factors) < 0 < max(factors)


def test_passes_replayed_from_graphs_need_no_launches() -> None:
    """As vLLM replays steps with prompts up to the sizes it recorded: short prompts are read faster."""
    for isl, faster in ((1024.0, True), (8192.0, False)):
        r = row(concurrency=4.0, isl=isl, decode=EngineGroup(8), model="gpt-oss-120b", dense="mxfp4", experts="mxfp4")
        eager, replayed = (settled(r, captured=size).ttft[0] for size in (0.0, 4096.0))
        assert (replayed < 0.99 * eager) == faster and replayed <= eager


def test_prompts_that_are_all_read_first_come_in_waves() -> None:
    """Requests of equal length start and end together under an engine that reads waiting prompts before it decodes on;
    lengths that differ, or steps that do both, spread them out."""
    r = row(engine="sglang", model="qwen3-32b", dense="bf16", experts="bf16", concurrency=64.0, decode=EngineGroup(4))
    waves, apart = (settled(r, prefill_first=t, spread=0.0) for t in (1.0, 0.0))
    assert waves.ttft[0] > 1.5 * apart.ttft[0]
    assert settled(r, prefill_first=1.0, spread=1.0).ttft[0] == settled(r, prefill_first=0.0, spread=1.0).ttft[0]
    # The mean prompt waits for half of all prompts.
    twice = settled(replace(r, concurrency=128.0), prefill_first=1.0, spread=0.0)
    assert 1.7 < twice.ttft[0] / waves.ttft[0] < 2.1


def test_a_cache_has_the_format_that_the_checkpoint_or_the_command_says() -> None:
    for model, dense, name in (("llama-3.1-70b", "fp8", "fp8"), ("minimax-m2", "fp8", "bf16"),
                               ("deepseek-r1", "nvfp4", "fp8"), ("gpt-oss-120b", "nvfp4", "bf16"),
                               ("kimi-k2.5", "int4", "bf16"), ("qwen3-32b", "bf16", "bf16")):  # fmt: skip
        stored = formats_of(find_model(model), dense, dense)
        assert cache_format(stored) == name
        assert [cache_format(stored, asked) for asked in (CacheFormat.FP8, CacheFormat.BF16)] == ["fp8", "bf16"]


def test_a_build_nobody_measured_has_what_its_engine_has() -> None:
    for known, new in (("0.19.0", "9.9.9"), ("0.12.0", ""), ("0.16.0", "2026-07")):
        old, other = (calibration().of([key_of(row(engine="vllm", version=v))]) for v in (known, new))
        assert all(old[name] == other[name] for name in old)


def test_coefficients_follow_the_formats_that_words_mean() -> None:
    """gpt-oss's 4 bits are MXFP4 and its attention has 16, whatever a file calls them."""
    for words, (dense, experts) in {"nvfp4": ("bf16", "mxfp4"), "": ("bf16", "mxfp4")}.items():
        key = key_of(row(model="gpt-oss-120b", dense=words, experts=words), find_model("gpt-oss-120b"))
        assert (key.dense, key.experts) == (dense, experts)
    found = priced([row(model="gpt-oss-120b", dense="nvfp4", experts="nvfp4")])[0]
    assert found.keys[0].experts == "mxfp4"


def test_every_answer_has_an_interval_and_a_basis() -> None:
    p, _ = priced([row(), row(system="a100_sxm", dense="bf16", experts="bf16")])
    found = predict(p)
    assert found.basis == ("calibrated", "transferred")
    for table in (found.ttft_interval, found.tpot_interval):
        assert np.all(table[:, 0] < 1) and np.all(table[:, 1] > 1)
    ends = calibration().intervals
    for quantity in ("tpot", "ttft"):  # of a machine that was not measured, wider where nothing else is known
        known, new = (np.log(ends[basis][quantity][1] / ends[basis][quantity][0]) for basis in found.basis)
        assert new > known
    assert all(np.all(np.isfinite(v)) for v in found.parts.values())
    assert {f.name for f in fields(p.point)} == {"tp", "dp", "ep", "flight", "isl", "osl", "draft"}


def settled(r: ServingRow, **client: float) -> Steady:
    """The steady state of one row under one setting of its client."""
    p, _ = priced([r])
    how = p.conditions
    changed = replace(how.client, **{name: np.asarray([value]) for name, value in client.items()})
    return solve(replace(p, conditions=replace(how, client=changed)), calibration().of([key_of(r)]))


def test_prompts_kept_waiting_come_together() -> None:
    one = settled(row(concurrency=64.0), poll=0.5)
    many = settled(row(concurrency=64.0), poll=20.0)
    assert many.ttft[0] > one.ttft[0]
    assert many.parts["prompts of a pass"][0] > one.parts["prompts of a pass"][0]
    assert many.tpot[0] < one.tpot[0]  # fewer passes carry the same prompts


def test_ranks_that_wait_for_each_other_answer_later() -> None:
    r = row(model="deepseek-v3", system="h200_sxm", engine="trtllm", decode=EngineGroup(1, 8, 8), concurrency=128.0)
    waits = [settled(r, timeout=t).ttft[0] for t in (0.0, 20.0, 60.0)]
    assert waits[0] < waits[1] < waits[2]


def test_kernels_compiled_on_first_use_delay_the_first_wave() -> None:
    r = row(model="deepseek-v3", system="h200_sxm", decode=EngineGroup(8, 1, 8), concurrency=64.0)
    cold, warm = (settled(r, cold=c) for c in (1.0, 0.0))
    assert cold.ttft[0] > warm.ttft[0]


def test_a_solution_close_by_is_a_start() -> None:
    p, _ = priced([row(), row(concurrency=64.0, isl=4096.0)])
    coef = calibration().of([key_of(r) for r in p.rows])
    full = solve(p, coef)
    near = solve(p, {**coef, "gap": 1.01 * coef["gap"]}, full)
    again = solve(p, {**coef, "gap": 1.01 * coef["gap"]})
    assert near.tpot == pytest.approx(again.tpot, rel=2e-3) and near.ttft == pytest.approx(again.ttft, rel=5e-3)


@cache
def several() -> tuple[Priced, dict[str, np.ndarray]]:
    """Rows of both modes, and their coefficients."""
    large = row(model="deepseek-v3", system="h200_sxm", decode=EngineGroup(8, 1, 8), concurrency=48.0)
    split = {"mode": "disagg", "prefill": EngineGroup(8, workers=2)}
    p, _ = priced([row(), row(engine="sglang", concurrency=64.0), large, replace(large, draft=2.0), row(**split),
                   replace(large, **split), row(isl=8192.0, concurrency=200.0, **split)])  # fmt: skip
    return p, calibration().of([key_of(r) for r in p.rows])


@given(st.lists(st.integers(0, 6), min_size=1, max_size=9))
@settings(max_examples=30, deadline=None)
def test_deployments_side_by_side_do_not_know_of_each_other(picked: list[int]) -> None:
    """Any choice of rows, in any order and of either mode, has the times that each has among all: to the last bit."""
    p, coef = several()
    every = closed_loop(p.point, p.times, p.conditions.client, p.servers, coef)
    i = np.asarray(picked)
    some = closed_loop(take(p.point, i), take(p.times, i), take(p.conditions.client, i), p.servers[i],
                       {name: v[i] for name, v in coef.items()})  # fmt: skip
    assert np.array_equal(some.ttft, every.ttft[i]) and np.array_equal(some.tpot, every.tpot[i])
    assert all(np.array_equal(some.parts[name], v[i]) for name, v in every.parts.items())


def test_a_calibration_of_a_coefficient_that_the_loop_does_not_have_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "serving.yaml"
    file.write_text(FILE.read_text().replace("  prefill.batching:", "  prefill.batches:"))
    with pytest.raises(BadField, match=r"prefill\.batches"):
        calibration(file)
