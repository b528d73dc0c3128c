"""``tierwise compare``: scenarios side by side."""

from __future__ import annotations

import shlex
from typing import Any

import typer

from tierwise.scenario.fields import FIELDS


def command(
    scenarios: list[str] = typer.Argument(
        ..., metavar="SCENARIO…", help='Each a saved scenario, or "MODEL --on MACHINE …" with the flags of explain; '
        'later ones may start with "…" to continue the first.'
    ),
    technique: list[str] = typer.Option(
        [], metavar="NAME:…", help=FIELDS["technique"].help + " Where one scenario is given, it is compared with "
        "itself under them; else they hold for all."
    ),
    engine: str | None = typer.Option(None, metavar="TEXT", help=FIELDS["engine"].help),
    label: list[str] = typer.Option(
        [], metavar="NAME", help="What to call the scenarios, one name for each, in order. Repeat for more."
    ),
    html: str | None = typer.Option(None, metavar="FILE", help=FIELDS["html"].help),
    table: str | None = typer.Option(None, metavar="FILE", help=FIELDS["table"].help),
    json: str | None = typer.Option(None, metavar="FILE", help='Write the comparison as JSON; "-" prints it.'),
    save: list[str] = typer.Option(
        [], metavar="FILE", help="Write the scenarios as files (YAML), one for each, in order. Repeat for more."
    ),
) -> None:  # fmt: skip
    """Compare scenarios: the first is the baseline."""
    from tierwise.cli._files import write_json
    from tierwise.cli._progress import progress
    from tierwise.cli._scenario import from_text
    from tierwise.comparison import Comparison
    from tierwise.core.errors import TierwiseError
    from tierwise.core.files import check_writable, write
    from tierwise.evaluation import evaluate
    from tierwise.report.comparison import as_dict, named, table_rows
    from tierwise.report.comparison_report import described
    from tierwise.report.tables import ENDINGS, write_table
    from tierwise.scenario.files import write_form

    common: dict[str, Any] = {} if engine is None else {"engine": engine}
    texts, each = list(scenarios), [common for _ in scenarios]
    if technique and len(scenarios) == 1:
        texts, each = [*texts, "… " + " ".join(f"--technique {shlex.quote(t)}" for t in technique)], [common, common]
    elif technique:
        each = [{**common, "technique": technique} for _ in scenarios]
    if len(texts) < 2:
        raise TierwiseError("compare needs at least two scenarios, each in quotes, or one and a --technique")
    if save and len(save) != len(texts):
        raise TierwiseError(f"--save: found {len(save)} files; allowed: one for each of the {len(texts)} scenarios")
    if label and len(label) != len(texts):
        raise TierwiseError(f"--label: found {len(label)} names; allowed: one for each of the {len(texts)} scenarios")
    if len(set(label)) < len(label):
        raise TierwiseError(f"--label: found {', '.join(label)}; allowed: names that all differ")
    for target in (*save, *(x for x in (html, json) if x is not None)):
        check_writable(target)
    if table is not None:
        check_writable(table, ENDINGS)
    with progress("pricing the scenarios"):
        made = [from_text(text, texts[0] if i else None, each[i]) for i, text in enumerate(texts)]
        base, *others = [evaluate(scenario) for scenario, _ in made]
    found = as_dict([Comparison(base, other) for other in others], texts, label or named(texts))
    for path, (_, form) in zip(save, made, strict=False):
        write_form(form, path)
    if html is not None:
        from tierwise.report.page import page

        write(html, page(described(found), "compare", (), found))
    if table is not None:
        write_table(table, table_rows(found))
    if json is not None:
        write_json(json, found)
    if "-" not in (json, *save):
        from tierwise.report.console import console
        from tierwise.report.terminal import show

        show(described(found), console())
        for what, place in (("report", html), ("table", table), ("JSON", json)):
            if place is not None:
                print(f"{what} written to {place}")
