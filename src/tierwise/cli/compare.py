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
    from tierwise.core.files import check_writable
    from tierwise.evaluation import evaluate
    from tierwise.report.comparison import as_dict, show
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
    for target in (*save, *([json] if json is not None else [])):
        check_writable(target)
    with progress("pricing the scenarios"):
        made = [from_text(text, texts[0] if i else None, each[i]) for i, text in enumerate(texts)]
        base, *others = [evaluate(scenario) for scenario, _ in made]
    pairs = [Comparison(base, other) for other in others]
    for path, (_, form) in zip(save, made, strict=False):
        write_form(form, path)
    if json is not None:
        write_json(json, as_dict(pairs, texts))
    if "-" not in (json, *save):
        show(pairs, texts)
