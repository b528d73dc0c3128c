"""The reports on papers, for a terminal and as a page: where each stands, and what became of every claim."""

from __future__ import annotations

import math
from collections import Counter

from tierwise.papers.types import NEEDS_FEATURE, NEEDS_SETUP, REPRODUCED, Outcome, Paper, standing
from tierwise.report.layout import Bullets, Cell, Column, Report, ReportSection, Table
from tierwise.report.numbers import UNKNOWN, count, things
from tierwise.report.papers import NO_NUMBER, Rows, published, tally

_TONE = {"reproduced": "good", "off": "bad"}
_STATES = ("off", "blind", "unread", "identity", NEEDS_SETUP, NEEDS_FEATURE)
_MEANING = (
    "Reproduced: every claim of the abstract that the engine can express came out and no further result of the same "
    "metric is off. Partly: n of the m claims that count. What follows from stated inputs alone (identity) never "
    "counts; what comes out on wrong engines as well (blind) reproduces nothing, nor does a number written down from "
    "memory until it is compared with its paper (unread)."
)


def states(found: Rows) -> Report:
    """One row a paper: where it stands and how many of its claims stand behind it."""
    columns = (Column("paper", left=True, longest=34), Column("state", left=True), Column("reproduced"),
               *(Column(name, less=9 - i) for i, name in enumerate(_STATES)))  # fmt: skip
    rows: list[list[Cell | str]] = []
    for paper, outcomes in found:
        many = Counter(o.state for o in outcomes)
        said = f"{many[REPRODUCED]} of {len(outcomes)}"
        rows.append([paper.slug, _state(outcomes), said, *(str(many[s] or "") for s in _STATES)])
    table = ReportSection("Where they stand", Table(columns, rows, _MEANING), element="states")
    return _report("Papers", "as tests", found, {"states": table})


def claims(found: Rows) -> Report:
    """Every claim with the published and the computed value, a section a paper."""
    sections: dict[str, ReportSection] = {}
    for i, (paper, outcomes) in enumerate(found):
        title, remark = f"{paper.slug}: {_stands(outcomes)}", f"{paper.title}. {paper.mechanism}"
        sections[f"claims{i}"] = ReportSection(title, _claims(outcomes), remark, element=f"claims{i}")
        if items := _said(paper, outcomes):
            sections[f"said{i}"] = ReportSection("What it assumes, and why not", Bullets(items), element=f"said{i}")
    names = [paper.slug for paper, _ in found]
    subject = names[0] if len(names) == 1 else things(len(names), "paper")
    return _report(subject, "claim by claim", found, sections)


def _report(subject: str, place: str, found: Rows, sections: dict[str, ReportSection]) -> Report:
    every = [o for _, outcomes in found for o in outcomes]
    good = sum(o.state == REPRODUCED for o in every)
    return Report(
        title=f"Tierwise: {subject} {place}",
        subject=subject,
        place=place,
        subtitle="published numbers beside those of the engine",
        headline=tally(found) + ".",
        state="fits",
        alarm=False,
        why=(),
        numbers=[("Claims reproduced", count(good), f"of {count(len(every))}")],
        numbers_in_terminal=False,
        sections=sections,
    )


def _stands(outcomes: list[Outcome]) -> str:
    stands = standing(outcomes)
    return f"{stands}" + ("" if stands.abstract else f" ({NO_NUMBER})")


def _state(outcomes: list[Outcome]) -> Cell:
    return Cell(_stands(outcomes), _TONE.get(standing(outcomes).state, ""))


def _claims(outcomes: list[Outcome]) -> Table:
    columns = (Column("claim", left=True), Column("published"), Column("engine"), Column("deviation", less=1),
               Column("state", left=True))  # fmt: skip
    rows: list[list[Cell | str]] = []
    for o in outcomes:
        apart = UNKNOWN
        if math.isfinite(o.deviation):
            apart = f"{o.deviation:+.3f}" if o.claim.kind == "exponent" else f"{100 * o.deviation:+.1f} %"
        value = f"{o.value:,.4g}" if math.isfinite(o.value) else UNKNOWN
        what = o.claim.what + (" (further result)" if o.claim.extra else "")
        rows.append([what, published(o.claim), value, apart, Cell(o.state, _TONE.get(o.state, ""))])
    return Table(columns, rows)


def _said(paper: Paper, outcomes: list[Outcome]) -> list[tuple[str, str]]:
    """Why claims did not come out, and what the paper's scenario assumes."""
    short = [(f"{o.claim.what}:", str(o.error or o.claim.why))
             for o in outcomes if o.state != REPRODUCED and (o.error or o.claim.why)]  # fmt: skip
    return [*short, *(("", text) for text in paper.assumptions)]
