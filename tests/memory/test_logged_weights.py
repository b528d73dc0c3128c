"""What vLLM logged of a model's weights and caches at its start, of published reports, beside the account of memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

import tierwise as tw
from tierwise import engines
from tierwise.machines import system
from tierwise.memory.account import cache_pool
from tierwise.memory.rules import rules
from tierwise.models.load import load_model
from tierwise.models.lower import state_bytes
from tierwise.models.step import Step

GIB = 2**30
CONFIGS = Path(__file__).parents[3] / "shared/data/configs"
# (model, format of the weights, tensor-parallel degree, GiB a device, report). The log counts tables and scales too.
LOADED = [
    ("llama-3.1-70b", "int8", 1, 67.7229, "vllm-project/vllm#12569"),
    ("llama-3.1-8b", None, 1, 14.9888, "vllm-project/vllm#10517"),
    ("qwen2.5-14b", None, 2, 13.9476, "vllm-project/vllm#13061"),
    # Experts in MXFP4, padded from 2880 by 2880 to what Marlin takes: 60.7 GiB as the file has them.
    ("gpt-oss-120b", None, 1, 65.9651, "vllm-project/vllm#23278"),
]


@pytest.mark.parametrize(("model", "weights", "tp", "gib", "report"), LOADED)
def test_weights_on_a_device_are_what_was_loaded(
    model: str, weights: str | None, tp: int, gib: float, report: str
) -> None:
    plan = tw.Plan(tp=tp) if weights is None else tw.Plan(tp=tp, weights=tw.fmt(weights))
    machine = f"{tp}xh100-sxm"
    result = tw.evaluate(tw.Scenario(model, machine, tw.Batch(batch=1, prompt=64, output=4), plan=plan, engine="vllm"))
    held = sum(float(size) for size in result.memory.weights.values())
    assert held / GIB == pytest.approx(gib, rel=0.015), report


def test_a_sequence_of_kimi_linear() -> None:
    """vllm-project/vllm#28228: 2.30 GiB hold 2.48 sequences of 120,000 tokens on each of two devices, where one layer
    of padding may waste up to 5 %."""
    step = Step(load_model("kimi-linear-48b-a3b"), tw.Plan(tp=2), 1.0, 1.0, 119_999.0, "decode")
    kv, state, _ = state_bytes(step)
    logged = 2.30 * GIB / 2.48
    assert 0.95 * logged <= float(kv + state) <= logged


# (configuration, tensor-parallel degree, draft tokens, tokens of the longest request, bytes a token on a device)
HYBRIDS = [
    # 5.98 GiB hold 567,978 tokens (noonghunna/club-3090#612): two recurrent states a request, for prefixes.
    ("nvidia--Qwen3.6-35B-A3B-NVFP4", 1, 0.0, 131_072, 5.98 * GIB / 567_978),
    # 11.05 GiB hold 623,873 tokens (noonghunna/club-3090#642): with MTP of three tokens, five states a request.
    ("nvidia--Qwen3.6-27B-NVFP4", 2, 3.0, 262_144, 11.05 * GIB / 623_873),
]


@pytest.mark.parametrize(("folder", "tp", "drafts", "longest", "logged"), HYBRIDS)
def test_recurrent_states_kept_for_prefixes_and_drafts(
    folder: str, tp: int, drafts: float, longest: int, logged: float
) -> None:
    """vLLM 0.24 with FP8 caches and prefix caching; what remains is rounding up to blocks of about 1,000 tokens."""
    path = CONFIGS / folder
    if not path.exists():
        pytest.skip("configurations are not here")
    fp8 = tw.fmt("fp8")
    plan = tw.Plan(tp=float(tp), mtp=drafts > 0, kv=replace(tw.Plan().kv, key=fp8, value=fp8))
    how = rules(engines.load("vllm"), plan, drafts=drafts, prefix_cache=True)
    pool = cache_pool(load_model(str(path)), system(f"{tp}xh200-sxm"), plan, how, float(longest))
    each = float(pool.token + pool.fixed / longest) / tp
    assert 0.985 * logged <= each <= logged
