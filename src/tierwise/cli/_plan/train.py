"""``tierwise plan train``: which layout trains a model fastest on so many devices, and what the run takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tierwise.cli._flags import DEGREES, TRAINING, Flags, flags

if TYPE_CHECKING:
    from tierwise.models.types import Model
    from tierwise.training import TrainingFramework

OPTIONS = ("machine", *TRAINING[1:], *DEGREES, "schedule")


@flags(*OPTIONS, "html", "trace_out", "table", "json", "out", "save",
       model="Catalog name, hf:org/name, or a config.json; or a saved scenario (YAML).")  # fmt: skip
def command(asked: Flags) -> None:
    """The parallel layout that fits and is fastest, why, and what else there was."""
    planned(asked)


def planned(asked: Flags) -> None:
    """Search, then tell and write."""
    from tierwise.cli._files import check
    from tierwise.cli._progress import progress
    from tierwise.report.tables import ENDINGS

    check(asked, "html", "trace_out", "json", "save", table=ENDINGS)
    with progress("pricing layouts"):
        from tierwise.cli._training import fixed, pictured, reliability, things, told_of, uneven, usual_length
        from tierwise.report.training_data import planned as data
        from tierwise.report.training_report import of_plan
        from tierwise.search.train import Space, plan_training

        model, system, how = things(asked)
        asked = usual_length(asked, model)
        if uneven(asked):
            return _uneven(asked, model, how)
        space = Space(fixed(asked))
        answer = plan_training(model, system, how, float(system.count), asked.global_batch, asked.seq, space)
        found, run = data(answer, model, system, asked.train_tokens, fails=reliability(asked), **pictured(asked))
    best = answer.candidates[0].step if answer.candidates else None
    if asked.out is not None and best is not None:
        from tierwise.cli._plan._launch import published
        from tierwise.training.launch import write

        write(best, model, published(asked.model), asked.out)
    told_of(asked, found, of_plan(found), run, None if best is None else best.layout)
    if asked.out is not None and best is not None and "-" not in (asked.json, asked.save):
        print(f"wrote the launch files to {asked.out}")


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
