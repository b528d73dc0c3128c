"""``tierwise allocate``: where buffers with lifetimes lie in one arena, exactly."""

from __future__ import annotations

from pathlib import Path

import typer


def command(
    path: Path = typer.Argument(
        ..., help="CSV with id, lower, upper, size; a buffer lives from lower to before upper."
    ),
    capacity: str | None = typer.Option(
        None, "--capacity", help="Bytes of the arena: 1048576, 1MiB (default: the least that is found)."
    ),
    limit: str = typer.Option("60s", "--time", help="Time to search at most."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the buffers with their offsets (CSV)."),
    html: Path | None = typer.Option(None, "--html", help="Write a picture of the packing."),
    json: Path | None = typer.Option(None, "--json", help="Write everything as JSON; - prints it."),
) -> None:
    """Pack buffers into an arena: `tierwise allocate buffers.csv --capacity 1MiB -o offsets.csv`."""
    import json as jsonlib

    from tierwise.cli._progress import progress
    from tierwise.core.errors import BadField
    from tierwise.core.files import write
    from tierwise.core.units import parse
    from tierwise.memory.packing import pack, read, smallest, verified
    from tierwise.report.packing_report import described, table, to_dict

    seconds = parse(limit, "time", "--time")
    if seconds <= 0:
        raise BadField("--time", "value", limit, "a time above 0")
    room = None if capacity is None else parse(capacity, "bytes", "--capacity")
    if room is not None and (room < 0 or room != int(room)):
        raise BadField("--capacity", "value", capacity, "a whole number of bytes")
    buffers = read(path)

    with progress("searching") as tell:

        def told(nodes: int, so_far: float) -> None:
            tell("searching", 0, 0, f"{nodes:,} placements")

        least = room is None
        found = smallest(buffers, seconds, told) if least else pack(buffers, int(room or 0), seconds, told)
    size = found.height if room is None else int(room)
    assert found.offsets is None or verified(buffers, found.offsets, size)
    data = to_dict(buffers, found, None if room is None else int(room))
    if out is not None:
        if found.offsets is None:
            raise BadField("--out", "offsets", found.status, "a packing, and there is none to write")
        write(str(out), table(buffers, found.offsets))
    report = described(data, path.name)
    if html is not None:
        from tierwise.report.page import page

        write(str(html), page(report, "packing", ("base.js", "packing.js"), data))
    if json is not None:
        text = jsonlib.dumps(data, indent=1)
        print(text) if str(json) == "-" else write(str(json), text)
    if str(json) != "-":
        from tierwise.report.console import console
        from tierwise.report.terminal import show

        show(report, console())
        for what, target in (("offsets", out), ("picture", html), ("JSON", json)):
            if target is not None:
                print(f"{what} written to {target}")
