"""dynamo.yaml: the deployment as a DynamoGraphDeployment of NVIDIA Dynamo, which routes and moves KV itself.

The object as in https://docs.nvidia.com/dynamo/v1.5.0/kubernetes/model-deployment/deploy-with-dgd (API v1beta1), the
workers' arguments as in the examples of Dynamo 1.3.1 (https://github.com/ai-dynamo/dynamo, examples/backends): those of
the engine's own server, less what the frontend does.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import yaml

from tierwise.launch.files import LaunchGroup, dump
from tierwise.launch.shell import filled, variables, without
from tierwise.launch.targets.compose import CONFIG
from tierwise.launch.targets.kubernetes import RESOURCES, SHARED, label
from tierwise.serving.deployment import Deployment

Json = dict[str, Any]

FILE, START = "dynamo.yaml", "kubectl apply -f {file}"
VERSION = "1.3.1"
NEEDS = ("the Dynamo platform must be installed in the cluster, and a secret `hf-token-secret` hold `HF_TOKEN`",
         f"the engine's version is that of Dynamo {VERSION}'s image")  # fmt: skip
# Module and image of an engine's worker.
_WORKERS = {
    "vllm": ("dynamo.vllm", "vllm-runtime"),
    "sglang": ("dynamo.sglang", "sglang-runtime"),
    "trtllm": ("dynamo.trtllm", "tensorrtllm-runtime"),
}
# What a worker is not told, and how many words follow it: it has no server of its own, the operator says which node of
# an engine it is, and Dynamo says how KV moves.
_LEFT_OUT = {
    "--host": 1, "--port": 1, "--nnodes": 1, "--node-rank": 1, "--master-addr": 1, "--dist-init-addr": 1,
    "--headless": 0, "--kv-transfer-config": 1, "--disaggregation-mode": 1, "--disaggregation-transfer-backend": 1,
    "--disaggregation-bootstrap-port": 1,
}  # fmt: skip
# Options of trtllm-serve by their names in the file of options, which is all that its worker reads.
_OPTIONS = {"--tp_size": "tensor_parallel_size", "--pp_size": "pipeline_parallel_size",
            "--ep_size": "moe_expert_parallel_size", "--gpus_per_node": "gpus_per_node",
            "--max_batch_size": "max_batch_size", "--max_num_tokens": "max_num_tokens",
            "--max_seq_len": "max_seq_len"}  # fmt: skip


def text(deployment: Deployment, found: list[LaunchGroup], name: str, model: str) -> str | None:
    """The manifest; None for an engine Dynamo has no worker for."""
    if name not in _WORKERS:
        return None
    app = label(model)
    files = {k: _options(p, v) if name == "trtllm" else v for p in found for k, v in p.files.items()}
    out: list[Json] = []
    if files:
        out.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"{app}-dynamo"}, "data": files})
    components = [_frontend(deployment, name), *(_worker(p, name, model, app) for p in found)]
    out.append({
        "apiVersion": "nvidia.com/v1beta1", "kind": "DynamoGraphDeployment", "metadata": {"name": app},
        "spec": {"components": components},
    })  # fmt: skip
    return dump(*out)


def _image(name: str) -> str:
    return f"nvcr.io/nvidia/ai-dynamo/{_WORKERS[name][1]}:{VERSION}"


def _frontend(deployment: Deployment, name: str) -> Json:
    """The frontend, which also routes: by what engines hold of a prompt where the deployment's router does."""
    mode = "kv" if deployment.router == "prefix_aware" else "round-robin"
    main = {"name": "main", "image": _image(name), "env": [{"name": "DYN_ROUTER_MODE", "value": mode}]}
    return {"name": "Frontend", "type": "frontend", "replicas": 1, "podTemplate": {"spec": {"containers": [main]}}}


def _worker(pool: LaunchGroup, name: str, model: str, app: str) -> Json:
    resource = RESOURCES.get(pool.group.machine.device.vendor, RESOURCES["NVIDIA"])
    main: Json = {
        "name": "main",
        "image": _image(name),
        "command": ["python3", "-m", _WORKERS[name][0]],
        "args": _args(pool, name, model),
        "envFrom": [{"secretRef": {"name": "hf-token-secret"}}],
        "resources": {"limits": {resource: str(pool.local)}},
        "volumeMounts": [{"name": "shm", "mountPath": "/dev/shm"}],
    }
    volumes: list[Json] = [{"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED}}]
    if "DRAFT_MODEL" in variables(pool.argv):
        main["env"] = [{"name": "DRAFT_MODEL",
                        "valueFrom": {"configMapKeyRef": {"name": f"{app}-draft", "key": "model"}}}]  # fmt: skip
    if pool.files:
        main["volumeMounts"].append({"name": "config", "mountPath": CONFIG, "readOnly": True})
        volumes.append({"name": "config", "configMap": {"name": f"{app}-dynamo"}})
    spans = {"multinode": {"nodeCount": pool.nodes}} if pool.nodes > 1 else {}
    # Roles are types of their own (the enum of deploy/operator/api/v1beta1/common.go).
    kind = "worker" if pool.group.role == "both" else pool.group.role
    return {
        "name": pool.name, "type": kind, "replicas": pool.count, **spans,
        "podTemplate": {"spec": {"containers": [main], "volumes": volumes}},
    }  # fmt: skip


def _args(pool: LaunchGroup, name: str, model: str) -> list[str]:
    role = [] if pool.group.role == "both" else ["--disaggregation-mode", pool.group.role]
    if name == "trtllm":
        files = [arg for path in pool.files for arg in ("--extra-engine-args", f"{CONFIG}/{path}")]
        return ["--model-path", model, "--served-model-name", model, *files, *role]
    if name == "vllm":
        own = ["--model", *_kept(pool.argv[2:])]
        if role:
            role += ["--kv-transfer-config", json.dumps({"kv_connector": "NixlConnector", "kv_role": "kv_both"})]
        return [*own, *role]
    if role:
        role += ["--disaggregation-transfer-backend", "nixl"]
    return [*_kept(pool.argv[3:]), "--served-model-name", model, *role]


def _kept(argv: Sequence[str]) -> list[str]:
    # Kubernetes fills in $(NAME), and takes $$ for a dollar.
    return [filled(word, {"DRAFT_MODEL": "$(DRAFT_MODEL)"}) if variables([word]) else word.replace("$(", "$$(")
            for word in without(argv, _LEFT_OUT)]  # fmt: skip


def _options(pool: LaunchGroup, options: str) -> str:
    """Options of TensorRT-LLM with what its server's command line says beside them."""
    said: Json = {"backend": "pytorch"}
    for word, value in zip(pool.argv, pool.argv[1:], strict=False):
        if word in _OPTIONS:
            said[_OPTIONS[word]] = int(value)
    return dump({**said, **yaml.safe_load(options)})
