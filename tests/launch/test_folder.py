"""What is written: scripts that a shell reads as the commands, manifests of the right shape, a README that says all."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import settings as bounded
from hypothesis import strategies as st

from tests.launch.ways import DENSE, ENGINES, EXPERTS, MACHINE, NAMES, deployments
from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.numerics import fmt
from tierwise.launch import folder, readme, write
from tierwise.launch.files import LaunchGroup, as_engine, engine, pools
from tierwise.launch.shell import filled, script, words
from tierwise.launch.targets import kubernetes
from tierwise.launch.targets.compose import text as composed
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Deployment, Replicas, Settings, Speculation

APART = Deployment(
    DENSE, (Replicas(MACHINE, Plan(tp=2.0), 2, "prefill"), Replicas(MACHINE, Plan(tp=4.0), 1, "decode")),
    router="prefix_aware",
)  # fmt: skip
TOGETHER = Deployment(DENSE, (Replicas(MACHINE, Plan(tp=2.0), 3),))
SPANNING = Deployment(EXPERTS, (Replicas(MACHINE, Plan(dp=16.0, ep=16.0), 2),))
PREDICTED = {
    "ttft": {"p50": 0.2, "p99": 0.55}, "tpot": 0.0213, "throughput": 3456.0, "cost": 31.9, "basis": "calibrated",
    "interval": (0.9, 1.2), "prompt": 4000, "output": 500, "rate": 3.0,
}  # fmt: skip
VALUES = {
    "PORT": "8123", "CONFIG_DIR": "/c", "DRAFT_MODEL": "draft", "NODE_RANK": "0", "MASTER_ADDR": "host",
    "BOOTSTRAP_PORT": "8998",
}  # fmt: skip


@bounded(max_examples=12, deadline=None)
@given(NAMES)
def test_a_shell_reads_a_script_as_the_command(model: str) -> None:
    """Whatever the model is called, the words bash hears are the words meant, and none of them runs."""
    for name in ENGINES:
        (pool,) = pools(as_engine(TOGETHER.with_settings(speculation=Speculation(3)), name), name, model)
        last = script(pool, name).rstrip("\n").split("\nexec ")[-1]
        heard = subprocess.run(
            ["bash", "-c", f"printf '%s\\0' {last}"], capture_output=True, check=True, env={**os.environ, **VALUES}
        )
        assert heard.stdout.decode().split("\0")[:-1] == [filled(a, VALUES) for a in pool.argv]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("deployment", [TOGETHER, APART, SPANNING])
def test_scripts_are_bash(name: str, deployment: Deployment, tmp_path: Path) -> None:
    for path in write(deployment, tmp_path, model_name="org/m", only=[name]):
        if path.suffix == ".sh":
            assert os.access(path, os.X_OK)
            subprocess.run(["bash", "-n", str(path)], check=True)


@pytest.mark.parametrize("name", ["sglang", "vllm"])
def test_a_script_that_spans_nodes_asks_for_rank_and_address(name: str) -> None:
    (pool,) = pools(as_engine(SPANNING, name), name, "m")
    env = {k: v for k, v in os.environ.items() if k not in VALUES}
    said = subprocess.run(["bash", "-c", script(pool, name)], check=False, capture_output=True, text=True, env=env)
    assert said.returncode != 0 and "NODE_RANK: 0 on the first node" in said.stderr
    assert pool.nodes == 2 and pool.local == 8


# Keys of the Compose Specification that these files use, https://github.com/compose-spec/compose-spec/blob/main/05-services.md
_SERVICE = {
    "image": str, "entrypoint": list, "command": list, "environment": dict, "volumes": list, "shm_size": str,
    "ulimits": dict, "deploy": dict, "healthcheck": dict, "restart": str, "ports": list, "depends_on": dict,
    "network_mode": str, "ipc": str,
}  # fmt: skip


@pytest.mark.parametrize("name", ENGINES)
@bounded(max_examples=60, deadline=None)
@given(deployments())
def test_compose_files_have_the_shape_of_the_specification(name: str, deployment: Deployment) -> None:
    deployment = as_engine(deployment, name)
    found = pools(deployment, name, "org/model")
    text = composed(deployment, found, name, "org/m")
    devices = sum(p.count * p.nodes * p.local for p in found)
    if devices > MACHINE.per_node:
        assert text is None
        return
    assert text is not None
    file = yaml.safe_load(text)
    assert set(file) == {"services", "volumes"}
    taken: list[str] = []
    for service in file["services"].values():
        assert set(service) <= set(_SERVICE)
        assert all(isinstance(v, _SERVICE[k]) for k, v in service.items())
        assert all(isinstance(w, str) for w in (*service["entrypoint"], *service["command"]))
        assert "network_mode" not in service or "ports" not in service
        assert set(service.get("depends_on", {})) <= set(file["services"])
        for volume in service.get("volumes", []):
            assert volume.startswith("./") or volume.split(":")[0] in file["volumes"]
        if "deploy" in service:
            (reserved,) = service["deploy"]["resources"]["reservations"]["devices"]
            assert reserved["capabilities"] == ["gpu"] and "count" not in reserved
            taken += reserved["device_ids"]
            assert service["healthcheck"]["test"][0] == "CMD"
    assert sorted(map(int, taken)) == list(range(devices))
    outside = [p.split(":")[0] for s in file["services"].values() for p in s.get("ports", [])]
    assert len(outside) == len(set(outside)) and (
        outside or any("network_mode" in s for s in file["services"].values())
    )


@bounded(max_examples=25, deadline=None)
@given(NAMES)
def test_compose_hears_a_name_and_no_variable_of_it(model: str) -> None:
    """Compose replaces ``$NAME`` and ``${NAME}``, and takes ``$$`` for a dollar."""
    for name in ENGINES:
        found = pools(as_engine(TOGETHER, name), name, model)
        text = composed(as_engine(TOGETHER, name), found, name, model)
        assert text is not None
        said = [w for s in yaml.safe_load(text)["services"].values() for w in (*s["entrypoint"], *s["command"])]
        assert model in [w.replace("$$", "$") for w in said]
        assert not [w for w in said if "$" in w.replace("$$", "")]


@pytest.mark.parametrize("name", ENGINES)
@bounded(max_examples=60, deadline=None)
@given(deployments())
def test_manifests_have_the_required_fields(name: str, deployment: Deployment) -> None:
    deployment = as_engine(deployment, name)
    found = pools(deployment, name, "org/Model_v1.5")
    text = kubernetes.text(deployment, found, name, "org/Model_v1.5")
    if text is None:
        assert getattr(engine(name), "MPI", False) and any(p.nodes > 1 for p in found)
        return
    objects = list(yaml.safe_load_all(text))
    assert "&id" not in text
    names = [(o["kind"], o["metadata"]["name"]) for o in objects]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", n) for _, n in names)
    pods = [pod for o in objects for pod in _pods(o)]
    devices = 0
    for number, pod, engines_here in pods:
        (container,) = pod["spec"]["containers"]
        mounted = {m["name"] for m in container.get("volumeMounts", [])}
        assert mounted <= {v["name"] for v in pod["spec"].get("volumes", [])}
        assert _variables(container) <= {e["name"] for e in container.get("env", [])} | _LWS
        if container["name"] == "router":
            assert container["ports"] and container["readinessProbe"] and container["livenessProbe"]
            continue
        limits = container["resources"]["limits"]
        assert limits == container["resources"]["requests"] and list(limits) == ["nvidia.com/gpu"]
        devices += number * limits["nvidia.com/gpu"]
        shared = next(v for v in pod["spec"]["volumes"] if v["name"] == "shm")
        assert shared["emptyDir"]["medium"] == "Memory"
        if engines_here:
            port = container["ports"][0]["containerPort"]
            assert all(
                container[p]["httpGet"]["port"] == port for p in ("startupProbe", "readinessProbe", "livenessProbe")
            )
    assert devices == deployment.devices
    labels = [pod["metadata"]["labels"] for _, pod, _ in pods]
    for o in objects:
        if o["kind"] == "Service":
            assert any(o["spec"]["selector"].items() <= label.items() for label in labels)
        if o["kind"] in ("StatefulSet", "Deployment"):
            assert o["spec"]["selector"]["matchLabels"].items() <= o["spec"]["template"]["metadata"]["labels"].items()
    (door,) = [o for o in objects if o["kind"] == "Service" and o["metadata"]["name"] == "model-v1-5"]
    fronts = [pod for _, pod, here in pods if door["spec"]["selector"].items() <= pod["metadata"]["labels"].items()]
    routed = [pod for _, pod, _ in pods if pod["spec"]["containers"][0]["name"] == "router"]
    assert fronts == (routed or [pod for _, pod, here in pods if here])
    hosts = set(re.findall(r"([a-z0-9-]+)-\d+\.([a-z0-9-]+):\d+", text))
    sets = {n for kind, n in names if kind in ("StatefulSet", "LeaderWorkerSet")}
    assert all(a == b and a in sets for a, b in hosts)


_LWS = {"LWS_WORKER_INDEX", "LWS_LEADER_ADDRESS"}


def _pods(o: dict[str, Any]) -> list[tuple[int, dict[str, Any], bool]]:
    """(how many, template, whether it serves) of an object."""
    if o["kind"] in ("StatefulSet", "Deployment"):
        return [(o["spec"]["replicas"], o["spec"]["template"], True)]
    if o["kind"] == "LeaderWorkerSet":
        group, n = o["spec"]["leaderWorkerTemplate"], o["spec"]["replicas"]
        return [(n, group["leaderTemplate"], True), (n * (group["size"] - 1), group["workerTemplate"], False)]
    return []


def _variables(container: dict[str, Any]) -> set[str]:
    said = " ".join([*container["command"], *container["args"]]).replace("$$(", "")
    return set(re.findall(r"\$\(([A-Z_]+)\)", said))


def test_prefill_engines_hand_kv_to_decode_engines_as_each_engine_documents_it(tmp_path: Path) -> None:
    write(APART, tmp_path, model_name="org/m")
    vllm = {r: (tmp_path / "vllm" / f"serve-{r}.sh").read_text() for r in ("prefill", "decode")}
    assert "kv_producer" in vllm["prefill"] and "kv_consumer" in vllm["decode"]
    assert (tmp_path / "vllm" / "router.sh").read_text().count("--prefill http") == 2
    sglang = (tmp_path / "sglang" / "router.sh").read_text()
    assert "--pd-disaggregation" in sglang and "--prefill http://127.0.0.1:30100 9098" in sglang
    assert "--disaggregation-mode decode" in (tmp_path / "sglang" / "serve-decode.sh").read_text()
    said = yaml.safe_load((tmp_path / "trtllm" / "disaggregated.yaml").read_text())
    assert said["context_servers"]["num_instances"] == len(said["context_servers"]["urls"]) == 2
    assert said["generation_servers"]["router"]["type"] == "kv_cache_aware"
    assert yaml.safe_load((tmp_path / "trtllm" / "prefill.yaml").read_text())["disable_overlap_scheduler"] is True


def test_the_readme_says_what_was_predicted_and_how_to_check_it(tmp_path: Path) -> None:
    readme = write(APART, tmp_path, model_name="org/m", predicted=PREDICTED)[0].read_text()
    for part in (
        "p50 200 ms", "p99 550 ms", "21.3 ms", "3,456", "$31.90", "Basis: calibrated", "between 0.90 and 1.20",
        "4,000 tokens in and 500 out", "3 a second", "vllm bench serve", "sglang.benchmark.serving",
        "tensorrt_llm.serve.scripts.benchmark_serving", "vLLM 0.33.0", "--request-rate 3",
    ):  # fmt: skip
        assert part in readme, part
    assert readme.count("The prediction above is not for this engine.") == len(ENGINES) - 1


_leaves = st.none() | st.booleans() | st.integers(-9, 10**9) | st.floats() | st.text(max_size=20)
_keys = st.sampled_from([*PREDICTED, "latency", "requests", "concurrency"]) | st.text(max_size=8)


@bounded(max_examples=60, deadline=None)
@given(st.dictionaries(_keys, _leaves | st.lists(_leaves, max_size=3) | st.dictionaries(_keys, _leaves, max_size=3)))
def test_any_prediction_can_be_printed(predicted: dict[str, object]) -> None:
    found = {name: pools(as_engine(TOGETHER, name), name, "m") for name in ENGINES}
    text = readme.text(TOGETHER, found, "m", predicted, [])
    for line in re.findall(r"^(?:vllm bench|python3 -m) .*$", text, re.M):
        assert "nan" not in line and "inf" not in line.split("--base-url")[1]


def test_what_an_engine_cannot_do_is_in_the_readme(tmp_path: Path) -> None:
    group = Replicas(MACHINE, Plan(weights=fmt("int4-g128")), settings=Settings(swap=True, disk_cache=1e12))
    asks = Deployment(DENSE, (group,), router="deficit", autoscaler="queue", pooled=True)
    readme = write(asks, tmp_path, model_name="m", only=["vllm"])[0].read_text()
    for part in ("int4-g128", "`swap`", "`disk_cache`", "Autoscaler `queue`", "pooled", "Router `deficit`"):
        assert part in readme, part


def test_no_file_holds_a_token_or_a_path_of_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "secret-of-mine")
    for path in write(APART, tmp_path / "out", model_name="org/m", predicted=PREDICTED):
        text = path.read_text()
        assert (
            "secret-of-mine" not in text
            and str(tmp_path) not in text
            and str(Path.home()) + "/" not in (text.replace("/root/.cache/huggingface", ""))
        )


def test_every_file_named_is_written_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "deploy"
    paths = write(TOGETHER, out, model_name="org/m")
    assert paths[0] == out / "README.md"
    assert {p for p in out.rglob("*") if p.is_file()} == {*paths, out / folder.LIST}


def test_files_of_another_deployment_go_and_those_of_a_person_stay(tmp_path: Path) -> None:
    write(APART, tmp_path, model_name="org/m")
    (tmp_path / "vllm" / "mine.txt").write_text("keep")
    write(TOGETHER, tmp_path, model_name="org/m", only=["vllm"])
    assert not (tmp_path / "vllm" / "serve-prefill.sh").exists() and not (tmp_path / "sglang" / "router.sh").exists()
    assert (tmp_path / "vllm" / "mine.txt").read_text() == "keep"


def test_a_list_of_files_cannot_reach_outside(tmp_path: Path) -> None:
    outside = tmp_path / "outside.txt"
    outside.write_text("keep")
    out = tmp_path / "out"
    out.mkdir()
    (out / folder.LIST).write_text('["../outside.txt", "/etc/hosts", 3, "README.md"]')
    write(TOGETHER, out, model_name="org/m")
    assert outside.read_text() == "keep"


def test_what_cannot_be_written_leaves_the_old_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(TOGETHER, tmp_path, model_name="org/old")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}

    def full(self: Path, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device", str(self))

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(TierwiseError, match="No space left"):
        write(APART, tmp_path, model_name="org/new")
    monkeypatch.undo()
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_bad_input_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    out = tmp_path / "out"
    lone = Deployment(DENSE, (Replicas(MACHINE, Plan(), role="prefill"),))
    for deployment, model, only, error in (
        (TOGETHER, "", None, BadField), (TOGETHER, "two\nlines", None, BadField), (TOGETHER, "--flag", None, BadField),
        (TOGETHER, "m", ["vlm"], UnknownName), (lone, "m", None, BadField),
        (Deployment(DENSE, ()), "m", None, BadField),
        (Deployment(DENSE, (Replicas(MACHINE, Plan(), 0),)), "m", None, BadField),
    ):  # fmt: skip
        with pytest.raises(error):
            write(deployment, out, model_name=model, only=only)
    assert not out.exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(TierwiseError, match="is a file"):
        write(TOGETHER, tmp_path / "file", model_name="m")


def test_names_kubernetes_takes() -> None:
    for model in ("Qwen/Qwen3-32B-FP8", "/models/70B", "___", "Ünïcode", "a" * 300, "x/" + "-" * 99 + "9"):
        assert re.fullmatch(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?", kubernetes.label(model)), model


def test_an_engine_without_a_router_is_reached_at_its_own_port() -> None:
    found: list[LaunchGroup] = pools(as_engine(TOGETHER, "trtllm"), "trtllm", "m")
    text = composed(as_engine(TOGETHER, "trtllm"), found, "trtllm", "m")
    assert text is not None
    ports = [s["ports"] for s in yaml.safe_load(text)["services"].values()]
    assert ports == [["8000:8000"], ["8001:8000"], ["8002:8000"]]
    assert engine("trtllm").router(TOGETHER, {"both": ["a", "b"]}, port="1") is None


def test_words_are_quoted() -> None:
    assert words(["a b", "it's", "$X", "`x`"]) == "'a b' 'it'\"'\"'s' '$X' '`x`'"
