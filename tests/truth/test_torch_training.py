"""Memory and time of a small transformer that PyTorch trains on this CPU: plain, recomputed, with adapters."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.training.shapes import gpt

from tierwise.machines.load import system
from tierwise.training import Layout, Recipe, TrainingFramework, train_step
from tierwise.training.recipe import method

pytestmark = pytest.mark.truth
torch = pytest.importorskip("torch")

HIDDEN, HEADS, LAYERS, VOCAB, RANK = 256, 4, 8, 2048, 8
BATCH, SEQ = 4, 512
# Sequences, and tokens of each, where scores are written out: so long that these and not the logits decide.
LONG = (1, 2048)
# PyTorch in bf16 throughout: weights, gradients and both moments (which "lion"'s four bytes are as many as); the logits
# in 16 bits, their logarithm and the gradient of it while the loss is taken. Gradients are freed after every step.
EAGER = TrainingFramework("eager", Recipe(2.0, 2.0, 0.0, 0.0, "lion", logits=6.0, transient=1.0))


class Block(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, hidden: int, rank: int, fused: bool = True) -> None:
        super().__init__()
        nn = torch.nn
        self.fused = fused
        self.one, self.two = nn.LayerNorm(hidden), nn.LayerNorm(hidden)
        sizes = {"qkv": (hidden, 3 * hidden), "out": (hidden, hidden), "up": (hidden, 4 * hidden),
                 "down": (4 * hidden, hidden)}  # fmt: skip
        self.maps = nn.ModuleDict({k: nn.Linear(a, b, bias=False) for k, (a, b) in sizes.items()})
        self.thin = nn.ModuleDict()
        if rank:
            for k, (a, b) in sizes.items():
                self.thin[k] = nn.Sequential(nn.Linear(a, rank, bias=False), nn.Linear(rank, b, bias=False))

    def apply_map(self, name: str, x: Any) -> Any:
        y = self.maps[name](x)
        return y + self.thin[name](x) if name in self.thin else y

    def forward(self, x: Any) -> Any:
        b, s, h = x.shape
        q, k, v = (t.view(b, s, HEADS, h // HEADS).transpose(1, 2) for t in
                   self.apply_map("qkv", self.one(x)).split(h, dim=-1))  # fmt: skip
        a = (
            torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
            if self.fused
            else written(q, k, v)
        )
        x = x + self.apply_map("out", a.transpose(1, 2).reshape(b, s, h))
        return x + self.apply_map("down", torch.nn.functional.gelu(self.apply_map("up", self.two(x))))


def written(q: Any, k: Any, v: Any) -> Any:
    """Attention whose scores, their softmax and what dropout leaves of it are tensors."""
    scores = torch.matmul(q * q.shape[-1] ** -0.5, k.transpose(-1, -2))
    return torch.matmul(torch.native_dropout(torch.softmax(scores, -1), 0.1, True)[0], v)


class Net(torch.nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, hidden: int, layers: int, rank: int, again: bool, fused: bool = True) -> None:
        super().__init__()
        self.again = again
        self.table = torch.nn.Embedding(VOCAB, hidden)
        self.blocks = torch.nn.ModuleList(Block(hidden, rank, fused) for _ in range(layers))
        self.norm, self.head = torch.nn.LayerNorm(hidden), torch.nn.Linear(hidden, VOCAB, bias=False)

    def forward(self, tokens: Any) -> Any:
        from torch.utils.checkpoint import checkpoint

        x = self.table(tokens)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.again else block(x)
        return self.head(self.norm(x))


def made(kind: str, hidden: int = HIDDEN, layers: int = LAYERS) -> tuple[Any, Any, Callable[[], None]]:
    """(model, optimizer, a step)."""
    torch.manual_seed(0)
    net = Net(hidden, layers, RANK if kind == "lora" else 0, kind == "recomputed", kind != "unfused")
    net = net.to(torch.bfloat16)
    if kind == "lora":
        for name, p in net.named_parameters():
            p.requires_grad_(".thin." in name)
    learned = [p for p in net.parameters() if p.requires_grad]
    best = torch.optim.AdamW(learned, foreach=False)
    tokens = torch.randint(0, VOCAB, LONG if kind == "unfused" else (BATCH, SEQ))

    def step() -> None:
        loss = torch.nn.functional.cross_entropy(net(tokens).view(-1, VOCAB), tokens.view(-1))
        loss.backward()
        best.step()
        best.zero_grad(set_to_none=True)

    return net, best, step


def predicted(
    kind: str, hidden: int = HIDDEN, layers: int = LAYERS, how: TrainingFramework = EAGER, on: str = "1xa100-sxm-80gb"
) -> Any:
    if kind == "lora":
        how = replace(how, recipe=method(f"lora:r={RANK}", how.recipe))
    batch, seq = LONG if kind == "unfused" else (BATCH, SEQ)
    layout = Layout(micro_batch=batch, global_batch=batch, seq=seq, recompute=2.0 if kind == "recomputed" else 0.0)
    model = gpt(layers, float(hidden), float(HEADS), float(VOCAB), tied=False)
    return train_step(model, system(on), layout, how, kind != "unfused")


def peak(net: Any, best: Any, step: Callable[[], None]) -> float:
    """Most bytes that live at once while a step runs: of every storage, once."""
    import weakref

    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    now, most, known = 0, 0, set()

    def gone(key: int, size: int) -> None:
        nonlocal now
        known.discard(key)
        now -= size

    def seen(tensor: Any) -> None:
        nonlocal now, most
        storage = tensor.untyped_storage()
        key, size = storage._cdata, storage.nbytes()
        if key not in known:
            known.add(key)
            weakref.finalize(storage, gone, key, size)
            now += size
            most = max(most, now)

    class Live(TorchDispatchMode):  # type: ignore[misc]
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = func(*args, **(kwargs or {}))
            for x in tree_leaves(out):
                if isinstance(x, torch.Tensor):
                    seen(x)
            return out

    for p in net.parameters():
        seen(p)
    for state in best.state.values():
        for x in state.values():
            seen(x)
    with Live():
        step()
    return float(most)


@pytest.mark.parametrize("kind", ["plain", "recomputed", "lora", "unfused"])
def test_memory_is_what_pytorch_holds(kind: str) -> None:
    net, best, step = made(kind)
    step()  # states of the optimizer are there from now on
    measured = peak(net, best, step)
    said = predicted(kind).memory
    print(f"{kind}: measured {measured / 1e6:.1f} MB, predicted {float(said.peak) / 1e6:.1f} MB",
          {k: round(float(np.asarray(v)) / 1e6, 1) for k, v in said.parts.items()})  # fmt: skip
    assert float(said.peak) == pytest.approx(measured, rel=0.05)


def test_time_follows_once_two_factors_are_measured() -> None:
    """Factors of products and of all other kernels, from plain training of two shapes, tell how long recomputation and
    adapters take on both. Processor time of one thread: what else runs on the machine does not count."""
    shapes = ((HIDDEN, LAYERS), (384, 6))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        measured = {(kind, *shape): seconds(made(kind, *shape)[2]) for kind in ("plain", "recomputed", "lora")
                    for shape in shapes}  # fmt: skip
    finally:
        torch.set_num_threads(threads)

    def time_of(kind: str, shape: tuple[int, int], products: float, others: float) -> float:
        how = replace(EAGER, matmul=products, attention=others, memory=others)
        return float(predicted(kind, *shape, how, "1xepyc-9654").time)

    rows = [[time_of("plain", shape, 1.0, 0.0), time_of("plain", shape, 0.0, 1.0)] for shape in shapes]
    products, others = np.linalg.solve(rows, [measured["plain", *shape] for shape in shapes])
    assert products > 0.0 and others > 0.0
    for kind in ("recomputed", "lora"):
        for shape in shapes:
            said, found = time_of(kind, shape, products, others), measured[kind, *shape]
            print(f"{kind} {shape}: measured {found:.2f} s, predicted {said:.2f} s ({said / found - 1.0:+.1%})")
            assert said == pytest.approx(found, rel=0.2)


def seconds(step: Callable[[], None], runs: int = 3) -> float:
    """Median processor time of a step. Where a computer's own repeats differ by more than the tolerance (shared cores,
    changing clocks), there is nothing to compare with, and the test is skipped, saying so."""
    step()
    out = []
    for _ in range(runs):
        before = time.process_time()
        step()
        out.append(time.process_time() - before)
    if max(out) > 1.2 * min(out):
        pytest.skip(f"one step took {min(out):.2f} to {max(out):.2f} s here: repeats differ by more than 20 %")
    return statistics.median(out)
