"""Devices of one's own over a weak link, and a device in front of another computer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tierwise.core.errors import BadFields
from tierwise.core.numerics import fmt
from tierwise.evaluation import evaluate
from tierwise.machines import system
from tierwise.result import Result
from tierwise.scenario.types import Batch, Plan, Scenario
from tierwise.techniques.tiers import partial_offload

PHONES = """
title: Four phones over Wi-Fi
device: snapdragon-8-gen-3-cpu
count: 4
per_node: 1
scale_out: {{name: wifi, bandwidth: {bandwidth}, latency: {latency}, source: "measured between two of them"}}
source: "four phones on a desk"
"""
NPU = """
title: A phone's NPU beside its processor cores, or a phone before a server
device: snapdragon-8-gen-3-npu
count: 1
host_link: {{name: way, kind: host, bandwidth: {bandwidth}, latency: 20us, source: "measured there"}}
host: {{cpu: {cpu}, source: "the phone's own cores, or the server's"}}
source: "a phone on a desk"
"""


def phones(folder: Path, tp: float, bandwidth: str = "60MB/s", latency: str = "2ms") -> Result:
    file = folder / "phones.yaml"
    file.write_text(PHONES.format(bandwidth=bandwidth, latency=latency))
    plan = Plan(weights=fmt("q4_0"), tp=tp)
    return evaluate(Scenario("llama-3.2-3b", system(str(file)), Batch(256.0, 32.0, 1.0), plan))


def test_tensor_parallel_over_wifi_waits_for_the_link(tmp_path: Path) -> None:
    """Two all-reduces a layer: a decode step is not faster than their hops, and with none faster than one phone."""
    one, four = phones(tmp_path, 1.0).phase("decode"), phones(tmp_path, 4.0).phase("decode")
    assert float(four.pass_time) > 2 * 28 * 2e-3
    near = phones(tmp_path, 4.0, "100GB/s", "0us").phase("decode")
    assert float(near.pass_time) < float(one.pass_time) / 2.0
    slow = phones(tmp_path, 4.0, "6MB/s").phase("prefill")
    assert float(slow.pass_time) > 2.0 * float(phones(tmp_path, 4.0).phase("prefill").pass_time)


def test_a_link_inside_nodes_of_one_device_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "phones.yaml"
    file.write_text(PHONES.format(bandwidth="60MB/s", latency="2ms").replace("scale_out", "scale_up"))
    with pytest.raises(BadFields, match="scale_up joins the devices of a node"):
        system(str(file))


def npu(folder: Path, bandwidth: str, cpu: str, **split: Any) -> Result:
    file = folder / "npu.yaml"
    file.write_text(NPU.format(bandwidth=bandwidth, cpu=cpu))
    s = Scenario("qwen2.5-1.5b", system(str(file)), Batch(1024.0, 32.0, 1.0), Plan(weights=fmt("int8"), chunk=256.0))
    return evaluate(s.apply(partial_offload(**split)))


def test_an_npu_may_leave_attention_or_layers_to_the_cores(tmp_path: Path) -> None:
    """Of chunks of fixed length, as NPUs compile them: what the cores do is theirs, and crosses the bus."""
    whole = npu(tmp_path, "30GB/s", "snapdragon-8-gen-3-cpu")
    mixed = npu(tmp_path, "30GB/s", "snapdragon-8-gen-3-cpu", caches=28.0)
    assert float(whole.phase("prefill").passes) == 4.0
    there = [x for x in mixed.phase("decode").ops if x.op.kind == "attention"]
    assert there and all(x.op.options.get("on") == "host" for x in there)
    assert float(mixed.memory.kv) == 0.0


def test_a_network_split_before_a_server_pays_the_way_to_it(tmp_path: Path) -> None:
    """Split computing: what crosses is one layer's activations, whatever runs behind it."""
    near, far = (npu(tmp_path, b, "epyc-9654", layers=14.0, embed=False).phase("prefill") for b in ("30GB/s", "5MB/s"))
    crossing = 256.0 * 1536 * 2  # tokens of a chunk, width, bytes
    sent = sum(float(x.segment.repeat * x.op.dims["bytes"]) for x in far.ops if x.op.kind == "copy"
               and x.op.options.get("waits"))  # fmt: skip
    assert sent == pytest.approx(2 * crossing, rel=0.02)
    assert 1.0 <= float(far.pass_time - near.pass_time) / (sent / 5e6) < 1.5  # links give some of their rate
