"""Speed of ``tierwise plan serve``: configurations priced a second, and how long the whole command takes.

    python benchmarks/planner_speed.py [--runs N]

A configuration is one deployment whose steady state is computed: engine, formats, degrees, mode, ratio of prefilling
to decoding engines, token budget, requests in flight. The command is timed as a user runs it, Python's start and the
simulated finalists included; the first run of all compiles the simulator's loop and is told apart.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys
import time

from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.search.question import Arrivals, Freedom, Question, Targets
from tierwise.search.serve import plan

EXAMPLE = ["plan", "serve", "qwen3-32b-fp8", "--on", "32xh200-sxm", "--prompt", "4000", "--output", "500",
           "--ttft", "600ms", "--tpot", "25ms"]  # fmt: skip
# The goal: configurations a second before simulation, and seconds of the command.
FLOOR, LIMIT = 20_000, 5.0


def priced(model: str, machine: str, runs: int, **free: object) -> tuple[int, float]:
    """(configurations, median seconds) of the space before any simulation, models and machines already read."""
    question = Question(load_model(model), model, (system(machine),), Arrivals(4000, 500), Targets(0.6, 0.025),
                        freedom=Freedom(**free))  # type: ignore[arg-type]  # fmt: skip
    times, count = [], 0
    for _ in range(runs + 1):
        start = time.perf_counter()
        count = plan(question, confirm=False).priced
        times.append(time.perf_counter() - start)
    return count, statistics.median(times[1:])


def _children() -> float:
    """Seconds of processor time of finished child processes."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    runs = parser.parse_args().runs
    print(f"{'space':58}{'configurations':>16}{'seconds':>10}{'a second':>12}")
    spaces = {
        "qwen3-32b-fp8 on 32 H200": ("qwen3-32b-fp8", "32xh200-sxm", {}),
        "the same, also KV in fp8 and up to 3 drafts": (
            "qwen3-32b-fp8", "32xh200-sxm", {"kv": ("", "fp8"), "drafts": (0.0, 1.0, 2.0, 3.0)}),
        "deepseek-v3 on 64 H200 (experts, attention by data)": ("deepseek-v3", "64xh200-sxm", {}),
    }  # fmt: skip
    for name, (model, machine, free) in spaces.items():
        count, seconds = priced(model, machine, runs, **free)
        verdict = "" if count / seconds >= FLOOR else f"  below {FLOOR:,}"
        print(f"{name:58}{count:16,}{seconds:10.3f}{count / seconds:12,.0f}{verdict}")
    times, work = [], []
    for _ in range(runs + 1):
        start, before = time.perf_counter(), _children()
        subprocess.run([sys.executable, "-c", "from tierwise.cli import main; main()", *EXAMPLE], check=True,
                       stdout=subprocess.DEVNULL)  # fmt: skip
        times.append(time.perf_counter() - start)
        work.append(_children() - before)
    warm, cpu = statistics.median(times[1:]), statistics.median(work[1:])
    print(f"\ntierwise {' '.join(EXAMPLE)}")
    print(f"{warm:.2f} s, {cpu:.2f} s of them work (median of {runs}, wanted {LIMIT:.0f}); the first {times[0]:.2f} s")


if __name__ == "__main__":
    main()
