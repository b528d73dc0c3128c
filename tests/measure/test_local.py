"""Validation on this computer: its models are not those of calibration, its errors are plain, its sums right."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.measure import fakes

from tierwise.cli import main
from tierwise.core.errors import TierwiseError
from tierwise.machines import system
from tierwise.measure import calibrate
from tierwise.measure.engines import MeasureSettings, able, chosen, with_llamacpp, with_numpy
from tierwise.measure.local import LocalReport, Point, compare, conditions, using
from tierwise.report.validation.local import validate


def test_no_model_is_both_calibrated_with_and_validated_on() -> None:
    for module in fakes.ENGINES:
        fitted, held = ({r.model.hidden: r.model for r in module.runs(p, fakes.bench())}
                        for p in ("calibrate", "validate"))  # fmt: skip
        shapes = {(m.hidden, m.vocab, str(m.stacks)) for m in fitted.values()}
        assert not any((m.hidden, m.vocab, str(m.stacks)) in shapes for m in held.values())


def test_runs_are_named_once_and_enough() -> None:
    names = [(m.NAME, r.name) for m in fakes.ENGINES for r in m.runs("validate", fakes.bench())]
    assert len(names) == len(set(names))
    assert len(names) >= 30
    assert len({m for m, _ in names}) >= 3
    quick = [r for m in fakes.ENGINES for r in chosen(m.runs("validate", fakes.bench()), True)]
    assert 10 <= len(quick) < len(names)


def test_every_run_can_be_predicted() -> None:
    for module in fakes.ENGINES:
        for purpose in ("calibrate", "validate"):
            for run in module.runs(purpose, fakes.bench()):
                assert 1e-6 < fakes.seconds(run) < 10.0, run.name


def test_a_report_counts_errors_both_ways() -> None:
    points = [Point("torch", str(i), p, 1.0, 0.0, "dram") for i, p in enumerate((0.5, 0.9, 1.0, 1.2))]
    report = LocalReport("m", tuple(points))
    assert report.median == pytest.approx(0.15)
    assert report.worst == pytest.approx(0.5)
    assert report.as_dict()["points"][0]["error"] == pytest.approx(-0.5)


def test_a_machine_without_measurements_is_refused() -> None:
    with pytest.raises(TierwiseError, match="tierwise calibrate"):
        validate([], None)
    with pytest.raises(TierwiseError, match="holds no measurements"):
        validate([], None, on="h100-sxm")


def test_the_clock_and_threads_are_those_of_the_file(tmp_path: Path) -> None:
    found = calibrate.machine(fakes.results(fakes.ENGINES[:1]), fakes.bench(), "cpu", fakes.ENGINES[:1])
    path = tmp_path / "m.yaml"
    path.write_text(calibrate.to_yaml(found))
    machine = system(str(path))
    assert conditions(machine) == (1, "cpu", "cpu")
    assert list(using(machine, "numpy").device.measured) == ["numpy"]
    assert compare(machine, [], fakes.bench(), True).points == ()


def test_options_of_one_validation_are_not_taken_by_another(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["validate", "ops", "x.parquet", "--on", "m.yaml"])
    assert done.value.code == 2
    assert "--on" in capsys.readouterr().err


def test_engines_whose_code_dies_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Native code that dies of a signal takes the process with it: it is tried in another, and said."""
    found = with_llamacpp.limits.__wrapped__
    monkeypatch.setattr(with_llamacpp, "dies", lambda repack: "")
    assert found() == ""
    monkeypatch.setattr(with_llamacpp, "dies", lambda repack: "signal 11 in q8_0" if repack else "")
    assert "signal 11 in q8_0" in found()
    monkeypatch.setattr(with_llamacpp, "limits", found)
    living, notes, gone = able([with_numpy, with_llamacpp])
    assert (living, gone) == ([with_numpy, with_llamacpp], []) and notes[0].startswith("llama.cpp without repacked")
    assert "signal 11" in calibrate._about([], MeasureSettings(1, fakes.bench().timer, limits=tuple(notes)), "cpu")
    monkeypatch.setattr(with_llamacpp, "dies", lambda repack: "signal 11 in fp16")
    living, notes, gone = able([with_numpy, with_llamacpp])
    assert (living, notes) == ([with_numpy], []) and "signal 11" in gone[0]
    with pytest.raises(TierwiseError, match="dies on this computer"):
        able([with_llamacpp], named=True)


def test_a_process_that_dies_is_told_from_one_that_lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(with_llamacpp, "TRIAL", "print('q8_0', flush=True); import os; os.kill(os.getpid(), 11)")
    assert with_llamacpp.dies(True) == "signal 11 in q8_0"
    monkeypatch.setattr(with_llamacpp, "TRIAL", "print('q8_0')")
    assert with_llamacpp.dies(True) == ""


@pytest.mark.truth
def test_predictions_hold_on_this_computer(tmp_path: Path) -> None:
    """Calibrate and validate for real, quickly, in processes of their own (thread counts are read at start)."""
    if importlib.util.find_spec("torch") is None or importlib.util.find_spec("transformers") is None:
        pytest.skip("torch and transformers are not installed: pip install 'tierwise[measure]'")
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    run = [sys.executable, "-c", "from tierwise.cli import main; main()"]
    file, report = tmp_path / "machine.yaml", tmp_path / "report.json"
    subprocess.run([*run, "calibrate", "--quick", "--threads", "1", "-o", str(file)], check=True, env=env)
    told = ["--on", str(file), "--json", str(report)]
    subprocess.run([*run, "validate", "local", "--quick", *told], check=True, env=env)
    import json

    found = json.loads(report.read_text())
    assert len(found["points"]) >= 15
    assert found["median_error"] < 0.25  # 0.15 on a quiet machine; shared ones scatter
