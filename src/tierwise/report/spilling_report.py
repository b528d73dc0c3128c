"""The report on an order with spills: what moves beyond the compulsory bytes, beside what other schedules move."""

from __future__ import annotations

from typing import Any

import numpy as np

from tierwise.core.units import gb, seconds
from tierwise.memory.spilling import SpillPlan
from tierwise.memory.tensors import OperatorGraph
from tierwise.report.layout import Column, Report, ReportSection, Table
from tierwise.report.numbers import count, percent

Json = dict[str, Any]


def to_dict(g: OperatorGraph, a: SpillPlan, capacity: int, place: str) -> Json:
    """Everything as plain data: totals, moments in order, and each stay of a tensor with its offset."""
    s = a.best
    assert s.offsets is not None
    stored = {(t, at) for at, m in enumerate(s.moments) for t in m.stores}
    loaded = {(t, at) for at, m in enumerate(s.moments) for t in m.loads}
    columns = (s.stays.ids, s.stays.lower.tolist(), s.stays.upper.tolist(), s.stays.size.tolist(), s.offsets.tolist())
    seen: set[int] = set(g.inputs)  # whose first load is compulsory
    placed = []
    for t, (name, lower, upper, size, offset) in zip(s.tensors, zip(*columns, strict=True), strict=True):
        row: Json = {"id": name, "lower": lower, "upper": upper, "size": size, "offset": offset}
        ends = [*["loaded"] * ((t, lower) in loaded and t not in seen), *["stored"] * ((t, upper) in stored)]
        seen.discard(t)
        if ends:
            row["spill"] = " and ".join(ends)
        placed.append(row)

    def names(tensors: tuple[int, ...]) -> list[str]:
        return [g.names[t] for t in tensors]

    moments = [
        {
            "operator": g.tasks[m.task].name,
            "stores": names(m.stores),
            "drops": names(m.drops),
            "loads": names(m.loads),
            "stores_after": names(m.after),
            "streamed": m.streamed,
        }
        for m in s.moments
    ]
    return {
        "status": "packed",
        "place": place,
        "capacity": capacity,
        "height": int(np.max(s.offsets + s.stays.size, initial=0)),
        "peak": s.peak,
        "operators": len(g.tasks),
        "tensors": len(g.size),
        "buffers": len(s.stays),
        "compulsory": g.compulsory,
        "traffic": s.traffic,
        "bound": a.bound,
        "gap": a.gap,
        "forced": a.forced,
        "streamed": sum(m.streamed for m in s.moments),
        "first_fit": a.first_fit,
        "belady": a.belady,
        "states": a.states,
        "seconds": a.seconds,
        "moments": moments,
        "placed": placed,
    }


def described(d: Json, name: str) -> Report:
    """The report of its JSON form."""
    place = d["place"] or f"{d['capacity']:,} bytes"
    moved, base = d["traffic"], d["first_fit"]
    beyond = (
        f"{gb(moved)} beyond the {gb(d['compulsory'])} that any schedule moves"
        if moved
        else (f"nothing beyond the {gb(d['compulsory'])} that any schedule moves")
    )
    saved = f", {percent(1.0 - moved / base)} less than the file's order with first-fit" if base else ""
    proved = "no schedule moves less" if d["gap"] == 0 else f"any schedule moves {gb(d['bound'])} or more"
    said = f"{count(d['operators'])} operators move {beyond}{saved}; {proved}."
    numbers = [
        ("Beyond compulsory", gb(moved), f"{gb(d['bound'])} at least: a gap of {percent(d['gap'])}"),
        ("First-fit", gb(base), "the file's order, what is needed last leaves"),
        ("Belady", gb(d["belady"]), "the same, were there no addresses"),
        ("Peak", gb(d["peak"]), f"of {gb(d['capacity'])}"),
        ("Found in", seconds(d["seconds"]), f"{count(d['states'])} states tried"),
    ]
    why: tuple[str, ...] = ()
    if d["streamed"]:
        why = (
            f"{count(d['streamed'])} operators have more operands than the arena holds and run in tiles: "
            f"{gb(d['forced'])} that any schedule moves for them.",
        )
    sections = {}
    spills = sorted((r for r in d["placed"] if "spill" in r), key=lambda r: -r["size"])
    shown = spills or sorted(d["placed"], key=lambda r: -r["size"])
    cells = [
        (r["id"], str(r["lower"]), str(r["upper"]), count(r["size"]), count(r["offset"]), r.get("spill", ""))
        for r in shown[:12]
    ]
    numeric = (Column(name) for name in ("from", "until", "bytes", "offset"))
    columns = (Column("tensor", left=True, longest=36), *numeric, Column("spill", left=True))
    sections["buffers"] = ReportSection(
        "Spills" if spills else "Largest tensors",
        Table(columns, cells, more="tensors", left_out=max(len(shown) - 12, 0)),
    )
    return Report(
        title=f"{name}: operator order and spills",
        subject=name,
        place=f"in {place}",
        subtitle="",
        headline=said,
        state="fits",
        alarm=False,
        why=why,
        numbers=numbers,
        sections=sections,
    )
