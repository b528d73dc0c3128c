"""Dynamo's and llm-d's files say the deployment: engines, devices, degrees, roles, as the scripts do."""

from __future__ import annotations

import yaml
from hypothesis import given, settings

import tierwise as tw
from tests.launch.ways import ENGINES, deployments
from tierwise.launch.files import as_engine, pools
from tierwise.launch.targets import dynamo, llm_d, targets
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.serving.deployment import Deployment, Replicas

NAME = "org/Model-1"


def _apart() -> Deployment:
    machine = system("8xh200-sxm")
    first, then = Replicas(machine, tw.Plan(tp=2.0), 2, "prefill"), Replicas(machine, tw.Plan(tp=4.0), 1, "decode")
    return Deployment(load_model("qwen3-32b"), (first, then), router="prefix_aware")


def _graph(text: str) -> dict:
    return next(d for d in yaml.safe_load_all(text) if d["kind"] == "DynamoGraphDeployment")


def test_targets_are_found_by_their_place():
    assert {t.FILE for t in targets()} >= {"docker-compose.yaml", "kubernetes.yaml", "dynamo.yaml", "llm-d-values.yaml"}


@settings(max_examples=60, deadline=None)
@given(deployments())
def test_dynamo_asks_for_the_deployments_devices_and_engines(deployment):
    for name in ENGINES:
        found = pools(as_engine(deployment, name), name, NAME)
        graph = _graph(dynamo.text(deployment, found, name, NAME))
        workers = [c for c in graph["spec"]["components"] if c["type"] != "frontend"]
        asked = sum(
            c["replicas"] * c.get("multinode", {}).get("nodeCount", 1)
            * int(next(iter(c["podTemplate"]["spec"]["containers"][0]["resources"]["limits"].values())))
            for c in workers
        )  # fmt: skip
        assert asked == sum(p.count * p.nodes * p.local for p in found)
        for c, p in zip(workers, found, strict=True):
            args = c["podTemplate"]["spec"]["containers"][0]["args"]
            assert NAME in args
            assert c["type"] == {"both": "worker"}.get(p.group.role, p.group.role)
            assert ("--disaggregation-mode" in args) == (p.group.role != "both")
            assert not {"--host", "--port", "--nnodes", "--node-rank", "--headless"} & set(args)


def test_dynamos_workers_of_tensorrt_llm_read_their_degrees_from_the_file():
    deployment = _apart()
    text = dynamo.text(deployment, pools(as_engine(deployment, "trtllm"), "trtllm", NAME), "trtllm", NAME)
    files = next(d for d in yaml.safe_load_all(text) if d["kind"] == "ConfigMap")["data"]
    assert {k: yaml.safe_load(v)["tensor_parallel_size"] for k, v in files.items()} == {
        "prefill.yaml": 2, "decode.yaml": 4,
    }  # fmt: skip
    assert yaml.safe_load(files["prefill.yaml"])["disable_overlap_scheduler"] is True


def test_dynamos_router_looks_at_prefixes_where_the_deployments_does():
    deployment = _apart()
    found = pools(as_engine(deployment, "vllm"), "vllm", NAME)
    front = _graph(dynamo.text(deployment, found, "vllm", NAME))["spec"]["components"][0]
    assert front["podTemplate"]["spec"]["containers"][0]["env"] == [{"name": "DYN_ROUTER_MODE", "value": "kv"}]


def test_llm_d_says_both_roles_and_leaves_the_chart_its_own_arguments():
    deployment = _apart()
    found = pools(as_engine(deployment, "vllm"), "vllm", NAME)
    values = yaml.safe_load(llm_d.text(deployment, found, "vllm", NAME))
    assert values["prefill"]["replicas"] == 2
    assert values["prefill"]["parallelism"] == {"tensor": 2, "data": 1, "dataLocal": 1}
    assert values["decode"]["parallelism"]["tensor"] == 4
    args = values["decode"]["containers"][0]["args"]
    assert "--tensor-parallel-size" not in args
    assert "--port" not in args
    assert args[args.index("--max-num-seqs") + 1] == "256"
    assert values["routing"]["proxy"]["enabled"] is True


def test_llm_d_runs_engines_that_do_both_as_decoding_ones_without_a_proxy():
    deployment = Deployment(load_model("qwen3-32b"), (Replicas(system("8xh200-sxm"), tw.Plan(tp=2.0), 3),))
    values = yaml.safe_load(llm_d.text(deployment, pools(as_engine(deployment, "vllm"), "vllm", NAME), "vllm", NAME))
    assert values["decode"]["replicas"] == 3
    assert values["prefill"] == {"create": False}
    assert values["routing"]["proxy"]["enabled"] is False


def test_llm_d_writes_nothing_it_cannot_say():
    deployment = _apart()
    for name in ("sglang", "trtllm"):
        assert llm_d.text(deployment, pools(as_engine(deployment, name), name, NAME), name, NAME) is None
    found = pools(as_engine(deployment, "vllm"), "vllm", "./model")
    assert llm_d.text(deployment, found, "vllm", "./model") is None
