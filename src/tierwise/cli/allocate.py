"""``tierwise allocate``: where buffers with lifetimes lie in one arena, and in which order a graph runs in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import typer


def command(
    path: str = typer.Argument(
        ..., help="CSV with id, lower, upper, size (a buffer lives from lower to before upper), or a graph (*.onnx)."
    ),
    capacity: str | None = typer.Option(
        None, "--capacity", help="Bytes of the arena: 1048576, 1MiB (default: the machine's, or the least found)."
    ),
    on: str | None = typer.Option(None, "--on", help="Machine whose on-chip memory is the arena of a graph."),
    tier: str | None = typer.Option(None, "--tier", help="Which of its memories (default: its scratchpad)."),
    activations: str | None = typer.Option(
        None, "--activations", help="Format of a graph's tensors (default: the file's own)."
    ),
    separate: bool = typer.Option(
        False, "--separate", help="Each node of the graph by itself, not joined as accelerators' compilers join them."
    ),
    patches: bool = typer.Option(
        False, "--patches", help="On a microcontroller: the first operators in patches where the arena is too small."
    ),
    image_outside: bool = typer.Option(
        False, "--image-outside", help="With --patches: the image is read where it lies, not from the arena."
    ),
    runtime: str = typer.Option(
        "", "--runtime", help="With --patches: what runs it, such as tflite-micro (else tensors alone)."
    ),
    limit: str = typer.Option("60s", "--time", help="Time to search at most."),
    out: Path | None = typer.Option(None, "--out", "-o", help="Write the buffers with their offsets (CSV)."),
    html: Path | None = typer.Option(None, "--html", help="Write a picture of the packing."),
    json: Path | None = typer.Option(None, "--json", help="Write everything as JSON; - prints it."),
) -> None:
    """Pack buffers, or order a graph's operators: `tierwise allocate model.onnx --on npu-1MB-sram`."""
    from tierwise.core.errors import BadField
    from tierwise.core.files import check_writable
    from tierwise.core.units import parse

    seconds = parse(limit, "time", "--time")
    if seconds <= 0:
        raise BadField("--time", "value", limit, "a time above 0")
    room = None if capacity is None else parse(capacity, "bytes", "--capacity")
    if room is not None and (room < 0 or room != int(room)):
        raise BadField("--capacity", "value", capacity, "a whole number of bytes")
    if sum(str(x) == "-" for x in (out, html, json)) > 1:
        raise BadField("--json", "value", "-", "one file to print; the others need names")
    for target in (out, html, json):
        if target is not None:
            check_writable(str(target), ())
    whole = None if room is None else int(room)
    if image_outside and not patches:
        raise BadField("--image-outside", "value", True, "together with --patches")
    if runtime and not patches:
        raise BadField("--runtime", "value", runtime, "together with --patches")
    if patches:
        for name, given in (("--capacity", capacity), ("--tier", tier), ("--separate", separate), ("-o", out),
                            ("--html", html)):  # fmt: skip
            if given:
                raise BadField(name, "value", given, "nothing beside --patches: the chip says what there is")
        data, rows, report = _patches(path, on, activations, image_outside, runtime)
    elif ".onnx" in path:
        data, rows, report = _graph(path, whole, on, tier, activations, separate, seconds)
    else:
        for name, given in (("--on", on), ("--tier", tier), ("--activations", activations), ("--separate", separate)):
            if given:
                raise BadField(name, "value", given, "nothing: buffers of a table have their sizes; a graph is *.onnx")
        data, rows, report = _buffers(Path(path), whole, seconds)
    _written(data, rows, report, out, html, json)


def _buffers(path: Path, room: int | None, seconds: float) -> tuple[dict[str, Any], str | None, Any]:
    """(data, offsets as CSV, report) of packing a table of buffers."""
    from tierwise.cli._progress import progress
    from tierwise.memory.packing import pack, read, smallest, verified
    from tierwise.report.packing_report import described, table, to_dict

    buffers = read(path)
    with progress("searching") as tell:

        def told(nodes: int, so_far: float) -> None:
            tell("searching", 0, 0, f"{nodes:,} placements")

        found = smallest(buffers, seconds, told) if room is None else pack(buffers, room, seconds, told)
    size = found.height if room is None else room
    assert found.offsets is None or verified(buffers, found.offsets, size)
    data = to_dict(buffers, found, room)
    return data, None if found.offsets is None else table(buffers, found.offsets), described(data, path.name)


def _graph(
    path: str, room: int | None, on: str | None, tier: str | None, form: str | None, separate: bool, seconds: float
) -> tuple[dict[str, Any], str | None, Any]:
    """(data, offsets as CSV, report) of ordering a graph's operators in a scratchpad."""
    from tierwise.cli._progress import progress
    from tierwise.core.numerics import fmt
    from tierwise.memory.packing import verified
    from tierwise.memory.patches import least_room
    from tierwise.memory.spilling import scheduled
    from tierwise.memory.tensors import FUSED, capacity_of, graph, model_ops
    from tierwise.models.load import load_model
    from tierwise.report.packing_report import table
    from tierwise.report.spilling_report import described, to_dict
    from tierwise.scenario.types import Plan

    asked = (on, tier, room) != (None, None, None)
    place, room = capacity_of(on, tier, room) if asked else ("the least arena that nothing has to leave", 0)
    model = load_model(path)
    ops = model_ops(model, Plan(), rules=None if separate else FUSED)
    g = graph(ops, None if form is None else fmt(form))
    room = room if asked else least_room(g)
    with progress("ordering") as tell:

        def told(done: int, parts: int, states: int) -> None:
            tell("ordering", done, parts, f"{states:,} states")

        found = scheduled(g, room, seconds, told)
    assert found.best.offsets is not None and verified(found.best.stays, found.best.offsets, room)
    data = to_dict(g, found, room, place)
    return data, table(found.best.stays, found.best.offsets), described(data, model.name)


def _patches(
    path: str, on: str | None, form: str | None, image_outside: bool, runtime: str
) -> tuple[dict[str, Any], None, Any]:
    """(data, no offsets, report) of a network on a microcontroller."""
    from tierwise.core.errors import TierwiseError
    from tierwise.report.mcu_report import described, to_dict
    from tierwise.search.mcu import on_chip

    if on is None:
        raise TierwiseError("--patches: found no machine; allowed: a microcontroller, --on stm32h743")
    found = on_chip(path, on, form or "int8", image_outside, runtime=runtime)
    data = to_dict(found, on)
    return data, None, described(data, Path(path).stem)


def _written(
    data: dict[str, Any], rows: str | None, report: Any, out: Path | None, html: Path | None, json: Path | None
) -> None:
    import json as jsonlib

    from tierwise.core.errors import BadField
    from tierwise.core.files import write

    if out is not None:
        if rows is None:
            raise BadField("--out", "offsets", data["status"], "a packing, and there is none to write")
        write(str(out), rows)
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
