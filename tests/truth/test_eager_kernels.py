"""Kernels of an eager framework, counted in the framework itself with PyTorch's dispatch mode."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from torch._subclasses.fake_tensor import FakeTensorMode  # noqa: E402
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


class _Alive(TorchDispatchMode):  # type: ignore[misc]
    """Bytes of tensors made inside, at once and at most."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[int, int] = {}
        self.most = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(x, torch.Tensor) and not func.is_view:
                storage = x.untyped_storage()
                if storage._cdata not in self.sizes:
                    self.sizes[storage._cdata] = storage.nbytes()
                    weakref.finalize(storage, self.sizes.pop, storage._cdata)
        self.most = max(self.most, sum(self.sizes.values()))
        return out


def _alive(attention: Callable[..., Any], dtype: Any, device: str, heads: int, tokens: int) -> float:
    """Bytes at once for each score of an eager forward pass without gradients."""

    def make(*shape: int) -> Any:
        return torch.empty(1, *shape, dtype=dtype, device=device)

    q, k, v = (make(heads, tokens, 2) for _ in range(3))
    mask = make(1, tokens, tokens)
    module = torch.nn.Module().eval()
    module.num_key_value_groups = 1
    with torch.no_grad(), _Alive() as alive:
        attention(module, q, k, v, mask, scaling=1.0)
    return alive.most / (heads * tokens**2)


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


def test_bytes_of_a_score_at_once() -> None:
    """Of Llama's lines, each score in 16 bits, in 32, and its softmax in 32; fp16 on a GPU is not cast before it."""
    from transformers.models.llama.modeling_llama import eager_attention_forward

    found = _alive(eager_attention_forward, torch.bfloat16, "cpu", 4, 256)
    assert framework.load("transformers").alive == pytest.approx(found, rel=0.05)


@pytest.mark.parametrize(("form", "published"), [("float16", 8.0), ("bfloat16", 10.0)])
def test_bytes_of_a_score_at_once_on_a_gpu(form: str, published: float) -> None:
    """The same of tensors that only say they lie on a GPU."""

    def lines(module: Any, q: Any, k: Any, v: Any, mask: Any, scaling: float) -> None:
        scores = torch.matmul(q, k.transpose(2, 3)) * scaling
        scores = scores + mask
        scores = torch.nn.functional.softmax(scores, dim=-1, dtype=torch.float32).to(q.dtype)
        torch.matmul(scores, v)

    with FakeTensorMode():
        assert _alive(lines, getattr(torch, form), "cuda", 4, 256) == pytest.approx(published, rel=0.05)
