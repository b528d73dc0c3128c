"""A computer that does not exist: every probe answered from constants, so that no test waits for a clock."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from tierwise.machines.profile import Class, Curve, Products, Profile
from tierwise.measure import calibrate
from tierwise.measure.bench_clock import Stopwatch
from tierwise.measure.engines import MeasureSettings, with_llamacpp, with_numpy, with_onnxruntime, with_torch
from tierwise.program.types import Op

ENGINES: list[ModuleType] = [with_numpy, with_onnxruntime, with_torch, with_llamacpp]

COPY = Curve((32e3, 1e6, 8e6, 64e6, 512e6), (150e9, 200e9, 100e9, 40e9, 30e9))
FLAT = Curve((1e4, 1e9), (60e9, 15e9))
PRODUCTS = Products(2e-6, 100e9, FLAT, FLAT)
TRUE = Profile(
    "torch",
    COPY,
    dict.fromkeys(("fp32", "fp64", "bf16", "fp16", "q8_0", "q4_0"), PRODUCTS),
    {"*": Class(call=2e-5, step=1e-5, passes=2.0), "attention.prefill": Class(call=5e-5, passes=1.0, rate=30e9),
     "attention.full": Class(call=4e-5, passes=1.0, rate=40e9), "conv.wide": Class(call=3e-5, passes=2.0, rate=80e9)},
    (0.9, 1.1),
    "made up",
)  # fmt: skip


def bench() -> MeasureSettings:
    return MeasureSettings(1, Stopwatch(lambda: 0.0))


def results(modules: list[ModuleType]) -> calibrate.Results:
    """What every probe would find on a machine whose engines are all as ``TRUE`` says."""
    from tierwise.cost.measured import along

    out: dict[str, Any] = {}
    times = {f"{m.NAME}/run/{r.name}": seconds(r) for m in modules for r in m.runs("calibrate", bench())}
    for m in modules:
        for piece in m.pieces(bench()) if hasattr(m, "pieces") else ():
            times[f"{m.NAME}/run/{piece.name}"] = _alone(piece.ops)
    for probe in calibrate.probes(bench(), modules, None):
        key = probe.key.removeprefix("again/")
        kind = key.split("/")[-1]
        last = kind.rsplit(".", 1)[-1]
        if key in times:
            out[key] = times[key]
        elif kind.startswith("copy."):
            out[key] = along(COPY, float(last))
        elif kind.startswith("latency"):
            out[key] = 1e-7
        elif last == "call":
            out[key] = PRODUCTS.call
        elif last == "rate":
            out[key] = PRODUCTS.rate
        else:
            out[key] = along(FLAT, float(last))
    return out


def _alone(ops: tuple[Op, ...]) -> float:
    """What ops cost by themselves."""
    from tierwise.cost import Target, efficiency
    from tierwise.cost.measured import price
    from tierwise.machines import system

    one = system("xeon-8480")
    return sum(float(price(op, Target(one, efficiency(one.device)), TRUE).time) for op in ops)


def seconds(run: Any, profile: Profile = TRUE) -> float:
    """How long a pass takes where an engine is as a profile says."""
    from dataclasses import replace

    from tierwise.machines import system

    one = system("xeon-8480")
    machine = replace(one, device=replace(one.device, measured={"torch": profile}))
    return float(run.on(machine).pass_time)
