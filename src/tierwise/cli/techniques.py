"""``tierwise techniques``: what can be done to a scenario, or one technique explained."""

from __future__ import annotations

import typer

from tierwise.scenario.fields import FIELDS


def command(
    name: str | None = typer.Argument(None, help="A technique to explain (or a file of yours); none lists them."),
    table: str | None = typer.Option(None, metavar="FILE", help=FIELDS["table"].help),
    json: str | None = typer.Option(None, metavar="FILE", help='Write it as JSON; "-" prints it.'),
) -> None:
    """List the techniques with their arguments and sources, or explain one."""
    from tierwise.cli._files import write_rows
    from tierwise.core.files import check_writable
    from tierwise.report.techniques import show_technique, show_techniques, technique_rows

    if json is not None:
        check_writable(json)
    if table is not None:
        write_rows(table, [{**row, "sources": ", ".join(row["sources"])} for row in technique_rows()
                           if name in (None, row["name"])])  # fmt: skip
    elif name is None:
        show_techniques(json)
    else:
        show_technique(name, json)
