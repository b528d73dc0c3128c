"""A table in the room there is: whole columns give way, the least important first, and a line says which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

LEAST_NAME = 12  # characters that a first column keeps before others give way


class FittedTable:
    """A Rich table that is never cut without a mark."""

    def __init__(self, table: Table, less: Sequence[int] = (), gone: Sequence[str] = ()) -> None:
        """A table to fit.

        Args:
            less: of each column, how soon it gives way: the larger, the sooner; of equals the rightmost. The first
                never does.
            gone: names of columns that were left out before.
        """
        self.table, self.gone = table, [name for name in gone if name]
        self.less = list(less) or [0] * len(table.columns)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        kept = list(range(len(self.table.columns)))
        while len(kept) > 2 and (
            self._width(console, options, kept) > options.max_width or self._alike(console, options, kept)
        ):
            kept.remove(max(kept[1:], key=lambda i: (self.less[i], i)))
        names = [str(c.header) for i, c in enumerate(self.table.columns) if i not in kept]
        yield self._shortened(console, options, self._of(kept))
        if told := [*self.gone, *filter(None, names)]:
            yield Text(f"no room at {console.width} characters: {', '.join(told)}", style="dim", overflow="fold")

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        whole = Measurement.get(console, options.update(max_width=10_000), self.table).maximum
        return Measurement(min(20, options.max_width), min(whole, options.max_width))

    def _width(self, console: Console, options: ConsoleOptions, kept: Sequence[int]) -> int:
        """Characters of these columns as they want to be; of the first, where its names may be shortened, the least."""
        table = self._of(kept)
        whole = Measurement.get(console, options.update(max_width=10_000), table).maximum
        first = table.columns[0]
        wanted = [Measurement.get(console, options.update(max_width=10_000), cell).maximum for cell in first.cells]
        shown = min(max(wanted, default=0), first.max_width or 10_000)
        if first.overflow == "fold" and first.no_wrap:
            return whole
        return whole - max(shown - max(LEAST_NAME, len(str(first.header))), 0)

    def _alike(self, console: Console, options: ConsoleOptions, kept: Sequence[int]) -> bool:
        """Whether names of the first column, as short as these columns leave room for, could no longer be told apart
        that can be at the length that the column allows."""
        first = self._shortened(console, options, self._of(kept)).columns[0]
        whole = self.table.columns[0]
        names = {cell.plain if isinstance(cell, Text) else str(cell) for cell in whole.cells}
        most = whole.max_width or 10_000
        return len({_cut(n, first.max_width or most) for n in names}) < len({_cut(n, most) for n in names})

    def _shortened(self, console: Console, options: ConsoleOptions, table: Table) -> Table:
        """The table with the names of its first column as short as the others leave room for; Rich takes from all."""
        over = Measurement.get(console, options.update(max_width=10_000), table).maximum - options.max_width
        first = table.columns[0]
        if over <= 0 or (first.overflow == "fold" and first.no_wrap):
            return table
        wanted = [Measurement.get(console, options.update(max_width=10_000), cell).maximum for cell in first.cells]
        shown = min(max(wanted, default=0), first.max_width or 10_000)
        out = self._empty()
        out.columns = [replace(first, max_width=max(shown - over, 1)), *table.columns[1:]]
        out.rows = table.rows
        return out

    def _of(self, kept: Sequence[int]) -> Table:
        """The table with these columns only."""
        if len(kept) == len(self.table.columns):
            return self.table
        out = self._empty()
        out.columns = [replace(self.table.columns[i], _index=n) for n, i in enumerate(kept)]
        out.rows = self.table.rows
        return out

    def _empty(self) -> Table:
        """A table that looks alike."""
        t = self.table
        return Table(box=t.box, padding=t.padding, pad_edge=t.pad_edge, show_edge=t.show_edge,
                     show_header=t.show_header)  # fmt: skip


def _cut(name: str, width: int) -> str:
    return name if len(name) <= width else name[: max(width - 1, 0)]
