"""Kernels of an eager framework, counted in the framework itself with PyTorch's dispatch mode."""

from __future__ import annotations

from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402

import tierwise as tw  # noqa: E402
from tierwise.cost import framework  # noqa: E402
from tierwise.techniques import concatenate_cache, eager, unfuse_attention  # noqa: E402

pytestmark = pytest.mark.truth

# Operations that only describe memory, besides what PyTorch itself calls a view.
_NO_KERNEL = {"empty", "empty_like", "detach", "_unsafe_view", "_reshape_alias"}


class _Count(TorchDispatchMode):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.kernels = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not func.is_view and func.overloadpacket.__name__ not in _NO_KERNEL:
            self.kernels += 1
        return func(*args, **(kwargs or {}))


def _counted(layers: int, attention: str) -> int:
    """Kernels of one decode step after 8 tokens."""
    config = transformers.LlamaConfig(
        hidden_size=64, intermediate_size=128, num_hidden_layers=layers, num_attention_heads=4, num_key_value_heads=4,
        vocab_size=96,
    )  # fmt: skip
    config._attn_implementation = attention
    model = transformers.LlamaForCausalLM(config).to(torch.bfloat16).eval()
    cache = transformers.DynamicCache(config=config)
    with torch.no_grad():
        model(torch.zeros(1, 8, dtype=torch.long), past_key_values=cache, use_cache=True)
        with _Count() as count:
            model(torch.zeros(1, 1, dtype=torch.long), past_key_values=cache, use_cache=True)
    return count.kernels


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_kernels_of_a_layer(attention: str) -> None:
    counted = _counted(3, attention) - _counted(2, attention)
    f = framework.load("transformers")
    base = tw.Scenario("llama-2-7b", "a100", tw.Batch(prompt=8, output=3, batch=1))
    loop = (eager("transformers"), concatenate_cache(), *((unfuse_attention(),) if attention == "eager" else ()))
    step = tw.evaluate(base.apply(*loop)).phase("decode")
    launch = step.cost.target.device.dispatch.eager + f.host
    priced = sum(p.cost.overlapped["launch"] for p in step.ops if p.segment.repeat == 32) / launch
    assert priced == pytest.approx(counted, rel=0.05)
