"""What a device holds of a weight is one question, for serving and for training."""

from __future__ import annotations

import pytest

from tierwise.memory.weights import weight_bytes
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.training.layout import Layout
from tierwise.training.memory import parameters


@pytest.mark.parametrize(("tp", "ep"), [(1.0, 1.0), (8.0, 1.0), (16.0, 1.0), (8.0, 8.0)])
@pytest.mark.parametrize("name", ["llama-3.1-8b", "qwen3-30b-a3b"])
def test_training_holds_what_serving_holds(name: str, tp: float, ep: float) -> None:
    """Whole KV heads also where there are more devices than heads."""
    if name == "llama-3.1-8b" and ep > 1:
        pytest.skip("a dense model has no experts to divide")
    model = load_model(name)
    layer, ends = parameters(model, Layout(tp=tp, ep=ep))
    (stack,) = (s for s in model.stacks if s.stream == "text" and s.active)
    held = stack.depth * sum(layer.values()) + sum(ends.values())
    served = weight_bytes(model, Plan(tp=tp, ep=ep))
    assert held == pytest.approx(sum(served.values()) / 2.0, rel=1e-9)
