"""``tierwise models``: what is in the catalog, or one model taken apart."""

from __future__ import annotations

import typer

from tierwise.scenario.fields import FIELDS

_AS = FIELDS["read_as"]


def command(
    name: str | None = typer.Argument(None, help="A model to take apart; none lists the catalog."),
    read_as: str | None = typer.Option(None, _AS.option, help=_AS.help, metavar=_AS.metavar),
    table: str | None = typer.Option(None, metavar="FILE", help=FIELDS["table"].help),
    json: str | None = typer.Option(None, metavar="FILE", help='Write it as JSON; "-" prints it.'),
) -> None:
    """List the models, or show one: its layers, parameters and bytes."""
    from tierwise.cli._files import write_rows
    from tierwise.core.files import check_writable
    from tierwise.models.load import spelled_as
    from tierwise.report.catalog import layer_rows, model_rows, show_model, show_models

    if json is not None:
        check_writable(json)
    if table is not None:
        write_rows(table, model_rows() if name is None else layer_rows(spelled_as(name, read_as)))
    elif name is None:
        show_models(json)
    else:
        show_model(spelled_as(name, read_as), json)
