"""The report in a terminal: a sentence, its reasons, tables. Reads well without colour and at 80 columns."""

from __future__ import annotations

import textwrap
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tierwise.core.units import gb, seconds, si
from tierwise.report import words
from tierwise.report.data import scalar_dict
from tierwise.result import Result

Json = dict[str, Any]

_STYLES = {"compute": "yellow", "memory": "blue", "cache": "cyan", "link": "red", "overhead": "dim"}


def show(
    result: Result,
    console: Console,
    *,
    advice: list[Json] | None = None,
    largest_batch: object = None,
    longest_context: object = None,
    ops: bool | int = 12,
) -> None:
    """Print a report.

    Args:
        advice: what would help; for a scenario that does not fit, the nearest plans that do.
        largest_batch, longest_context: what still fits, where the caller has looked for it.
        ops: how many rows of the table of ops; True for all, False or 0 for no table.

    Raises:
        TierwiseError: the result is a sweep.
    """
    found = {"largest_batch": largest_batch, "longest_context": longest_context}
    d = scalar_dict(result, "terminal report", advice, **found)
    fits = d["summary"]["fits"]
    console.print()
    paragraph(console, d["text"]["headline"], style="bold" if fits else "bold red", indent="")
    paragraph(console, words.subtitle(d), style="dim", indent="")
    console.print()
    paragraph(console, " ".join(d["text"]["why"]), indent="")
    _advice(console, d)
    _numbers(console, d)
    _phases(console, d)
    if ops:
        limit = None if ops is True else int(ops)
        for phase in d["phases"]:
            _ops(console, d, phase, limit)
    _memory(console, d)
    _rests_on(console, d)


def heading(console: Console, text: str, remark: str = "") -> None:
    console.print()
    console.print(Text.assemble((text, "bold"), (f"  {remark}" if remark else "", "dim")))


def paragraph(
    console: Console, text: str, *, style: str = "", indent: str = "  ", first: str | None = None
) -> None:
    """Text in lines that end between words, never between a number and its unit."""
    kept = words.together(text, "\ue000")
    lines = textwrap.wrap(
        kept, min(console.width, 100), initial_indent=indent if first is None else first,
        subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    for line in lines:
        console.print(Text(line.replace("\ue000", " "), style=style))


def _advice(console: Console, d: Json) -> None:
    entries = words.advice_texts(d["advice"])
    if entries:
        heading(console, "What would help" if d["summary"]["fits"] else "Nearest plans that fit")
        for title, text in entries:
            paragraph(console, f"{title} {text}".strip(), indent="    ", first="  • ")


def _numbers(console: Console, d: Json) -> None:
    heading(console, "Key numbers", "" if d["summary"]["fits"] else "if it fitted")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="dim")
    for name, value, remark in words.key_numbers(d):
        table.add_row(name, value, remark)
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def plain_table(*columns: str, left: int = 1) -> Table:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for i, name in enumerate(columns):
        table.add_column(name, justify="left" if i < left else "right", no_wrap=True, overflow="ellipsis")
    return table


def _phases(console: Console, d: Json) -> None:
    memory = next(t["name"] for t in d["scenario"]["machine"]["tiers"] if t["kind"] == "memory")
    heading(console, "Phases", "traffic and FLOP of one pass through all layers on one device")
    table = plain_table("phase", "passes", "a pass", "total", "bound by", memory, "FLOP", "MFU", "MBU")
    for p in d["phases"]:
        table.add_row(
            p["name"],
            words.count(p["passes"]),
            seconds(p["pass_time_s"]),
            seconds(p["time_s"]),
            _bound(d, p["bound_by"]),
            gb(p["bytes"].get(memory, 0.0)),
            si(p["flops"]),
            _percent(p["mfu"]),
            _percent(p["mbu"]),
        )
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    note = "MFU: arithmetic done over what the device could do. MBU: memory traffic over what it could carry."
    piped = [p["name"] for p in d["phases"] if p["fill"] != 1]
    if piped:
        note += f" The total of {' and '.join(piped)} includes filling the pipeline."
    paragraph(console, note, style="dim")


def _ops(console: Console, d: Json, phase: Json, limit: int | None) -> None:
    rows = sorted(words.grouped(phase["ops"]), key=lambda op: -op["time_s"])
    shown = rows[:limit]
    rest = rows[len(shown) :]
    several = len({op["layer"] for op in rows}) > 3  # otherwise the op says it: input, layer, output
    unit = "step" if phase["name"] == "decode" else "pass"
    heading(console, f"Ops of one {phase['name']} {unit}", f"{seconds(phase['pass_time_s'])}")
    narrow = console.width < 96
    bar = 0 if narrow else 12
    memory = next(t["name"] for t in d["scenario"]["machine"]["tiers"] if t["kind"] == "memory")
    headers = ["op", "runs", "time", "share", *([""] if bar else []), "bound by", "FLOP", memory]
    if not narrow:
        headers.append("FLOP/B")
    table = plain_table(*headers)
    if bar:
        table.columns[4].justify, table.columns[4].min_width = "left", bar
    table.columns[0].max_width = 20 if narrow else 34
    table.columns[headers.index("bound by")].justify = "left"
    kinds = words.tier_kinds(d)
    for op in shown:
        name = f"{op['layer']}/{op['name']}" if several else op["name"]
        cells = [name, words.count(op["count"]), seconds(op["time_s"]), _percent(op["share"])]
        if bar:
            cells.append(share_bar(console, op["share"], bar))
        moved = op["bytes"].get(memory, 0.0)
        intensity = op["flops"] / moved if moved and op["flops"] else None
        style = _STYLES[words.family(d, op["bound_by"])]
        stays = any(kinds.get(tier) in ("cache", "scratchpad") for tier in op["bytes"])
        work = [si(op["flops"]) if op["flops"] else "–", gb(moved) if moved else "on chip" if stays else "–"]
        if not narrow:
            work.append(words.rate(intensity) if intensity else "–")
        table.add_row(*[Text(c) for c in cells], Text(words.resource(op["bound_by"]), style=style), *work)
    if rest:
        left = sum(op["time_s"] for op in rest)
        share = sum(op["share"] for op in rest)
        runs = words.count(sum(op["count"] for op in rest))
        cells = [f"{len(rest)} more", runs, seconds(left), _percent(share)]
        table.add_row(*cells, *([share_bar(console, share, bar)] if bar else []), style="dim")
    # Names give way before numbers do.
    for column in table.columns[1:]:
        longest = max((_plain_width(cell) for cell in column.cells), default=0)
        column.min_width = max(column.min_width or 0, longest, len(str(column.header)))
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _plain_width(cell: object) -> int:
    return cell.cell_len if isinstance(cell, Text) else len(str(cell))


def _memory(console: Console, d: Json) -> None:
    m = d["memory"]
    over = m["free"] < 0
    heading(console, "Memory of the fullest device", f"{gb(m['peak'])} of {gb(m['capacity'])}")
    whole = max(m["capacity"], m["peak"])
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    width = 30 if console.width >= 96 else 20
    rows = [*m["parts"].items(), ("too much" if over else "free", abs(m["free"]))]
    for name, size in rows:
        last = name in ("free", "too much")
        style = ("red" if over else "green") if last else ""
        share = share_bar(console, size / whole, width)
        table.add_row(name, gb(size), _percent(size / m["capacity"]), share, style=style)
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _rests_on(console: Console, d: Json) -> None:
    heading(console, "What this rests on", words.basis_title(d))
    prices = d["sources"]["prices"]
    lines = [words.basis_text(d), f"Kernel efficiencies: {prices['calibration']} ({prices['source']})"]
    if d["sources"]["model"]:
        lines.append(f"Model: {d['sources']['model']}")
    lines += [f"Note: {note}" for note in d["notes"]]
    for line in lines:
        paragraph(console, line)
    console.print()


def _bound(d: Json, name: str) -> Text:
    return Text(words.resource(name), style=_STYLES[words.family(d, name)])


def _percent(x: float | None) -> str:
    if x is None:
        return "–"
    if x >= 0.001:
        return f"{100 * x:.0f} %" if x >= 0.095 else f"{100 * x:.1f} %"
    return "<0.1 %" if x > 0 else "0 %"


def share_bar(console: Console, share: float, width: int) -> str:
    """A bar of eighths of a character, or of # where the terminal has no such signs."""
    share = min(max(share, 0.0), 1.0)
    if console.options.ascii_only:
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()
