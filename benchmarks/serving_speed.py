"""How fast the simulator's event loop is: requests a second, after warm-up; Vidur beside it where one is at hand.

``python benchmarks/serving_speed.py [--vidur CHECKOUT --vidur-python PYTHON] [--million]``

The traffic is that of Splitwise's conversation trace: lengths drawn with replacement from the Azure trace of 2023,
10,000 requests, Poisson arrivals at 3 a second, prompts cut so that a request has at most 4,096 tokens; one
Llama-2-7B on an A100-80GB, decodes first with chunks of 512 tokens a step, at most 128 sequences. Vidur
(github.com/microsoft/vidur) plays the same requests with its Sarathi scheduler, metrics off; what is timed is its own
``Simulator.run``. Its predictor of execution times is linear regression: the loop looks times up either way.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.serving import traffic
from tierwise.serving.deployment import Deployment, Replicas, Settings
from tierwise.serving.pricing import step_prices
from tierwise.serving.simulate import simulate
from tierwise.serving.traffic import Trace, trace

TRACE = Path(__file__).resolve().parents[2] / "shared/data/traces/azure_llm_2023_conv.csv"
LONGEST = 4096

VIDUR = """
import sys, time, json
from vidur.config import SimulationConfig
from vidur.simulator import Simulator
from vidur.utils.random import set_seeds
config = SimulationConfig.create_from_cli_args()
set_seeds(config.seed)
simulator = Simulator(config)
start = time.perf_counter()
simulator.run()
wall = time.perf_counter() - start
import atexit
atexit.unregister(simulator._write_output)
print("WALL", wall, simulator._time)
"""


def requests(n: int, rate: float, seed: int = 0) -> Trace:
    """``n`` requests with the trace's lengths, at Poisson arrivals."""
    rng = np.random.default_rng(seed)
    found = traffic.load(TRACE)
    row = rng.integers(len(found), size=n)
    output = np.minimum(found.output[row], LONGEST - 1)
    prompt = np.clip(found.prompt[row], 1, LONGEST - output)
    return trace(np.cumsum(rng.exponential(1.0 / rate, n)), prompt, output)


def deployment() -> Deployment:
    """One Llama-2-7B on an A100-80GB, as Sarathi schedules it."""
    settings = Settings(scheduler="decode_first", budget=512, max_seqs=128)
    return Deployment(load_model("llama-2-7b"), (Replicas(system("a100-80gb"), Plan(), settings=settings),))


def ours(asked: Trace, repeats: int) -> dict[str, float]:
    """Seconds of the event loop, median of ``repeats`` after a first run that is not counted."""
    where = deployment()
    prices = [step_prices(where.model, g) for g in where.groups]
    simulate(asked.head(100), where, prices)
    runs = [simulate(asked, where, prices) for _ in range(repeats)]
    wall = float(np.median([r.wall for r in runs]))
    return {"requests": len(asked), "seconds": round(wall, 4), "requests_per_second": round(len(asked) / wall),
            "steps": int(runs[0].totals["steps"]), "simulated_seconds": round(runs[0].totals["end"], 1)}  # fmt: skip


def vidur(asked: Trace, checkout: str, python: str) -> dict[str, float]:
    """Seconds of Vidur's event loop on the same requests."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "trace.csv")
        rows = zip(asked.arrival, asked.prompt, asked.output, strict=True)
        text = "".join(f"{a:.6f},{p},{o}\n" for a, p, o in rows)
        file.write_text("arrived_at,num_prefill_tokens,num_decode_tokens\n" + text)
        flags = {
            "replica_config_device": "a100", "replica_config_model_name": "meta-llama/Llama-2-7b-hf",
            "replica_config_network_device": "a100_pairwise_nvlink", "cluster_config_num_replicas": 1,
            "replica_config_tensor_parallel_size": 1, "replica_config_num_pipeline_stages": 1,
            "request_generator_config_type": "trace_replay", "trace_request_generator_config_trace_file": file,
            "trace_request_generator_config_max_tokens": LONGEST, "replica_scheduler_config_type": "sarathi",
            "sarathi_scheduler_config_batch_size_cap": 128, "sarathi_scheduler_config_chunk_size": 512,
            "execution_time_predictor_config_type": "linear_regression",
            "linear_regression_execution_time_predictor_config_prediction_max_prefill_chunk_size": LONGEST,
            "linear_regression_execution_time_predictor_config_prediction_max_batch_size": 128,
            "linear_regression_execution_time_predictor_config_prediction_max_tokens_per_request": LONGEST,
            "metrics_config_output_dir": Path(folder, "out"), "metrics_config_cache_dir": Path(folder, "cache"),
        }  # fmt: skip
        off = ["write_metrics", "write_json_trace", "enable_chrome_trace", "store_plots", "store_request_metrics",
               "store_batch_metrics", "store_utilization_metrics", "store_operation_metrics",
               "store_token_completion_metrics"]  # fmt: skip
        words = [x for k, v in flags.items() for x in (f"--{k}", str(v))]
        words += [f"--no-metrics_config_{name}" for name in off]
        done = subprocess.run([python, "-c", VIDUR, *words], cwd=checkout, capture_output=True, text=True, check=False)
    said = [line.split() for line in done.stdout.splitlines() if line.startswith("WALL")]
    if not said:
        sys.exit(f"Vidur did not run:\n{done.stderr[-2000:]}")
    wall, end = float(said[0][1]), float(said[0][2])
    return {"requests": len(asked), "seconds": round(wall, 2), "requests_per_second": round(len(asked) / wall, 1),
            "simulated_seconds": round(end, 1)}  # fmt: skip


def main() -> None:
    """Print what was measured, as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--rate", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--vidur", help="checkout of github.com/microsoft/vidur")
    parser.add_argument("--vidur-python", default=sys.executable, help="a Python with what it requires")
    parser.add_argument("--million", action="store_true", help="also a million requests: seconds and memory")
    args = parser.parse_args()
    asked = requests(args.requests, args.rate)
    out: dict[str, object] = {"tierwise": (mine := ours(asked, args.repeats))}
    if args.vidur:
        out["vidur"] = (other := vidur(asked, args.vidur, args.vidur_python))
        out["ratio"] = round(mine["requests_per_second"] / other["requests_per_second"], 1)
    if args.million:
        large = ours(requests(1_000_000, args.rate), 1)
        out["million"] = {**large, "peak_gigabytes": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)}
    print(json.dumps(out, indent=2))


if __name__ == "__main__":
    main()
