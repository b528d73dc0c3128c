"""``tierwise observe``: send traffic to a live OpenAI-compatible server, and record when every token came."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from tierwise.cli._flags import STREAM, Flags, flags

if TYPE_CHECKING:
    from tierwise.measure.observe import Recording
    from tierwise.serving.traffic.trace import Trace


@flags(*(name for name in STREAM if name != "search"), model=None, requests=100)
def command(
    asked: Flags,
    url: str = typer.Option(..., metavar="URL", help="The server: http://127.0.0.1:8000. Nothing else is talked to."),
    model: str | None = typer.Option(None, help="Name the server knows it by (default: the only one it has)."),
    endpoint: str | None = typer.Option(None, help="completions or chat (default: the first that the server has)."),
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
    how = {"model": model, "endpoint": endpoint, "key": key, "timeout": patience, "seed": asked.seed}
    found = _recorded(url, _traffic(asked), how)
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


def _traffic(asked: Flags) -> Trace:
    from dataclasses import replace

    from tierwise.core.errors import TierwiseError
    from tierwise.serving import traffic

    load = asked.load()
    if sum(name in load for name in ("trace", "rate")) + ("trace" not in load and "concurrency" in load) != 1:
        raise TierwiseError("what is sent? Give one of --trace FILE, --rate 4/s, --concurrency 32")
    concurrency = load.get("concurrency")
    if "trace" in load:
        found = traffic.load(load["trace"], asked.format, limit=asked.limit, rate_scale=asked.rate_scale)
        if asked.asks("arrivals"):
            found = traffic.arriving(found, asked.arrivals, seed=asked.seed)
        return found if concurrency is None else replace(found, closed_loop=concurrency)
    return traffic.synthetic(
        asked.requests, asked.arrivals, rate=load["rate"] * asked.rate_scale if "rate" in load else None,
        concurrency=concurrency, prompt=asked.prompt, output=asked.output, turns=asked.turns, think=asked.think,
        system=asked.shared, seed=asked.seed,
    )  # fmt: skip


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
