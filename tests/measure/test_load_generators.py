"""Runs as load generators write them: one run of three requests, in every tool's own fields, read alike by content.

Samples are made here from the tools' published schemas (each format's file in ``serving/traffic/formats`` names its).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="reading traces needs pyarrow (pip install 'tierwise[serve]')")

from tierwise.cli import main
from tierwise.core.errors import TierwiseError
from tierwise.measure.ran import deployment
from tierwise.measure.recorded import read_run
from tierwise.measure.replayed import runs_in
from tierwise.serving import traffic

# Sent at, first token, last token (s), prompt, output; and one request that failed, sent at 3 s.
ARRIVAL, FIRST, LAST = np.array([0.0, 0.5, 2.0]), np.array([0.2, 0.8, 2.5]), np.array([1.0, 2.8, 3.3])
PROMPT, OUTPUT = [100, 200, 300], [5, 9, 3]
CLOCK = 1.7e9
MODEL = "meta-llama/Llama-3.1-8B"


def vllm() -> dict[str, Any]:
    gaps = [[(z - f) / (o - 1)] * (o - 1) for f, z, o in zip(FIRST, LAST, OUTPUT, strict=True)]
    return {
        "date": "20260101-000000", "endpoint_type": "vllm", "backend": "vllm", "label": None, "model_id": MODEL,
        "tokenizer_id": MODEL, "num_prompts": 4, "request_rate": "inf", "burstiness": 1.0, "max_concurrency": None,
        "duration": 3.3, "completed": 3, "failed": 1, "request_throughput": 0.9, "input_lens": [*PROMPT, 50],
        "output_lens": [*OUTPUT, 0], "ttfts": [*(FIRST - ARRIVAL), 0.0], "itls": [*gaps, []],
        "start_times": [*(3600.0 + ARRIVAL), 3603.0], "generated_texts": ["a", "b", "c", ""],
        "errors": ["", "", "", "refused"],
    }  # fmt: skip


def sglang() -> list[dict[str, Any]]:
    one = {k: v for k, v in vllm().items() if k not in ("model_id", "start_times", "date", "label")}
    server = {"model_path": MODEL, "tp_size": 2, "dp_size": 1, "max_running_requests": 64, "kv_cache_dtype": "auto",
              "chunked_prefill_size": -1}  # fmt: skip
    return [{"backend": "sglang", "request_rate": 4.0},
            one | {"backend": "sglang", "request_rate": float("inf"), "max_concurrency": 2,
                   "server_info": server}]  # fmt: skip


def guidellm(version: str) -> dict[str, Any]:
    def request(i: int) -> dict[str, Any]:
        start, first, last = (float(CLOCK + x[i]) for x in (ARRIVAL, FIRST, LAST))
        tokens = {"prompt_tokens": PROMPT[i], "output_tokens": OUTPUT[i]}
        if version == "0.5":
            stamps = {"request_start": start, "first_token_iteration": first, "last_token_iteration": last}
            return {"type_": "generative_request_stats", "info": {"timings": stamps, "status": "completed"},
                    "input_metrics": {"text_tokens": PROMPT[i]},
                    "output_metrics": {"text_tokens": OUTPUT[i]}}  # fmt: skip
        if version == "0.4":
            stamps = {"request_start": start, "first_iteration": first, "last_iteration": last}
            return {"type_": "generative_request_stats", "scheduler_info": {"request_timings": stamps}, **tokens}
        return {"type_": "generative_text_response", "start_time": start, "end_time": last, "first_token_time": first,
                "last_token_time": last, **tokens}  # fmt: skip

    failed = {"type_": "generative_request_stats", "info": {"timings": {"request_start": CLOCK + 3}, "error": "x"}}
    requests = {"successful": [request(i) for i in range(3)], "incomplete": [], "errored": [failed], "total": None}
    strategy = {"type_": "concurrent", "streams": 2}
    last = {"type_": "generative_benchmark", "config": {"strategy": strategy, "backend": {"model": MODEL}},
            "scheduler": {"strategy": strategy}, "requests": requests}  # fmt: skip
    return {"metadata": {"guidellm_version": version}, "benchmarks": [{"requests": {"successful": []}}, last]}


def aiperf() -> list[dict[str, Any]]:
    def record(i: int, session: str, turn: int, error: Any = None) -> dict[str, Any]:
        ms = {"time_to_first_token": FIRST[i] - ARRIVAL[i], "request_latency": LAST[i] - ARRIVAL[i]}
        metrics: dict[str, Any] = {k: {"value": v * 1e3, "unit": "ms"} for k, v in ms.items()}
        metrics |= {"input_sequence_length": {"value": PROMPT[i], "unit": "tokens"},
                    "output_sequence_length": {"value": OUTPUT[i], "unit": "tokens"}}  # fmt: skip
        about = {"session_num": i, "x_correlation_id": session, "turn_index": turn, "benchmark_phase": "profiling",
                 "request_start_ns": 1_700_000_000_000_000_000 + round(float(ARRIVAL[i]) * 1e9),
                 "was_cancelled": error is not None}  # fmt: skip
        return {"metadata": about, "metrics": {} if error else metrics, "error": error}

    warm = record(0, "w", 0)
    warm["metadata"]["benchmark_phase"] = "warmup"
    return [warm, record(0, "a", 0), record(1, "b", 0), record(2, "a", 1), record(2, "c", 0, {"code": 499})]


def genai_perf() -> dict[str, Any]:
    def request(i: int) -> dict[str, Any]:
        stamps = [FIRST[i] - 0.01, *np.linspace(FIRST[i], LAST[i], OUTPUT[i]), LAST[i] + 0.01]
        said = ["", *["x"] * OUTPUT[i], ""]
        chunks: list[dict[str, Any]] = [{"choices": [{"delta": {"content": s}}], "model": MODEL} for s in said]
        chunks[-1] = {"choices": [], "usage": {"prompt_tokens": PROMPT[i], "completion_tokens": OUTPUT[i]}}
        return {"timestamp": int(CLOCK * 1e9) + int(ARRIVAL[i] * 1e9),
                "request_inputs": {"payload": json.dumps({"model": MODEL, "messages": []})},
                "response_timestamps": [int(CLOCK * 1e9) + int(s * 1e9) for s in stamps],
                "response_outputs": [{"response": f"data: {json.dumps(c)}\n\n"} for c in chunks]}  # fmt: skip

    failed = {"timestamp": int(CLOCK * 1e9) + 3 * 10**9, "response_timestamps": [], "response_outputs": []}
    return {"service_kind": "openai", "endpoint": "v1/chat/completions",
            "experiments": [{"experiment": {"mode": "concurrency", "value": 2},
                             "requests": [*map(request, range(3)), failed]}]}  # fmt: skip


def inference_perf(nested: bool) -> list[dict[str, Any]]:
    def request(i: int) -> dict[str, Any]:
        stamps = list(7.0 + np.linspace(FIRST[i], LAST[i], OUTPUT[i]))
        out = {"output_tokens": OUTPUT[i], "output_token_times": stamps}
        info = ({"request_metrics": {"text": {"input_tokens": PROMPT[i]}}, "response_metrics": out, "extra_info": {}}
                if nested else {"input_tokens": PROMPT[i], **out})  # fmt: skip
        return {"start_time": 7.0 + ARRIVAL[i], "end_time": 7.0 + LAST[i], "response": "…", "info": info,
                "request": json.dumps({"model": MODEL, "prompt": "p"}), "error": None}  # fmt: skip

    failed = {"start_time": 10.0, "end_time": 10.1, "request": "{}", "response": None, "info": None,
              "error": {"error_type": "ClientError", "error_msg": "x"}}  # fmt: skip
    return [*map(request, range(3)), failed]


FILES: dict[str, Any] = {
    "vllm": vllm(), "guidellm-0.5": guidellm("0.5"), "guidellm-0.4": guidellm("0.4"), "guidellm-0.2": guidellm("0.2"),
    "genai-perf": genai_perf(), "inference-perf": inference_perf(True), "inference-perf-0.1": inference_perf(False),
}  # fmt: skip


def written(folder: Path, name: str, data: Any) -> Path:
    """The file, under a name that says nothing about its format; lists of several results as lines."""
    path = folder / f"{name}.txt"
    path.write_text("\n".join(map(json.dumps, data)) if name in ("aiperf", "sglang") else json.dumps(data))
    return path


@pytest.mark.parametrize("name", [*FILES, "aiperf"])
def test_every_tool_says_the_same_of_the_same_run(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, aiperf() if name == "aiperf" else FILES[name])
    run, trace = read_run(path), traffic.load(path)
    for found in (run.trace, trace):
        assert found.arrival == pytest.approx(ARRIVAL, abs=1e-6)
        assert found.prompt.tolist() == PROMPT
        assert found.output.tolist() == OUTPUT
    assert run.times["TTFT"] == pytest.approx(FIRST - ARRIVAL, abs=1e-6)
    assert run.times["latency"] == pytest.approx(LAST - ARRIVAL, abs=1e-6)
    assert run.times["TPOT"] == pytest.approx((LAST - FIRST) / (np.array(OUTPUT) - 1), abs=1e-6)
    assert not run.inside
    assert any("1 request" in n for n in run.notices) and any("1 row left out" in n for n in trace.notices)
    assert run.meta["model"] == ("" if name == "aiperf" else MODEL)
    assert run.trace.closed_loop == (2 if name.startswith(("guidellm", "genai")) else 0)


def test_turns_of_aiperf_follow_the_answer_before(tmp_path: Path) -> None:
    t = traffic.load(written(tmp_path, "aiperf", aiperf()))
    assert t.after.tolist() == [-1, -1, 0]
    assert t.think == pytest.approx([0.0, 0.0, 2.0 - 1.0], abs=1e-6)  # sent at 2 s, the answer ended at 1 s


def test_aiperf_summary_says_what_ran(tmp_path: Path) -> None:
    path = written(tmp_path, "aiperf", aiperf()).rename(tmp_path / "profile_export.jsonl")
    gpus = {f"gpu_{i}": {"gpu_index": i, "gpu_name": "NVIDIA H100 80GB HBM3"} for i in range(2)}
    about = {"request_throughput": {"unit": "requests/sec", "avg": 1.0},
             "input_config": {"endpoint": {"model_names": [MODEL]}, "loadgen": {"concurrency": 8}},
             "telemetry_data": {"endpoints": {"localhost:9401": {"gpus": gpus}}}}  # fmt: skip
    summary = tmp_path / "profile_export_aiperf.json"
    summary.write_text(json.dumps(about))
    group = deployment(read_run(path)).groups[0]
    assert (group.machine.device.name, group.plan.tp) == ("h100-sxm", 2.0)
    with pytest.raises(TierwiseError, match=r"a summary; the requests are in profile_export\.jsonl"):
        read_run(summary)
    assert runs_in(tmp_path) == [path]


def test_sglang_says_what_ran_and_keeps_so_many_in_flight(tmp_path: Path) -> None:
    path = written(tmp_path, "sglang", sglang())
    run = read_run(path)
    assert run.times["TTFT"] == pytest.approx(FIRST - ARRIVAL)
    assert run.trace.closed_loop == 2 and "the last of 2 results" in run.notices
    group = deployment(run, "a100-sxm-80gb").groups[0]
    assert (group.plan.tp, group.settings.max_seqs, group.settings.engine) == (2.0, 64, "sglang")


@pytest.mark.parametrize(
    "hardware",
    [
        "NVIDIA H100 80GB HBM3",
        {"gpu": "NVIDIA H100 80GB HBM3", "count": 2, "driver": "550.54"},
        {"gpus": [{"index": 0, "name": "NVIDIA H100 80GB HBM3", "memory_mib": 81559}]},
        {"cpu": "Xeon", "accelerator": {"type": "gpu", "model": "H100 SXM"}, "device_name": "NVIDIA H100 80GB HBM3"},
    ],
)
def test_hardware_may_be_described_as_an_object(tmp_path: Path, hardware: Any) -> None:
    meta = {"model": "llama-3.1-8b", "hardware": hardware, "engine_kwargs": {"tensor_parallel_size": 2}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    one = {"arrival_time": 1, "input_toks": 10, "output_toks": 5, "first_token_ts": 1.1, "last_token_ts": 1.5}
    (tmp_path / "requests.jsonl").write_text(json.dumps(one))
    machine = deployment(read_run(tmp_path)).groups[0].machine
    assert (machine.device.name, machine.count) == ("h100-sxm", 2)


@pytest.mark.parametrize("value", ["Infinity", "-Infinity", "NaN", "1" + "0" * 400, "1e300", '"2"', "[2]", "true", "0"])
def test_an_argument_that_cannot_be_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], value: str
) -> None:
    meta = '{"model":"llama-3.1-8b","engine_kwargs":{"tensor_parallel_size":VALUE}}'
    (tmp_path / "meta.json").write_text(meta.replace("VALUE", value))
    one = {"arrival_time": 1, "input_toks": 10, "output_toks": 5, "first_token_ts": 1.1, "last_token_ts": 1.5}
    (tmp_path / "requests.jsonl").write_text(json.dumps(one))
    with pytest.raises(SystemExit) as stop:
        main(["validate", "run", str(tmp_path), "--on", "h100-sxm"])
    assert stop.value.code == 2
    assert "engine_kwargs.tensor_parallel_size" in capsys.readouterr().err


def test_a_file_of_another_kind_gets_the_list_of_what_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('{"hello": [1, 2]}')
    with pytest.raises(TierwiseError, match=r"no recorded run that is read.*AIPerf.*GuideLLM.*vLLM"):
        read_run(path)


def test_a_result_is_replayed_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    path = written(tmp_path, "vllm", vllm())
    with pytest.raises(SystemExit) as stop:
        main(["validate", "run", str(path), "--on", "h100-sxm", "--json", str(tmp_path / "out.json")])
    assert stop.value.code == 0 and "TTFT measured" in capsys.readouterr().out
    found = json.loads((tmp_path / "out.json").read_text())["runs"][0]
    assert found["requests"] == 3 and found["quantities"]["TTFT"]["measured"]["median"] == pytest.approx(0.3)


def test_turns_of_guidellm_follow_their_answers(tmp_path: Path) -> None:
    """Conversations have an id and a turn in newer versions; a turn waits for the answer before it."""
    report = guidellm("0.5")
    benchmark = report["benchmarks"][-1]
    benchmark["config"]["strategy"] = {"type_": "constant", "rate": 1.0}
    for i, r in enumerate(benchmark["requests"]["successful"]):
        r["info"] |= {"conversation_id": "b" if i == 1 else "a", "turn_index": int(i == 2)}
    trace = traffic.load(written(tmp_path, "guidellm", report))
    assert trace.after.tolist() == [-1, -1, 0]
    assert trace.think[2] == pytest.approx(max(ARRIVAL[2] - LAST[0], 0.0), abs=1e-6)


def test_what_is_read_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(TierwiseError) as said:
        read_run(tmp_path / "none.json")
    told = str(said.value)
    assert len(told) < 400 and "``" not in told
    for tool in ("AIPerf's profile_export.jsonl", "GuideLLM's", "inference-perf's", "vLLM's bench serve"):
        assert tool in told
