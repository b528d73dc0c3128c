"""Rows of divided models: what they mean, and that predictions are asked of the one road."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tierwise.core.errors import TierwiseError
from tierwise.measure.buffers import check as check_buffers
from tierwise.measure.offload import batch_machine, check, computer, moved, with_experts
from tierwise.models.load import load_model


def test_a_row_s_computer() -> None:
    s = computer("RTX 4090 24GB + 2x Xeon Gold 6454S (16ch DDR5-4800)")
    assert s.device.name == "rtx-4090" and s.host is not None and s.host.cpu is not None
    assert (s.host.cpu.name, s.host.sockets) == ("xeon-6454s", 2)
    assert s.host.bandwidth == pytest.approx(16 * 8 * 4800e6)
    assert computer("RTX 4090 24GB + EPYC 9355 768GB").host.memory == 768e9  # type: ignore[union-attr]
    assert batch_machine("T4 16GB + 208GB DRAM + 1.5TB SSD (GCP)").host.memory == 208e9  # type: ignore[union-attr]
    # Of two cards that a source leaves open, the first; a computer without a card is none of these.
    assert computer("RTX PRO 6000? or RTX 4090 + Xeon 8480 ES").device.name == "rtx-pro-6000"
    with pytest.raises(TierwiseError):
        computer("RTX 4090 24GB")


@pytest.mark.parametrize(
    ("text", "model", "found"),
    [
        ("ngl=63; exps=CPU; mla3 fa fmoe", "deepseek-v3", (0, 58)),
        ("ngl=100; ffn of layers 34-47 (14 of 48) on CPU", "qwen3-30b-a3b", (0, 14)),
        ("n-cpu-moe=12 of 24", "gpt-oss-20b", (0, 12)),
        ("18 of 48 expert layers on CPU", "qwen3-30b-a3b", (0, 18)),
        ("ngl=42 of 48", "qwen2.5-14b", (7, 0)),  # the output layer is counted first
        # Shares of every layer's experts, and parts of them, as layers that read as many bytes.
        ("30% of experts on GPU, placement random", "qwen3-30b-a3b", (0, 34)),
        ("100% of experts on GPU, placement frequency", "qwen3-30b-a3b", (0, 0)),
        ("up,down experts and gate experts of layers 0-19 on CPU", "deepseek-r1", (0, 44)),
    ],
)
def test_what_a_row_leaves_to_the_host(text: str, model: str, found: tuple[int, int]) -> None:
    assert moved(text, load_model(model)) == found


def test_fewer_experts_a_token_are_fewer_parameters() -> None:
    model = load_model("deepseek-v3")
    assert moved("6 experts used; routed experts on CPU", model) == (0, 58)
    assert with_experts(model, 6.0).active_parameters < model.active_parameters
    assert with_experts(model, 6.0).parameters == model.parameters


def test_a_pattern_nobody_states_is_refused() -> None:
    with pytest.raises(TierwiseError):
        moved("some experts elsewhere", load_model("qwen3-30b-a3b"))


def table(**columns: Any) -> dict[str, Any]:
    return {k: np.asarray(v) for k, v in columns.items()}


def test_rows_are_answered_or_refused_with_the_reason() -> None:
    two = {"kind": ["partial_offload", "moe_offload"], "engine": ["llama.cpp"] * 2, "backend": ["CUDA+CPU"] * 2,
           "model": ["Qwen2.5-14B", "Qwen3-30B-A3B"], "tierwise_model": ["qwen2.5-14b", "qwen3-30b-a3b"],
           "quant": ["Q4_K_M"] * 2, "phase": ["decode"] * 2, "value": [20.8, 30.0],
           "device": ["RTX 2080 8GB + i9-10900X (4ch DDR4, 62GB)"] * 2,
           "offload": ["ngl=42 of 48", "some experts elsewhere"]}  # fmt: skip
    a = check(table(**two))
    assert np.isfinite(a.predicted[0]) and np.isnan(a.predicted[1])
    assert a.error[1] == 1.0 and "not understood" in a.refused[0].reason
    assert 0.0 < a.predicted[0] < 60.0


def test_printed_sizes_of_weights_and_caches_are_exact() -> None:
    # llama.cpp 2824 of an 8B model in Q4_K_M at 8192 tokens, one card, as its log prints them.
    items = {"CUDA0 buffer size": 4403.49, "CPU buffer size": 281.81, "KV self size": 1024.0,
             "CUDA0 compute buffer size": 560.0}  # fmt: skip
    n = len(items)
    a = check_buffers(table(device=["x"] * n, n=["1"] * n, model=["8B-v3"] * n, quant=["Q4_K_M"] * n,
                            n_ctx=["8192"] * n, engine=["llama.cpp 2824"] * n, item=list(items),
                            mib=list(items.values())))  # fmt: skip
    error = dict(zip(a.what.tolist(), a.error.tolist(), strict=True))
    assert error["weights"] < 1e-4 and error["caches"] < 1e-6 and error["embedding"] < 1e-4
    assert error["compute"] < 0.1
