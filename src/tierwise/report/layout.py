"""What a report is made of. ``explain_report``, ``plan_report`` and ``serving_report`` describe theirs with these;
:mod:`~tierwise.report.terminal` and :mod:`~tierwise.report.page` draw them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

# Columns of a terminal from which on there is room for what only helps; readable without at 80.
WIDE = 96
PAGE_ONLY = 1_000_000


@dataclass(frozen=True)
class Cell:
    """A value in a table.

    Attributes:
        text: what it says. ``tone``: why it stands out: ``bad``, ``good``, or the kind of a resource.
        ends: of a bar that reaches so far to either side of a middle, each -1 to 1 (a tornado).
        bar: a share of 1, drawn as a bar beside the text. ``line``: a series, drawn as a line of bars in its place,
            of which ``top`` (else its largest value) is full.
    """

    text: str = ""
    tone: str = ""
    bar: float | None = None
    line: Sequence[float] | None = None
    top: float | None = None
    ends: tuple[float, float] | None = None


@dataclass(frozen=True)
class Column:
    """A column: its name, whether it reads from the left, and the width of a terminal from which on it is shown.

    ``longest`` limits the names of a first column in a terminal; None lets them give way only where they must. ``bar``:
    characters that a full bar takes in a wide terminal, where its bars are shown in one at all. ``less``: how soon it
    gives way where there is no room, the larger the sooner.
    """

    name: str = ""
    left: bool = False
    shown_from: int = 0
    longest: int | None = None
    bar: int = 0
    less: int = 0


@dataclass(frozen=True)
class Table:
    """Rows of cells, and a note below.

    Attributes:
        columns: without a name in any of them, the table has no head.
        rows: each as long as ``columns``. ``faint``: the numbers of rows that only sum up.
        note: said below. ``more``: what rows beyond ``terminal_rows`` are, in the plural; ``left_out``: how many more
            there are that ``rows`` does not hold.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Sequence[Cell | str]]
    note: str = ""
    more: str = ""
    terminal_rows: int | None = None
    left_out: int = 0
    faint: frozenset[int] = frozenset()


@dataclass(frozen=True)
class Bullets:
    """Items of (what it is about, what is said of it); either may be empty."""

    items: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Sentences:
    """Paragraphs."""

    lines: Sequence[str]


@dataclass(frozen=True)
class Facts:
    """(name, text) pairs, for pages alone."""

    rows: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Command:
    """A command line, to be copied: never broken by what shows it."""

    text: str


Body: TypeAlias = Table | Bullets | Sentences | Facts | Command


@dataclass(frozen=True)
class ReportSection:
    """A titled part.

    Attributes:
        title, remark: above it. ``terminal``: whether a terminal shows it (a page shows what its template names).
        element: id of the page's section, where the template has none around it.
    """

    title: str
    body: Body
    remark: str = ""
    terminal: bool = True
    element: str = ""


@dataclass(frozen=True)
class Report:
    """Everything said in one report.

    Attributes:
        title: of the page's window. ``subject``, ``place``: its heading (``tiny-llm`` ``on 1 × Test chip``).
        headline: the answer in one sentence; ``alarm`` where it is bad news. ``state``: of the page, for its colours.
        why: sentences that give the reasons, under ``why_title``.
        numbers: (name, value, remark) of those people ask for first; ``condition``: under which they hold.
        hero: the name of the number that a page shows large; the first unless given.
        aside: the section that stands beside the reasons.
        sections: in the order of a terminal; a page's template names those it shows.
    """

    title: str
    subject: str
    place: str
    subtitle: str
    headline: str
    state: str
    alarm: bool
    why: Sequence[str]
    numbers: Sequence[tuple[str, str, str]]
    sections: Mapping[str, ReportSection] = field(default_factory=dict)
    why_title: str = "Why"
    condition: str = ""
    numbers_in_terminal: bool = True
    aside: str = ""
    hero: str = ""
