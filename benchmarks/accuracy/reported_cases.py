"""Threads in which people could not foretell memory or speed, beside what is predicted.

``python -m benchmarks.accuracy.reported_cases``: numbers and threads as in `shared/data/training/reported_cases.csv`;
why some are not predicted is in `docs/training.md`. What a thread does not say (how uneven experts were, how slow a
network) is assumed in a row of its own, and such a row is no prediction: it says what would explain the observation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.training import Layout, Recipe, TrainStep, framework, train_step
from tierwise.training.recipe import method


@dataclass(frozen=True)
class Case:
    """A thread.

    Attributes:
        number: in the file. ``thread``: where. ``expected``: by who asked. ``observed``: by the machine.
        predicted: here, of the same quantity.
    """

    number: int
    thread: str
    what: str
    expected: float
    observed: float
    predicted: Callable[[], float]


def _step(model: str, machine: str, how: str, layout: Layout, flash: bool = True, **recipe: object) -> TrainStep:
    found = framework(how)
    found = replace(found, recipe=replace(found.recipe, **recipe))  # type: ignore[arg-type]
    return train_step(load_model(model), system(machine), layout, found, flash=flash)


def gpt2_large() -> float:
    """GB that a V100 of 33.4 GB would need. The thread's failed allocation, 786 MiB, is four sequences' logits."""
    x = Layout(micro_batch=4.0, global_batch=4.0, seq=1024.0)
    return _peak(_step("gpt2-large", "1xv100-sxm-32gb", "megatron", x, flash=False, dropout=1.0)) / 1e9


def selective() -> float:
    """Memory with selective recomputation over that without, fused attention."""
    sizes = [_peak(_step("llama-2-7b", "1xa100-sxm-80gb", "megatron",
                         Layout(global_batch=1.0, seq=2048.0, recompute=r))) for r in (1.0, 0.0)]  # fmt: skip
    return sizes[0] / sizes[1]


def mixtral(imbalance: float = 1.0) -> float:
    """TFLOP/s a GPU. At the thread's seconds a step its TFLOP/s are those of sequences of 2,048 tokens. It is older
    than kernels that send a token once to each node."""
    x = Layout(dp=16.0, ep=8.0, global_batch=128.0, seq=2048.0, zero=1.0, imbalance=imbalance)
    step = _step("mixtral-8x7b", "16xh100-sxm", "megatron", x, dispatch=0.0)
    return float(np.asarray(step.flops / step.time)) / 16.0 / 1e12


def qwen(imbalance: float = 1.0) -> tuple[float, float]:
    """(seconds a step, GB). Dropping tokens takes the library's all-to-all (Megatron-Bridge's moe_token_drop.py)."""
    x = Layout(pp=2.0, dp=8.0, ep=8.0, interleave=24.0, micro_batch=2.0, global_batch=512.0, seq=4096.0, zero=1.0,
               imbalance=imbalance)  # fmt: skip
    step = _step("qwen3-30b-a3b", "16xh100-sxm", "megatron", x, dispatch=0.0)
    return float(np.asarray(step.time)), _peak(step) / 1e9


def sharded(
    machine: str, gpus: float, link: float | None = None, seq: float = 8192.0, batch: float = 1.0
) -> float:
    """Tokens a second and GPU of Llama 3 70B in FSDP, with everything recomputed.

    Args:
        link: bytes a second of a GPU between nodes, where it is not what the machine has.
        batch: sequences a GPU; those 890 tokens are of two (pytorch.org/blog/maximizing-training, table 1).
    """
    found = system(machine)
    if link is not None and found.scale_out is not None:
        found = replace(found, scale_out=replace(found.scale_out, bandwidth=link))
    x = Layout(dp=gpus, micro_batch=batch, global_batch=batch * gpus, seq=seq, zero=3.0, recompute=2.0)
    step = train_step(load_model("llama-3.1-70b"), found, x, framework("fsdp"))
    return float(np.asarray(step.tokens)) / gpus


def qlora() -> float:
    """GB on each of two cards of 24 GiB."""
    how = framework("fsdp")
    x = Layout(dp=2.0, global_batch=2.0, seq=512.0, zero=3.0, recompute=2.0)
    found = replace(how, recipe=method("qlora:r=16", how.recipe))
    return _peak(train_step(load_model("llama-2-70b"), system("2xrtx-4090"), x, found)) / 1e9


def paged() -> float:
    """GB of a 7B fully tuned in 16 bits, updates inside the backward pass, the optimizer's states paged to the host."""
    how = framework("fsdp")
    found = replace(how, recipe=Recipe(2.0, 0.0, 0.0, 0.0, "sgd"))
    x = Layout(micro_batch=4.0, global_batch=4.0, seq=2048.0, recompute=2.0)
    return _peak(train_step(load_model("llama-2-7b"), system("1xrtx-4090"), x, found)) / 1e9


def pure() -> float:
    """GB of weights, gradients and two moments of a 70B, all in 16 bits."""
    how = replace(framework("fsdp"), recipe=Recipe(2.0, 2.0, 0.0, 0.0, "lion"))
    parts = train_step(load_model("llama-3.1-70b"), system("1xh200-sxm"), Layout(seq=128.0), how).memory.parts
    return sum(float(np.asarray(parts[k])) for k in ("parameters", "gradients", "optimizer states")) / 1e9


def _peak(step: TrainStep) -> float:
    return float(np.asarray(step.memory.peak))


CASES = (
    Case(1, "NVIDIA/Megatron-LM #525", "GB on 33.4", 23.3, 33.4, gpt2_large),
    Case(2, "NVIDIA/Megatron-LM #1225", "of the memory", 0.30, 24.94 / 25.52, selective),
    Case(4, "NVIDIA/Megatron-LM #756", "TFLOP/s, even experts", 380.0, 235.0, mixtral),
    Case(4, "NVIDIA/Megatron-LM #756", "TFLOP/s, one rank twice", 380.0, 235.0, lambda: mixtral(2.0)),
    Case(6, "NVIDIA-NeMo/Speech #14850", "s, even experts", 13.97, 26.0, lambda: qwen()[0]),
    Case(6, "NVIDIA-NeMo/Speech #14850", "GB on 84.4 (it ran out)", 84.4, 84.4, lambda: qwen()[1]),
    Case(8, "pytorch/torchtitan #676", "tokens/s on 96 H100", 890.0, 890.0,
         lambda: sharded("96xh100-sxm", 96.0, None, 4096.0, 2.0)),
    Case(8, "pytorch/torchtitan #676", "tokens/s at 10 Gb/s a GPU", 890.0, 200.0,
         lambda: sharded("32xh200-sxm", 32.0, 1.25e9)),
    Case(13, "axolotl #1428, #1522", "GB on 25.1", 14.0, 24.0, qlora),
    Case(14, "meta-pytorch/torchtune #961", "GB", 24.1, 20.2, paged),
    Case(16, "huggingface/blog #2245", "GB", 300.0, 519.0, pure),
)  # fmt: skip


def main() -> None:
    """Print the table."""
    print(f"{'case':5}{'thread':30}{'what':28}{'expected':>10}{'observed':>10}{'predicted':>10}")
    for c in CASES:
        print(f"{c.number:<5}{c.thread:30}{c.what:28}{c.expected:10.4g}{c.observed:10.4g}{c.predicted():10.4g}")


if __name__ == "__main__":
    main()
