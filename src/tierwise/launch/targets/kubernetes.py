"""kubernetes.yaml: engines as StatefulSets, or LeaderWorkerSets where one spans nodes, the router, and their Services.

Objects as in https://kubernetes.io/docs/reference/kubernetes-api/ and https://lws.sigs.k8s.io/docs/reference/.
"""

from __future__ import annotations

import re
from typing import Any

from tierwise.launch.files import LaunchGroup, Router, addresses, dump, engine, facts
from tierwise.launch.shell import filled, requirement, variables
from tierwise.launch.targets.compose import CONFIG
from tierwise.serving.deployment import Deployment

Json = dict[str, Any]

FILE, START = "kubernetes.yaml", "kubectl apply -f {file}"
NEEDS_SPANNING = ("engines that span nodes need the LeaderWorkerSet controller",)
# What a device plugin calls a device of that vendor.
RESOURCES = {"NVIDIA": "nvidia.com/gpu", "AMD": "amd.com/gpu", "Intel": "gpu.intel.com/xe"}
# Shared memory of NCCL's rings: the default of a container is 64 MB. An upper bound, taken only as used.
SHARED = "16Gi"
# What pods carry that requests from outside go to: the router's, or all engines' where there is none.
_FRONT = {"tierwise/front": "true"}
# Where an engine that spans nodes finds its peers; set in every pod by the LeaderWorkerSet controller.
_LEADER = {"NODE_RANK": "$(LWS_WORKER_INDEX)", "MASTER_ADDR": "$(LWS_LEADER_ADDRESS)"}


def text(deployment: Deployment, found: list[LaunchGroup], name: str, model: str) -> str | None:
    """The manifests, one document after the other, for ``kubectl apply -f``.

    None where an engine spans nodes and its processes meet over MPI, which these objects do not start.
    """
    if getattr(engine(name), "MPI", False) and any(p.nodes > 1 for p in found):
        return None
    app = label(model)
    port = engine(name).PORT
    urls = {p.name: [f"http://{app}-{p.name}-{i}.{app}-{p.name}:{port}" for i in range(p.count)] for p in found}
    router = engine(name).router(deployment, addresses(found, urls), port=str(port))
    files = {k: v for p in found for k, v in p.files.items()} | dict(router.files if router else {})
    out: list[Json] = []
    if files:
        out.append({"apiVersion": "v1", "kind": "ConfigMap", "metadata": _meta(app, f"{app}-config"), "data": files})
    for pool in found:
        if pool.nodes == 1:
            out.append(_service(app, f"{app}-{pool.name}", pool.name, port, headless=True))
        out.append(_pool(app, pool, name, front=router is None))
    if router is not None:
        out.append(_router(app, router, name))
    out.append(_service(app, app, "", port))
    return dump(*out)


def label(model: str) -> str:
    """A name Kubernetes takes (RFC 1035 label), from a model's."""
    slug = re.sub(r"[^a-z0-9]+", "-", model.rsplit("/", 1)[-1].lower()).strip("-")[:40].strip("-")
    return slug if slug[:1].isalpha() else f"model-{slug}".strip("-")


def _pool(app: str, pool: LaunchGroup, name: str, *, front: bool) -> Json:
    full = f"{app}-{pool.name}"
    leader = _pod(app, pool, name, pool.argv, serves=True)
    if front:
        leader["metadata"]["labels"] |= _FRONT
    if pool.nodes == 1:
        return {
            "apiVersion": "apps/v1",
            "kind": "StatefulSet",
            "metadata": _meta(app, full),
            "spec": {
                "serviceName": full,
                "replicas": pool.count,
                "podManagementPolicy": "Parallel",
                "selector": {"matchLabels": _labels(app, pool.name)},
                "template": leader,
            },
        }
    return {
        "apiVersion": "leaderworkerset.x-k8s.io/v1",
        "kind": "LeaderWorkerSet",
        "metadata": _meta(app, full),
        "spec": {
            "replicas": pool.count,
            "leaderWorkerTemplate": {
                "size": pool.nodes,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "leaderTemplate": leader,
                "workerTemplate": _pod(app, pool, name, pool.worker, serves=False),
            },
        },
    }


def _pod(app: str, pool: LaunchGroup, name: str, argv: tuple[str, ...], *, serves: bool) -> Json:
    module = engine(name)
    apart = pool.group.role != "both"
    env: list[Json] = [
        {"name": "HF_TOKEN", "valueFrom": {"secretKeyRef": {"name": "hf-token", "key": "token", "optional": True}}}
    ]
    if "DRAFT_MODEL" in variables(argv):
        source = {"configMapKeyRef": {"name": f"{app}-draft", "key": "model"}}
        env.append({"name": "DRAFT_MODEL", "valueFrom": source})
    if apart:
        env += [{"name": v, "value": str(p)} for v, p in module.SIDE_PORTS.items()]
        if module.SIDE_HOST:
            env.append({"name": module.SIDE_HOST, "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}})
    resource = RESOURCES.get(pool.group.machine.device.vendor, RESOURCES["NVIDIA"])
    container: Json = {
        "name": "engine",
        "image": facts(name)["image"],
        "command": _said(argv[:1], name),
        "args": _said(argv[1:], name),
        "env": env,
        "resources": {"limits": {resource: pool.local}, "requests": {resource: pool.local}},
        "volumeMounts": [
            {"name": "shm", "mountPath": "/dev/shm"},
            {"name": "models", "mountPath": "/root/.cache/huggingface"},
            *([{"name": "config", "mountPath": CONFIG, "readOnly": True}] if pool.files else []),
        ],
    }
    if serves:
        container |= {"ports": _ports(module, apart), **probes(module)}
    volumes: list[Json] = [
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": SHARED}},
        # A claim in its place keeps the weights when a pod goes.
        {"name": "models", "emptyDir": {}},
    ]
    if pool.files:
        volumes.append({"name": "config", "configMap": {"name": f"{app}-config"}})
    role = pool.name if serves else f"{pool.name}-worker"
    # Without links: a Service's name must not become a variable the engine reads.
    spec = {"enableServiceLinks": False, "containers": [container], "volumes": volumes}
    return {"metadata": {"labels": _labels(app, role)}, "spec": spec}


def _router(app: str, router: Router, name: str) -> Json:
    module = engine(name)
    said = _said(router.argv, name)
    if router.install:
        said = ["sh", "-c", f'pip install -q {requirement(name)} && exec "$0" "$@"', *said]
    container: Json = {
        "name": "router",
        "image": facts(name)["router"].get("image", facts(name)["image"]),
        "command": said[:1],
        "args": said[1:],
        "ports": [{"name": "http", "containerPort": module.PORT}],
        "readinessProbe": {"httpGet": {"path": module.HEALTH, "port": module.PORT}, "periodSeconds": 5},
        "livenessProbe": {"tcpSocket": {"port": module.PORT}, "initialDelaySeconds": 600, "periodSeconds": 10},
    }
    pod: Json = {"enableServiceLinks": False, "containers": [container]}
    if router.files:
        container["volumeMounts"] = [{"name": "config", "mountPath": CONFIG, "readOnly": True}]
        pod["volumes"] = [{"name": "config", "configMap": {"name": f"{app}-config"}}]
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": _meta(app, f"{app}-router"),
        "spec": {
            "replicas": 1,
            "selector": {"matchLabels": _labels(app, "router")},
            "template": {"metadata": {"labels": _labels(app, "router") | _FRONT}, "spec": pod},
        },
    }


def _service(app: str, full: str, role: str, port: int, *, headless: bool = False) -> Json:
    selector = _labels(app, role) if role else {"app.kubernetes.io/name": app, **_FRONT}
    spec: Json = {"selector": selector, "ports": [{"name": "http", "port": port, "targetPort": port}]}
    if headless:
        # Addresses exist before an engine is ready, so that its router can wait for it.
        spec = {"clusterIP": "None", "publishNotReadyAddresses": True, **spec}
    return {"apiVersion": "v1", "kind": "Service", "metadata": _meta(app, full), "spec": spec}


def _ports(module: Any, apart: bool) -> list[Json]:
    side = module.SIDE_PORTS.values() if apart else ()
    return [{"name": "http", "containerPort": module.PORT}] + [
        {"name": f"side-{i}", "containerPort": p} for i, p in enumerate(side)
    ]


def probes(module: Any) -> Json:
    """Half an hour to load weights and record graphs, then a check every ten seconds."""
    get = {"httpGet": {"path": module.HEALTH, "port": module.PORT}, "periodSeconds": 10, "timeoutSeconds": 5}
    return {
        "startupProbe": {**get, "failureThreshold": 180},
        "readinessProbe": {**get, "failureThreshold": 3},
        "livenessProbe": {**get, "failureThreshold": 6},
    }


def _said(argv: tuple[str, ...], name: str) -> list[str]:
    module = engine(name)
    values = {"PORT": str(module.PORT), "CONFIG_DIR": CONFIG, "DRAFT_MODEL": "$(DRAFT_MODEL)", **_LEADER}
    values |= {k: str(v) for k, v in module.SIDE_PORTS.items()}
    # "$(" would be taken for a variable.
    return [filled(a, values) if variables([a]) else a.replace("$(", "$$(") for a in argv]


def _labels(app: str, role: str) -> Json:
    return {"app.kubernetes.io/name": app, "app.kubernetes.io/component": role}


def _meta(app: str, name: str) -> Json:
    return {"name": name, "labels": {"app.kubernetes.io/name": app}}
