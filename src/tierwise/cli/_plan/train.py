"""``tierwise plan train``: which layout trains a model best on so many devices, and what the run takes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import typer

from tierwise.cli._flags import DEGREES, TRAINING, Flags, flags

if TYPE_CHECKING:
    from tierwise.machines.types import System
    from tierwise.models.types import Model
    from tierwise.search.train import TrainPlan
    from tierwise.training import TrainingFramework

OPTIONS = ("machine", *TRAINING[1:], *DEGREES, "schedule")
OBJECTIVES = ("time", "cost", "memory")


@flags(*OPTIONS, "html", "trace_out", "table", "json", "out", "save",
       model="Catalog name, hf:org/name, or a config.json; or a saved scenario (YAML).")  # fmt: skip
def command(
    asked: Flags,
    objective: str = typer.Option("time", "--objective", metavar="WHAT", help="What is best: time (with all devices), "
                                  "cost (with as few of them as are cheapest) or memory (with all devices, least on "
                                  "the fullest; default: time)."),
) -> None:  # fmt: skip
    """The parallel layout that fits and is fastest, why, and what else there was."""
    planned(asked, objective)


def planned(asked: Flags, objective: str = "time") -> None:
    """Search, then tell and write.

    Raises:
        BadField: no such objective.
    """
    from tierwise.cli._files import check
    from tierwise.cli._progress import progress
    from tierwise.report.tables import ENDINGS
    from tierwise.scenario.fields import known

    check(asked, "html", "trace_out", "json", "save", table=ENDINGS)
    known("--objective", objective, OBJECTIVES)
    with progress("pricing layouts"):
        from tierwise.cli._training import fixed, pictured, reliability, things, told_of, uneven, usual_length
        from tierwise.core.errors import BadField
        from tierwise.report.training_data import planned as data
        from tierwise.report.training_report import of_plan
        from tierwise.search.train import Space, plan_training

        model, system, how = things(asked)
        asked = usual_length(asked, model)
        if uneven(asked):
            if objective != "time":
                raise BadField("--objective", "value", objective, "time where stages differ")
            return _uneven(asked, model, how)
        space = Space(fixed(asked))

        def plan(on: System) -> TrainPlan:
            return plan_training(model, on, how, float(on.count), asked.global_batch, asked.seq, space,
                                 objective="memory" if objective == "memory" else "time")  # fmt: skip

        rows: list[dict[str, Any]] = []
        if objective == "cost":
            answer, system, rows = _cheapest(system, plan)
            asked = replace(asked, said={**asked.said, "machine": system.name})
        else:
            answer = plan(system)
        found, run = data(answer, model, system, asked.train_tokens, fails=reliability(asked), **pictured(asked))
        found |= {"objective": objective, "counts": rows}
    best = answer.candidates[0].step if answer.candidates else None
    if asked.out is not None and best is not None:
        from tierwise.cli._plan._launch import published
        from tierwise.training.launch import write

        write(best, model, published(asked.model), asked.out)
    told_of(asked, found, of_plan(found), run, None if best is None else best.layout)
    if asked.out is not None and best is not None and "-" not in (asked.json, asked.save):
        print(f"wrote the launch files to {asked.out}")


def _cheapest(system: System, plan: Callable[[System], TrainPlan]) -> tuple[TrainPlan, System, list[dict[str, Any]]]:
    """The plan of the number of devices, up to all of a machine, on which a token costs least; and what it takes on
    each number: whole nodes, or equal parts of one.

    Raises:
        BadField: no number of devices has a legal layout.
    """
    from tierwise.core.errors import BadField
    from tierwise.machines.load import several
    from tierwise.training.layout import divisors

    best: tuple[float, TrainPlan, System] | None = None
    rows: list[dict[str, Any]] = []
    for count in divisors(system.count):
        if count > system.per_node and count % system.per_node:
            continue
        on = system if count == system.count else several(system, count)
        try:
            answer = plan(on)
        except BadField:
            if count == system.count and best is None:
                raise
            continue
        seconds = answer.candidates[0].seconds if answer.candidates else float("inf")
        rent = float(system.rent(count))
        paid = seconds * (rent if math.isfinite(rent) else count)
        if answer.candidates:
            usd = paid if math.isfinite(rent) else None
            rows.append({"devices": count, "seconds": seconds, "device_seconds": count * seconds, "usd": usd})
        if best is None or paid < best[0] or (count == system.count and not rows):
            best = paid, answer, on
    assert best is not None
    return best[1], best[2], rows


def _uneven(asked: Flags, model: Model, how: TrainingFramework) -> None:
    """Stages that differ: the fastest of the layouts with as many devices on each."""
    from tierwise.cli._training import fixed, kinds, told_uneven
    from tierwise.core.errors import BadField
    from tierwise.report.uneven_data import uneven_data, uneven_report
    from tierwise.search.uneven import plan_uneven

    if asked.stage_layers not in (None, "auto") or asked.out is not None:
        given = "--stage-layers" if asked.out is None else "--out"
        raise BadField(given, "value", asked.stage_layers or asked.out, "nothing where stages differ: a plan divides "
                       "layers itself, and no launch file says so; explain --train takes --stage-layers")  # fmt: skip
    step = plan_uneven(model, kinds(asked.machine), how, asked.global_batch, asked.seq, fixed(asked))
    told_uneven(asked, uneven_data(step, model, asked.train_tokens), uneven_report, step)
