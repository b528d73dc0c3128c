"""TensorRT-LLM: ``trtllm-serve`` and the YAML it reads. Arguments and versions: ``flags.yaml``."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tierwise.launch.alike import DTYPES, by_checkpoint, in_checkpoint, length_of_drafts, random_requests
from tierwise.launch.asked import Env, asked, beyond_any, has_experts
from tierwise.launch.files import Router, Urls, dump
from tierwise.serving.deployment import Deployment, Replicas

PORT = 8000
HEALTH = "/health"
SIDE_PORTS: dict[str, int] = {}
SIDE_HOST = ""
# Processes of one engine meet over MPI, which something else has to start.
MPI = True

_KV = {"fp8": "fp8"}
_POLICIES = {"round_robin": "round_robin", "least_loaded": "load_balancing", "prefix_aware": "kv_cache_aware"}
# Admission that may preempt, as the paged simulation does, or batches that run to their end.
_CAPACITY = {"chunked": "MAX_UTILIZATION", "static": "STATIC_BATCH"}
_SECTION = {"prefill": "context_servers", "decode": "generation_servers"}
_LORA = {
    "q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_dense", "gate_proj": "mlp_h_to_4h",
    "up_proj": "mlp_gate", "down_proj": "mlp_4h_to_h",
}  # fmt: skip
_SETS = {
    "all": tuple(_LORA), "qkv": tuple(_LORA)[:3], "qv": ("q_proj", "v_proj"), "attention": tuple(_LORA)[:4],
    "mlp": tuple(_LORA)[4:],
}  # fmt: skip


def reshape(deployment: Deployment, group: Replicas) -> Replicas:
    """The group as this engine can run it: data-parallel copies of a dense model are engines of their own."""
    dp = asked(deployment.model, group).dp
    if dp == 1 or has_experts(deployment.model):
        return group
    return replace(group, count=group.count * dp, plan=replace(group.plan, dp=1.0))


def command(
    deployment: Deployment, group: Replicas, *, model: str = "", config: str = "server.yaml", worker: bool = False
) -> list[str]:
    """The command of one engine of ``group``; where it spans nodes, that of each of its processes.

    Args:
        model: name or path the engine loads; by default the deployment's model.
        config: file in ``${CONFIG_DIR}`` with :func:`options`.
        worker: that of the second and further nodes.
    """
    want, s = asked(deployment.model, group), group.settings
    out = ["trtllm-llmapi-launch"] if want.nodes > 1 else []
    out += ["trtllm-serve", model or deployment.model.name, "--backend", "pytorch"]
    out += ["--host", "0.0.0.0", "--port", Env("${PORT}"), "--tp_size", str(want.tp * want.dp)]
    if want.pp > 1:
        out += ["--pp_size", str(want.pp)]
    if want.moe and want.ep > 1:
        out += ["--ep_size", str(want.ep)]
    if want.nodes > 1:
        out += ["--gpus_per_node", str(want.local)]
    out += ["--max_batch_size", str(s.max_seqs), "--max_num_tokens", str(s.budget)]
    if s.max_len:
        out += ["--max_seq_len", str(s.max_len)]
    return [*out, "--extra_llm_api_options", Env(f"${{CONFIG_DIR}}/{config}")]


def options(deployment: Deployment, group: Replicas) -> dict[str, Any]:
    """The file of further options (``--extra_llm_api_options``), keys of ``LlmArgs``."""
    want, s = asked(deployment.model, group), group.settings
    # Beside the rest and not on the command line, whose share this section would replace as a whole.
    kv: dict[str, Any] = {"free_gpu_memory_fraction": float(f"{s.memory:g}"), "enable_block_reuse": s.prefix_cache}
    if _is_power_of_two(s.block):
        kv["tokens_per_block"] = s.block
    if want.kv in _KV:
        kv["dtype"] = _KV[want.kv]
    if s.host_cache and s.prefix_cache:
        kv["host_cache_size"] = int(s.host_cache / want.devices)
    if deployment.router == "prefix_aware" and group.role != "both":
        # The router learns which blocks an engine holds from these events.
        kv["event_buffer_max_size"] = 1024
    graphs = {"enable_padding": True, "max_batch_size": s.graphs} if s.graphs and group.plan.graphs else None
    out: dict[str, Any] = {"kv_cache_config": kv, "cuda_graph_config": graphs}
    if want.activations in DTYPES:
        out["dtype"] = DTYPES[want.activations]
    if want.dp > 1:
        out["enable_attention_dp"] = True
    if s.scheduler == "chunked":
        out["enable_chunked_prefill"] = True
    if s.scheduler in _CAPACITY and group.role == "both":
        out["scheduler_config"] = {"capacity_scheduler_policy": _CAPACITY[s.scheduler]}
    if s.adapters:
        out["lora_config"] = {
            "lora_target_modules": _modules(s.modules), "max_lora_rank": s.rank, "max_loras": s.adapters,
            "max_cpu_loras": s.adapters,
        }  # fmt: skip
    if s.speculation.length and group.plan.mtp:
        length = s.speculation.length
        out["speculative_config"] = {
            "decoding_type": "MTP", "num_nextn_predict_layers": length, "max_draft_len": length,
        }  # fmt: skip
    if group.plan.library:
        out["allreduce_strategy"] = "NCCL"
    if group.role != "both":
        buffer: dict[str, Any] = {"backend": "DEFAULT"}
        longest = s.max_len or deployment.model.max_context
        if math.isfinite(longest):
            buffer["max_tokens_in_buffer"] = int(longest)
        out["cache_transceiver_config"] = buffer
    if group.role == "prefill":
        out["disable_overlap_scheduler"] = True
    return out


def missing(deployment: Deployment, group: Replicas) -> list[str]:
    """What ``group`` asks for that command and options do not say, each as a sentence."""
    want, s = asked(deployment.model, group), group.settings
    out = beyond_any(group) + in_checkpoint(want) + by_checkpoint(want)
    if want.kv.strip("/") and want.kv not in _KV and want.kv != str(deployment.model.activations):
        out.append(f"KV cache in {want.kv}: the files leave the type the checkpoint asks for.")
    if want.dp > 1 and want.tp > 1:
        ranks = want.tp * want.dp
        out.append(
            f"Attention over tp {want.tp} in each of {want.dp} groups: attention runs on {ranks} ranks of its own."
        )
    if s.scheduler not in _CAPACITY:
        out.append(f"Scheduler `{s.scheduler}`: in-flight batching has no such order; the engine's default is left.")
    if group.role != "both":
        out.append("Admission of prefill and decode engines: the engine's default, which never preempts.")
    if s.kv != "paged":
        out.append(f"KV manager `{s.kv}`: TensorRT-LLM's is paged.")
    if not _is_power_of_two(s.block):
        out.append(f"`block` {s.block}: tokens of a block are a power of two; the engine's default is left.")
    if s.swap:
        out.append("`swap`: a paused request is recomputed; no argument moves it to host memory.")
    if s.watermark:
        out.append(f"`watermark` {s.watermark:g}: no share of the blocks is kept free.")
    out.append(
        f"`memory` {s.memory:g} of the device: `free_gpu_memory_fraction` is a share of what weights and "
        "activations leave, and so gives the cache more."
    )
    if s.host_cache and not s.prefix_cache:
        out.append("`host_cache` without `prefix_cache`: it extends the prefix cache and is off with it.")
    if s.disk_cache:
        out.append("`disk_cache`: no tier on disk.")
    if s.adapters and (lacking := [n for n in _SETS.get(s.modules, s.modules.split("+")) if n not in _LORA]):
        out.append(f"LoRA adapters of {', '.join(lacking)}: not among the modules named here; see the options file.")
    if s.speculation.length and not group.plan.mtp:
        out.append(
            f"Speculation of {s.speculation.length} tokens: put the draft model into the options file as "
            f"`speculative_config: {{decoding_type: DraftTarget, max_draft_len: {s.speculation.length}, "
            "speculative_model_dir: ...}`."
        )
    if s.speculation.length and s.speculation.tree > s.speculation.length:
        out.append(f"A tree of {s.speculation.tree} candidates: drafts are chains of {s.speculation.length}.")
    if s.speculation.length and s.speculation.adaptive:
        out.append("`adaptive`: the number of draft tokens is fixed.")
    if group.plan.overlap:
        out.append("`overlap`: no argument runs communication beside computation.")
    out += length_of_drafts(group)
    if want.nodes > 1:
        out.append(
            f"kubernetes.yaml for an engine on {want.nodes} nodes: its processes start over MPI, with Slurm or the MPI "
            "operator."
        )
    return out


def router(deployment: Deployment, urls: Urls, *, port: str) -> Router | None:
    """What sends requests to prefill, then decode engines; None in aggregated serving, which has no router."""
    if "prefill" not in urls:
        return None
    kind = _POLICIES.get(deployment.router, "round_robin")
    said: dict[str, Any] = {"hostname": "0.0.0.0", "port": int(port)}
    for role, section in _SECTION.items():
        hosts = [url.removeprefix("http://") for url in urls[role]]
        said[section] = {"num_instances": len(hosts), "urls": hosts, "router": {"type": kind}}
    file = "disaggregated.yaml"
    argv = ("trtllm-serve", "disaggregated", "-c", Env(f"${{CONFIG_DIR}}/{file}"))
    return Router(argv, files={file: dump(said)})


def routing(deployment: Deployment) -> list[str]:
    """What the deployment asks of its router that the files do not say."""
    apart = any(g.role == "prefill" for g in deployment.groups)
    if not apart:
        if sum(reshape(deployment, g).count for g in deployment.groups) == 1:
            return []
        where = "in Kubernetes the Service spreads connections, elsewhere each engine has a port of its own"
        return [f"Router `{deployment.router}`: none for equal engines; {where}."]
    if deployment.router in _POLICIES:
        return []
    return [f"Router `{deployment.router}`: the disaggregated server has no such type; the files say round_robin."]


def benchmark(model: str, url: str, load: dict[str, float]) -> list[str]:
    """The engine's own client at ``url``; ``load`` has prompt, output, requests and rate or concurrency."""
    out = ["python3", "-m", "tensorrt_llm.serve.scripts.benchmark_serving", "--backend", "openai", "--base-url", url]
    out += ["--model", model, "--dataset-name", "random", "--random-ids"]
    out += [*random_requests(load), "--ignore-eos"]
    return [*out, "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99"]


def _is_power_of_two(n: int) -> bool:
    return n > 0 and n & (n - 1) == 0


def _modules(asked: str) -> list[str]:
    """The engine's own names of matrices that adapters change."""
    return [_LORA[n] for n in _SETS.get(asked, asked.split("+")) if n in _LORA]
