"""``tierwise machines``: what is in the catalog, or one machine with the source of every number."""

from __future__ import annotations

import typer

from tierwise.scenario.fields import FIELDS


def command(
    name: str | None = typer.Argument(None, help="A device or system to show; none lists the catalog."),
    table: str | None = typer.Option(None, metavar="FILE", help=FIELDS["table"].help),
    json: str | None = typer.Option(None, metavar="FILE", help='Write it as JSON; "-" prints it.'),
) -> None:
    """List the machines, or show one with its sources."""
    from tierwise.cli._files import write_rows
    from tierwise.core.files import check_writable
    from tierwise.report.catalog import device_rows, machine_rows, show_machine, show_machines

    if json is not None:
        check_writable(json)
    if table is not None:
        from tierwise.machines import system

        write_rows(table, device_rows() if name is None else machine_rows(system(name)))
    elif name is None:
        show_machines(json)
    else:
        show_machine(name, json)
