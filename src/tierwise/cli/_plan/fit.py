"""``tierwise plan fit``: make a model fit one computer: formats, and which tensor lies on which tier."""

from __future__ import annotations

import typer

from tierwise.cli._flags import Flags, flags


@flags("machine", "batch", "engine", "weights", "kv", "out", "html", "table", "json", "save", many=("weights", "kv"),
       batch=1.0, engine="", weights=None, kv=None, repeat="Repeat to try several.",
       model="Catalog name, hf:org/name, or a config.json.")  # fmt: skip
def command(
    asked: Flags,
    context: str = typer.Option("8k", "--context", metavar="TOKENS", help="Tokens of a conversation (default: 8k)."),
    output: str | None = typer.Option(None, "--output", metavar="TOKENS", help="Of these, tokens that are generated "
                                      "(default: an eighth)."),
    min_bits: float = typer.Option(4.0, "--min-bits", metavar="BITS", help="Least bits of a weight (default: 4)."),
    goal: str | None = typer.Option(None, "--goal", metavar="GOAL", help="What is best: latency (of one conversation) "
                                    "or throughput (of as many as are best, or of --batch; with --batch max the "
                                    "default)."),
    expert_skew: str | None = typer.Option(None, "--expert-skew", metavar="NUMBER|FILE", help="How unlike often "
                                           "experts are chosen: Zipf's exponent, or a trace of routing (CSV: layer, "
                                           "expert; default: alike often)."),
) -> None:  # fmt: skip
    """Where everything goes so that it fits and is fastest, how fast that is, and the flags that do it."""
    from tierwise.cli._files import check, told, write_json
    from tierwise.cli._plan._fit import answered
    from tierwise.core.files import write
    from tierwise.report.tables import ENDINGS, write_table
    from tierwise.report.tiers_report import described, page, rows

    check(asked, "html", "json", "save", table=ENDINGS)
    found, files, form = answered(asked, context, output, min_bits, goal, expert_skew)
    if asked.out is not None:
        from pathlib import Path

        from tierwise.launch.folder import place

        place(Path(asked.out), files)
    if asked.save is not None and form is not None:
        form.save(asked.save)
    if asked.html is not None:
        write(asked.html, page(found))
    if asked.table is not None:
        write_table(asked.table, rows(found))
    if asked.json is not None:
        write_json(asked.json, found)
    if "-" not in (asked.json, asked.save):
        from tierwise.report.console import console
        from tierwise.report.terminal import show

        show(described(found), console())
        told(asked, "html", "table", "out", "json", "save")
    if not found["fits"]:
        raise typer.Exit(1)
