"""A report in a terminal: a sentence, its reasons, tables. Reads well without colour and at 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

import numpy as np
from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table as RichTable
from rich.text import Text

from tierwise.report.fitted import FittedTable
from tierwise.report.layout import (
    PAGE_ONLY,
    WIDE,
    Bullets,
    Cell,
    Column,
    Command,
    Report,
    ReportSection,
    Sentences,
    Table,
)
from tierwise.report.numbers import count, with_units_kept

_STYLES = {"compute": "yellow", "memory": "blue", "cache": "cyan", "link": "red", "overhead": "dim",
           "bad": "red", "good": "green", "best": "bold"}  # fmt: skip
_LEVELS, _ASCII_LEVELS = "▁▂▃▄▅▆▇█", "_.-=+*#%"
# Stands for a space that must not break a line while it is wrapped.
_KEPT = "\ue000"


def show(report: Report, console: Console) -> None:
    """Print a report."""
    console.print()
    paragraph(console, report.headline, style="bold red" if report.alarm else "bold")
    paragraph(console, report.subtitle, style="dim")
    if report.why:
        console.print()
        paragraph(console, " ".join(report.why))
    if report.aside:
        _section(console, report.sections[report.aside])
    if report.numbers_in_terminal and report.numbers:
        heading(console, "Key numbers", report.condition)
        console.print(_inset(_key_numbers(report.numbers)))
    for name, section in report.sections.items():
        if section.terminal and name != report.aside:
            _section(console, section)
    console.print()


def heading(console: Console, text: str, remark: str = "") -> None:
    console.print()
    console.print(Text.assemble((text, "bold"), (f"  {remark}" if remark else "", "dim")))


def paragraph(console: Console, text: str, *, style: str = "", indent: str = "", first: str | None = None) -> None:
    """Text in lines that end between words, never between a number and its unit."""
    lines = textwrap.wrap(
        with_units_kept(text, _KEPT), min(console.width, 100), initial_indent=indent if first is None else first,
        subsequent_indent=indent, break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    for line in lines:
        console.print(Text(line.replace(_KEPT, " "), style=style))


def grid(columns: Sequence[str], rows: Iterable[Sequence[str | Text]] = (), left: int = 1, whole: int = 1) -> RichTable:
    """A plain table whose first ``left`` columns read from the left and whose first ``whole`` are never cut.

    To be printed as ``fitted``, or its columns fold where there is no room for them.
    """
    table = RichTable(show_edge=False, pad_edge=False)
    for i, name in enumerate(columns):
        table.add_column(Text(name), justify="left" if i < left else "right", overflow="fold", no_wrap=i < whole)
    for row in rows:
        table.add_row(*row)
    return table


def fitted(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], left: int, less: Sequence[str] = ()
) -> FittedTable:
    """A plain table whose columns give way where there is no room: those named in ``less`` first, in that order."""
    table = grid(columns, rows, left, len(columns))
    return FittedTable(table, [len(less) - less.index(name) if name in less else 0 for name in columns])


def _section(console: Console, section: ReportSection) -> None:
    body = section.body
    if section.title:
        heading(console, section.title, section.remark)
    if isinstance(body, Sentences):
        for line in body.lines:
            paragraph(console, line, indent="  ")
    elif isinstance(body, Command):
        console.print(Text("  " + body.text), soft_wrap=True)
    elif isinstance(body, Bullets):
        for about, said in body.items:
            paragraph(console, f"{about} {said}".strip(), indent="    ", first="  • ")
    elif isinstance(body, Table):
        console.print(_inset(_table(console, body)))
        left_out = _left_out(body)
        note = f"{count(left_out)} more {body.more}. {body.note}" if left_out else body.note
        if note:
            paragraph(console, note, style="dim", indent="  ")


def _inset(table: RichTable | FittedTable) -> Padding:
    return Padding(table, (0, 0, 0, 2), expand=False)


def _left_out(table: Table) -> int:
    shown = len(table.rows) if table.terminal_rows is None else min(len(table.rows), table.terminal_rows)
    return len(table.rows) + table.left_out - shown


def _key_numbers(numbers: Sequence[tuple[str, str, str]]) -> RichTable:
    table = _headless(3)
    table.columns[1].style, table.columns[2].style, table.columns[2].no_wrap = "bold", "dim", False
    for row in numbers:
        table.add_row(*row)
    return table


def _headless(columns: int) -> RichTable:
    table = RichTable(box=None, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(columns):
        table.add_column(no_wrap=True)
    return table


def _table(console: Console, described: Table) -> FittedTable:
    shown = [i for i, column in enumerate(described.columns) if console.width >= column.shown_from]
    columns = [described.columns[i] for i in shown]
    rows = described.rows[: described.terminal_rows]
    named = any(column.name for column in columns)
    table = _headed(columns, narrow=console.width < WIDE) if named else _headless(len(columns))
    for number, row in enumerate(rows):
        cells = [_cell(console, described.columns[i], row[i]) for i in shown]
        table.add_row(*cells, style="dim" if number in described.faint else "")
    for column, mine in zip(columns, table.columns, strict=True):
        mine.justify = "left" if column.left else "right"
        # Names give way before numbers do.
        if named and column is not columns[0]:
            longest = max((cell.cell_len for cell in mine.cells if isinstance(cell, Text)), default=0)
            mine.min_width = max(longest, len(column.name), _bar_width(console, column))
    gone = [c.name for c in described.columns if console.width < c.shown_from < PAGE_ONLY]
    return FittedTable(table, [c.less for c in columns], gone)


def _headed(columns: Sequence[Column], narrow: bool) -> RichTable:
    table = RichTable(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False, show_edge=False)
    for column in columns:
        table.add_column(column.name, no_wrap=True, overflow="ellipsis")
    longest = columns[0].longest
    table.columns[0].max_width = min(longest, 20) if longest and narrow else longest
    return table


def _cell(console: Console, column: Column, cell: Cell | str) -> Text:
    if isinstance(cell, str):
        return Text(cell)
    text = cell.text
    if cell.bar is not None and column.bar:
        text += share_bar(console, cell.bar, _bar_width(console, column))
    if cell.ends is not None and column.bar:
        text += ends_bar(console, cell.ends, _bar_width(console, column) // 2)
    if cell.line is not None:
        text += spark_line(console, cell.line, max(10, min(60, console.width - 40)), cell.top)
    return Text(text, style=_STYLES.get(cell.tone, ""))


def _bar_width(console: Console, column: Column) -> int:
    return column.bar if console.width >= WIDE else column.bar * 2 // 3


def share_bar(console: Console, share: float, width: int) -> str:
    """A bar of eighths of a character, or of # where the terminal has no such signs."""
    share = min(max(share, 0.0), 1.0)
    if console.options.ascii_only:
        return "#" * round(share * width)
    eighths = round(share * width * 8)
    if share > 0:
        eighths = max(eighths, 1)
    return "█" * (eighths // 8) + " ▏▎▍▌▋▊▉"[eighths % 8].strip()


def ends_bar(console: Console, ends: tuple[float, float], half: int) -> str:
    """A bar from one end to the other around a middle, each of -1 to 1 as ``half`` characters."""
    full, middle = ("#", "|") if console.options.ascii_only else ("█", "│")
    low, high = sorted(round(min(max(x, -1.0), 1.0) * half) for x in ends)
    left = "".join(full if low <= i - half < min(high, 0) else " " for i in range(half))
    right = "".join(full if max(low, 0) <= i < high else " " for i in range(half))
    return f"{left}{middle}{right}"


def spark_line(console: Console, values: Sequence[float], width: int, top: float | None) -> str:
    """The largest value of each of ``width`` parts as a row of bars, ``top`` (or the largest) full."""
    levels = _ASCII_LEVELS if console.options.ascii_only else _LEVELS
    x = np.asarray(values, dtype=float)
    width = min(width, len(x))
    peaks = np.maximum.reduceat(x, (np.arange(width) * len(x)) // width)
    whole = max(float(peaks.max()) if top is None else top, 1e-300)
    level = np.clip(np.ceil(peaks / whole * len(levels)).astype(int) - 1, 0, len(levels) - 1)
    return "".join(" " if p <= 0 else levels[i] for p, i in zip(peaks, level, strict=True))
