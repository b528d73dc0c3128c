"""Formats asked for reach convolutions: rates of published systems, utilization against the format's own peak."""

from __future__ import annotations

import pytest

from tierwise.core.numerics import fmt
from tierwise.evaluation import evaluate
from tierwise.report.explain_data import to_dict
from tierwise.result import Result
from tierwise.scenario.types import Batch, Plan, Scenario


def run(model: str, machine: str, weights: str = "", acts: str = "", batch: float = 256.0) -> Result:
    plan = Plan(weights=fmt(weights) if weights else None, activations=fmt(acts) if acts else None)
    return evaluate(Scenario(model, machine, Batch(1.0, 1.0, batch), plan))


def test_int8_resnet_meets_mlperf() -> None:
    # MLPerf Inference, closed, offline: about 38 thousand a second on an A100 SXM and 6.1 thousand on a T4.
    for machine, published in (("a100-sxm-80gb", 38e3), ("t4", 6.1e3)):
        assert run("resnet-50", machine, "int8", "int8").throughput == pytest.approx(published, rel=0.25), machine


@pytest.mark.parametrize("machine", ["a100-sxm-80gb", "t4", "apple-a17-pro-npu", "dimensity-9300-npu"])
@pytest.mark.parametrize("model", ["resnet-50", "vit-base-patch16-224"])
def test_fewer_bits_are_faster_and_no_peak_is_beaten(machine: str, model: str) -> None:
    narrow, half = (run(model, machine, f, f, 64.0) for f in ("int8", "fp16"))
    assert narrow.throughput > 1.2 * half.throughput
    for r in (narrow, half, run(model, machine, batch=64.0)):
        assert 0.0 < r.mfu <= 1.0 and all(0.0 < p.time_at_peak <= p.pass_time for p in r.phases)


def test_half_precision_weights_of_an_fp32_model_bring_its_activations() -> None:
    asked, both = (run("resnet-50", "a100-sxm-80gb", "fp16", a) for a in ("", "fp16"))
    assert asked.time == both.time < run("resnet-50", "a100-sxm-80gb").time / 2.0
    # Those of 8 bits are read narrower, and expanded where activations are not.
    assert str(run("resnet-50", "a100-sxm-80gb", "int8").phases[0].step.act) == "fp32"


def test_the_answer_says_which_weights_keep_their_format() -> None:
    said = " ".join(to_dict(run("llama-2-7b", "h100-sxm", "int4-g128", batch=1.0))["notes"])
    assert "int4-g128 holds for" in said and "embed fp16" in said and "head fp16" in said
    assert not any("holds for" in n for n in to_dict(run("resnet-50", "h100-sxm", "int8", "int8"))["notes"])
    assert any("--weights fp16" in n for n in to_dict(run("resnet-50", "h100-sxm"))["notes"])
