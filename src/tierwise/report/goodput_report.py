"""The report on goodput over the rate of arrivals: what a deployment holds, and how it gives way beyond."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.core.units import dollars, seconds
from tierwise.report.layout import Cell, Column, Report, ReportSection, Sentences, Table
from tierwise.report.made import made_by
from tierwise.report.numbers import percent, rate

if TYPE_CHECKING:
    from rich.console import Console

    from tierwise.serving.goodput import GoodputCurve

Json = dict[str, Any]

SCRIPTS = ("base.js", "goodput.js")


def to_dict(names: Sequence[str], found: Sequence[GoodputCurve], ttft: float | None, tpot: float | None,
            attainment: float) -> Json:  # fmt: skip
    """Everything as plain data: seconds, requests per second, dollars; null where not known.

    Args:
        names: of the machines, one a curve.
    """
    curves = []
    for name, one in zip(names, found, strict=True):
        d = one.deployment
        curves.append({
            "machine": name or d.groups[0].machine.name,
            "engine": d.groups[0].settings.engine,
            "devices": int(sum(g.plan.devices * g.count for g in d.groups)),
            "usd_per_hour": _known(d.rent * 3600.0),
            "capacity_per_s": _known(one.capacity),
            "points": [_point(p, attainment) for p in one.points],
        })  # fmt: skip
    return {
        "made_by": made_by(),
        "model": found[0].deployment.model.name,
        "targets": {"ttft_s": ttft, "tpot_s": tpot, "attainment": attainment},
        "interrupted": any(x.interrupted for x in found),
        "curves": curves,
    }


def table_rows(d: Json) -> list[Json]:
    """One row a rate of a machine."""
    return [{**{k: v for k, v in curve.items() if k != "points"}, **point}
            for curve in d["curves"] for point in curve["points"]]  # fmt: skip


def _point(p: Any, attainment: float) -> Json:
    m = p.metrics
    return {
        "rate_per_s": p.rate, "holds": p.holds(attainment), "good_share": _known(m.good_share),
        "goodput_per_s": _known(m.goodput), "output_tokens_per_s": _known(m.output_rate),
        "ttft_p50_s": _known(m.ttft.p50), "ttft_p99_s": _known(m.ttft.p99),
        "tpot_p50_s": _known(m.tpot.p50), "tpot_p99_s": _known(m.tpot.p99), "running": _known(m.batch),
    }  # fmt: skip


def _known(x: Any) -> float | None:
    value = float(np.asarray(x))
    return value if np.isfinite(value) else None


def show(d: Json, console: Console) -> None:
    """Print it."""
    from tierwise.report.terminal import show as printed

    printed(described(d), console)


def page(d: Json) -> str:
    """The report as HTML."""
    from tierwise.report.page import page as drawn

    return drawn(described(d), "goodput", SCRIPTS, d)


def described(d: Json) -> Report:
    """The report of its JSON form."""
    curves = d["curves"]
    first = curves[0]
    within = _within(d["targets"])
    columns = (
        Column("arrive", left=True), Column("within both"), Column("goodput"), Column("TTFT p50", less=2),
        Column("TTFT p99"), Column("TPOT p50", less=2), Column("TPOT p99"), Column("running", less=3),
    )  # fmt: skip
    sections = {}
    for i, c in enumerate(curves):
        rows: list[list[Cell | str]] = [
            [f"{rate(p['rate_per_s'])}/s", Cell(percent(p["good_share"]), "" if p["holds"] else "bad", p["good_share"]),
             f"{rate(p['goodput_per_s'] or 0.0)}/s", *(seconds(p[key]) if p[key] is not None else "-" for key in
                                                 ("ttft_p50_s", "ttft_p99_s", "tpot_p50_s", "tpot_p99_s")),
             rate(p["running"] or 0.0)]
            for p in c["points"]
        ]  # fmt: skip
        name = c["machine"] if len(curves) > 1 else "Goodput by rate"
        sections[f"curve{i}"] = ReportSection(name, Table(columns, rows), _held(c), element=f"curve{i}")
    note = ("Every rate plays the same requests, arrivals closer together or further apart. Past what a deployment "
            "holds the times grow with the number of requests played, and say only that it does not hold.")  # fmt: skip
    sections["rests"] = ReportSection("How this was found", Sentences([note]), element="rests")
    best = max(curves, key=lambda c: c["capacity_per_s"] or 0.0)
    numbers = [(c["machine"] if len(curves) > 1 else "Holds", f"{rate(c['capacity_per_s'])} /s", _paid(c))
               for c in curves if c["capacity_per_s"] is not None]  # fmt: skip
    none = all(not c["capacity_per_s"] for c in curves) and all(c["capacity_per_s"] is not None for c in curves)
    return Report(
        title=f"{d['model']}: goodput by rate",
        subject=d["model"],
        place=f"on {first['machine']}" if len(curves) == 1 else "on " + ", ".join(c["machine"] for c in curves),
        subtitle=f"{first['engine']}, {within}",
        headline=_headline(d, best, within, none),
        state="saturated" if none else "fits",
        alarm=none,
        why=(),
        numbers=numbers,
        sections=sections,
        numbers_in_terminal=len(curves) > 1,
    )


def _within(targets: Json) -> str:
    said = [f"{name} {seconds(targets[key])}" for name, key in (("TTFT", "ttft_s"), ("TPOT", "tpot_s"))
            if targets[key] is not None]  # fmt: skip
    return f"{percent(targets['attainment'])} of the requests within " + " and ".join(said)


def _headline(d: Json, best: Json, within: str, none: bool) -> str:
    if none:
        return f"At no rate are {within}."
    if best["capacity_per_s"] is None:
        held = [p["rate_per_s"] for p in d["curves"][0]["points"] if p["holds"]]
        return f"Of the rates asked, {rate(max(held))} requests/s is the highest with {within}." if held else (
            f"At none of the rates asked are {within}.")  # fmt: skip
    where = f" on {best['machine']}" if len(d["curves"]) > 1 else ""
    return f"Up to {rate(best['capacity_per_s'])} requests/s{where}, with {within}."


def _held(c: Json) -> str:
    if c["capacity_per_s"] is None:
        return ""
    return f"holds {rate(c['capacity_per_s'])}/s" if c["capacity_per_s"] else "holds at no rate"


def _paid(c: Json) -> str:
    devices = f"{c['devices']} device" + ("s" if c["devices"] > 1 else "")
    if not c["capacity_per_s"] or c["usd_per_hour"] is None:
        return devices
    thousand = c["usd_per_hour"] / 3600.0 / c["capacity_per_s"] * 1e3
    return f"{devices}, {dollars(thousand)} per thousand requests"
