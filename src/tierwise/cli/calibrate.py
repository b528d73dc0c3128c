"""``tierwise calibrate``: measure this computer and write it down as a machine."""

from __future__ import annotations

from pathlib import Path

import typer


def command(
    out: str | None = typer.Option(
        None,
        "-o",
        "--out",
        help="File to write: a machine (machine.yaml), to give as --on; of a run (run.yaml), to give as --calibration.",
    ),
    from_run: Path | None = typer.Option(
        None, "--from-run", help="Fit a recorded serving run (a folder) instead of measuring this computer."
    ),
    on: str | None = typer.Option(
        None, "--on", help="For --from-run: the machine it ran on, unless the folder names it."
    ),
    quick: bool = typer.Option(False, "--quick", help="Fewer sizes and shorter repeats: about a minute."),
    threads: int | None = typer.Option(None, "--threads", help="Threads to measure with (default: all processors)."),
    clock: str = typer.Option("auto", help="wall, cpu (processor time, one thread), or auto: cpu for one thread."),
    engine: list[str] | None = typer.Option(None, help="Only these engines: torch, onnxruntime, llama.cpp, numpy."),
    device: str = typer.Option("cpu", help="cpu, or what PyTorch calls an accelerator: cuda, cuda:1, mps."),
    disk: str | None = typer.Option(None, help="Folder whose disk is measured (default: that of the output)."),
    no_disk: bool = typer.Option(False, "--no-disk", help="Leave the disk out."),
    fresh: bool = typer.Option(False, "--fresh", help="Measure all again, whatever an interrupted call left."),
) -> None:
    """Measure memory, disk and every installed engine; write a machine file. Or fit a recorded serving run."""
    from dataclasses import replace

    from tierwise.core.errors import BadField
    from tierwise.core.files import check_writable, write

    if from_run is not None:
        from tierwise.report.calibration import from_run as fitted

        return fitted(from_run, out or "run.yaml", on or "")
    if on is not None:
        raise BadField("--on", "value", on, "nothing without --from-run: this computer is measured")
    output = out or "machine.yaml"
    if output == "-":
        raise BadField("--out", "file", output, "a file name")
    check_writable(output)
    from tierwise.measure.bench import start

    bench, ticks = start(threads, clock, quick)

    from tierwise.measure import bench_device, calibrate
    from tierwise.measure.engines import able, pick
    from tierwise.report.calibration import show
    from tierwise.report.console import console

    screen = console()
    if device != "cpu":
        bench_device.check(device)
        engine = ["torch"]
    modules, skipped = pick(engine)
    if device != "cpu":
        bench, ticks = start(threads, "wall", quick)
        wait = modules[0].wait(device)
        bench = replace(bench, device=device, timer=replace(bench.timer, wait=wait))
    elif there := bench_device.accelerators() if not engine or "torch" in engine else []:
        skipped.append(f"PyTorch also sees {', '.join(there)}: --device {there[0]} measures it, for another file.")
    modules, limits, gone = able(modules, bool(engine))
    bench = replace(bench, limits=tuple(limits))
    for line in (*skipped, *gone, *limits, *_busy(bench.threads)):
        screen.print(line, style="yellow")
    target = Path(output)
    state = target.with_name(f".{target.name}.state")
    if fresh:
        state.unlink(missing_ok=True)
    folder = None if no_disk or device != "cpu" else Path(disk) if disk else target.absolute().parent
    todo = list(calibrate.probes(bench, modules, folder))
    setup = calibrate.setup(bench, ticks, modules)
    try:
        results, failed = _run(todo, state, setup)
    except KeyboardInterrupt:
        screen.print(f"Interrupted. What is finished is kept in {state}; the same command goes on from there.")
        raise
    for key, why in failed.items():
        screen.print(f"{key}: could not be measured: {why}", style="yellow")
    found = calibrate.machine(results, bench, ticks, modules)
    write(output, calibrate.to_yaml(found))
    state.unlink(missing_ok=True)
    show(found, bench)
    screen.print(f"Machine written to {output}. Try: tierwise validate local --on {output}")


def _run(todo: list, state: Path, setup: dict) -> tuple[dict, dict]:  # type: ignore[type-arg]
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    from tierwise.measure import calibrate
    from tierwise.report.console import console

    columns = (TextColumn("{task.description:32}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("", total=len(todo))
        done = iter(range(len(todo)))

        def step(probe: calibrate.Probe) -> None:
            bar.update(task, description=probe.label, completed=next(done))

        return calibrate.run(todo, state, setup, step)


def _busy(threads: int) -> list[str]:
    """What to say when others use the machine."""
    import os

    try:
        load = os.getloadavg()[0]
    except (AttributeError, OSError):
        return []
    if load < 0.3 * (os.cpu_count() or 1):
        return []
    hint = "" if threads == 1 else "; --threads 1 measures one thread by its processor time, which others disturb least"
    return [f"The machine is busy (load average {load:.1f}): results will scatter{hint}."]
