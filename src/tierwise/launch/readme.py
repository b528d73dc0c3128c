"""README.md of a folder of launch files: what was predicted, how to start and check it, what could not be said."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tierwise.core import units
from tierwise.launch.files import LaunchGroup, disaggregated, engine, facts
from tierwise.launch.shell import local_ports, variables, words
from tierwise.launch.targets import targets
from tierwise.launch.targets.kubernetes import label
from tierwise.serving.deployment import Deployment

# Keys of a prediction in the order they are shown: what each is called and how its value reads.
_SHOWN = {
    "ttft": ("Time to first token (TTFT)", units.seconds),
    "tpot": ("Time per output token (TPOT)", units.seconds),
    "itl": ("Inter-token latency", units.seconds),
    "latency": ("Latency of a request", units.seconds),
    "throughput": ("Output tokens a second", lambda x: f"{x:,.0f}"),
    "throughput_per_device": ("Output tokens a second and device", lambda x: f"{x:,.0f}"),
    "goodput": ("Requests a second within the targets", lambda x: f"{x:,.3g}"),
    "cost": ("Dollars an hour", units.dollars),
    "cost_per_million": ("Dollars per million output tokens", units.dollars),
}
# Keys that say for which load, and what the numbers rest on.
_LOAD = ("prompt", "output", "rate", "concurrency", "requests")


def text(
    deployment: Deployment,
    written: Mapping[str, Sequence[LaunchGroup]],
    model: str,
    predicted: Mapping[str, object] | None,
    files: Sequence[str],
) -> str:
    """The whole README; ``written`` has the pools of each engine."""
    own = deployment.groups[0].settings.engine
    parts = [f"# {model}", _what(deployment), *_prediction(predicted, own)]
    for name, found in written.items():
        parts += _section(deployment, name, found, model, predicted, [f for f in files if f.startswith(f"{name}/")])
    return "\n\n".join(parts) + "\n"


def _what(deployment: Deployment) -> str:
    kinds = [
        f"{g.count} × {'server' if g.role == 'both' else g.role} on {int(g.plan.devices)} × "
        f"{g.machine.device.name} (TP {int(g.plan.tp)}, PP {int(g.plan.pp)}, DP {int(g.plan.dp)}, EP {int(g.plan.ep)})"
        for g in deployment.groups
    ]
    how = "Prefill and decode on engines of their own" if disaggregated(deployment) else "Aggregated serving"
    rent = deployment.rent
    price = f", {units.dollars(rent * 3600)} an hour" if math.isfinite(rent) and rent > 0 else ""
    return f"{how}: {'; '.join(kinds)}. {deployment.devices} devices{price}."


def _prediction(predicted: Mapping[str, object] | None, own: str) -> list[str]:
    if not predicted:
        return ["## Predicted", "Nothing: these files were written without a prediction."]
    rows = ["| | |", "|---|---|"]
    for key, (title, show) in _SHOWN.items():
        if key in predicted:
            rows.append(f"| {title} | {_value(predicted[key], show)} |")
    for key, value in predicted.items():
        if key not in _SHOWN and key not in (*_LOAD, "basis", "interval"):
            rows.append(f"| {_cell(key)} | {_value(value, lambda x: f'{x:,.4g}')} |")
    load = _load(predicted)
    out = ["## Predicted", f"For {load} on {facts_of(own)}:" if load else f"On {facts_of(own)}:", "\n".join(rows)]
    if "basis" in predicted:
        out.append(f"Basis: {_cell(predicted['basis'])}.{_interval(predicted.get('interval'))}")
    elif "interval" in predicted:
        out.append(_interval(predicted["interval"]).strip())
    return out


def facts_of(name: str) -> str:
    """``vLLM 0.33.0``, or the name itself where nothing is known of it."""
    try:
        return f"{facts(name)['engine']} {facts(name)['version']}"
    except FileNotFoundError:
        return name


def _load(predicted: Mapping[str, object]) -> str:
    said = _load_of(predicted)
    out = []
    if "prompt" in said and "output" in said:
        out.append(f"requests of {said['prompt']:,.0f} tokens in and {said['output']:,.0f} out")
    if "rate" in said:
        out.append(f"{said['rate']:g} a second")
    if "concurrency" in said:
        out.append(f"{said['concurrency']:,.0f} at once")
    return ", ".join(out)


def _load_of(predicted: Mapping[str, object]) -> dict[str, float]:
    """What of the prediction is its load, as far as a client could make it."""
    said = {k: _number(predicted[k]) for k in _LOAD if k in predicted}
    return {k: x for k, x in said.items() if math.isfinite(x) and x > 0}


def _interval(found: object) -> str:
    if isinstance(found, Sequence) and not isinstance(found, str) and len(found) == 2:
        low, high = (_number(x) for x in found)
        if math.isfinite(low) and math.isfinite(high):
            return f" 80 % of measurements should lie between {low:.2f} and {high:.2f} times these times."
    return f" Interval: {_cell(found)}." if found is not None else ""


def _section(
    deployment: Deployment, name: str, found: Sequence[LaunchGroup], model: str, predicted: Mapping[str, object] | None,
    files: Sequence[str],
) -> list[str]:  # fmt: skip
    known, module = facts(name), engine(name)
    out = [f"## {known['engine']} {known['version']}"]
    if name != deployment.groups[0].settings.engine:
        out.append("The prediction above is not for this engine.")
    out.append(
        f"Image `{known['image']}`. Arguments were checked against [its argument list]({known['serve']['source']}); "
        "another version may name them otherwise."
    )
    out.append(_start(name, found, model, files))
    port = module.PORT if f"{name}/router.sh" in files else local_ports(found, name)[found[0].name][0]
    url = f"http://127.0.0.1:{port}"
    at = "the load predicted for" if predicted else "some load"
    load = _load_of(predicted or {})
    out.append(
        f"Check it with the engine's own client ([source]({known['bench']['source']})), at {at}:\n\n"
        f"```sh\n{words(module.benchmark(model, url, _filled(load)))}\n```"
    )
    lines = list(
        dict.fromkeys([*(m for p in found for m in p.missing), *module.routing(deployment), *_beyond(deployment)])
    )
    if f"{name}/docker-compose.yaml" not in files:
        lines.append("docker-compose.yaml: not written, the engines need more than one host.")
    if model.startswith(("/", ".", "~")):
        lines.append(f"`{model}` is a path: containers see it only where it is mounted, which these files do not do.")
    vendors = {p.group.machine.device.vendor for p in found} - {"NVIDIA"}
    if vendors:
        lines.append(f"The image and docker-compose.yaml: they are for NVIDIA devices, not {', '.join(vendors)}.")
    if lines:
        out.append("Not expressible, or meant otherwise by this engine:\n\n" + "\n".join(f"- {line}" for line in lines))
    return out


def _start(name: str, found: Sequence[LaunchGroup], model: str, files: Sequence[str]) -> str:
    lines, hosts = _by_hand(name, found)
    if f"{name}/router.sh" in files:
        lines.append(f"{name}/router.sh")
    where = "On one host by hand:" if hosts == 1 else f"On {hosts} hosts by hand"
    if hosts > 1 and f"{name}/router.sh" in files:
        where += ", with their addresses in place of 127.0.0.1 in what the router reads"
    out = [where.rstrip(":") + ":", "```sh\n" + "\n".join(lines) + "\n```"]
    for target in targets():
        if (file := f"{name}/{target.FILE}") in files:
            out.append(f"Or `{target.START.format(file=file)}`{_needs(target, found)}.")
    if any("DRAFT_MODEL" in variables(p.argv) for p in found):
        create = f"kubectl create configmap {label(model)}-draft --from-literal=model=..."
        out.append(f"`DRAFT_MODEL` in the environment names the model that drafts; in Kubernetes `{create}`.")
    create = "kubectl create secret generic hf-token --from-literal=token=..."
    out.append(f"A gated model needs `HF_TOKEN` in the environment; in Kubernetes `{create}`.")
    return "\n\n".join(out)


def _needs(target: Any, found: Sequence[LaunchGroup]) -> str:
    said = list(getattr(target, "NEEDS", ()))
    if any(p.nodes > 1 for p in found):
        said += getattr(target, "NEEDS_SPANNING", ())
    return "".join(f"; {x}" for x in said)


def _by_hand(name: str, found: Sequence[LaunchGroup]) -> tuple[list[str], int]:
    """Lines that start every engine, and the hosts they take: engines fill one host after the other, none is split."""
    placed: list[tuple[str, int]] = []
    host, used = 1, 0
    for pool in found:
        script, per_host = f"{name}/serve-{pool.name}.sh", pool.group.machine.per_node
        for port in local_ports(found, name)[pool.name]:
            if used and (used + pool.local > per_host or pool.nodes > 1):
                host, used = host + 1, 0
            if pool.nodes > 1 and getattr(engine(name), "MPI", False):
                tasks = f"--ntasks={pool.nodes * pool.local} --ntasks-per-node={pool.local} --mpi=pmix"
                placed.append((f"PORT={port} srun -N {pool.nodes} {tasks} {script}", 0))
                host, used = host + pool.nodes - 1, per_host
            elif pool.nodes > 1:
                for rank in range(pool.nodes):
                    placed.append((f"NODE_RANK={rank} MASTER_ADDR=HOST{host} PORT={port} {script} &", host + rank))
                host, used = host + pool.nodes - 1, per_host
            else:
                ids = ",".join(str(used + k) for k in range(pool.local))
                placed.append((f"CUDA_VISIBLE_DEVICES={ids} PORT={port} {script} &", host))
                used += pool.local
    if host == 1:
        return [line for line, _ in placed], 1
    return [f"{line}  # host {at}" if at else line for line, at in placed], host


def _beyond(deployment: Deployment) -> list[str]:
    out = []
    if deployment.autoscaler:
        out.append(f"Autoscaler `{deployment.autoscaler}`: the number of engines is fixed here.")
    if deployment.pooled:
        out.append("A prefix cache pooled over the network: needs a store of its own beside the engines.")
    return out


def _filled(load: dict[str, float]) -> dict[str, float]:
    """A load the client can make: what was not said gets plain values."""
    counted = {k: x if k == "rate" else max(x, 1.0) for k, x in load.items()}
    out = {"prompt": 1024.0, "output": 256.0, "requests": 1000.0, **counted}
    return out if "rate" in out or "concurrency" in out else {**out, "concurrency": 64.0}


def _value(found: object, show: Any) -> str:
    if isinstance(found, Mapping):
        return ", ".join(f"{_cell(k)} {_value(v, show)}" for k, v in found.items())
    if isinstance(found, Sequence) and not isinstance(found, str):
        return " to ".join(_value(v, show) for v in found)
    x = _number(found)
    return str(show(x)) if math.isfinite(x) else _cell(found)


def _number(found: object) -> float:
    try:
        return float(found)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return math.nan


def _cell(found: object) -> str:
    return str(found).replace("|", "\\|").replace("\n", " ")
