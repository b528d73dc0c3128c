"""What one measurement would narrow an interval most, as data and in words."""

from __future__ import annotations

from typing import Any

from tierwise.machines.types import System
from tierwise.report.numbers import percent
from tierwise.steps.cost import ENGINE
from tierwise.steps.doubt import Doubt

Json = dict[str, Any]

# Of classes of ops, what people call them.
_OPS = {
    "matmul": "matrix products", "moe": "expert layers", "attention": "attention", "collective": "collectives",
    "elementwise": "elementwise kernels", "norm": "norms", "conv": "convolutions", "scan": "scans",
    "copy": "copies from other memories",
}  # fmt: skip
# Kinds of devices that `tierwise calibrate` measures, with the flag that says which.
_CALIBRATED = {"cpu": "", "gpu": " --device cuda", "soc": ""}


def to_dict(doubt: Doubt | None, system: System) -> Json | None:
    """The measurement that would narrow the interval most; None where it is narrow enough."""
    if doubt is None:
        return None
    kind = system.device.kind
    if doubt.group == ENGINE:
        what = "a serving run of this model"
        command = f"tierwise calibrate --from-run RUN --on {system.name}"
    else:
        what = named(doubt.group)
        command = f"tierwise calibrate{_CALIBRATED[kind]}" if kind in _CALIBRATED else "tierwise validate ops FILE"
    found: Json = {"group": doubt.group, "what": what, "part": doubt.part, "time": doubt.time, "command": command,
                   "factors": list(doubt.interval), "factors_without": list(doubt.without)}  # fmt: skip
    return found | {"text": text(found, system)}


def named(group: str) -> str:
    """A class of ops that goes wrong together, as people call it."""
    if group == ENGINE:
        return "the engine's steps"
    op, *phase = group.split("/")[1].split(".")
    return _OPS.get(op, op) + (f" ({phase[0].replace('_', '-')})" if phase else "")


def text(d: Json, system: System) -> str:
    """Which measurement, on what, by which command."""
    share = f", {percent(d['time'])} of the time," if d["time"] < 1.0 else ""
    return (
        f"The interval is wide ({_span(d['factors'])}). Measuring {d['what']} on {system.device.title}{share} "
        f"would narrow it most, to {_span(d['factors_without'])}: `{d['command']}` there."
    )


def _span(factors: list[float]) -> str:
    low, high = factors
    return "within 5 %" if low >= 0.95 and high <= 1.05 else f"{low:.2f}× to {high:.2f}×"
