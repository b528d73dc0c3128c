"""Every argument an engine is given is in its own list of arguments, and nothing asked for is dropped in silence."""

from __future__ import annotations

from dataclasses import fields, replace
from itertools import pairwise
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as bounded

from tests.launch.ways import DENSE, ENGINES, EXPERTS, MACHINE, deployments, refused, refused_options
from tierwise.core.errors import BadField, UnknownName
from tierwise.core.numerics import fmt
from tierwise.launch import engines
from tierwise.launch.asked import asked
from tierwise.launch.files import addresses, as_engine, engine, facts, pools
from tierwise.launch.shell import local_urls
from tierwise.program.placement import Placement
from tierwise.scenario.types import KV, Plan
from tierwise.serving.deployment import Deployment, Replicas, Settings, Speculation


def test_engines_are_found_by_their_place() -> None:
    assert {"sglang", "trtllm", "vllm"} <= set(engines())
    with pytest.raises(UnknownName, match="vllm"):
        engine("vlm")


@pytest.mark.parametrize("name", ENGINES)
def test_lists_of_arguments_say_version_and_source(name: str) -> None:
    known = facts(name)
    assert known["version"] and known["version"] in known["image"]
    for part in ("serve", "router", "bench"):
        assert known[part]["source"].startswith("https://")
        assert all("type" in rule for rule in known[part]["flags"].values())


@pytest.mark.parametrize("name", ENGINES)
@bounded(max_examples=150, deadline=None)
@given(deployments())
def test_every_argument_is_one_the_engine_has(name: str, deployment: Deployment) -> None:
    known, deployment = facts(name), as_engine(deployment, name)
    found = pools(deployment, name, "org/model")
    for pool in found:
        assert refused(pool.argv, known["serve"]) == []
        assert not pool.worker or refused(pool.worker, known["serve"]) == []
        for text in pool.files.values():
            assert refused_options(yaml.safe_load(text), known["serve"]["options"]) == []
    router = engine(name).router(deployment, addresses(found, local_urls(found, name)), port="8000")
    if router is not None:
        assert refused(router.argv, known["router"]) == []
        for text in router.files.values():
            assert refused_options(yaml.safe_load(text), known["router"]["options"]) == []


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("load", [{"rate": 2.5}, {"concurrency": 64.0}])
def test_the_benchmark_client_takes_its_arguments(name: str, load: dict[str, float]) -> None:
    said = engine(name).benchmark("m", "http://h:1", {"prompt": 1000.0, "output": 100.0, "requests": 50.0, **load})
    assert refused(said, facts(name)["bench"]) == []


def test_the_reader_of_command_lines_refuses_what_is_wrong() -> None:
    known = facts("vllm")["serve"]
    for wrong in (
        ["--no-such-thing"], ["--block-size"], ["--block-size", "many"], ["--block-size", "0"],
        ["--gpu-memory-utilization", "1.2"], ["--kv-cache-dtype", "fp7"], ["--headless", "--headless"],
    ):  # fmt: skip
        assert refused(["vllm", "serve", "m", *wrong], known)
    assert refused(["vllm", "serve"], known)
    assert not refused(["vllm", "serve", "m", "--block-size", "16", "--headless"], known)


# A value of every field that differs from the default and means something beside the base of the test.
_SETTINGS: dict[str, Any] = {
    "scheduler": "static", "kv": "contiguous", "max_seqs": 17, "budget": 4321, "max_len": 9999, "block": 32,
    "memory": 0.77, "watermark": 0.05, "prefix_cache": False, "swap": True, "host_cache": 64e9, "disk_cache": 1e12,
    "graphs": 0, "adapters": 3, "prefill_share": 0.25,
    "speculation": Speculation(4),
}  # fmt: skip
_PLAN: dict[str, Any] = {
    "tp": 4.0, "pp": 2.0, "dp": 2.0, "ep": 2.0, "weights": fmt("fp8"), "activations": fmt("fp8"), "graphs": False,
    "flash": False, "framework": "torch", "overlap": True, "imbalance": 1.5, "reserve": 0.1,
    "sparsity": 0.5, "structured": True, "library": True, "mtp": True,
    "kv": KV(key=fmt("int4-g64"), value=fmt("int4-g64")),
    "placement": Placement((("weights", (("host", 0.5),)),)), "schedule": "prefetch:ahead=2",
}  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("field", sorted(_SETTINGS))
def test_no_setting_is_dropped_in_silence(name: str, field: str) -> None:
    base = Replicas(MACHINE, Plan(tp=2.0), settings=Settings(engine=name))
    asks = replace(base, settings=replace(base.settings, **{field: _SETTINGS[field]}))
    assert _said(name, asks) != _said(name, base)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("field", sorted(_PLAN))
def test_no_part_of_the_plan_is_dropped_in_silence(name: str, field: str) -> None:
    base = Replicas(MACHINE, Plan(tp=2.0), settings=Settings(engine=name))
    asks = replace(base, plan=replace(base.plan, **{field: _PLAN[field]}))
    assert _said(name, asks) != _said(name, base)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("changed", [{"tree": 12}, {"adaptive": True}])
def test_no_part_of_speculation_is_dropped_in_silence(name: str, changed: dict[str, Any]) -> None:
    base = Replicas(MACHINE, Plan(tp=2.0), settings=Settings(engine=name, speculation=Speculation(4)))
    asks = replace(base, settings=replace(base.settings, speculation=Speculation(4, **changed)))
    assert _said(name, asks) != _said(name, base)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("field", [f.name for f in fields(KV)])
def test_no_way_of_keeping_kv_is_dropped_in_silence(name: str, field: str) -> None:
    base = Replicas(MACHINE, Plan(tp=2.0), settings=Settings(engine=name))
    value: Any = fmt("int3-g64") if field in ("key", "value") else True if field in ("remat", "relay") else 0.5
    asks = replace(base, plan=replace(base.plan, kv=replace(KV(), **{field: value})))
    assert _said(name, asks) != _said(name, base)


def test_every_field_is_tested_or_known_to_be_no_argument() -> None:
    """``rank`` and ``modules`` are those of adapters, ``engine`` which engine it is, ``chunk`` is the budget once
    requests arrive; adapters of a plan are those of the settings."""
    assert {f.name for f in fields(Settings)} - set(_SETTINGS) == {"engine", "rank", "modules"}
    assert {f.name for f in fields(Plan)} - set(_PLAN) == {"chunk", "adapters", "lora_rank", "lora_modules"}


def test_devices_of_a_command_are_those_of_the_plan() -> None:
    for name in ENGINES:
        for model, plan in (
            (DENSE, Plan(tp=4.0, pp=2.0)),
            (EXPERTS, Plan(tp=2.0, dp=4.0, ep=8.0)),
            (EXPERTS, Plan(tp=1.0, dp=8.0, ep=8.0)),
            (DENSE, Plan(tp=2.0, dp=4.0)),
        ):
            group = Replicas(MACHINE, plan, 2, settings=Settings(engine=name))
            (pool,) = pools(Deployment(model, (group,)), name, "m")
            assert pool.count * pool.nodes * pool.local == plan.devices * 2
            degree = 1
            for flag, value in pairwise(pool.argv):
                if flag in _DEGREES:
                    degree *= int(value)
            assert degree == pool.nodes * pool.local


# Arguments whose product is the devices of an engine; --attn-dp-size and --ep-size divide what is already counted.
_DEGREES = {
    "--tensor-parallel-size", "--pipeline-parallel-size", "--data-parallel-size",
    "--tp-size", "--pp-size", "--dp-size", "--tp_size", "--pp_size",
}  # fmt: skip


def test_settings_hold_for_each_attention_rank_however_the_engine_counts() -> None:
    """vLLM and TensorRT-LLM take limits of a rank, SGLang of all ranks of an engine."""
    group = Replicas(MACHINE, Plan(dp=8.0, ep=8.0), settings=Settings(max_seqs=100, budget=1000))
    deployment = Deployment(EXPERTS, (group,))
    limits = {name: _values(engine(name).command(deployment, group)) for name in ENGINES}
    assert limits["vllm"]["--max-num-seqs"] == "100" and limits["vllm"]["--max-num-batched-tokens"] == "1000"
    assert limits["trtllm"]["--max_batch_size"] == "100" and limits["trtllm"]["--max_num_tokens"] == "1000"
    assert limits["sglang"]["--max-running-requests"] == "800" and limits["sglang"]["--chunked-prefill-size"] == "8000"


@bounded(max_examples=50, deadline=None)
@given(deployments())
def test_limits_agree_with_each_other(deployment: Deployment) -> None:
    """vLLM refuses fewer tokens than sequences, SGLang attention groups that do not divide the tensor-parallel one."""
    for group in deployment.groups:
        said = _values(engine("vllm").command(deployment, group))
        assert int(said["--max-num-seqs"]) <= int(said["--max-num-batched-tokens"])
        said = _values(engine("sglang").command(deployment, group))
        assert int(said["--tp-size"]) % int(said.get("--attn-dp-size", "1")) == 0
        assert int(said["--tp-size"]) % int(said.get("--ep-size", "1")) == 0
        assert not {"--attn-dp-size", "--dp-size"} <= set(said)


def test_a_checkpoint_in_the_asked_format_needs_no_quantization() -> None:
    group = Replicas(MACHINE, Plan(weights=fmt("bf16")))
    assert "--quantization" not in engine("vllm").command(Deployment(DENSE, (group,)), group)
    group = Replicas(MACHINE, Plan(weights=fmt("fp8")))
    assert "--quantization" in engine("vllm").command(Deployment(DENSE, (group,)), group)


def test_a_draft_tree_has_room_for_its_candidates() -> None:
    for length in range(1, 7):
        for tree in range(length, 65):
            asks = Speculation(length, tree=tree)
            group = Replicas(MACHINE, Plan(), settings=Settings(speculation=asks))
            said = _values(engine("sglang").command(Deployment(DENSE, (group,)), group))
            k, drafts = int(said["--speculative-eagle-topk"]), int(said["--speculative-num-draft-tokens"])
            assert drafts == tree + 1
            assert k + (length - 1) * k * k >= tree
            assert k == 1 or (k - 1) + (length - 1) * (k - 1) ** 2 < tree


def test_degrees_that_are_no_whole_numbers_are_refused() -> None:
    import numpy as np

    for tp in (0.0, 1.5, np.array([1.0, 2.0])):
        with pytest.raises(BadField, match=r"plan\.tp"):
            asked(DENSE, Replicas(MACHINE, Plan(tp=tp)))
    with pytest.raises(BadField, match="32 of the machine"):
        asked(DENSE, Replicas(MACHINE, Plan(tp=64.0)))


def _said(name: str, group: Replicas) -> object:
    """Command, options and sentences of a group, of a model with experts where degrees are about them."""
    out = []
    for model in (DENSE, EXPERTS):
        found = pools(Deployment(model, (group,)), name, "m")
        out.append([(p.argv, p.count, dict(p.files), p.missing) for p in found])
    return out


def _values(argv: list[str]) -> dict[str, str]:
    return {a: b for a, b in pairwise(argv) if a.startswith("--")}
