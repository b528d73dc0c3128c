"""``tierwise diff``: two answers, what changed in what was asked and in what came out, and why."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import typer

from tierwise.scenario.fields import FIELDS


def command(
    before: str = typer.Argument(
        ..., metavar="A", help='An answer that --json wrote, a saved scenario, or "MODEL --on MACHINE …" with the '
        "flags of explain."
    ),
    after: str = typer.Argument(..., metavar="B", help='Likewise; may start with "…" to continue A.'),
    html: str | None = typer.Option(None, metavar="FILE", help=FIELDS["html"].help),
    table: str | None = typer.Option(None, metavar="FILE", help=FIELDS["table"].help),
    json: str | None = typer.Option(None, metavar="FILE", help='Write the difference as JSON; "-" prints it.'),
) -> None:  # fmt: skip
    """Say what changed between two answers: of two scenarios (or two training steps), or of one under two versions
    or calibrations."""
    from tierwise.cli._files import write_json
    from tierwise.core.files import check_writable, write
    from tierwise.report.difference import difference
    from tierwise.report.difference_report import described
    from tierwise.report.tables import ENDINGS, write_table

    for target in (html, json):
        if target is not None:
            check_writable(target)
    if table is not None:
        check_writable(table, ENDINGS)
    found = difference(_answer(before, None), _answer(after, before), (before, after))
    if html is not None:
        from tierwise.report.page import page

        write(html, page(described(found), "difference", (), found))
    if table is not None:
        write_table(table, [{"what": part, **x} for part in ("inputs", "chosen", "numbers") for x in found[part]]
                    + [{"what": part, "field": " ".join(x["cause"]), "before": x["before"], "after": x["after"]}
                       for part in ("time", "resources", "memory", "energy") for x in found[part]])  # fmt: skip
    if json is not None:
        write_json(json, found)
    if json != "-":
        from tierwise.report.console import console
        from tierwise.report.terminal import show

        show(described(found), console())
        for what, place in (("report", html), ("table", table), ("JSON", json)):
            if place is not None:
                print(f"{what} written to {place}")


def _answer(text: str, base: str | None) -> Any:
    """The JSON form: of the file, or of the scenario evaluated now."""
    from tierwise.core.errors import TierwiseError
    from tierwise.models.jsonfile import read_json
    from tierwise.scenario.files import is_scenario

    if text.lower().endswith(".json") and not os.path.isfile(text):
        raise TierwiseError(f"{text}: no such file")
    if text.lower().endswith(".json") and not is_scenario(text):
        return read_json(Path(text))
    from tierwise.cli._flags import TRAINING, refuse
    from tierwise.cli._scenario import TAKEN, asked_for, flags_of
    from tierwise.evaluation import evaluate

    asked = flags_of(text, base, (*TAKEN, *TRAINING))
    if not asked.train:
        refuse(asked, TRAINING[1:], "nothing without --train")
        return evaluate(asked_for(asked)[0]).to_dict()
    from tierwise.cli._training import answered, things, uneven
    from tierwise.cli.explain import refuse_requests

    refuse_requests(asked)
    of = things(asked)
    if uneven(asked):
        raise TierwiseError(f"{text}: stages that differ; diff takes layouts whose stages are alike")
    return answered(asked, of)[2]
