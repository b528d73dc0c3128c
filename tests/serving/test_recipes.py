"""What rows leave out of their runs: settings that published recipes state, and only for the runs they state."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tierwise.serving.predict import priced
from tierwise.serving.recipes import CacheFormat, ExpertKernels, ExpertLayout, conditions, key_of, usual
from tierwise.serving.rows import EngineGroup, ServingRow

INFERENCEX = "source_file=2026-03-25.csv; measured={}T00:00:00.000Z"


def row(**changes: object) -> ServingRow:
    plain = ServingRow(2, "a", "deepseek-ai/DeepSeek-R1", "h200_sxm", "trtllm", "", "agg", "", "fp8", "fp8", 1024.0,
                       1024.0, 16.0, EngineGroup(8), None, None, None, None)  # fmt: skip
    return replace(plain, **changes)  # type: ignore[arg-type]


def test_other_runs_take_the_engines_defaults() -> None:
    how = conditions([row()])
    assert key_of(row()).client == "other" and how.shorten[0] == 1.0
    assert how.client.cold[0] == 0 and how.client.timeout[0] == 0 and how.expert_layout[0] == ExpertLayout.AS_RECORDED


@pytest.mark.parametrize(("model", "cold"), [("deepseek-ai/DeepSeek-R1", 1.0), ("meta-llama/Llama-3.1-70B", 0.0)])
def test_models_with_compiled_kernels_start_cold_before_there_was_a_warm_up(model: str, cold: float) -> None:
    before, after = (row(model=model, source=INFERENCEX.format(d)) for d in ("2025-12-15", "2026-02-15"))
    assert conditions([before, after]).client.cold.tolist() == [cold, 0.0]


def test_attention_ranks_wait_for_each_other_under_one_engine() -> None:
    by_rank = EngineGroup(1, 8, 8)
    rows = [row(decode=by_rank), row(decode=EngineGroup(8)), row(engine="sglang", decode=by_rank)]
    assert conditions(rows).client.timeout.tolist() == [60.0, 0.0, 0.0]


def test_drafts_leave_a_pass_room_for_one_prompt() -> None:
    source = INFERENCEX.format("2026-03-01")
    how = conditions([row(version=v, source=source, isl=8192.0) for v in ("1.2.0rc6.post3", "1.2.0rc6.post2")])
    assert how.draft.tolist() == [3.0, 0.0]
    assert how.client.budget[0] / 8192.0 == pytest.approx(1.1)


def test_layouts_that_scripts_chose_are_those_that_are_priced() -> None:
    source = INFERENCEX.format("2025-11-02")
    p, _ = priced([row(source=source), row(source=source, concurrency=128.0)])
    assert p.point.ep.tolist() == [8.0, 8.0]
    assert p.point.tp.tolist() == [8.0, 1.0] and p.point.dp.tolist() == [1.0, 8.0]


def test_rules_that_ask_what_nobody_said_do_not_hold() -> None:
    """An engine asked about without a run has its defaults, also where a rule about a field it lacks would match."""
    key = replace(key_of(row(engine="trtllm")), client="", build="")
    alone, asked = usual(key, "deepseek-r1"), conditions([row(decode=EngineGroup(1, 8, 8))]).client
    assert alone.timeout[0] == 0.0 and asked.timeout[0] == 60.0
    assert alone.poll[0] == asked.poll[0] and alone.budget[0] == asked.budget[0]


def test_scripts_say_the_cache_and_the_room_of_a_pass() -> None:
    """Of one model on two machines and days: what its script said there and then, and nothing elsewhere."""
    model = {"model": "MiniMaxAI/MiniMax-M2.5", "engine": "vllm"}
    rows = [row(**model, system=name, source=INFERENCEX.format(day)) for name, day in
            (("h200_sxm", "2026-04-10"), ("b200_sxm", "2026-03-11"), ("b200_sxm", "2026-04-10"))]  # fmt: skip
    how = conditions([*rows, row(**model, system="b200_sxm")])
    assert how.cache.tolist() == [CacheFormat.OWN, CacheFormat.OWN, CacheFormat.FP8, CacheFormat.OWN]
    assert how.client.budget.tolist() == [8192.0, 8192.0, 2048.0, 8192.0]
    assert how.expert_layout.tolist() == [1.0, 1.0, 0.0, 0.0]
    assert how.client.captured.tolist() == [512.0, 512.0, 2048.0, 512.0]


def test_a_pass_takes_one_prompt_until_its_script_gives_it_more() -> None:
    days = [row(source=INFERENCEX.format(d)) for d in ("2025-12-15", "2026-02-15")]
    assert conditions(days).client.budget.tolist() == [1024.0, 8192.0]


def test_prompts_come_together_where_an_engine_reads_them_first() -> None:
    engines = [row(engine=name) for name in ("vllm", "sglang", "trtllm")]
    assert conditions(engines).client.prefill_first.tolist() == [0.0, 1.0, 0.0]


def test_scripts_of_engines_that_do_both_say_nothing_of_those_that_prefill_apart() -> None:
    """Four GB200 hold DeepSeek's 8 bits only with nearly all their memory, as their own script gives them."""
    r = row(engine="sglang", system="gb200", decode=EngineGroup(4), source=INFERENCEX.format("2026-02-10"))
    apart = replace(r, prefill=EngineGroup(4), mode="disagg")
    wide = replace(apart, decode=EngineGroup(1, 32, 32), prefill=EngineGroup(1, 8, 8))
    how = conditions([r, apart, wide])
    assert how.memory.tolist() == [0.82, 0.95, 0.82]
    assert how.client.budget.tolist() == [32768.0, 8192.0, 16384.0]
    p, _ = priced([r, apart])
    assert p.times.room[0] < 1.0 < p.times.room[1]


def test_experts_run_the_kernels_that_a_script_names() -> None:
    """TensorRT-LLM's backend TRTLLM for DeepSeek in 8 bits on a B200 since its script said so, not on other devices."""
    days = "2026-01-15", "2026-02-10"
    then, now = (row(system="b200_sxm", version="1.2.0rc6.post2", source=INFERENCEX.format(d)) for d in days)
    elsewhere, own = replace(now, system="h200_sxm"), row(system="b200_sxm")
    found = conditions([then, now, elsewhere, own]).experts.tolist()
    assert found == [ExpertKernels.OWN, ExpertKernels.GENERATED, ExpertKernels.OWN, ExpertKernels.OWN]
    # They serve few tokens faster than DeepGEMM's grouped products, whose tiles are taller.
    p, refused = priced([then, now])
    assert not refused
    moe = p.times.decode[1, 0]
    assert moe[1] < 0.8 * moe[0] and (p.times.decode[0, 0, 0] == p.times.decode[0, 0, 1])
