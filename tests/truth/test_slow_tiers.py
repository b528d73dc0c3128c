"""Models larger than memory on a real slow tier: llama.cpp from a mapped file that the page cache is not allowed to
hold, PyTorch with layers on the disk, and an optimizer on the processor. Predicted from what `tierwise calibrate`
measured. Others use the disk and the processors too: both sides are measured in turns, and of the medians of all turns
the quieter counts, as in calibration. Where the turns differ by more than the tolerance, the check is skipped: it would
be of the noise.
"""

from __future__ import annotations

import importlib.util
import mmap
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tierwise.core.numerics import fmt
from tierwise.evaluation import evaluate
from tierwise.machines import system
from tierwise.machines.types import System
from tierwise.measure import bench_disk
from tierwise.measure.bench_clock import Stopwatch
from tierwise.measure.engines import MeasureSettings, shapes, with_llamacpp
from tierwise.measure.limited import NoLimit, forget, run_limited
from tierwise.measure.local import using
from tierwise.program.placement import Placement
from tierwise.scenario.types import KV, Batch, Plan, Scenario
from tierwise.techniques.tiers import read_from_disk
from tierwise.training import Recipe

pytestmark = pytest.mark.truth
WITHIN = 0.30
ROUNDS = 4
BENCH = MeasureSettings(1, Stopwatch(time.thread_time), quick=True)


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """On the disk that the repository is on: temporary folders may be memory."""
    out = Path(__file__).parents[2] / "out"  # git does not look there
    out.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="slow-tier-", dir=out) as made:
        yield Path(made)


@pytest.fixture(scope="module")
def here(folder: Path) -> System:
    """This computer, calibrated in a process of its own."""
    for package in ("torch", "transformers", "llama_cpp", "gguf"):
        if importlib.util.find_spec(package) is None:
            pytest.skip(f"{package} is not installed: pip install 'tierwise[measure]'")
    if given := os.environ.get("TIERWISE_CALIBRATED"):
        return system(given)
    file = folder / "machine.yaml"
    run = [sys.executable, "-c", "from tierwise.cli import main; main()", "calibrate", "--quick", "--threads", "1",
           "--engine", "llama.cpp", "--engine", "torch", "--disk", str(folder), "-o", str(file)]  # fmt: skip
    subprocess.run(run, check=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
    return system(str(file))


# Not settled: beside other work, repeats that agree did not always mean a prediction within the tolerance.
asked_for = pytest.mark.skipif(
    not os.environ.get("TIERWISE_SLOW_TIERS"),
    reason="takes a quiet computer and its disk for minutes; asked for by TIERWISE_SLOW_TIERS=1",
)


def steady(*series: list[float]) -> None:
    """Skip where the disk's own repeats differ by more than a prediction may be off: they are the noise floor."""
    moved = max(max(rounds) / min(rounds) for rounds in series) - 1.0
    if moved > WITHIN:
        pytest.skip(f"this disk's own repeats differ by {moved:.0%}, more than the {WITHIN:.0%} to hold predictions to")


def told(what: str, predicted: float, measured: float) -> None:
    print(f"{what}: measured {measured:.4g} s, predicted {predicted:.4g} s ({predicted / measured - 1.0:+.1%})")
    assert predicted == pytest.approx(measured, rel=WITHIN)


# ---------------------------------------------------------------- llama.cpp, mapped


@asked_for
@pytest.mark.parametrize(("form", "layers", "width"), [("q8_0", 20, 1024), ("fp16", 24, 1024), ("fp16", 18, 1792)])
def test_llamacpp_reads_a_mapped_file_at_the_calibrated_pace(
    here: System, folder: Path, form: str, layers: int, width: int
) -> None:
    """290 MB, 620 MB and 1.4 GB, of which the page cache may hold four tenths: a sweep larger than it finds nothing."""
    config = shapes.llama(width, 2816, layers, width // 64, width // 64, 1000)
    file = folder / "model.gguf"
    with_llamacpp.write_gguf(file, config, form)
    rates, times = [], []
    try:
        for _ in range(ROUNDS):
            rates.append(with_llamacpp.mapped(BENCH, folder))
            times.append(statistics.median(with_llamacpp.steps_from_disk(file, config, form, 1, 0.4, 8)))
    except NoLimit as no:
        pytest.skip(str(no))
    finally:
        file.unlink()
    steady(rates, times)
    f16 = fmt("fp16")
    plan = Plan(weights=fmt(form), activations=fmt("fp32"), kv=KV(f16, f16))
    model = shapes.model(config | {"torch_dtype": "float16"}, "mapped")
    machine = with_disk(using(here, "llama.cpp"), mapped_bandwidth=max(rates))
    resident = Scenario(model, machine, Batch(8.0, 2.0, 1.0), plan)
    predicted = evaluate(resident.apply(read_from_disk(1.0, "disk"))).phase("decode")
    measured = min(times)
    assert float(evaluate(resident).phase("decode").pass_time) < 0.5 * measured  # it is the disk that is waited for
    told(f"llama.cpp, {form}, {layers} layers", float(predicted.pass_time), measured)


# ---------------------------------------------------------------- PyTorch, layers on the disk


@asked_for
@pytest.mark.parametrize(("layers", "width"), [(6, 768), (8, 1024), (10, 1280)])
def test_pytorch_reads_layers_from_the_disk_as_they_run(here: System, folder: Path, layers: int, width: int) -> None:
    config = shapes.llama(width, 2 * width, layers, width // 64, width // 64, 1000)
    tokens = 8
    step, close = from_disk(folder / "layers.bin", config, tokens)
    rates, times = [], []
    try:
        for _ in range(ROUNDS):
            rates.append(bench_disk.measure_disk(folder, 256 * 2**20).read)
            times.append(usual(step, 4))
    finally:
        close()
    steady(rates, times)
    model = shapes.model(config, "on disk")
    far = Placement().with_tensors("attn", {"disk": 1.0}).with_tensors("mlp", {"disk": 1.0})
    plan = Plan(weights=fmt("fp32"), activations=fmt("fp32"), kv=KV(fmt("fp32"), fmt("fp32")), placement=far)
    machine = with_disk(using(here, "torch"), bandwidth=max(rates))
    s = Scenario(model, machine, Batch(float(tokens), 1.0, 1.0), plan)
    told(f"PyTorch, {layers} layers of {width}", float(evaluate(s).phase("prefill").pass_time), min(times))


def with_disk(machine: System, **numbers: float) -> System:
    """The machine with its disk as it was measured just now."""
    tiers = tuple(replace(t, **numbers) if t.name == "disk" else t for t in machine.device.tiers)
    return machine.with_device(tiers=tiers)


def from_disk(path: Path, config: shapes.Config, tokens: int) -> tuple[Callable[[], object], Callable[[], None]]:
    """(a forward pass of a transformer whose layers take turns in one buffer, what ends it). A layer is read before it
    runs, past the page cache, a block of 1 MiB after the other, as calibration reads.
    """
    import torch

    from tierwise.measure.engines import with_torch

    net = with_torch.build(BENCH, config)
    names = [n for n, _ in net.model.layers[0].named_parameters()]
    size = sum(p.numel() * 4 for p in net.model.layers[0].parameters())
    block = 2**20
    room = -(-size // block) * block
    memory = mmap.mmap(-1, room)
    flat = torch.frombuffer(memory, dtype=torch.float32)
    with path.open("wb") as out:
        for layer in net.model.layers:
            at = 0
            for name in names:
                p = layer.get_parameter(name)
                flat[at : at + p.numel()] = p.detach().reshape(-1)
                p.data = flat[at : at + p.numel()].view(p.shape)
                at += p.numel()
            out.write(memory)
        out.flush()
        os.fsync(out.fileno())
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_DIRECT", 0))
    whole = memoryview(memory)

    def read(i: int) -> None:
        for b in range(0, room, block):
            os.preadv(handle, [whole[b : b + block]], i * room + b)

    for i, layer in enumerate(net.model.layers):
        layer.register_forward_pre_hook(lambda *_, i=i: read(i))
    words = torch.arange(tokens)[None]

    def step() -> None:
        with torch.inference_mode():
            net(words, use_cache=False)

    def close() -> None:
        os.close(handle)
        path.unlink()

    return step, close


def usual(work: Callable[[], object], times: int, clock: Callable[[], float] = time.perf_counter) -> float:
    work()
    out = []
    for _ in range(times):
        before = clock()
        work()
        out.append(clock() - before)
    return statistics.median(out)


# ---------------------------------------------------------------- an optimizer on the processor


@asked_for
@pytest.mark.parametrize("millions", [6, 12, 24])
def test_an_optimizer_on_the_processor_takes_what_its_states_take(here: System, millions: int) -> None:
    """Gradients come in 16 bits, states and master weights are fp32 in the host's memory, weights go back in 16."""
    import torch

    torch.set_num_threads(1)
    n = millions * 10**6
    master = torch.nn.Parameter(torch.randn(n))
    weights, gradients = master.detach().bfloat16(), torch.randn(n).bfloat16()
    master.grad = torch.empty(n)
    update: Any = torch.optim.AdamW([master], fused=True)

    def step() -> None:
        master.grad.copy_(gradients)
        update.step()
        weights.copy_(master.detach())

    measured = usual(step, 8, time.thread_time)
    told(f"AdamW of {millions} million", updated(here, float(n)), measured)


def updated(here: System, parameters: float) -> float:
    """Seconds that the host takes by the account of offloaded training, its memory as calibrated; the way to a device
    and back is nothing, since both are one here."""
    from tierwise.cost import Target, efficiency
    from tierwise.training import Layout, TrainingFramework
    from tierwise.training.offload import offloaded

    base = system("rtx4090 + 64GB ddr5")
    assert base.host is not None
    links = tuple(replace(x, bandwidth=1e18, back=1e18) if x.kind == "host" else x for x in base.device.links)
    machine = replace(base.with_device(links=links), host=replace(base.host, bandwidth=here.device.memory.bandwidth))
    on = Target(machine, efficiency(machine.device))
    how = TrainingFramework("plain", Recipe())
    return float(offloaded(on, machine, Layout(offload=1.0), how, parameters, 0.0, (0.0, 0.0)).update)


# ---------------------------------------------------------------- the limit itself


def test_a_limited_process_holds_no_more_of_a_file(folder: Path) -> None:
    """Pages of a file larger than the limit are read again from the disk; with room for it they are not."""
    file = folder / "pages"
    file.write_bytes(os.urandom(2**20) * 192)
    forget(file)
    try:
        few, many = (run_limited(__name__, "pages_read", limit, path=str(file)) for limit in (112e6, 800e6))
    except NoLimit as no:
        pytest.skip(str(no))
    assert few > 150e6 and many < 20e6


def pages_read(path: str) -> float:
    """Bytes that a second sweep over a mapped file takes from the disk."""

    def read() -> float:
        return float(dict(x.split(": ") for x in Path("/proc/self/io").read_text().splitlines())["read_bytes"])

    with Path(path).open("rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        for _ in range(2):
            before = read()
            for place in range(0, len(mapping), mmap.PAGESIZE):
                mapping[place]
        return read() - before
