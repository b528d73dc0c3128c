"""The report on scenarios side by side, for a terminal and as a page, from the JSON form."""

from __future__ import annotations

from typing import Any

from tierwise.core.units import dollars, gb
from tierwise.report.comparison import LONGEST, ROWS, factor
from tierwise.report.layout import PAGE_ONLY, WIDE, Cell, Column, Report, ReportSection, Sentences, Table
from tierwise.report.numbers import UNKNOWN

Json = dict[str, Any]

SIDE_BY_SIDE = 2  # changes that a terminal shows as columns; more are rows
_SHORT = {"throughput": "tok/s", "ttft_s": "TTFT", "tpot_s": "TPOT", "time_s": "time", "batch": "batch",
          "memory_peak": "memory", "memory_weights": "weights", "memory_sequence": "cache/request",
          "energy_j": "energy"}  # fmt: skip
# Of the columns of many scenarios, those that give way first.
_LESS = {"memory_sequence": 9, "memory_weights": 8, "energy_j": 7, "batch": 6, "time_s": 5, "ttft_s": 3, "tpot_s": 2}


def described(d: Json) -> Report:
    """The report of :func:`tierwise.report.comparison.as_dict`'s form."""
    names = [d["label"], *(c["label"] for c in d["changes"])]
    texts = [d["baseline"], *(c["scenario"] for c in d["changes"])]
    columns = len(d["changes"]) <= SIDE_BY_SIDE
    sections = {
        "table": ReportSection("Side by side", _across(d, names) if columns else _down(d, names), element="table")
    }
    told = [f"{name}: {text}" for name, text in zip(names, texts, strict=True)]
    sections["asked"] = ReportSection("What is compared", Sentences(told), element="asked")
    every = zip(names, [{**d, "fits": d["baseline_fits"]}, *d["changes"]], strict=True)
    short = [f"{name} does not fit: needs {gb(x['room']['needs'])}, has {gb(x['room']['has'])}"
             for name, x in every if not x["fits"]]  # fmt: skip
    if short:
        sections["short"] = ReportSection("What does not fit", Sentences(short), element="short")
    return Report(
        title="Tierwise: " + " and ".join(names[:3]),
        subject=names[0],
        place="beside " + ", ".join(names[1:]),
        subtitle="ratios to the first, with where 80 % of measured ratios are expected",
        headline=_headline(d),
        state="too-large" if short else "fits",
        alarm=False,
        why=(),
        numbers=[
            (c["label"], factor(c["ratios"]["throughput"]["ratio"]), f"the throughput, {_spread(c)}")
            for c in d["changes"]
            if c["ratios"]["throughput"]["ratio"] is not None
        ],
        numbers_in_terminal=False,
        sections=sections,
    )


def _headline(d: Json) -> str:
    """The fastest, and by how much; whether that is sure."""
    known = [c for c in d["changes"] if c["fits"] and c["ratios"]["throughput"]["ratio"] is not None]
    if not known or not d["baseline_fits"]:
        return "What is compared does not all fit."
    best = max(known, key=lambda c: c["ratios"]["throughput"]["ratio"])
    r = best["ratios"]["throughput"]
    if r["ratio"] <= 1.0:
        return f"{d['label']} is the fastest: {best['label']} reaches {factor(r['ratio'])} its throughput{_sure(r)}."
    return f"{best['label']} is the fastest: {factor(r['ratio'])} the throughput of {d['label']}{_sure(r)}."


def _sure(r: Json) -> str:
    low, high = r["interval"]
    inside = low <= 1.0 <= high and low != high
    return f" ({factor(low)} to {factor(high)}{', so perhaps none of it' if inside else ''})"


def _spread(c: Json) -> str:
    low, high = c["ratios"]["throughput"]["interval"]
    return f"{factor(low)} to {factor(high)}"


def _across(d: Json, names: list[str]) -> Table:
    """One row a quantity; a column of each scenario, behind all but the first its ratio to that and the interval."""
    rows: list[list[Cell | str]] = []
    for key, label, _, text in ROWS:
        ratios = [c["ratios"][key] for c in d["changes"]]
        if ratios[0]["before"] is not None:
            beside = [cell for r in ratios for cell in (_value(r, text), *_ratio(r))]
            rows.append([label.format(unit=d["unit"]), text(ratios[0]["before"]), *beside])
    money = [d["usd_per_million"], *(c["usd_per_million"] for c in d["changes"])]
    if None not in money:
        beside = [cell for x in money[1:] for cell in (dollars(x), factor(x / money[0]), "")]
        rows.append([f"per million {d['unit']}", dollars(money[0]), *beside])
    columns = [column for n in names[1:] for column in (Column(n), Column("×"), Column("80 %", left=True, less=1))]
    return Table((Column("quantity", left=True), Column(names[0]), *columns), rows)


def _down(d: Json, names: list[str]) -> Table:
    """One row a scenario, one column a quantity; the ratio is that of the throughput."""
    kept = [(key, text) for key, _, _, text in ROWS if d["changes"][0]["ratios"][key]["before"] is not None]
    columns = [Column("scenario", left=True, longest=LONGEST), Column("×"), Column("80 %", shown_from=PAGE_ONLY),
               Column(left=True, bar=12, shown_from=WIDE)]  # fmt: skip
    columns += [Column(_SHORT[key], less=_LESS.get(key, 0)) for key, _ in kept] + [Column("$/M", less=4)]
    rates = [1.0, *(c["ratios"]["throughput"]["ratio"] or 0.0 for c in d["changes"])]
    rows: list[list[Cell | str]] = []
    for i, name in enumerate(names):
        c = d["changes"][i - 1] if i else None
        first = d["changes"][0]["ratios"]
        values = [first[key]["before"] if c is None else c["ratios"][key]["after"] for key, _ in kept]
        money = (c or d)["usd_per_million"]
        rows.append([
            name, *(("", "") if c is None else (factor(rates[i]), _spread(c))),
            Cell(bar=rates[i] / max(*rates, 1e-300)),
            *(UNKNOWN if v is None else text(v) for v, (_, text) in zip(values, kept, strict=True)),
            UNKNOWN if money is None else dollars(money),
        ])  # fmt: skip
    return Table(tuple(columns), rows, "×: throughput over that of the first.")


def _value(r: Json, text: Any) -> str:
    return UNKNOWN if r["after"] is None else str(text(r["after"]))


def _ratio(r: Json) -> tuple[str, str]:
    if r["ratio"] is None:
        return "", ""
    low, high = r["interval"]
    return factor(r["ratio"]), f"{factor(low)} to {factor(high)}" if high / low > 1.0001 else ""
