"""SGLang: its serve command, its router, its benchmark client. Arguments and versions: ``flags.yaml``."""

from __future__ import annotations

from tierwise.launch import alike
from tierwise.launch.alike import Formats, length_of_drafts, random_requests
from tierwise.launch.asked import AskedEngine, Env, asked, beyond_any
from tierwise.launch.files import Router, Urls
from tierwise.serving.deployment import Deployment, Replicas, Speculation

PORT = 30000
HEALTH = "/health"
# Where a prefill engine meets the decode engines that fetch its KV.
SIDE_PORTS = {"BOOTSTRAP_PORT": 8998}
SIDE_HOST = ""

_FORMATS = Formats(
    weights={"fp8": "fp8", "mxfp8": "mxfp8", "nvfp4": "nvfp4_online"},
    arithmetic={"fp8": "fp8", "mxfp8": "fp8", "nvfp4": "fp4"},
    kv={"bf16": "bf16", "fp8": "fp8_e4m3", "mxfp8": "mxfp8", "nvfp4": "nvfp4"},
)
_SCHEDULERS = ("chunked", "prefill_first")

_LORA = {
    "all": ["all"], "qkv": ["q_proj", "k_proj", "v_proj"], "qv": ["q_proj", "v_proj"],
    "attention": ["q_proj", "k_proj", "v_proj", "o_proj"], "mlp": ["gate_proj", "up_proj", "down_proj"],
}  # fmt: skip


def command(
    deployment: Deployment, group: Replicas, *, model: str = "", config: str = "", worker: bool = False
) -> list[str]:
    """The command of one engine of ``group``; on every node of it the same.

    Args:
        model: name or path the engine loads; by default the deployment's model.
        config: file of further options, which SGLang does without.
        worker: that of the second and further nodes.
    """
    want, s = asked(deployment.model, group), group.settings
    # Attention ranks lie inside the tensor-parallel group, and share what is allowed to the engine as a whole.
    ranks = want.dp if want.moe else 1
    out = ["python3", "-m", "sglang.launch_server", "--model-path", model or deployment.model.name]
    out += ["--host", "0.0.0.0", "--port", Env("${PORT}"), "--tp-size", str(want.tp * ranks)]
    if want.pp > 1:
        out += ["--pp-size", str(want.pp)]
    if want.dp > 1:
        out += ["--attn-dp-size" if want.moe else "--dp-size", str(want.dp)]
    if want.moe and want.ep > 1:
        out += ["--ep-size", str(want.ep)]
    if want.nodes > 1:
        out += ["--nnodes", str(want.nodes), "--node-rank", Env("${NODE_RANK}")]
        out += ["--dist-init-addr", Env("${MASTER_ADDR}:20000")]
    out += _FORMATS.flags(want)
    if s.max_len:
        out += ["--context-length", str(s.max_len)]
    out += ["--max-running-requests", str(s.max_seqs * ranks), "--chunked-prefill-size", str(s.budget * ranks)]
    out += ["--max-prefill-tokens", str(s.budget)]
    if s.scheduler == "chunked":
        out.append("--enable-mixed-chunk")
    out += ["--page-size", str(s.block)]
    if float(f"{s.memory:g}") < 1.0:
        out += ["--mem-fraction-static", f"{s.memory:g}"]
    out += _cache(group, want)
    if s.graphs and group.plan.graphs:
        out += ["--cuda-graph-max-bs-decode", str(s.graphs)]
    else:
        out += ["--cuda-graph-backend-decode", "disabled", "--cuda-graph-backend-prefill", "disabled"]
    if s.adapters:
        # The base model counts as one of them.
        out += ["--enable-lora", "--max-loras-per-batch", str(s.adapters + 1), "--max-lora-rank", str(s.rank)]
        out += ["--lora-target-modules", *_LORA.get(s.modules, s.modules.split("+"))]
    if s.speculation.length:
        out += _drafts(s.speculation, own=group.plan.mtp)
    if group.plan.library:
        out.append("--disable-custom-all-reduce")
    if group.role != "both":
        out += ["--disaggregation-mode", group.role, "--disaggregation-transfer-backend", "mooncake"]
    if group.role == "prefill":
        out += ["--disaggregation-bootstrap-port", Env("${BOOTSTRAP_PORT}")]
    return out


def missing(deployment: Deployment, group: Replicas) -> list[str]:
    """What ``group`` asks for that the command does not say, each as a sentence."""
    want, s = asked(deployment.model, group), group.settings
    out = beyond_any(group) + _FORMATS.missing(want)
    if s.scheduler not in _SCHEDULERS:
        out.append(f"Scheduler `{s.scheduler}`: SGLang prefills first, or mixes chunks into decode steps.")
    if s.kv != "paged":
        out.append(f"KV manager `{s.kv}`: SGLang's is paged.")
    if s.swap:
        out.append("`swap`: a retracted request is recomputed; no argument moves it to host memory.")
    if s.watermark:
        out.append(f"`watermark` {s.watermark:g}: `--schedule-conservativeness` guards otherwise, not by free blocks.")
    if float(f"{s.memory:g}") < 1.0:
        out.append(
            f"`memory` {s.memory:g} of the device: `--mem-fraction-static` counts weights and KV only; activations "
            "and graphs come on top. Lower it where the engine runs out of memory."
        )
    else:
        out.append("`memory` 1: `--mem-fraction-static` must leave room for activations; the engine chooses.")
    if s.disk_cache:
        out.append("`disk_cache`: the file backend is on, its size has no argument.")
    if s.disk_cache and not s.host_cache:
        out.append("`disk_cache` without `host_cache`: the disk tier lies behind one in host memory, of default size.")
    if (s.host_cache or s.disk_cache) and not s.prefix_cache:
        out.append("Cache tiers without `prefix_cache`: they extend the prefix cache and are off with it.")
    if s.speculation.length:
        if not group.plan.mtp:
            out.append("The draft model is taken to be a plain one (STANDALONE); name EAGLE3 for an EAGLE head.")
        if s.speculation.adaptive:
            out.append("`adaptive`: `--speculative-adaptive` follows the acceptance rate, not goodput.")
    if group.plan.overlap:
        out.append("`overlap`: two-batch overlap needs an all-to-all backend chosen for the machine's network.")
    return out + length_of_drafts(group)


def router(deployment: Deployment, urls: Urls, *, port: str) -> Router | None:
    """What spreads requests over the engines at ``urls``; None where there is one."""
    pairs = ["--pd-disaggregation"]
    for url in urls.get("prefill", ()):
        # Engines of one host keep their bootstrap ports as far apart as their ports.
        pairs += ["--prefill", url, str(SIDE_PORTS["BOOTSTRAP_PORT"] + int(url.rsplit(":", 1)[1]) - PORT)]
    return alike.router(["python3", "-m", "sglang_router.launch_router"], deployment, urls, port=port, pairs=pairs)


def routing(deployment: Deployment) -> list[str]:
    """What the deployment asks of its router that the command does not say."""
    return alike.routing(deployment, "sglang-router")


def benchmark(model: str, url: str, load: dict[str, float]) -> list[str]:
    """The engine's own client at ``url``; ``load`` has prompt, output, requests and rate or concurrency."""
    out = ["python3", "-m", "sglang.benchmark.serving", "--backend", "sglang-oai", "--base-url", url, "--model", model]
    return [*out, "--dataset-name", "random-ids", "--random-range-ratio", "1", *random_requests(load)]


def _cache(group: Replicas, want: AskedEngine) -> list[str]:
    s = group.settings
    if not s.prefix_cache:
        return ["--disable-radix-cache"]
    out = ["--enable-hierarchical-cache"] if s.host_cache or s.disk_cache else []
    if s.host_cache:
        out += ["--hicache-size", str(max(round(s.host_cache / want.devices / 1e9), 1))]
    return out + (["--hicache-storage-backend", "file"] if s.disk_cache else [])


def _drafts(asks: Speculation, *, own: bool) -> list[str]:
    """A chain of ``length`` drafts, or a tree of ``tree`` candidates as deep; the verified root counts as one more."""
    out = ["--speculative-algorithm", "NEXTN" if own else "STANDALONE"]
    out += [] if own else ["--speculative-draft-model-path", Env("${DRAFT_MODEL}")]
    candidates = max(asks.tree, asks.length)
    # The first step offers topk candidates and each further one topk²: the fewest that make a tree so large.
    topk = next(k for k in range(1, candidates + 1) if k + (asks.length - 1) * k * k >= candidates)
    out += ["--speculative-num-steps", str(asks.length), "--speculative-eagle-topk", str(topk)]
    out += ["--speculative-num-draft-tokens", str(candidates + 1)]
    return out + (["--speculative-adaptive"] if asks.adaptive else [])
