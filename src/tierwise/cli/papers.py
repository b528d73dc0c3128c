"""``tierwise papers``: which published results the engine reproduces, and which wrong engines would be noticed."""

from __future__ import annotations

from pathlib import Path

import typer

from tierwise.scenario.fields import FIELDS

_MUTATE = "Run them on engines that are wrong in one way each, and say which of these each paper notices."
_UPDATE = "With --mutate: write the table into this Markdown file, between its papers markers."


def command(
    action: str | None = typer.Argument(None, help='"run" to show every claim; nothing for the table of states.'),
    slugs: list[str] | None = typer.Argument(None, help="Papers to run: slugs, or paths of files with a paper."),
    every: bool = typer.Option(False, "--all", help="Run all papers."),
    mutate: bool = typer.Option(False, "--mutate", help=_MUTATE),
    update: Path | None = typer.Option(None, "--update", help=_UPDATE),
    jobs: int | None = typer.Option(None, "--jobs", min=1, help="Processes; by default one a processor."),
    html: str | None = typer.Option(None, metavar="FILE", help=FIELDS["html"].help),
    table: str | None = typer.Option(None, metavar="FILE", help=FIELDS["table"].help),
    json: str | None = typer.Option(None, metavar="FILE", help='Write it as JSON; "-" prints it.'),
) -> None:
    """List the papers and where they stand, or run some: `tierwise papers run kivi ./my_paper.py`."""
    from tierwise import papers
    from tierwise.cli import Stopped
    from tierwise.cli._files import write_rows
    from tierwise.cli._progress import each
    from tierwise.core.errors import TierwiseError
    from tierwise.core.files import check_writable, write
    from tierwise.papers.suite import run_all
    from tierwise.report import papers as report
    from tierwise.report.console import console
    from tierwise.report.page import page
    from tierwise.report.papers_report import claims, states
    from tierwise.report.plain import put_json
    from tierwise.report.tables import ENDINGS
    from tierwise.report.terminal import show

    if action not in (None, "run"):
        raise TierwiseError(f"papers: found {action!r}; allowed: run SLUG… or run --all")
    if action == "run" and not slugs and not every:
        raise TierwiseError("papers run: name at least one paper, or --all")
    if update is not None and not mutate:
        raise TierwiseError("papers: --update writes the table of --mutate; give both")
    for target in (html, json):
        if target is not None:
            check_writable(target)
    if table is not None:
        check_writable(table, ENDINGS)
    if mutate and html is not None:
        raise TierwiseError("papers: --mutate has no page; --json FILE writes what it finds")
    wanted = slugs if slugs and not every else papers.slugs()
    if mutate:
        from tierwise.papers.mutations import mutated

        noticed = mutated(wanted, jobs=jobs, progress=lambda what, i, n: typer.echo(f"{i}/{n} {what}", err=True))
        if update is not None:
            known = {n.paper.slug: (n.paper, n.outcomes) for n in noticed}
            others = iter(list(run_all([name for name in wanted if name not in known], jobs)))
            report.update(update, [known.get(name) or next(others) for name in wanted], noticed)
        report.show_mutations(noticed, json)
        return
    found, stopped = each(run_all(wanted, jobs), "running papers", len(wanted), lambda one: one[0].slug)
    shown = (claims if action == "run" else states)(found)
    if html is not None:
        write(html, page(shown, "papers", (), report.as_dict(found)))
        print(f"report written to {html}")
    if table is not None:
        write_rows(table, report.claim_rows(found))
    if not put_json(json, report.as_dict(found)) and table is None:
        show(shown, console())
    if stopped:
        raise Stopped
