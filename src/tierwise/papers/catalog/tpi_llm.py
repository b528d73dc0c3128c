"""TPI-LLM (arXiv:2410.00531): layers are divided over small devices, each of which holds a window of two blocks, the
next read from its disk while one runs."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import tierwise as tw
from tierwise import techniques
from tierwise.papers.base import scenario, stored
from tierwise.papers.types import NEEDS_FEATURE, NEEDS_SETUP, Claim, Paper


@dataclass(frozen=True)
class Row:
    """A line of the authors' table: seconds a token of one laptop that streams all weights."""

    model: str
    seconds: float


LAPTOP = "apple-m1-cpu + nvme-gen3"
ROWS = (Row("llama-2-7b", 8.0), Row("llama-3.1-8b", 12.0), Row("llama-2-13b", 18.0), Row("yi-34b", 55.0))


def base(model: str) -> tw.Scenario:
    """A short prompt and twenty tokens in 32 bits, before the disk."""
    traffic = tw.Batch(prompt=8, output=20, batch=1)
    return stored(scenario(model, LAPTOP, traffic, tw.Plan()), "fp32")


@cache
def streamed(row: Row) -> float:
    """Seconds a token, each layer's weights read while the one before runs."""
    window = (techniques.offload_weights(1.0, to="nvme"), techniques.schedule("prefetch"))
    return float(tw.evaluate(base(row.model).apply(*window)).tpot)


_DEVICES = (
    "Table 3: 2, 5 and 8 s a token for Llama-2-3B, 7B and Llama-3.1-8B on four laptops of three kinds, 16, 26 and 31 "
    "with Accelerate on one, which reads 1 GB/s by these. One laptop reads a block of a quarter of the 7B at 3.7 to "
    "4.5 GB/s (18 and 30 ms, section 3.3 of the first version); the others' disks, and how Accelerate loses the rest, "
    "are not given."
)
_SWAPPED = "Transformers holds all weights and the system swaps their pages (section 4.4), which is not modeled here."
_FIRST = (
    "32 bits, 8 devices and a window of two blocks, attention and feed-forward (README and mem_manager.py of the "
    "repository): a layer's eighth is 0.43 GB, which streamed weights here hold as well. The peak is that of the first "
    "device, which reads embedding and head undivided, 1.05 GB each; tensor parallelism here divides them, and the "
    "factor by which PyTorch holds more than its tensors on a CPU is not given (equation 7)."
)
_DISK = "The laptop's disk is taken for one of PCIe 3.0, whose 3.5 GB/s set the pace."


def _row(row: Row) -> Claim:
    return Claim(f"{row.model} streamed on one laptop", row.seconds, "s/token", "absolute",
                 "README of the repository; table 3", lambda: streamed(row), extra=True, why=_DISK)  # fmt: skip


PAPER = Paper(
    slug="tpi-llm",
    title="TPI-LLM: Serving 70B-scale LLMs Efficiently on Low-resource Edge Devices",
    source="arXiv:2410.00531",
    mechanism="Layers are divided over small devices; each holds a window of a few, read from disk while others run.",
    claims=(
        Claim("time to the first token and per token less than Accelerate", 80.0, "%", "at-least", "abstract",
              missing=NEEDS_SETUP, metric="time", why=_DEVICES),
        Claim("time to the first token and per token less than Transformers and Galaxy", 90.0, "%", "at-least",
              "abstract", missing=NEEDS_FEATURE, metric="time", why=_SWAPPED),
        Claim("peak memory of Llama-2-70B, less by", 90.0, "%", "memory", "abstract", missing=NEEDS_FEATURE,
              why=_FIRST),
        Claim("memory of a device, Llama-2-70B", 3.1, "GB", "memory", "abstract", missing=NEEDS_FEATURE, why=_FIRST),
        *(_row(row) for row in ROWS),
    ),
    assumptions=(
        "One Mac M1 on its CPU cores in 32 bits, the window alone (README of Lizonghang/TPI-LLM, the column of "
        "transformers with their memory scheduler, commented out there; its 3B is no model of the catalog).",
        "A block is read while the one before it runs; the disk is a drive of PCIe 3.0, read without a page cache.",
    ),
)  # fmt: skip
