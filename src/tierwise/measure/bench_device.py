"""Accelerators that PyTorch sees (CUDA, ROCm, MPS): which there are, what they say of themselves, their links."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import Any

from tierwise.core.errors import BadField, TierwiseError
from tierwise.measure.bench_clock import Stopwatch


@dataclass(frozen=True)
class Accelerator:
    """What its driver says: name, bytes of memory and of the last cache (0: unknown), equal units, siblings."""

    name: str
    vendor: str
    memory: float
    cache: float
    units: int
    siblings: int


def accelerators() -> list[str]:
    """Devices PyTorch can run on besides the processor, by its names for them; none without PyTorch."""
    if importlib.util.find_spec("torch") is None:
        return []
    import torch

    found = [f"cuda:{i}" for i in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    return [*found, "mps"] if torch.backends.mps.is_available() else found


def check(device: str) -> None:
    """Refuse a device that is not there, saying which are.

    Raises:
        TierwiseError: PyTorch, which drives it, is not installed.
        BadField: no such device.
    """
    if device == "cpu":
        return
    if importlib.util.find_spec("torch") is None:
        raise TierwiseError(f"--device {device} needs PyTorch: pip install 'tierwise[measure]'")
    there = accelerators()
    if device not in (*there, *(["cuda"] if there[:1] == ["cuda:0"] else [])):
        raise BadField("--device", "device", device, ", ".join(["cpu", *there]))


def describe(device: str) -> Accelerator:
    """What a device says of itself."""
    import torch

    if device.startswith("mps"):
        return Accelerator("Apple GPU", "Apple", float(torch.mps.recommended_max_memory()), 0.0, 1, 1)
    says: Any = torch.cuda.get_device_properties(device)
    vendor = "AMD" if torch.version.hip else "NVIDIA"
    cache = float(getattr(says, "L2_cache_size", 0) or 0)
    return Accelerator(says.name, vendor, float(says.total_memory), cache, int(says.multi_processor_count),
                       torch.cuda.device_count())  # fmt: skip


def peer(size: float, timer: Stopwatch, first: str = "cuda:0", second: str = "cuda:1") -> float:
    """Seconds to copy ``size`` bytes from one device to another."""
    import torch

    source = torch.ones(int(size), dtype=torch.uint8, device=first)
    target = torch.empty_like(source, device=second)
    return timer(lambda: target.copy_(source)).median
