"""Small scenarios of every kind a report must show, built by hand so that no catalog entry matters."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np

from tierwise.advise import Advice, FieldChange
from tierwise.evaluation import evaluate
from tierwise.machines.types import Device, Dispatch, Engine, Link, Power, Price, System, Tier
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.conv import Conv, Merge, Pool
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.blocks.patch import Mean
from tierwise.models.types import Layer, Model, Stack
from tierwise.result import Result
from tierwise.scenario.types import Batch, Plan, Scenario

HOSTILE = "</script><img src=x onerror=alert(1)>&{{data}}"


def machine(count: int = 1, memory: float = 40e9) -> System:
    tiers = (
        Tier("scratch", "scratchpad", 20e6, 20e12, 20e12, 10e-9, float("nan"), "made up"),
        Tier("l2", "cache", 40e6, 5e12, 5e12, 100e-9, float("nan"), "made up"),
        Tier("dram", "memory", memory, 2e12, 2e12, 300e-9, 3e-11, "made up"),
    )
    tensor = Engine("tensor", "matrix", {"bf16": 500e12}, 100, ((128, 128), (64, 64)), 1.0, "made up")
    vector = Engine("vector", "vector", {"fp32": 30e12, "bf16": 60e12}, 100, (), 1.0, "made up")
    link = Link("wire", "scale-up", 200e9, 1e-6, 8, "switch", False, "made up")
    device = Device(
        name="test-chip", title="Test chip 40GB", vendor="nobody", kind="gpu", family="test", released="2024",
        tiers=tiers, engines=(tensor, vector), links=(link,), power=Power(400.0, 50.0, "made up"),
        price=Price(2.0 / 3600.0, float("nan"), "2025-01", "made up"), dispatch=Dispatch(5e-6, 1e-6, "made up"),
        reserve=1e9, sources={"sheet": "made up for tests"}, notes="A chip that does not exist.",
    )  # fmt: skip
    return System("test", device, count, count, link if count > 1 else None, None)


def llm(name: str = "tiny-llm", layers: int = 8) -> Model:
    blocks = (Norm(2048.0), Attention(2048.0, 16.0, 8.0, 128.0), Norm(2048.0), MLP(2048.0, 8192.0))
    ends = (Embedding(32000.0, 2048.0),), (Norm(2048.0), Head(2048.0, 32000.0))
    stack = Stack("decoder", (Layer("layer", blocks),), (0,) * layers, *ends)
    return Model(name, "test", 2048.0, 32000.0, (stack,), source="made up", notes=("Biases are left out.",))


def cnn() -> Model:
    stem = Layer("stem", (Conv("conv", 3.0, 64.0, 7.0, 2.0, scale=4.0), Pool(64.0, 9.0, scale=2.0)))
    body = Layer("body", (Conv("conv", 64.0, 64.0, 3.0, scale=2.0), Merge(64.0, scale=2.0)))
    head = (Pool(64.0, whole=True), Head(64.0, 1000.0, pooled=True))
    stack = Stack("vision", (stem, body), (0, 1, 1, 1), (), head, "vision", 49.0)
    return Model("tiny-cnn", "test", 64.0, 0.0, (stack,), task="classify")


def encoder() -> Model:
    blocks = (Attention(512.0, 8.0, 8.0, 64.0, causal=False), Norm(512.0), MLP(512.0, 2048.0), Norm(512.0))
    ends = (Embedding(30000.0, 512.0),), (Mean(512.0),)
    stack = Stack("encoder", (Layer("layer", blocks),), (0,) * 4, *ends, "encode")
    return Model("tiny-encoder", "test", 512.0, 30000.0, (stack,), task="encode")


@cache
def result(kind: str) -> Result:
    plain = Scenario(llm(), machine(), Batch(1024.0, 64.0, 16.0))
    scenarios = {
        "llm": plain,
        "deep": replace(plain, model=llm(layers=32)),
        "parallel": Scenario(llm(), machine(4), plain.traffic, Plan(tp=4.0)),
        "overlap": Scenario(llm(), machine(4), plain.traffic, Plan(tp=4.0, overlap=True)),
        "too large": replace(plain, machine=machine(memory=1.5e9)),
        "max, too large": Scenario(llm(), machine(memory=1.5e9), Batch(1024.0, 64.0, "max")),
        "no decode": Scenario(llm(), machine(), Batch(1024.0, 1.0, 16.0)),
        "cnn": Scenario(cnn(), machine(), Batch(1.0, 1.0, 32.0)),
        "encoder": Scenario(encoder(), machine(), Batch(384.0, 1.0, 16.0)),
        "hostile": replace(plain, model=llm(HOSTILE)),
        "sweep": replace(plain, traffic=Batch(1024.0, 64.0, np.asarray([1.0, 16.0, 4096.0]))),
    }
    return evaluate(scenarios[kind])


SCALAR = ("llm", "deep", "parallel", "overlap", "too large", "max, too large", "no decode", "cnn", "encoder", "hostile")

def advice(kind: str, *changes: tuple[str, float | str, float | str], **other: object) -> Advice:
    """A made-up one: twice the tokens for a tenth more time."""
    made = Advice(
        kind, "faster", tuple(FieldChange(*c) for c in changes), "step", (1e-3, 1.1e-3), 1.8, (1.6, 2.0), (1.0, 0.6),
        1e9, 2e9, Scenario(llm(), machine()),
    )  # fmt: skip
    return replace(made, **other)  # type: ignore[arg-type]


ADVICE = (
    advice("batch", ("traffic.batch", 16.0, 32.0), cost=(float("nan"), float("nan"))),
    advice("weights", ("plan.weights", "bf16", "<b>&"), time=(1e-3, 0.6e-3)),
)
MORE_DEVICES = advice("devices", ("machine.count", 1.0, 2.0), ("plan.tp", 1.0, 2.0), ("plan.pp", 1.0, 1.0),
                      ("plan.dp", 1.0, 1.0), aim="fits", time=(float("nan"), 2.0))  # fmt: skip
