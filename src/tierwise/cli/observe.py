"""``tierwise observe``: send traffic to a live OpenAI-compatible server, and record when every token came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from tierwise.measure.observe import Recording
    from tierwise.serving.traffic.trace import Trace


def command(
    url: str = typer.Option(..., help="The server: http://127.0.0.1:8000. Nothing else is talked to."),
    model: str | None = typer.Option(None, help="Name the server knows it by (default: the only one it has)."),
    endpoint: str | None = typer.Option(None, help="completions or chat (default: the first that the server has)."),
    trace: str | None = typer.Option(None, help="File of requests (CSV, JSON, JSON lines, .gz) or a recorded run."),
    format: str | None = typer.Option(None, help="Its format, where it is not recognized."),
    rate_scale: float = typer.Option(1.0, help="Play arrivals so many times as fast."),
    limit: int | None = typer.Option(None, help="The first so many requests only."),
    rate: str | None = typer.Option(None, help="Requests made up at this rate: 4/s."),
    concurrency: int | None = typer.Option(None, help="Requests kept in flight, instead of a rate."),
    requests: int = typer.Option(100, help="How many to make up."),
    arrivals: str | None = typer.Option(None, help="poisson, uniform, gamma:cv=2, bursty, … of made-up requests."),
    prompt: str = typer.Option("512", help="Tokens of made-up prompts: a number, or lognormal:mean=1000,cv=1, …"),
    output: str = typer.Option("128", help="Tokens of made-up answers, likewise."),
    turns: str = typer.Option("1", help="Turns of a made-up session, likewise."),
    think: float = typer.Option(0.0, help="Seconds from an answer to the next turn of a made-up session."),
    shared: int = typer.Option(0, help="Tokens in front of every made-up prompt, shared by all."),
    seed: int = typer.Option(0, help="Of all that is random; another seed has other words, so no cache knows them."),
    timeout: str = typer.Option("600s", help="Silence after which a request has failed."),
    api_key_env: str | None = typer.Option(None, help="Environment variable with the server's key."),
    engine_arg: list[str] = typer.Option([], help="How the server was started, NAME=VALUE, kept with the recording: "
                                                  "max_num_seqs=128. Repeat for more."),
    engine: str = typer.Option("", help="What serves: vllm, sglang, llama.cpp (default: as its metrics say)."),
    on: str = typer.Option("", "--on", help="Machine it runs on, kept with the recording: h100-sxm, or a YAML file."),
    out: str | None = typer.Option(None, help="Folder to write: meta.json, requests.jsonl, timeseries.csv."),
    json: str | None = typer.Option(None, help='Write the numbers as JSON; "-" prints them instead of the tables.'),
) -> None:  # fmt: skip
    """Record a live server, to validate predictions against it and to calibrate them by it."""
    import json as jsonlib
    from pathlib import Path

    from tierwise.core.errors import BadField
    from tierwise.core.files import check_writable, write
    from tierwise.core.units import parse
    from tierwise.measure.observe_files import check_folder, save
    from tierwise.measure.observe_numbers import numbers
    from tierwise.report.console import console
    from tierwise.report.observing import show

    if json is not None:
        check_writable(json)
    if out is not None:
        check_folder(Path(out))
    if endpoint not in (None, "completions", "chat"):
        raise BadField("--endpoint", "name", endpoint, "completions or chat")
    patience = parse(timeout, "time", "--timeout")
    if not patience:
        raise BadField("--timeout", "time", timeout, "more than 0 s")
    if on:
        from tierwise.machines import system

        system(on)
    arguments = dict(_argument(text) for text in engine_arg)
    key = _key(api_key_env)
    asked = _traffic(trace, format, rate_scale, limit, rate, concurrency, arrivals, {
        "requests": requests, "prompt": prompt, "output": output, "turns": turns, "think": think, "system": shared,
        "seed": seed})  # fmt: skip
    found = _recorded(url, asked, {"model": model, "endpoint": endpoint, "key": key, "timeout": patience, "seed": seed})
    written = []
    if out is not None and found.answered:
        written = save(found, Path(out), arguments, engine=engine, machine=on)
    if json is not None:
        write(json, jsonlib.dumps(numbers(found), indent=2, allow_nan=False))
    if json == "-":
        return
    show(found, console())
    if written:
        print(f"recording written to {out}: {', '.join(p.name for p in written)}")
        print(f"Try: tierwise validate run {out}")


def _traffic(
    trace: str | None, format: str | None, rate_scale: float, limit: int | None, rate: str | None,
    concurrency: int | None, arrivals: str | None, made: dict[str, Any],
) -> Trace:  # fmt: skip
    from dataclasses import replace

    from tierwise.core.errors import BadField, TierwiseError
    from tierwise.core.units import parse
    from tierwise.serving import traffic

    if concurrency is not None and concurrency < 1:
        raise BadField("--concurrency", "value", concurrency, "a whole number of at least 1")
    if sum(x is not None for x in (trace, rate)) + (trace is None and concurrency is not None) != 1:
        raise TierwiseError("what is sent? Give one of --trace FILE, --rate 4/s, --concurrency 32")
    if trace is not None:
        found = traffic.load(trace, format, limit=limit, rate_scale=rate_scale)
        if arrivals is not None:
            found = traffic.arriving(found, arrivals, seed=made["seed"])
        return found if concurrency is None else replace(found, closed_loop=concurrency)
    a_second = None if rate is None else parse(rate, "rate", "--rate") * rate_scale
    return traffic.synthetic(
        made.pop("requests"), arrivals or "poisson", rate=a_second, concurrency=concurrency, **made
    )


def _recorded(url: str, trace: Trace, how: dict[str, Any]) -> Recording:
    """The recording, with a bar on standard error."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from tierwise.measure.observe import observe

    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("recording", total=len(trace), said="looking at the server")

        def progress(answered: int, failed: int, flying: int, at: float) -> None:
            said = f"{answered:,} of {len(trace):,} answered, {flying:,} in flight"
            bar.update(task, completed=answered + failed, said=said + (f", {failed:,} failed" if failed else ""))

        return observe(url, trace, progress=progress, **how)


def _argument(text: str) -> tuple[str, Any]:
    """NAME=VALUE, the value as JSON where it is some."""
    import json

    from tierwise.core.errors import BadField

    name, equals, value = text.partition("=")
    if not equals or not name.strip():
        raise BadField("--engine-arg", "argument", text, "NAME=VALUE, as max_num_seqs=128")
    try:
        return name.strip().lstrip("-").replace("-", "_"), json.loads(value)
    except ValueError:
        return name.strip().lstrip("-").replace("-", "_"), value


def _key(variable: str | None) -> str:
    """The key in an environment variable; it is never shown or kept."""
    import os

    from tierwise.core.errors import TierwiseError

    if variable is None:
        return ""
    key = os.environ.get(variable, "").strip()
    if not key:
        raise TierwiseError(f"--api-key-env: the environment variable {variable} is not set or empty")
    if not (key.isascii() and key.isprintable()):
        raise TierwiseError(f"--api-key-env: what {variable} holds has characters that no header may have")
    return key
