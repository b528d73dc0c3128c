"""``tierwise plan finetune``: the layout that fine-tunes a model fastest on a machine, in full or with adapters."""

from __future__ import annotations

from tierwise.cli._flags import Flags, flags
from tierwise.cli._plan.train import OPTIONS, planned


@flags(
    *OPTIONS,
    "html",
    "trace_out",
    "table",
    "json",
    "out",
    "save",
    model="Catalog name, hf:org/name, or a config.json.",
    trainer="fsdp",
    method="lora:r=16",
    global_batch=16.0,
)
def command(asked: Flags) -> None:
    """The layout that fits and is fastest to fine-tune with, why, and what else there was."""
    planned(asked)
