"""A real client case: llama.cpp's server recorded here, calibrated by one load, and two other loads predicted.

The model has random weights; the machine is this computer, one thread of it. A recording of the first load made again
at the end says whether the machine was quiet enough for anything to be said.
"""

from __future__ import annotations

import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
pytest.importorskip("fastapi", reason="llama.cpp's server is not installed (llama-cpp-python[server])")
pytest.importorskip("sse_starlette", reason="llama.cpp's server is not installed (llama-cpp-python[server])")
pytest.importorskip("gguf", reason="writing GGUF files needs gguf")
pytest.importorskip("numba", reason="the simulator needs numba")

from tierwise.cli import main
from tierwise.measure.engines import shapes
from tierwise.measure.engines.with_llamacpp import limits, write_gguf
from tierwise.measure.fit_run import fit
from tierwise.measure.observe_prompts import vocabulary
from tierwise.measure.recorded import read_run
from tierwise.measure.replayed import compare, statistics

pytestmark = pytest.mark.truth

WITHIN = 0.2
ATTEMPTS = 3
REPEATS = 0.1  # a load that takes this much longer or shorter the second time says that the machine was not quiet
# As the server works: one request after the other, prompts in pieces of 512, nothing recorded or put together ahead.
HOW = ("max_num_seqs=1", "max_num_batched_tokens=512", "max_model_len=2048", "enforce_eager=true",
       "async_scheduling=false")  # fmt: skip
FIRST = ("--concurrency", "1", "--requests", "30", "--prompt", "uniform:low=50,high=350", "--output",
         "uniform:low=10,high=60")  # fmt: skip
# Its requests take about twice as long as the first load's, so the server works half of the time on any machine: near
# full it would be the queue that is compared, which makes much of a machine's little slips.
RATE = 0.2  # arrivals in the time of one request of the first load
OTHERS = {
    "open": ("--requests", "30", "--prompt", "uniform:low=100,high=800", "--output", "uniform:low=20,high=80"),
    "closed": ("--concurrency", "3", "--requests", "20", "--prompt", "300", "--output", "100"),
}  # fmt: skip


def run(*args: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    assert not stop.value.code


@contextmanager
def serving(model: Path) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    # A server that is interrupted by the next request answers only the last of them. Flash attention is llama.cpp's own
    # default, which the machine is measured with, but not that of its Python server.
    options = {"model": model, "model_alias": model, "host": "127.0.0.1", "port": port, "n_threads": 1,
               "n_threads_batch": 1, "n_ctx": 2048, "n_batch": 512, "logits_all": "false", "verbose": "false",
               "interrupt_requests": "false", "flash_attn": "true"}  # fmt: skip
    command = [sys.executable, "-m", "llama_cpp.server", *(x for k, v in options.items() for x in (f"--{k}", str(v)))]
    url = f"http://127.0.0.1:{port}"
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(300):
                try:
                    with urllib.request.urlopen(f"{url}/v1/models", timeout=5.0):
                        break
                except (urllib.error.URLError, ConnectionError, TimeoutError):
                    assert server.poll() is None, "the server did not start"
                    time.sleep(0.2)
            yield url
        finally:
            server.terminate()


def test_other_loads_are_predicted_from_one(tmp_path: Path) -> None:
    """Tried up to three times: what shares the processor shows most where requests queue. Only attempts in which the
    first load took as long again as before say anything against the prediction."""
    if why := limits():
        pytest.skip(f"llama.cpp's own server does as the library does: {why}")
    tried = []
    for number in range(ATTEMPTS):
        worst, noise = attempt(tmp_path / str(number))
        if worst < WITHIN:
            return
        tried.append((worst, noise))
    told = ", ".join(f"errors up to {worst:.0%} with one load repeated up to {noise:.0%} off" for worst, noise in tried)
    if any(noise > REPEATS for _, noise in tried):
        pytest.skip(f"this machine is too busy to measure on: {told}")
    raise AssertionError(told)


def attempt(folder: Path) -> tuple[float, float]:
    """(the largest error of the mean, median and p90 of any quantity of the other loads, how far any of these was from
    itself when the first load was repeated). The rarer statistics of a few dozen requests are chance: printed, not
    judged."""
    folder.mkdir()
    machine, model = folder / "machine.yaml", folder / "model.gguf"
    write_gguf(model, shapes.llama(512, 1376, 8, 8, 2, 4000), "q8_0", vocabulary())
    run("calibrate", "-o", str(machine), "--engine", "llama.cpp", "--quick", "--threads", "1", "--clock", "cpu",
        "--no-disk")  # fmt: skip
    arguments = [x for a in HOW for x in ("--engine-arg", a)]
    with serving(model) as url:
        for seed, (name, load) in enumerate({"first": FIRST, **OTHERS, "again": FIRST}.items()):
            rate = ("--rate", f"{RATE / measured(folder / 'first')['latency'][0]:.3g}/s") if name == "open" else ()
            run("observe", "--url", url, *rate, *load, "--seed", str(0 if name == "again" else seed), "--engine",
                "llama.cpp", "--on", str(machine), *arguments, "--out", str(folder / name))  # fmt: skip
    first, again = measured(folder / "first"), measured(folder / "again")
    noise = max(float(abs(again[q][:3] / first[q][:3] - 1.0).max()) for q in first)
    found, worst = fit(read_run(folder / "first")), 0.0
    for name in OTHERS:
        c = compare(read_run(folder / name), adjust=found.adjustment)
        before = compare(read_run(folder / name))
        for quantity in c.measured:
            print(f"{name:6s} {quantity:7s} mean, median, p90, p95, p99:",
                  *(f"{e:+.1%}" for e in c.error(quantity)), "uncalibrated:",
                  *(f"{e:+.1%}" for e in before.error(quantity)))  # fmt: skip
            worst = max(worst, float(abs(c.error(quantity)[:3]).max()))
    return worst, noise


def measured(run: Path) -> dict[str, NDArray[np.float64]]:
    """Mean, median and percentiles of what a recording tells of its requests, in seconds."""
    return {quantity: statistics(x) for quantity, x in read_run(run).times.items()}
