"""docker-compose.yaml: all engines and the router on one host (https://github.com/compose-spec/compose-spec)."""

from __future__ import annotations

from typing import Any

from tierwise.launch.files import LaunchGroup, addresses, disaggregated, dump, engine, facts
from tierwise.launch.shell import APART, filled, requirement, variables
from tierwise.serving.deployment import Deployment

FILE, START = "docker-compose.yaml", "docker compose -f {file} up"
CONFIG = "/config"
# Shared memory of NCCL's rings: Docker's own default is 64 MB. An upper bound, taken only as used.
_SHARED = "16gb"


def text(deployment: Deployment, found: list[LaunchGroup], name: str, model: str) -> str | None:
    """The file; None where the engines need more than one host."""
    per_host = min(p.group.machine.per_node for p in found)
    if len({p.group.machine.name for p in found}) > 1 or sum(p.count * p.local * p.nodes for p in found) > per_host:
        return None
    module = engine(name)
    # KV moves between engines over addresses they tell each other, which holds on the host's own network.
    shared = disaggregated(deployment)
    services: dict[str, Any] = {}
    urls: dict[str, list[str]] = {}
    first = 0
    for pool in found:
        for i in range(pool.count):
            service = pool.name if pool.count == 1 else f"{pool.name}-{i}"
            shift = APART * (len(services) + 1) if shared else 0
            host = "127.0.0.1" if shared else service
            urls.setdefault(pool.name, []).append(f"http://{host}:{module.PORT + shift}")
            services[service] = _engine(pool, name, range(first, first + pool.local), shift)
            if shared:
                services[service] |= {"network_mode": "host", "ipc": "host"}
                del services[service]["shm_size"]
            first += pool.local
    router = module.router(deployment, addresses(found, urls), port=str(module.PORT))
    if router is not None:
        services["router"] = {
            "image": facts(name)["router"].get("image", facts(name)["image"]),
            **_run(router.argv, name, requirement(name) if router.install else ""),
            **({"network_mode": "host"} if shared else {"ports": [f"{module.PORT}:{module.PORT}"]}),
            **({"volumes": [f"./{path}:{CONFIG}/{path}:ro" for path in router.files]} if router.files else {}),
            "depends_on": {s: {"condition": "service_healthy"} for s in services},
            "restart": "unless-stopped",
        }
    elif not shared:
        # No router in front: each engine is reached at a port of the host.
        for i, service in enumerate(services.values()):
            service["ports"] = [f"{module.PORT + i}:{module.PORT}"]
    return dump({"services": services, "volumes": {"models": {}}})


def _engine(pool: LaunchGroup, name: str, devices: range, shift: int) -> dict[str, Any]:
    module = engine(name)
    side = {k: str(v + shift) for k, v in module.SIDE_PORTS.items()} if pool.group.role != "both" else {}
    port = module.PORT + shift
    check = f"import urllib.request as u; u.urlopen('http://127.0.0.1:{port}{module.HEALTH}', timeout=4)"
    return {
        "image": facts(name)["image"],
        **_run(pool.argv, name, "", shift),
        "environment": {"HF_TOKEN": "${HF_TOKEN:-}", **side},
        "volumes": ["models:/root/.cache/huggingface", *(f"./{path}:{CONFIG}/{path}:ro" for path in pool.files)],
        "shm_size": _SHARED,
        "ulimits": {"memlock": -1, "stack": 67108864},
        "deploy": {
            "resources": {
                "reservations": {
                    "devices": [{"driver": "nvidia", "device_ids": [str(d) for d in devices], "capabilities": ["gpu"]}]
                }
            }
        },
        "healthcheck": {
            "test": ["CMD", "python3", "-c", check],
            "interval": "10s", "timeout": "5s", "retries": 3, "start_period": "30m",
        },
        "restart": "unless-stopped",
    }  # fmt: skip


def _run(argv: tuple[str, ...], name: str, install: str, shift: int = 0) -> dict[str, Any]:
    values = {
        "PORT": str(engine(name).PORT + shift), "CONFIG_DIR": CONFIG, "DRAFT_MODEL": "${DRAFT_MODEL:?}",
        **{k: str(v + shift) for k, v in engine(name).SIDE_PORTS.items()},
    }  # fmt: skip
    # A dollar that is not ours would be taken for a variable by compose.
    said = [filled(a, values) if variables([a]) else a.replace("$", "$$") for a in argv]
    if not install:
        return {"entrypoint": said[:1], "command": said[1:]}
    return {"entrypoint": ["sh", "-c", f'pip install -q {install} && exec "$$0" "$$@"', said[0]], "command": said[1:]}
