"""vLLM: its serve command, its router, its benchmark client. Arguments and versions: ``flags.yaml``."""

from __future__ import annotations

import json

from tierwise.launch import alike
from tierwise.launch.alike import Formats, length_of_drafts, random_requests
from tierwise.launch.asked import Env, asked, beyond_any
from tierwise.launch.files import Router, Urls
from tierwise.serving.deployment import Deployment, Replicas

PORT = 8000
HEALTH = "/health"
# Ports an engine opens besides PORT, by the environment variable that sets them; one for each data-parallel rank.
SIDE_PORTS = {"VLLM_NIXL_SIDE_CHANNEL_PORT": 5600}
# The variable that says under which address other engines reach those ports.
SIDE_HOST = "VLLM_NIXL_SIDE_CHANNEL_HOST"

_FORMATS = Formats(
    weights={"fp8": "fp8_per_tensor", "fp8-block": "fp8_per_block", "mxfp8": "mxfp8", "nvfp4": "nvfp4_per_token",
             "int8": "int8_per_channel_weight_only"},
    arithmetic={"fp8": "fp8", "fp8-block": "fp8", "mxfp8": "fp8", "nvfp4": "fp4", "int8": ""},
    kv={"bf16": "bfloat16", "fp16": "float16", "fp8": "fp8", "int8": "int8_per_token_head", "nvfp4": "nvfp4"},
)  # fmt: skip
_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
_CONNECTOR = {"prefill": "kv_producer", "decode": "kv_consumer"}


def command(
    deployment: Deployment, group: Replicas, *, model: str = "", config: str = "", worker: bool = False
) -> list[str]:
    """The command of one engine of ``group``.

    Args:
        model: name or path the engine loads; by default the deployment's model.
        config: file of further options, which vLLM does without.
        worker: that of the second and further nodes, where one engine spans several.
    """
    want, s = asked(deployment.model, group), group.settings
    out = ["vllm", "serve", model or deployment.model.name]
    out += ["--tensor-parallel-size", str(want.tp)]
    if want.pp > 1:
        out += ["--pipeline-parallel-size", str(want.pp)]
    if want.dp > 1:
        out += ["--data-parallel-size", str(want.dp)]
    if want.moe and want.ep > 1:
        out.append("--enable-expert-parallel")
    if want.nodes > 1:
        out += ["--nnodes", str(want.nodes), "--node-rank", Env("${NODE_RANK}"), "--master-addr", Env("${MASTER_ADDR}")]
    out += ["--headless"] if worker else ["--host", "0.0.0.0", "--port", Env("${PORT}")]
    out += _FORMATS.flags(want)
    if s.max_len:
        out += ["--max-model-len", str(s.max_len)]
    # The engine refuses more sequences than tokens in a step, which could not all have a token in it.
    out += ["--max-num-seqs", str(min(s.max_seqs, s.budget)), "--max-num-batched-tokens", str(s.budget)]
    out += [
        "--block-size",
        str(s.block),
        "--gpu-memory-utilization",
        f"{s.memory:g}",
        "--watermark",
        f"{s.watermark:g}",
    ]
    out.append("--enable-prefix-caching" if s.prefix_cache else "--no-enable-prefix-caching")
    if s.scheduler == "chunked":
        out.append("--enable-chunked-prefill")
    if s.host_cache:
        out += ["--kv-offloading-size", f"{s.host_cache / want.dp / 2**30:g}"]  # of each rank
    if s.graphs and group.plan.graphs:
        out += ["--max-cudagraph-capture-size", str(s.graphs)]
    else:
        out.append("--enforce-eager")
    if s.adapters:
        out += ["--enable-lora", "--max-loras", str(s.adapters), "--max-lora-rank", str(_rank(s.rank))]
    if s.speculation.length:
        drafts = ["--spec-method", "mtp"] if group.plan.mtp else ["--spec-model", Env("${DRAFT_MODEL}")]
        out += [*drafts, "--spec-tokens", str(s.speculation.length)]
    if group.plan.overlap and want.moe and want.dp > 1:
        out.append("--enable-dbo")
    if group.plan.library:
        out.append("--disable-custom-all-reduce")
    if group.role != "both":
        sent = {"kv_connector": "NixlConnector", "kv_role": _CONNECTOR[group.role]}
        out += ["--kv-transfer-config", json.dumps(sent, separators=(",", ":"))]
    return out


def missing(deployment: Deployment, group: Replicas) -> list[str]:
    """What ``group`` asks for that the command does not say, each as a sentence."""
    want, s = asked(deployment.model, group), group.settings
    out = beyond_any(group) + _FORMATS.missing(want)
    if want.moe and want.ep not in (1, want.tp * want.dp):
        spread = f"`--enable-expert-parallel` spreads them over all {want.tp * want.dp} of tp × dp."
        out.append(f"Experts over {want.ep} devices: {spread}")
    if s.max_seqs > s.budget:
        out.append(f"`max_seqs` {s.max_seqs}: no more sequences than the {s.budget} tokens of a step.")
    if s.scheduler != "chunked":
        out.append(f"Scheduler `{s.scheduler}`: vLLM has one scheduler, continuous batching under a token budget.")
    if s.kv != "paged":
        out.append(f"KV manager `{s.kv}`: vLLM's is paged.")
    if s.swap:
        out.append("`swap`: a preempted request is recomputed; no argument moves it to host memory.")
    if s.disk_cache:
        out.append("`disk_cache`: a prefix cache on disk needs a connector of its own (LMCache) and its configuration.")
    if s.adapters and _rank(s.rank) < s.rank:
        out.append(f"LoRA rank {s.rank}: the largest vLLM takes is {_RANKS[-1]}.")
    if s.adapters and s.modules != "all":
        out.append(f"LoRA modules `{s.modules}`: vLLM keeps buffers for every module of the model that it supports.")
    if s.speculation.length:
        if s.speculation.tree > s.speculation.length:
            out.append(f"A tree of {s.speculation.tree} candidates: drafts are chains of {s.speculation.length}.")
        if s.speculation.adaptive:
            out.append("`adaptive`: the number of draft tokens is fixed by `--spec-tokens`.")
    if group.plan.overlap and not (want.moe and want.dp > 1):
        out.append("`overlap`: dual-batch overlap is for experts under data parallelism only.")
    return out + length_of_drafts(group)


def router(deployment: Deployment, urls: Urls, *, port: str) -> Router | None:
    """What spreads requests over the engines at ``urls``; None where there is one."""
    pairs = ["--vllm-pd-disaggregation", "--kv-connector", "nixl"]
    pairs += [part for url in urls.get("prefill", ()) for part in ("--prefill", url)]
    return alike.router(["vllm-router"], deployment, urls, port=port, pairs=pairs)


def routing(deployment: Deployment) -> list[str]:
    """What the deployment asks of its router that the command does not say."""
    return alike.routing(deployment, "vllm-router")


def benchmark(model: str, url: str, load: dict[str, float]) -> list[str]:
    """The engine's own client at ``url``; ``load`` has prompt, output, requests and rate or concurrency."""
    out = ["vllm", "bench", "serve", "--backend", "vllm", "--base-url", url, "--model", model]
    out += ["--dataset-name", "random", *random_requests(load), "--ignore-eos"]
    return [*out, "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99"]


def _rank(rank: int) -> int:
    """The smallest rank the engine sizes adapters for that holds ``rank``."""
    return next((r for r in _RANKS if r >= rank), _RANKS[-1])
