"""The report on two answers, for a terminal and as a page, from the JSON form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tierwise.core.units import dollars, gb, joules, seconds
from tierwise.report.comparison import factor
from tierwise.report.explain_words import resource
from tierwise.report.layout import Cell, Column, Report, ReportSection, Sentences, Table
from tierwise.report.made import text as made_text
from tierwise.report.numbers import UNKNOWN, percent
from tierwise.report.training_report import CAUSES

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
        step = {"time_s": "step_s"} if _trains(d) else {}
        sections["numbers"] = _numbers([{**x, "field": step.get(x["field"], x["field"])} for x in d["numbers"]])
    for name, title, remark, unit in (
        ("time", "What moved the time", "seconds of a step by cause" if _trains(d) else
         "seconds of the batch by phase and class of op", seconds),
        ("resources", "By what binds", "seconds of the batch by phase and resource", seconds),
        ("memory", "Memory", "bytes of the fullest device", gb),
        ("energy", "Energy", "joules of the batch", joules),
    ):
        if d[name]:
            rows = [_worded(x) for x in d[name]] if name == "resources" else d[name]
            rows = [{**x, "cause": [CAUSES[x["cause"][1]]]} for x in rows] if name == "time" and _trains(d) else rows
            sections[name] = _causes(title, remark, rows, unit)
    before, after = (_called(d[side]) for side in ("before", "after"))
    time = next((x for x in d["numbers"] if x["field"] == "time_s"), None)
    return Report(
        title=f"Tierwise: {before} and {after}",
        subject=before,
        place=f"and {after}",
        subtitle=f"two {_KINDS[d['kind']]}, the second beside the first",
        headline=_headline(d),
        state="fits",
        alarm=False,
        why=(),
        numbers=() if time is None else [(
            f"Time of {'a step' if _trains(d) else 'the batch'}", factor(time["ratio"]),
            f"{seconds(time['before'])} → {seconds(time['after'])}")],
        numbers_in_terminal=False,
        sections=sections,
    )


_KINDS = {"tierwise.result": "answers of explain", "tierwise.plan": "plans", "tierwise.simulation": "simulations",
          "tierwise.training": "training steps"}  # fmt: skip


def _trains(d: Json) -> bool:
    return bool(d["kind"] == "tierwise.training")


def _called(name: str) -> str:
    """A file by its own name, without the folders it lies in; a command line as it is."""
    return name if " " in name else name.replace("\\", "/").rpartition("/")[2]


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
    what = "A step" if _trains(d) else "The batch"
    said = (f"{what} takes {factor(time['ratio'])} the time ({seconds(time['before'])} to {seconds(time['after'])}"
            f"{span}): {sure}.")  # fmt: skip
    if d["time"]:
        phase, cause = d["time"][0]["cause"]
        where = "" if _trains(d) else f" in {phase}"
        said += f" What moved most is {CAUSES.get(cause, cause)}{where}, by {_signed(d['time'][0]['moved'], seconds)}."
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
    # What a machine is made of follows from its name: below what else differs.
    ordered = sorted(rows, key=lambda x: x["field"].startswith("machine.") and x["field"].count(".") > 1)
    cells = [[x["field"], " → ".join(_named(x["field"])[1](x[side]) for side in ("before", "after"))] for x in ordered]
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
        name, unit = _named(x["field"])
        cells.append([name, unit(x["before"]), unit(x["after"]), factor(x["ratio"]), *told])
    columns = (Column("number", left=True), *map(Column, ("before", "after", "ratio")))
    columns += (Column("interval", less=1), Column("change is")) if sure else ()
    note = "Interval: where 80 % of measured ratios are expected; within it, the change may be none." if sure else ""
    return ReportSection(
        "What came out", Table(columns, cells, note, more="numbers", terminal_rows=24), element="numbers"
    )


def _worded(x: Json) -> Json:
    phase, name = x["cause"]
    return {**x, "cause": [phase, resource(name)]}


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


# Numbers whose names in the JSON form do not say what people call them.
_WORDS = {"ttft_s": "time to first token", "tpot_s": "time per output token", "time_s": "whole batch",
          "cost_usd": "rent of the batch", "usd_per_million": "rent per million", "usd_per_hour": "rent an hour"}
_SHORT = ("ttft", "tpot", "itl", "mfu", "mbu", "kv")


def _named(field: str) -> tuple[str, Callable[[Any], str]]:
    """A number of the JSON form as people call it, and how its values are written: its name ends on its unit."""
    last = field.rpartition(".")[2]
    words = _WORDS.get(field)
    if "usd" in last:
        return words or _spoken(field.replace("_usd", "").replace("usd_", "rent ")), dollars
    for ending, unit in (("_s", seconds), ("_j", joules), ("_bytes", gb)):
        if last.endswith(ending) and not last.endswith("_per" + ending):
            return words or _spoken(field.removesuffix(ending)), _if_number(unit)
    if last in ("capacity", "bandwidth"):
        return _spoken(field), _if_number(gb if last == "capacity" else lambda x: f"{gb(x)}/s")
    if last in ("mfu", "mbu"):
        return _spoken(field), percent
    return words or _spoken(field), _shown


def _if_number(unit: Callable[[float], str]) -> Callable[[Any], str]:
    return lambda x: unit(x) if isinstance(x, (int, float)) and not isinstance(x, bool) else _shown(x)


def _spoken(field: str) -> str:
    words = field.replace(".", " ").replace("_", " ").split()
    return " ".join(w.upper() if w in _SHORT else w for w in words)


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
