"""Exchanges with experts' devices: DeepEP's published figures, and what must hold of any."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tierwise.cost import exchange, price
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.program.types import Op
from tierwise.scenario.types import Plan
from tierwise.steps.price import engine_on, price_step
from tierwise.steps.state import Chunk, StepState

FILE = Path(__file__).parents[2] / "benchmarks" / "accuracy" / "published" / "exchange.yaml"
HIDDEN, CHOICES, NODE = 7168.0, 8.0, 8.0


def send(name: str, devices: float, tokens: float, prompts: bool) -> Op:
    copies = devices * (1.0 - (1.0 - 1.0 / devices) ** CHOICES)
    dims = {"copy": tokens * HIDDEN * (1.0 + 4.0 / 128.0 if name == "dispatch" else 2.0), "copies": copies,
            "choices": CHOICES, "most": 4.0 if devices > NODE else devices}  # fmt: skip
    return Op("collective", name, "comm", dims, 0.0, (), (), "", options={"prompts": prompts})


def time(op: Op, devices: float) -> float:
    machine = system(f"{int(max(devices, 2 * NODE))}xh800-sxm")
    near, far = machine.scale_up, machine.scale_out
    assert near is not None and far is not None
    found = exchange.price(op, min(devices, NODE), max(devices / NODE, 1.0), near, far)
    return float(np.asarray(found.time))


def figures() -> list[tuple[float, float]]:
    """(predicted, published) seconds."""
    data: dict[str, Any] = yaml.safe_load(FILE.read_text())
    out = []
    for row in data["normal"]:
        for name in ("dispatch", "combine"):
            op, nodes = send(name, row["devices"], 4096.0, True), row["devices"] / NODE
            sent = op.dims["copies"] if nodes == 1 else min(nodes * (1.0 - (1.0 - 1.0 / nodes) ** CHOICES), 4.0)
            out.append((time(op, row["devices"]), float(op.dims["copy"] * sent / row[name])))
    for row in data["low_latency"]:
        for name in ("dispatch", "combine"):
            out.append((time(send(name, row["devices"], 128.0, False), row["devices"]), row[name]))
    return out


def test_published_figures_of_deepep_come_out() -> None:
    predicted, published = np.asarray(figures()).T
    ratio = published / predicted
    assert abs(np.median(ratio) - 1.0) < 0.05
    assert ratio.min() > 0.8 and ratio.max() < 1.25
    inside = (ratio >= exchange.INTERVAL[0]) & (ratio <= exchange.INTERVAL[1])
    assert 0.7 <= inside.mean() <= 0.9


def test_more_tokens_and_more_nodes_never_take_less() -> None:
    for prompts in (True, False):
        by_tokens = [time(send("combine", 32.0, n, prompts), 32.0) for n in (1.0, 64.0, 4096.0)]
        by_nodes = [time(send("combine", n, 128.0, prompts), n) for n in (16.0, 32.0, 64.0)]
        assert by_tokens == sorted(by_tokens) and by_nodes == sorted(by_nodes)


def test_only_what_leaves_the_domain_is_exchanged_so() -> None:
    """Inside one domain a collective library's all-to-all serves, beyond it these kernels; and experts' devices work
    on the tokens they were sent, however many others there are."""
    model, machine = load_model("deepseek-v3"), system("64xh100-sxm")
    work, basis = {}, {}
    for ranks in (8.0, 64.0):
        on = engine_on(model, Plan(tp=1.0, dp=ranks, ep=ranks), machine, "sglang")
        step = price_step(on, StepState(chunks=(Chunk(1024.0, 0.0, 4.0),)))
        ops = {op.name: op for _, op in step.program.walk()}
        basis[ranks] = price(ops["moe.dispatch"], on.target).basis
        work[ranks] = ops["moe.experts"].dims
    assert basis[64.0] == "transferred" and basis[8.0] != "transferred"
    for d in work.values():
        assert d["routed"] == d["tokens"]
        assert d["reaching"] <= d["tokens"]


def test_kernels_beside_normal_exchanges_have_the_other_multiprocessors() -> None:
    model, machine = load_model("deepseek-v3"), system("32xh100-sxm")
    lines = {}
    for schedule in ("", "two_batches"):
        on = engine_on(model, Plan(tp=1.0, dp=32.0, ep=32.0, schedule=schedule), machine, "sglang")
        whole = price_step(on, StepState(chunks=(Chunk(4096.0, 0.0, 4.0),)))
        lines[schedule] = sum(float(p.time) * whole.parts for p in whole.on_device if p.op.kind == "moe")
        if schedule:
            assert float(whole.time) < float(whole.serial_time)
    assert lines["two_batches"] == pytest.approx(lines[""] / (1.0 - exchange.UNITS / 132.0), rel=0.05)
