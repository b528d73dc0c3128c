"""``tierwise validate``: predictions beside recorded measurements. ``report/validation/<action>.py`` does each kind."""

from __future__ import annotations

from pathlib import Path

import typer


def command(
    action: str = typer.Argument(
        help='What was measured: "ops" for single operations, "run" for recorded serving runs, "local" for this '
        "computer; see docs for the others."
    ),
    paths: list[Path] | None = typer.Argument(
        None, help="Files of measurements (Parquet or CSV), folders of runs, or files of load generators."
    ),
    json: Path | None = typer.Option(None, "--json", help="Also write the report here, as JSON; - for the terminal."),
    on: str | None = typer.Option(
        None, "--on", help="For `local`: the file that `tierwise calibrate` wrote; for `run`: the machine it ran on."
    ),
    calibration: str | None = typer.Option(
        None, "--calibration", help="For `run`: what `tierwise calibrate --from-run` wrote about another run."
    ),
    model: str | None = typer.Option(
        None, "--model", help="For `run`: the model that ran, where the recording does not name it."
    ),
    quick: bool = typer.Option(False, "--quick", help="For `local`: half of the runs, shorter repeats."),
) -> None:
    """Say how far predictions are from measurements: `tierwise validate ops gemm.parquet`."""
    import importlib
    import inspect
    import pkgutil

    from tierwise.cli._progress import lines
    from tierwise.core.errors import BadField, UnknownName
    from tierwise.report import validation

    known = [i.name for i in pkgutil.iter_modules(validation.__path__)]
    if action not in known:
        raise UnknownName("validation", action, known, f"The validations are {', '.join(known)}.")
    module = importlib.import_module(f"{validation.__name__}.{action}")
    asked = {"on": on, "calibration": calibration, "model": model, "quick": quick}
    given = {name: value for name, value in asked.items() if value}
    taken = inspect.signature(module.validate).parameters
    for name, value in given.items():
        if name not in taken:
            raise BadField("--" + name, "value", value, f"nothing: `validate {action}` takes no such option")
    if action == "local":  # says itself what it measures
        module.validate(paths or [], json, **given)
        return
    several = f" and {len(paths) - 1} more" if paths and len(paths) > 1 else ""
    with lines(f"holding {paths[0].name}{several} against predictions" if paths else "looking for measurements"):
        module.validate(paths or [], json, **given)
