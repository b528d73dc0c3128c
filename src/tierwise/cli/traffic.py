"""``tierwise traffic``: what a trace asks for, and traffic made up by rule; either written as a plain CSV."""

from __future__ import annotations

import typer


def command(
    file: str | None = typer.Argument(None, help="A trace (CSV, JSON, .gz) or a recorded run; none makes one up."),
    format: str | None = typer.Option(None, help="Its format, where it is not recognized."),
    limit: int | None = typer.Option(None, help="The first so many requests only."),
    rate_scale: float = typer.Option(1.0, help="Play arrivals so many times as fast."),
    arrivals: str | None = typer.Option(None, help="Other arrivals: poisson:rate=3, gamma:rate=3,cv=2, bursty:rate=3, "
                                                   "diurnal:rate=3, closed:concurrency=8, or your file.py:..."),
    requests: int = typer.Option(1000, help="How many to make up."),
    prompt: str = typer.Option("1024", help="Tokens: a number, or lognormal:mean=1000,cv=1.2, uniform:low=1,high=9, …"),
    output: str = typer.Option("256", help="Tokens of the answer, likewise."),
    turns: str = typer.Option("1", help="Turns of a session, likewise."),
    think: str | None = typer.Option(None, help="Seconds from an answer to the next turn, likewise."),
    system: int = typer.Option(0, help="Tokens of a shared system prompt."),
    search: str | None = typer.Option(None, help="Each request is a question answered by tree search: "
                                                 "width=16,keep=4,depth=8,step=64."),
    seed: int = typer.Option(0, help="Of all that is random."),
    out: str | None = typer.Option(None, help="Write the requests as CSV (- prints)."),
    json: bool = typer.Option(False, "--json", help="Print the summary as JSON."),
) -> None:  # fmt: skip
    """Summarize a trace, or traffic made up by rule: rate, lengths, and what prompts share."""
    from tierwise.core.files import check_writable, write
    from tierwise.report.traffic import show_traffic
    from tierwise.serving import traffic
    from tierwise.serving.traffic.formats.simple import text

    if out is not None:
        check_writable(out)
    if file is None:
        made = traffic.synthetic(requests, arrivals or "poisson:rate=1", prompt=prompt, output=output, turns=turns,
                                 think=think or 0.0, system=system, seed=seed)  # fmt: skip
        found = made.scaled(rate_scale) if limit is None else made.head(limit).scaled(rate_scale)
    else:
        found = traffic.load(file, format, limit=limit, rate_scale=rate_scale)
        if arrivals is not None or think is not None:
            found = traffic.arriving(found, arrivals, think=think, seed=seed)
    if search is not None:
        found = traffic.searching(found, search, seed=seed)
    if out is not None:
        write(out, text(found))
    if out != "-":
        show_traffic(found, json)
