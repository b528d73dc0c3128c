"""The report on a static allocation: whether the buffers fit, how high they stack, and a picture of them."""

from __future__ import annotations

import csv
import io
from typing import Any

from tierwise.core.units import gb, seconds
from tierwise.memory.packing import Buffers, Packing, Whole
from tierwise.report.layout import Column, Report, ReportSection, Table
from tierwise.report.numbers import count, percent

Json = dict[str, Any]


def table(b: Buffers, offsets: Whole) -> str:
    """The buffers with their offsets, as CSV."""
    out = io.StringIO()
    rows = csv.writer(out, lineterminator="\n")
    rows.writerow(["id", "lower", "upper", "size", "offset"])
    rows.writerows(zip(b.ids, b.lower.tolist(), b.upper.tolist(), b.size.tolist(), offsets.tolist(), strict=True))
    return out.getvalue()


def to_dict(b: Buffers, p: Packing, capacity: int | None) -> Json:
    """Everything as plain data."""
    out: Json = {
        "status": p.status,
        "capacity": capacity,
        "height": p.height,
        "bound": p.bound,
        "how": p.how,
        "nodes": p.nodes,
        "seconds": p.seconds,
        "buffers": len(b),
    }
    if p.offsets is not None:
        columns = (b.ids, b.lower.tolist(), b.upper.tolist(), b.size.tolist(), p.offsets.tolist())
        out["placed"] = [
            dict(zip(("id", "lower", "upper", "size", "offset"), row, strict=True))
            for row in zip(*columns, strict=True)
        ]
    return out


def described(d: Json, name: str) -> Report:
    """The report of its JSON form."""
    room, packed = d["capacity"], d["status"] == "packed"
    if packed and room is None:
        tight = (
            "which is the least there can be" if d["height"] == d["bound"] else f"and at least {d['bound']:,} in any"
        )
        said = f"{count(d['buffers'])} buffers take {d['height']:,} bytes, {tight}."
    elif packed:
        said = f"{count(d['buffers'])} buffers fit into {room:,} bytes: they take {d['height']:,}."
    elif d["status"] == "impossible":
        why = f"{d['bound']:,} live at once" if d["bound"] > room else "every order was tried"
        said = f"{count(d['buffers'])} buffers do not fit into {room:,} bytes: {why}."
    else:
        said = (
            f"Whether {count(d['buffers'])} buffers fit into {room:,} bytes was not found out in "
            f"{seconds(d['seconds'])}; {d['bound']:,} live at once."
        )
    numbers = [
        ("Live at once", gb(d["bound"]), "no packing takes less"),
        ("Found by", d["how"], f"{count(d['nodes'])} placements tried in {seconds(d['seconds'])}"),
    ]
    if packed:
        over = d["height"] / d["bound"] - 1.0 if d["bound"] else 0.0
        numbers.insert(0, ("Height", gb(d["height"]), f"{percent(over)} above what lives at once"))
    sections = {}
    if packed:
        rows = sorted(d["placed"], key=lambda r: -r["size"])
        cells = [(r["id"], str(r["lower"]), str(r["upper"]), count(r["size"]), count(r["offset"])) for r in rows[:12]]
        columns = (Column("buffer", left=True), Column("from"), Column("until"), Column("bytes"), Column("offset"))
        sections["buffers"] = ReportSection(
            "Largest buffers", Table(columns, cells, more="buffers", left_out=max(len(rows) - 12, 0)), element="buffers"
        )
    return Report(
        title=f"{name}: static allocation",
        subject=name,
        place="in one arena",
        subtitle="",
        headline=said,
        state="fits" if packed else "too-large",
        alarm=not packed,
        why=(),
        numbers=numbers,
        sections=sections,
    )
