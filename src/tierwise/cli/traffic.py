"""``tierwise traffic``: what a trace asks for, and traffic made up by rule; either written as a plain CSV."""

from __future__ import annotations

import typer

from tierwise.cli._flags import Flags, flags


@flags("format", "limit", "rate_scale", "arrivals", "requests", "prompt", "output", "turns", "think", "shared",
       "search", "seed", model=None, arrivals="poisson:rate=1")  # fmt: skip
def command(
    asked: Flags,
    file: str | None = typer.Argument(None, help="A trace (CSV, JSON, .gz) or a recorded run; none makes one up."),
    out: str | None = typer.Option(None, metavar="FILE", help="Write the requests as CSV (- prints)."),
    json: str | None = typer.Option(None, metavar="FILE", help='Write it as JSON; "-" prints it.'),
) -> None:
    """Summarize a trace, or traffic made up by rule: rate, lengths, and what prompts share."""
    from tierwise.core.files import check_writable, write
    from tierwise.report.traffic import show_traffic
    from tierwise.serving import traffic
    from tierwise.serving.traffic.formats.simple import text

    for target in (out, json):
        if target is not None:
            check_writable(target)
    if file is None:
        found = traffic.synthetic(asked.requests, asked.arrivals, prompt=asked.prompt, output=asked.output,
                                  turns=asked.turns, think=asked.think, system=asked.shared,
                                  seed=asked.seed)  # fmt: skip
        found = (found if asked.limit is None else found.head(asked.limit)).scaled(asked.rate_scale)
    else:
        found = traffic.load(file, asked.format, limit=asked.limit, rate_scale=asked.rate_scale)
        if asked.asks("arrivals") or asked.asks("think"):
            arrivals, think = asked.said.get("arrivals"), asked.said.get("think")
            found = traffic.arriving(found, arrivals, think=think, seed=asked.seed)
    if asked.search is not None:
        found = traffic.searching(found, asked.search, seed=asked.seed)
    if out is not None:
        write(out, text(found))
    if out != "-":
        show_traffic(found, json)
