"""``tierwise papers``: which published results the engine reproduces."""

from __future__ import annotations

import typer


def command(
    action: str | None = typer.Argument(None, help='"run" to show every claim; nothing for the table of states.'),
    slugs: list[str] | None = typer.Argument(None, help="Papers to run."),
    every: bool = typer.Option(False, "--all", help="Run all papers."),
    json: bool = typer.Option(False, "--json", help="Print as JSON."),
) -> None:
    """List the papers and their states, or run some: `tierwise papers run kivi marlin`."""
    from tierwise import papers
    from tierwise.core.errors import TierwiseError
    from tierwise.report.papers import show_claims, show_states

    if action not in (None, "run"):
        raise TierwiseError(f"papers: found {action!r}; allowed: run SLUG… or run --all")
    if action == "run" and not slugs and not every:
        raise TierwiseError("papers run: name at least one paper, or --all")
    wanted = slugs if slugs and not every else papers.slugs()
    found = [(p, papers.run(p)) for p in map(papers.load, wanted)]
    if action == "run":
        show_claims(found, json)
    else:
        show_states(found, json)
