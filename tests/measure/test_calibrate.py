"""Calibration without a clock: what a machine file says, resuming, what is said when something is missing."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from tests.measure import fakes

from tierwise.cli import main
from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.cost import Target, efficiency, price
from tierwise.machines import System, system
from tierwise.machines.profile import Curve
from tierwise.measure import calibrate, engines, limited
from tierwise.measure.bench_clock import Stopwatch, summary
from tierwise.measure.bench_disk import Disk, measure_disk
from tierwise.measure.bench_fit import nnls
from tierwise.measure.calibrate import Probe
from tierwise.measure.limited import NoLimit, run_limited
from tierwise.program.types import Op
from tierwise.scenario.types import Batch, Scenario


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A machine file of the machine that does not exist."""
    found = calibrate.machine(fakes.results(fakes.ENGINES), fakes.bench(), "cpu", fakes.ENGINES)
    path = tmp_path_factory.mktemp("machine") / "machine.yaml"
    path.write_text(calibrate.to_yaml(found))
    return path


# ---------------------------------------------------------------- timing


def test_stopwatch_takes_the_median_of_many() -> None:
    ticks = itertools.count()
    timing = Stopwatch(lambda: next(ticks) * 0.01, seconds=0.5)(lambda: None)
    assert timing.median == pytest.approx(0.01)
    assert timing.mad == pytest.approx(0.0)
    assert timing.samples >= 5


def test_one_interruption_does_not_move_the_median() -> None:
    timing = summary([1.0, 1.0, 1.1, 0.9, 50.0])
    assert timing.median == 1.0
    assert timing.best == 0.9
    assert timing.scatter == pytest.approx(0.1)


def test_the_disk_file_is_removed_and_bounded(tmp_path: Path) -> None:
    disk = measure_disk(tmp_path, 2 * 2**20)
    assert list(tmp_path.iterdir()) == []
    assert disk.read > 0 and disk.write > 0
    assert sorted(disk.random) == [4096, 65536, 2**20]
    assert sorted(disk.deep) == [1, 4, 16]
    assert disk.mapped > 0


def test_the_file_has_the_disk_at_its_quieter_and_mapped_files_as_the_engine_reads_them(tmp_path: Path) -> None:
    """Of two measurements, one resumed from a state file, whose keys are text there; prices then follow it."""
    slow = vars(Disk(1e9, 5e8, {4096: 4e7}, 1e-4, 1e12, True, {1: 1e9, 16: 2e9}, 9e8))
    quick = {**slow, "write": 6e8, "latency": 5e-5, "random": {"4096": 8e7}, "deep": {"1": 9e8, "16": 3e9}}
    results = fakes.results(fakes.ENGINES) | {"disk": slow, "again/disk": quick}

    def made(more: dict[str, float]) -> System:
        file = tmp_path / "m.yaml"
        file.write_text(calibrate.to_yaml(calibrate.machine(results | more, fakes.bench(), "cpu", fakes.ENGINES)))
        return system(str(file))

    plain, told = made({}), made({"llama.cpp/mapped": 3e8, "again/llama.cpp/mapped": 4e8})
    disk = next(t for t in told.device.tiers if t.name == "disk")
    assert (disk.bandwidth, disk.write_bandwidth, disk.latency, disk.mapped_bandwidth) == (3e9, 6e8, 5e-5, 4e8)

    def reading(machine: System, mapped: bool) -> float:
        on = Target(machine, efficiency(machine.device))
        options = {"from": "disk", "to": "", **({"mapped": True} if mapped else {})}
        return float(price(Op("copy", "x", "copy", {"bytes": 4e9}, 0.0, (), (), "", options=options), on).time)

    share = efficiency(told.device).of("memory", "copy")
    assert reading(told, True) == pytest.approx(4e9 / min(4e8, 3e9 * share), rel=0.01)
    assert reading(plain, True) == pytest.approx(4e9 / 9e8, rel=0.01)
    assert reading(told, False) == reading(plain, False) < reading(plain, True)


def test_a_function_runs_in_a_limited_process_which_may_die() -> None:
    try:
        assert run_limited("json", "loads", 2e9, s="[1, 2]") == [1, 2]
    except NoLimit as no:
        pytest.skip(str(no))
    with pytest.raises(RuntimeError, match=r"(?s)loads ended with 1.*JSONDecodeError"):
        run_limited("json", "loads", 2e9, s="{")


def test_where_nothing_can_be_limited_what_was_tried_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(limited, "_groups", lambda: iter([(2, tmp_path / "gone")]))
    monkeypatch.setattr(limited.shutil, "which", lambda name: None)
    with pytest.raises(NoLimit, match=r"a control group in .*gone: No such file"):
        run_limited("json", "loads", 2e9, s="[]")


# ---------------------------------------------------------------- resuming


def _probes(log: list[str], stop: str = "", fail: str = "") -> list[Probe]:
    def work(name: str) -> float:
        log.append(name)
        if name == stop:
            raise KeyboardInterrupt
        if name == fail:
            raise OSError("no such disk")
        return float(ord(name))

    return [Probe(n, n, lambda _, n=n: work(n)) for n in "abcd"]  # type: ignore[misc]


def test_an_interrupted_calibration_goes_on_where_it_stopped(tmp_path: Path) -> None:
    state, log = tmp_path / "state", []
    with pytest.raises(KeyboardInterrupt):
        calibrate.run(_probes(log, stop="c"), state, {"cpu": "x"}, lambda p: None)
    assert log == ["a", "b", "c"]
    found, failed = calibrate.run(_probes(log), state, {"cpu": "x"}, lambda p: None)
    assert log == ["a", "b", "c", "c", "d"]
    assert found == {n: float(ord(n)) for n in "abcd"}
    assert failed == {}


def test_results_of_another_setup_or_a_damaged_file_are_not_used(tmp_path: Path) -> None:
    state, log = tmp_path / "state", []
    calibrate.run(_probes(log), state, {"threads": 1}, lambda p: None)
    calibrate.run(_probes(log), state, {"threads": 2}, lambda p: None)
    assert log == list("abcdabcd")
    state.write_text('{"setup": {"threads"')
    calibrate.run(_probes(log), state, {"threads": 2}, lambda p: None)
    assert log == list("abcdabcdabcd")


def test_a_probe_that_fails_is_named_and_the_rest_go_on() -> None:
    found, failed = calibrate.run(_probes([], fail="b"), None, {}, lambda p: None)
    assert sorted(found) == ["a", "c", "d"]
    assert failed == {"b": "OSError: no such disk"}


# ---------------------------------------------------------------- the file


def test_the_file_is_a_machine_with_every_engine(written: Path) -> None:
    machine = system(str(written))
    assert list(machine.device.measured) == ["torch", "llama.cpp", "onnxruntime", "numpy"]
    assert machine.device.memory.bandwidth > 0
    assert "measured by tierwise calibrate on" in machine.device.memory.source
    assert all("thread(s)" in p.source for p in machine.device.measured.values())
    caches = [t.bandwidth for t in machine.device.tiers if t.kind == "cache"]
    assert caches == sorted(caches, reverse=True)


def test_prices_say_they_were_measured_and_reports_work(written: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from tierwise.evaluation import evaluate

    result = evaluate(Scenario("gpt2", str(written), Batch(64.0, 8.0)))
    assert {x.cost.basis for p in result.phases for x in p.ops} == {"measured"}
    with pytest.raises(SystemExit) as done:
        main(["explain", "gpt2", "--on", str(written), "--prompt", "64", "--output", "8"])
    assert done.value.code == 0
    assert "measured" in capsys.readouterr().out


def test_the_fit_finds_the_machine_behind_the_runs(written: Path) -> None:
    """Other models than those fitted to, on the same machine, within a tenth of what it would take."""
    machine = system(str(written))
    from tierwise.measure.engines import with_torch
    from tierwise.measure.local import using

    ratios = [float(r.on(using(machine, "torch")).pass_time) / fakes.seconds(r)
              for r in with_torch.runs("validate", fakes.bench())]  # fmt: skip
    assert float(np.median(np.abs(np.array(ratios) - 1.0))) < 0.1
    assert min(ratios) > 0.6 and max(ratios) < 1.6


def test_more_work_takes_longer(written: Path) -> None:
    from tierwise.evaluation import evaluate

    def ttft(**traffic: object) -> object:
        return evaluate(Scenario("gpt2", str(written), Batch(**{"output": 2.0, **traffic}))).ttft  # type: ignore[arg-type]

    prompts = np.array([8.0, 64.0, 512.0, 1000.0])
    assert np.all(np.diff(np.asarray(ttft(prompt=prompts))) > 0)
    batches = np.array([1.0, 2.0, 8.0, 64.0])
    assert np.all(np.diff(np.asarray(ttft(prompt=64.0, batch=batches))) > 0)
    contexts = np.array([16.0, 256.0, 1000.0])
    steps = evaluate(Scenario("gpt2", str(written), Batch(contexts, 2.0))).tpot
    assert np.all(np.diff(np.asarray(steps)) > 0)


def test_arrays_agree_with_scalars(written: Path) -> None:
    from tierwise.evaluation import evaluate

    prompts = np.array([1.0, 7.0, 333.0])
    many = evaluate(Scenario("llama-3.2-1b", str(written), Batch(prompts, 4.0, 2.0)))
    for i, prompt in enumerate(prompts):
        one = evaluate(Scenario("llama-3.2-1b", str(written), Batch(float(prompt), 4.0, 2.0)))
        assert np.asarray(many.time)[i] == pytest.approx(one.time, rel=1e-9)


def test_arrays_of_formats_agree_with_scalars(written: Path) -> None:
    from tierwise.core.numerics import fmt
    from tierwise.evaluation import evaluate

    base = Scenario("llama-3.2-1b", str(written), Batch(64.0, 4.0, 2.0))
    names, acts = ["fp32", "bf16", "q8_0"], ["fp32", "bf16", "fp32"]
    many = evaluate(base.with_plan(weights=fmt(names), activations=fmt(acts)))
    ones = [evaluate(base.with_plan(weights=w, activations=a)).time for w, a in zip(names, acts, strict=True)]
    assert np.asarray(many.time) == pytest.approx(np.asarray(ones), rel=1e-9)


def test_a_curve_that_does_not_rise_is_refused(written: Path, tmp_path: Path) -> None:
    import yaml

    data = yaml.safe_load(written.read_text())
    data["calibration"][0]["copy"]["at"].reverse()
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump(data))
    with pytest.raises(BadField, match="rising sizes"):
        system(str(path))


def test_an_accelerator_is_a_machine_too(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Against a stand-in: what its driver would say, and a link to a sibling."""
    from dataclasses import replace

    from tierwise.measure import bench_device
    from tierwise.measure.local import conditions

    says = bench_device.Accelerator("Card", "NVIDIA", 80e9, 50e6, 132, 2)
    monkeypatch.setattr(bench_device, "describe", lambda device: says)
    bench = replace(fakes.bench(), device="cuda:0")
    modules = [m for m in fakes.ENGINES if m.NAME == "torch"]
    keys = [p.key for p in calibrate.probes(bench, modules, None)]
    assert not any(k.startswith(("copy.", "latency.")) for k in keys)
    results = {**fakes.results(modules), "peer.1": 1e-5, "peer.67108864": 1e-3 + 1e-5}
    path = tmp_path / "card.yaml"
    path.write_text(calibrate.to_yaml(calibrate.machine(results, bench, "wall", modules)))
    machine = system(str(path))
    assert machine.device.kind == "gpu"
    assert machine.device.memory.capacity == 80e9
    link = machine.device.link("scale-up")
    assert link is not None and link.bandwidth == pytest.approx(67.1e9, rel=0.01)
    assert conditions(machine) == (1, "wall", "cuda:0")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from tierwise.measure import bench_device

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert bench_device.accelerators() == []
    with pytest.raises(TierwiseError, match=r"tierwise\[measure\]"):
        bench_device.check("cuda")


# ---------------------------------------------------------------- parts


def test_least_squares_without_negatives() -> None:
    rng = np.random.default_rng(0)
    a = rng.random((40, 6))
    x = np.array([0.0, 2.0, 0.0, 1e-3, 5.0, 0.3])
    assert nnls(a, a @ x) == pytest.approx(x, abs=1e-6)
    assert np.all(nnls(a, rng.standard_normal(40)) >= 0)


def test_curves_are_flat_beyond_their_ends() -> None:
    from tierwise.cost.measured import along, spilled

    curve = Curve((1e6, 1e8), (100e9, 10e9))
    assert 0.0 < float(spilled(curve, 3e6)) < 1.0
    assert along(curve, 1.0) == pytest.approx(100e9)
    assert along(curve, 1e12) == pytest.approx(10e9)
    assert spilled(curve, 1e3) == 0.0
    assert spilled(curve, 1e9) == pytest.approx(1.0)


def test_missing_packages_are_named_with_the_extra_that_adds_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "_version", lambda package: "1.0" if package == "numpy" else None)
    chosen, skipped = engines.pick()
    assert [m.NAME for m in chosen] == ["numpy"]
    assert any("torch skipped: torch and transformers not installed" in line for line in skipped)
    assert all("tierwise[measure]" in line for line in skipped)
    with pytest.raises(TierwiseError, match=r"tierwise\[measure\]"):
        engines.pick(["torch"])
    with pytest.raises(UnknownName, match=r"llama\.cpp"):
        engines.pick(["llamacpp"])


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--threads", "0"], "--threads"),
        (["--clock", "sundial"], "auto, wall or cpu"),
        (["-o", "no/such/folder/m.yaml"], "does not exist"),
        (["-o", "-"], "a file name"),
    ],
)
def test_bad_flags_are_refused_before_anything_runs(
    flags: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as done:
        main(["calibrate", *flags])
    assert done.value.code == 2
    assert said in capsys.readouterr().err


def test_arrays_of_mixed_files_agree_with_scalars() -> None:
    """A name that stands for a file, embedding and head included, stands for it in an array too."""
    from tierwise.core.numerics import fmt
    from tierwise.evaluation import evaluate

    base = Scenario("llama-3.2-1b", "h100-sxm", Batch(64.0, 4.0, 2.0))
    names = ["q4_k_m", "bf16", "q8_0", "int4-g128"]
    many = evaluate(base.with_plan(weights=fmt(names)))
    assert np.asarray(many.time) == pytest.approx([evaluate(base.with_plan(weights=n)).time for n in names], rel=1e-9)
