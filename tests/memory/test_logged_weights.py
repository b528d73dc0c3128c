"""What vLLM logged of a model's weights and caches at its start, of published reports, beside the account of memory."""

from __future__ import annotations

import pytest

import tierwise as tw
from tierwise.models.load import load_model
from tierwise.models.lower import state_bytes
from tierwise.models.step import Step

GIB = 2**30
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
