"""The report on two answers, for a terminal and as a page, from the JSON form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tierwise.core.units import gb, joules, seconds
from tierwise.report.comparison import factor
from tierwise.report.layout import Cell, Column, Report, ReportSection, Sentences, Table
from tierwise.report.made import text as made_text
from tierwise.report.numbers import UNKNOWN

Json = dict[str, Any]

ROWS = 8  # causes that a terminal shows
LONGEST = 24  # characters of a value


def described(d: Json) -> Report:
    """The report of :func:`tierwise.report.difference.difference`'s form."""
    sections = {"code": ReportSection("Made by", Sentences(_made(d)), element="code")}
    if d["inputs"]:
        sections["inputs"] = ReportSection("What was asked", _fields(d["inputs"]), "what differs", element="inputs")
    if d["chosen"]:
        sections["chosen"] = ReportSection("What was chosen", _fields(d["chosen"]), "what differs", element="chosen")
    if d["numbers"]:
        sections["numbers"] = _numbers(d["numbers"])
    for name, title, remark, unit in (
        ("time", "What moved the time", "seconds of the batch by phase and class of op", seconds),
        ("resources", "By what binds", "seconds of the batch by phase and resource", seconds),
        ("memory", "Memory", "bytes of the fullest device", gb),
        ("energy", "Energy", "joules of the batch", joules),
    ):
        if d[name]:
            sections[name] = _causes(title, remark, d[name], unit)
    return Report(
        title=f"Tierwise: {d['before']} and {d['after']}",
        subject=d["before"],
        place=f"and {d['after']}",
        subtitle=f"{d['kind']}: the second beside the first",
        headline=_headline(d),
        state="fits",
        alarm=False,
        why=(),
        numbers=(),
        sections=sections,
    )


def _headline(d: Json) -> str:
    """The time, by how much it moved and why."""
    if not (d["inputs"] or d["numbers"] or d["chosen"]):
        return "Nothing changed: the same was asked and the same came out."
    found = {x["field"]: x for x in d["numbers"]}
    time = found.get("time_s")
    if time is None:
        asked = "What was asked differs" if d["inputs"] else "The same was asked"
        return f"{asked}; {len(d['numbers'])} numbers moved."
    sure = {True: "beyond its interval", False: "within its interval", None: "of unknown interval"}[time["beyond"]]
    span = "" if time["interval"] is None else f", {factor(time['interval'][0])} to {factor(time['interval'][1])}"
    said = (f"The batch takes {factor(time['ratio'])} the time ({seconds(time['before'])} to {seconds(time['after'])}"
            f"{span}): {sure}.")  # fmt: skip
    if d["time"]:
        top = d["time"][0]
        said += f" What moved most is {top['cause'][1]} in {top['cause'][0]}, by {_signed(top['moved'], seconds)}."
    return said


def _made(d: Json) -> list[str]:
    before, after = d["made_by"]
    if not before or not after:
        return ["One of the two does not say what code it came from."]
    if before == after:
        return [f"Both by {made_text(before)}."]
    same = [f"{what} is the same" if before[key] == after[key] else f"{what} differs"
            for key, what in (("code", "the code"), ("tables", "the set of calibrations"))]  # fmt: skip
    return [f"{made_text(before)}, then {made_text(after)}: {', '.join(same)}."]


def _fields(rows: list[Json]) -> Table:
    cells = [[x["field"], f"{_shown(x['before'])} → {_shown(x['after'])}"] for x in rows]
    return Table((Column("field", left=True), Column("before → after", left=True)), cells, more="fields",
                 terminal_rows=16)  # fmt: skip


def _numbers(rows: list[Json]) -> ReportSection:
    """Every number that moved; of those with an interval, whether the change lies beyond it."""
    cells: list[list[Cell | str]] = []
    sure = any(x.get("interval") for x in rows)
    for x in rows:
        span, beyond = x.get("interval"), x.get("beyond")
        shown = f"{factor(span[0])} to {factor(span[1])}" if span else UNKNOWN
        shown = "counted" if span and span[0] == span[1] else shown
        word = Cell({True: "beyond", False: "within", None: UNKNOWN}[beyond], "best" if beyond else "")
        told: list[Cell | str] = [shown, word] if sure else []
        cells.append([x["field"], _shown(x["before"]), _shown(x["after"]), factor(x["ratio"]), *told])
    columns = (Column("number", left=True), *map(Column, ("before", "after", "ratio")))
    columns += (Column("interval", less=1), Column("change is")) if sure else ()
    note = "Interval: where 80 % of measured ratios are expected; within it, the change may be none. " if sure else ""
    note += "SI units."
    return ReportSection(
        "What came out", Table(columns, cells, note, more="numbers", terminal_rows=24), element="numbers"
    )


def _causes(title: str, remark: str, rows: list[Json], unit: Callable[[float], str]) -> ReportSection:
    whole = sum(x["moved"] for x in rows)
    widest = max(abs(x["moved"]) for x in rows)
    cells: list[list[Cell | str]] = [
        [" ".join(x["cause"]), unit(x["before"]) if x["before"] else UNKNOWN,
         unit(x["after"]) if x["after"] else UNKNOWN, _signed(x["moved"], unit),
         Cell(ends=(0.0, x["moved"] / widest))]
        for x in rows
    ]  # fmt: skip
    cells.append(["all", "", "", _signed(whole, unit), ""])
    columns = (Column("cause", left=True), *map(Column, ("before", "after", "moved")), Column(left=True, bar=20))
    if len(cells) > ROWS + 1:
        cells[ROWS:-1] = [_rest(rows, unit)]
    element = title.lower().replace(" ", "-")
    return ReportSection(title, Table(columns, cells, faint=frozenset({len(cells) - 1})), remark, element=element)


def _rest(rows: list[Json], unit: Callable[[float], str]) -> list[Cell | str]:
    left = rows[ROWS:]
    sums = [sum(x[key] for x in left) for key in ("before", "after", "moved")]
    return [f"{len(left)} more", unit(sums[0]), unit(sums[1]), _signed(sums[2], unit), ""]


def _signed(x: float, unit: Callable[[float], str]) -> str:
    return ("+" if x >= 0 else "−") + unit(abs(x))


def _shown(x: Any) -> str:
    if x is None:
        return UNKNOWN
    if isinstance(x, float) and not x.is_integer():
        return f"{x:.4g}"
    if isinstance(x, (int, float)) and not isinstance(x, bool):
        return f"{x:,.0f}" if abs(x) < 1e9 else f"{x:.4g}"
    if isinstance(x, (tuple, list)):
        return " ".join(map(str, x)) or "none"
    text = str(x)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
