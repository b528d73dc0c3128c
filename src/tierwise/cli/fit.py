"""``tierwise fit``: which formats of a model fit on which machines, with how long a context, and how fast."""

from __future__ import annotations

import typer

from tierwise.scenario.fields import FIELDS

MOST = 24  # machines of one table
LEAST = 1e6  # bytes: no GPU has less memory
_AS = FIELDS["read_as"]


def command(
    model: str = typer.Argument(..., metavar="MODEL", help="Catalog name, one that people use, or a config.json."),
    machine: list[str] = typer.Option(
        [], "--on", metavar="MACHINE", help="Machine; more by commas or again (default: eight ordinary ones)."
    ),
    vram: str | None = typer.Option(
        None, "--vram", metavar="SIZE", help="Every GPU of the catalog with so much memory: 12GB."
    ),
    quant: list[str] = typer.Option(
        [], "--quant", metavar="FORMAT",
        help="Format of the weights; more by commas or again (default: bf16, Q8_0, Q4_K_M).",
    ),
    context: list[str] = typer.Option(
        [], "--context", metavar="TOKENS", help="Tokens of a conversation; more by commas or again (default: 8k)."
    ),
    read_as: str | None = typer.Option(None, _AS.option, help=_AS.help, metavar=_AS.metavar),
    html: str | None = typer.Option(None, metavar="FILE", help=FIELDS["html"].help),
    table: str | None = typer.Option(None, metavar="FILE", help=FIELDS["table"].help),
    json: str | None = typer.Option(None, metavar="FILE", help='Write the table as JSON; "-" prints it.'),
) -> None:
    """Say what of a model fits where: `tierwise fit llama-3.1-8b --vram 12GB`."""
    from tierwise.cli import Stopped
    from tierwise.cli._files import write_json
    from tierwise.cli._progress import each
    from tierwise.core.errors import BadField, TierwiseError
    from tierwise.core.files import check_writable, write
    from tierwise.core.units import parse
    from tierwise.models.load import spelled_as
    from tierwise.report.fit_report import advise, described, of_size, ordinary, row
    from tierwise.report.made import made_by
    from tierwise.report.tables import ENDINGS, write_table

    machine, quant, context = _apart(machine), _apart(quant), _apart(context)
    for target in (html, json):
        if target is not None:
            check_writable(target)
    if table is not None:
        check_writable(table, ENDINGS)
    if machine and vram is not None:
        raise TierwiseError("--on and --vram: name machines, or how much memory, not both")
    lengths = [parse(c, "count", "--context") for c in context or ["8k"]]
    for text, length in zip(context or ["8k"], lengths, strict=True):
        if length < 2 or length != int(length):
            raise BadField("--context", "value", text, "a whole number of at least 2 tokens")
    model = spelled_as(model, read_as)
    usual = ordinary()
    names = machine or usual["machines"]
    if vram is not None:
        size = parse(vram, "bytes", "--vram")
        if size < LEAST:
            bare = vram.removesuffix("B").strip()
            raise TierwiseError(f"--vram: found {vram!r}, a size without its unit: {bare}GB?")
        names = of_size(size)[:MOST]
        if not names:
            raise BadField("--vram", "value", vram, "a size that a GPU of the catalog has, such as 8GB, 12GB, 24GB")
    wanted = [(n, q, c) for n in names for q in quant or usual["formats"] for c in lengths]
    looked = (row(_scenario(model, n, q, c), n, q, c) for n, q, c in wanted)
    rows, stopped = each(looked, "looking what fits", len(wanted), lambda r: str(r["machine"]))
    rows = advise(rows)
    found = {"made_by": made_by(), "model": model, "rows": rows}
    if html is not None:
        from tierwise.report.page import page

        write(html, page(described(found), "fit", (), found))
    if table is not None:
        write_table(table, rows)
    if json is not None:
        write_json(json, found)
    if json != "-":
        from tierwise.report.console import console
        from tierwise.report.terminal import show

        show(described(found), console())
        for what, place in (("report", html), ("table", table), ("JSON", json)):
            if place is not None:
                print(f"{what} written to {place}")
    if stopped:
        raise Stopped


def _apart(values: list[str]) -> list[str]:
    """What was given again and again, or between commas."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


def _scenario(model: str, machine: str, quant: str, context: float) -> object:
    """One conversation of that length, an eighth of it the answer; under an engine that has the format for its own."""
    import shlex

    from tierwise import engines
    from tierwise.cli._scenario import from_text
    from tierwise.core.errors import TierwiseError
    from tierwise.machines import system

    output = max(int(context // 8), 1)
    try:
        name = engines.of_format(quant, system(machine).device.family)
    except TierwiseError:
        name = ""  # the scenario says what is wrong with the machine
    engine = f" --engine {name}" if name else ""
    text = f"{shlex.quote(model)} --on {shlex.quote(machine)} --weights {shlex.quote(quant)} --batch 1"
    return from_text(f"{text} --prompt {int(context) - output} --output {output}{engine}")[0]
