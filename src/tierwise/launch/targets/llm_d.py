"""llm-d-values.yaml: values of llm-d's modelservice chart, which serves vLLM behind its inference scheduler.

Keys as in the chart's own values, version 0.4.0 (https://github.com/llm-d-incubation/llm-d-modelservice). It starts
``vllm serve MODEL`` itself with the port, the degrees and the name of the model; the rest is given as arguments. It
knows engines that prefill and engines that decode, one kind of each, on one node each.
"""

from __future__ import annotations

from typing import Any

from tierwise.launch.files import LaunchGroup, dump, engine, facts
from tierwise.launch.shell import variables, without
from tierwise.launch.targets.kubernetes import RESOURCES, SHARED, label
from tierwise.serving.deployment import Deployment

Json = dict[str, Any]

FILE = "llm-d-values.yaml"
START = "helm install ms llm-d-modelservice/llm-d-modelservice -f {file}"
NEEDS = ("llm-d's gateway and scheduler must be installed in the cluster", "a secret `llm-d-hf-token` holds `HF_TOKEN`")
# The chart's names of vendors' devices.
_ACCELERATORS = {"NVIDIA": "nvidia", "AMD": "amd", "Intel": "intel-xe", "Google": "google"}
# Arguments that the chart writes, with the words that follow them.
_CHART = {"--host": 1, "--port": 1, "--tensor-parallel-size": 1, "--data-parallel-size": 1}


def text(deployment: Deployment, found: list[LaunchGroup], name: str, model: str) -> str | None:
    """The values; None for another engine than vLLM, for engines that span nodes or draft with a model of their own,
    for several kinds of engine in one role, and for a model that is a path."""
    roles = [p.group.role for p in found]
    if name != "vllm" or len(set(roles)) != len(roles) or model.startswith(("/", ".", "~")):
        return None
    if any(p.nodes > 1 or variables(p.argv) not in (["PORT"], []) for p in found):
        return None
    vendor = found[0].group.machine.device.vendor
    apart = "prefill" in roles
    parts = {p.group.role: _part(p) for p in found}
    return dump({
        "modelArtifacts": {"name": model, "uri": f"hf://{model}", "size": "1Ti", "authSecretName": "llm-d-hf-token",
                           "labels": {"llm-d.ai/inferenceServing": "true", "llm-d.ai/model": label(model)}},
        "accelerator": {"type": _ACCELERATORS.get(vendor, "nvidia")},
        # Decoding engines find those that prefill through a proxy beside each of them.
        "routing": {"servicePort": engine(name).PORT, "proxy": {"enabled": apart, "connector": "nixlv2"}},
        "decode": parts.get("decode") or parts["both"],
        "prefill": parts.get("prefill") or {"create": False},
    })  # fmt: skip


def _part(pool: LaunchGroup) -> Json:
    plan, module = pool.group.plan, engine("vllm")
    container: Json = {
        "name": "vllm",
        "image": facts("vllm")["image"],
        "modelCommand": "vllmServe",
        "args": _args(pool),
        "mountModelVolume": True,
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    if pool.group.role != "both":
        side = [{"name": v, "value": str(p)} for v, p in module.SIDE_PORTS.items()]
        host = {"name": module.SIDE_HOST, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
        container["env"] = [*side, host]
        container["ports"] = [{"containerPort": p, "protocol": "TCP"} for p in module.SIDE_PORTS.values()]
    tensor, data = int(plan.tp), int(plan.dp)
    # The chart gives a pod as many devices as tensor times data; stages are beside that.
    if pool.local != tensor * data:
        resource = {RESOURCES.get(pool.group.machine.device.vendor, RESOURCES["NVIDIA"]): str(pool.local)}
        container["resources"] = {"limits": resource, "requests": resource}
    return {
        "create": True, "replicas": pool.count, "parallelism": {"tensor": tensor, "data": data, "dataLocal": data},
        "containers": [container],
        "volumes": [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED}}],
    }  # fmt: skip


def _args(pool: LaunchGroup) -> list[str]:
    kept = without(pool.argv[3:], {**_CHART, "--kv-transfer-config": 1})
    if pool.group.role == "both":
        return kept
    # llm-d's proxy speaks to engines that may do either.
    return [*kept, "--kv-transfer-config", '{"kv_connector":"NixlConnector","kv_role":"kv_both"}']
