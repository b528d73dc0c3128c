"""``tierwise plan serve``: which machine, how many, divided how, to serve a model within latency targets."""

from __future__ import annotations

import sys

from tierwise.cli import Stopped
from tierwise.cli._flags import Flags, flags

# Each may be given several times: machines and engines to choose from, formats and settings to try.
CHOICES = ("machine", "engine", "weights", "kv", "draft", "tokens")


@flags("machine", "any_gpu", "budget", "prompt", "output", "rate", "trace", "rate_scale", "concurrency", "ttft", "tpot",
       "statistic", "objective", "confidence", "engine", "mode", "weights", "kv", "draft", "tokens", "confirm",
       "router", "seed", "sensitivity", "out", "html", "table", "json", "save", many=CHOICES, router="", draft=None,
       tokens=None, repeat="Repeat to try several.",
       model="Catalog name, hf:org/name, or a config.json; or a saved scenario (YAML).")  # fmt: skip
def command(asked: Flags) -> None:
    """The deployment that meets the targets best, why, and what else there was."""
    from tierwise.cli._files import check, told, write_json
    from tierwise.cli._plan._question import question
    from tierwise.cli._progress import compiling, progress
    from tierwise.core.files import write
    from tierwise.report.plan_data import candidate_rows, cloud, to_dict
    from tierwise.report.sensitivity import of_engine
    from tierwise.report.tables import ENDINGS, write_table
    from tierwise.search.confirm import can_simulate
    from tierwise.search.operating import operating
    from tierwise.search.serve import plan

    check(asked, "html", "json", "save", table=ENDINGS)
    simulates = asked.confirm and can_simulate()
    with progress("looking up machines") as tell:
        first = compiling() if simulates else ""
        answer = plan(question(asked), confirm=simulates,
                      tell=lambda what, done, total: tell(what, done, total, "" if total else first))  # fmt: skip
    found = to_dict(answer)
    if asked.sensitivity and (engine := operating(answer)) is not None:
        found["sensitivity"] = of_engine(engine)
    if asked.out is not None:
        from tierwise.cli._plan._launch import launch

        launch(answer, found, asked.out)
    if asked.save is not None:
        from tierwise.cli._plan._saved import form
        from tierwise.scenario.files import write_form

        write_form(form(asked, answer), asked.save)
    if asked.html is not None:
        from tierwise.report.plan_report import page

        write(asked.html, page(found, cloud(answer)))
    if asked.table is not None:
        write_table(asked.table, candidate_rows(answer))
    if asked.json is not None:
        write_json(asked.json, found)
    if "-" not in (asked.json, asked.save):
        from tierwise.report.console import console
        from tierwise.report.plan_report import show

        show(found, console())
        told(asked, "html", "out", "table", "json", "save")
    if answer.interrupted:
        print(f"tierwise: stopped by the user after {len(answer.finalists)} simulated finalists; the rest is what the "
              "steady state says", file=sys.stderr)  # fmt: skip
        raise Stopped
