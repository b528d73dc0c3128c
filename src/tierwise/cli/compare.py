"""``tierwise compare``: scenarios side by side."""

from __future__ import annotations

import typer


def command(
    scenarios: list[str] = typer.Argument(
        ..., help='Each as "MODEL --on MACHINE …"; later ones may start with "…" to continue the first.'
    ),
    json: str | None = typer.Option(None, help='Write the comparison as JSON; "-" prints it.'),
) -> None:
    """Compare scenarios: the first is the baseline."""
    from tierwise.cli._scenario import from_text
    from tierwise.comparison import Comparison
    from tierwise.core.errors import TierwiseError
    from tierwise.core.files import check_writable, write
    from tierwise.evaluation import evaluate

    if len(scenarios) < 2:
        raise TierwiseError("compare needs at least two scenarios, each in quotes")
    if json is not None:
        check_writable(json)
    base, *others = [evaluate(from_text(text, scenarios[0] if i else None)) for i, text in enumerate(scenarios)]
    pairs = [Comparison(base, other) for other in others]
    from tierwise.report.comparison import as_dict, show

    if json is not None:
        import json as jsonlib

        write(json, jsonlib.dumps(as_dict(pairs, scenarios), indent=2, allow_nan=False))
    if json != "-":
        show(pairs, scenarios)
