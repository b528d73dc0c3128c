"""``tierwise models``: what is in the catalog, or one model taken apart."""

from __future__ import annotations

import typer

from tierwise.scenario.fields import FIELDS

_AS = FIELDS["read_as"]


def command(
    name: str | None = typer.Argument(None, help="A model to take apart; none lists the catalog."),
    read_as: str | None = typer.Option(None, _AS.option, help=_AS.help, metavar=_AS.metavar),
    json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """List the models, or show one: its layers, parameters and bytes."""
    from tierwise.models.load import spelled_as
    from tierwise.report.catalog import show_model, show_models

    if name is None:
        show_models(json)
    else:
        show_model(spelled_as(name, read_as), json)
