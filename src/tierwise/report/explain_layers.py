"""Where time and energy go by kind of layer and by part of the machine, from the JSON form of a result."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tierwise.core.units import joules, seconds
from tierwise.report.layout import Cell, Column, ReportSection, Table
from tierwise.report.numbers import percent

Json = dict[str, Any]

_WORDS = {
    "processors": "the host's, for what they compute",
    "active": "clocks, instructions, leakage at work",
    "idle": "drawn all the time",
    "system": "processors, network cards, fans around",
    "link": "between devices of a node",
    "network": "between nodes",
    "host": "to and from the host",
}


def rows_of(d: Json) -> list[Json]:
    """One row a phase and kind of layer: seconds and joules of the batch, utilization while it runs."""
    spent = {(x["phase"], x["layer"], x["name"]): x["energy_j"] for x in d["energy"]["ops"]}
    out: dict[tuple[str, str], Json] = {}
    for p in d["phases"]:
        often = p["passes"] * p["pipeline_stretch"]
        for op in p["ops"]:
            row = out.setdefault((p["name"], op["role"] or op["kind"]), {
                "phase": p["name"], "part": op["role"] or op["kind"], "time_s": 0.0, "mfu": 0.0, "mbu": 0.0,
                "energy_j": 0.0,
            })  # fmt: skip
            row["time_s"] += op["time_s"] * often
            for name in ("mfu", "mbu"):
                row[name] += (op[name] or 0.0) * op["time_s"] * often
            joules_ = spent[p["name"], op["layer"], op["name"]]
            row["energy_j"] = None if row["energy_j"] is None or joules_ is None else row["energy_j"] + joules_
    for row in out.values():
        for name in ("mfu", "mbu"):
            row[name] /= max(row["time_s"], 1e-300)
    between = d["energy"]["between_j"]
    left = [{"phase": p["name"], "part": "between passes", "time_s": p["host_s"] * p["passes"] * p["pipeline_stretch"],
             "mfu": None, "mbu": None, "energy_j": between[p["name"]]} for p in d["phases"]]  # fmt: skip
    left.append({"phase": "", "part": "around the devices", "time_s": 0.0, "mfu": None, "mbu": None,
                 "energy_j": d["energy"]["system_j"]})  # fmt: skip
    order = {p["name"]: i for i, p in enumerate(d["phases"])}
    kept = [row for row in left if row["time_s"] or row["energy_j"]]
    rows = sorted([*out.values(), *kept], key=lambda r: (order.get(r["phase"], len(order)), -r["time_s"]))
    return rows


def layers(d: Json) -> ReportSection:
    """Time, utilization and energy by kind of layer; the energy adds up to the whole."""
    rows, whole, total = rows_of(d), d["summary"]["time_s"], d["energy"]["total_j"]
    columns = (Column("phase", left=True), Column("part", left=True), Column("time"), Column("share"), Column("MFU"),
               Column("MBU"), Column("energy"), Column("share"))  # fmt: skip
    cells: list[list[Cell | str]] = []
    for r in rows:
        known = total and r["energy_j"] is not None
        spent = [joules(r["energy_j"]), percent(r["energy_j"] / total)] if known else ["–"] * 2
        timed = [seconds(r["time_s"]), percent(r["time_s"] / whole)] if r["time_s"] else ["–"] * 2
        cells.append([r["phase"], r["part"], *timed, percent(r["mfu"] or None), percent(r["mbu"] or None), *spent])
    cells.append(["total", "", seconds(whole), "", percent(d["summary"]["mfu"]), "",
                  joules(total) if total is not None else "–", ""])  # fmt: skip
    told = "all passes of the batch; utilization is while the part runs"
    return ReportSection(
        "By kind of layer", Table(columns, cells, faint=frozenset({len(cells) - 1})), told, element="layers"
    )


def by_op(d: Json) -> ReportSection | None:
    """Energy of every op, and of what is between and around them: it adds up to the whole. None as :func:`energy`."""
    e = d["energy"]
    if e["total_j"] is None or not e["total_j"] > 0:
        return None
    found: dict[tuple[str, str], Json] = {}
    for op in e["ops"]:
        key = (op["phase"], f"{op['layer']}/{op['name'].split('#')[0]}")
        row = found.setdefault(key, {"energy_j": 0.0, "parts": {}})
        row["energy_j"] += op["energy_j"]
        for part, x in op["parts"].items():
            row["parts"][part] = row["parts"].get(part, 0.0) + x
    rows = sorted(found.items(), key=lambda r: -r[1]["energy_j"])
    cells: list[list[Cell | str]] = [
        [*key, joules(r["energy_j"]), percent(r["energy_j"] / e["total_j"]), _largest(r["parts"])] for key, r in rows
    ]
    around = [(name, "between ops", x) for name, x in e["between_j"].items()]
    around.append(("", "around the devices", e["system_j"]))
    cells += [[phase, name, joules(x), percent(x / e["total_j"]), ""] for phase, name, x in around if x]
    cells.append(["total", "", joules(e["total_j"]), "", ""])
    columns = (Column("phase", left=True), Column("op", left=True), Column("energy"), Column("share"),
               Column("most of it on", left=True))  # fmt: skip
    remark = "all passes of the batch, whole system"
    return ReportSection("Energy by operation", Table(columns, cells), remark, terminal=False, element="energy-by-op")


def _largest(parts: Mapping[str, float]) -> str:
    """The three parts that take most."""
    most = sorted(parts.items(), key=lambda x: -x[1])[:3]
    return ", ".join(f"{name} {joules(x)}" for name, x in most)


def energy(d: Json) -> ReportSection | None:
    """Energy by part of the machine; None where too little is known of its power."""
    e = d["energy"]
    if e["total_j"] is None or not e["total_j"] > 0:
        return None
    kinds = {t["name"]: t["kind"] for t in d["scenario"]["machine"]["tiers"]}
    kinds |= {x["name"]: f"{x['kind']} engine" for x in d["scenario"]["machine"]["engines"]}
    rows = sorted(((name, x) for name, x in e["parts"].items() if x), key=lambda r: -r[1])
    cells = [[name, joules(x), percent(x / e["total_j"]), Cell(bar=x / e["total_j"]),
              _WORDS.get(name, kinds.get(name, ""))] for name, x in rows]  # fmt: skip
    columns = (Column("part", left=True), Column("energy"), Column("share"), Column(left=True, bar=12),
               Column("what", left=True, less=1))  # fmt: skip
    low, high = e["interval_j"]
    told = f"{joules(e['total_j'])} for the batch, whole system; {joules(low)} to {joules(high)}"
    return ReportSection("Energy", Table(columns, cells), told, element="energy")
