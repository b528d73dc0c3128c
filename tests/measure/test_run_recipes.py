"""What scripts of recorded runs set where their tables say nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tierwise.measure.recipes import stated
from tierwise.measure.training import table
from tierwise.training.recipe import GRAPHS, Recipe

ROW: dict[str, Any] = {
    "framework": "Megatron-Bridge 26.04", "model": "Qwen3_30B_a3B", "gpu": "gb200", "precision": "mxfp8",
    "family": "moe", "hidden": 2048.0, "layers": 48.0, "heads": 32.0, "kv_heads": 4.0, "ffn": 768.0, "vocab": 151936.0,
    "experts": 128.0, "topk": 8.0, "tp": 1.0, "pp": 1.0, "dp": 8.0, "ep": 8.0, "gbs": 512.0, "mbs": 4.0,
    "seq": 4096.0, "zero_stage": 1.0,
}  # fmt: skip


def test_releases_are_compared_as_numbers_and_what_a_row_says_stays() -> None:
    releases = ("25.09", "26.04", "26.06", "26.10")
    found = {r: stated({**ROW, "framework": f"Megatron-Bridge {r}"})["graphs"] for r in releases}
    assert found == {"25.09": "step", "26.04": "router", "26.06": "step", "26.10": "step"}
    assert stated({**ROW, "graphs": "none"})["graphs"] == "none"
    assert "graphs" not in stated({**ROW, "framework": "Levanter"})


def test_unknown_graphs_are_refused_in_words() -> None:
    assert "one of none, router, layers, step" in table([{**ROW, "graphs": "most"}]).refused[0]


def test_every_rule_sets_what_recipes_have() -> None:
    rows = [{**ROW, "framework": f"Megatron-Bridge {r}", "gpu": g, "model": m}
            for r in ("25.09", "25.11", "26.02", "26.06.01") for g in ("h100_sxm", "b200", "gb200", "gb300")
            for m in ("DeepSeekV3", "GPT OSS 120B", "Qwen3_235B_a22B", "Kimi K2")]  # fmt: skip
    for row in map(stated, rows):
        assert row["graphs"] in GRAPHS
        Recipe(**{k: row[k] for k in ("dispatch", "aside", "grouped", "ahead") if k in row})


def test_a_named_model_is_the_catalogs_where_the_shape_is_too() -> None:
    assert table([ROW]).groups[0].model.name != "recorded"
    assert table([{**ROW, "layers": 10.0}]).groups[0].model.name == "recorded"


@pytest.mark.parametrize(("billions", "matrices"), [(175.2, 2), (233.2, 3), (None, 3)])
def test_parameters_say_whether_feed_forward_layers_are_gated(billions: float | None, matrices: int) -> None:
    row = {"framework": "NeMo 24.07", "model": "gpt3-175b", "family": "llm", "gpu": "h100_sxm", "precision": "fp8",
           "hidden": 12288.0, "layers": 96.0, "heads": 96.0, "kv_heads": 96.0, "ffn": 49152.0, "vocab": 51200.0,
           "tied": 1.0, "tp": 4.0, "pp": 8.0, "dp": 16.0, "gbs": 2048.0, "mbs": 2.0, "seq": 2048.0,
           "params_b": billions}  # fmt: skip
    block: Any = next(iter(table([row]).groups[0].model.stacks[0].runs()))[0].blocks[3]
    assert block.gated == (matrices == 3)


BLOOM: dict[str, Any] = {
    "framework": "Megatron-DeepSpeed 2022-02", "model": "bloom", "family": "bloom", "gpu": "a100_sxm_80",
    "hidden": 14336.0, "layers": 70.0, "heads": 112.0, "vocab": 250880.0, "tied": 1.0, "seq": 2048.0, "mbs": 2.0,
    "gbs": 2048.0, "tp": 4.0, "pp": 12.0, "dp": 8.0, "gpus_per_node": 8.0, "zero_stage": 1.0, "recompute": "full",
}  # fmt: skip
ENDS = "JeanZay 4x100Gb OPA per node; pp-partition transformer|embedding"


@pytest.mark.parametrize(
    ("layers", "stages", "flags", "first", "last"),
    [
        (70.0, 12.0, ENDS, 5.0, 5.0),  # BLOOM: 72 in twelfths, of which embedding and head are one each
        (78.0, 12.0, "", 7.0, 1.0),  # sevens until one is left
        (106.0, 12.0, "", 9.0, 7.0),
        (72.0, 12.0, "", None, None),
    ],
)
def test_deepspeed_fills_stages_one_after_the_other(
    layers: float, stages: float, flags: str, first: float | None, last: float | None
) -> None:
    found = stated({**BLOOM, "layers": layers, "pp": stages, "flags": flags})
    assert (found.get("first"), found.get("last")) == (first, last)
    assert "first" not in stated({**BLOOM, "layers": layers, "pp": stages, "flags": flags, "framework": "NeMo 24.07"})


def test_a_head_beside_fewer_layers_holds_nobody_up() -> None:
    """Of stages that are dealt with their ends none is much longer than the others."""
    alike = {"first": 6.0, "last": 6.0}
    dealt, even = (table([{**BLOOM, "flags": ENDS, **own}]).groups[0].step() for own in ({}, alike))
    assert float(np.asarray(dealt.time)[0]) < 0.97 * float(np.asarray(even.time)[0])
    assert float(np.asarray(dealt.parts["ends"])[0]) < float(np.asarray(even.parts["ends"])[0])


def test_ports_that_a_row_states_are_its_machines() -> None:
    named, silent = (table([{**BLOOM, "flags": flags}]).groups[0].system.scale_out for flags in (ENDS, ""))
    assert named is not None and named.bandwidth == 4 * 100e9 / 8.0 / 8.0
    assert silent is not None and silent.bandwidth == 25e9
