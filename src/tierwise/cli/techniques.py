"""``tierwise techniques``: what can be done to a scenario, or one technique explained."""

from __future__ import annotations

import typer


def command(
    name: str | None = typer.Argument(None, help="A technique to explain (or a file of yours); none lists them."),
    json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """List the techniques with their arguments and sources, or explain one."""
    from tierwise.report.techniques import show_technique, show_techniques

    if name is None:
        show_techniques(json)
    else:
        show_technique(name, json)
