"""The report on a simulation: does it keep up, how long requests take, how it went; for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from tierwise.core.units import dollars
from tierwise.report import choices
from tierwise.report import serving_words as words
from tierwise.report.layout import PAGE_ONLY, Bullets, Cell, Column, Facts, Report, ReportSection, Sentences, Table
from tierwise.report.numbers import count, percent, rate, seconds
from tierwise.report.serving_data import to_dict
from tierwise.serving.outcome import SimulatedRun

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table as RichTable

Json = dict[str, Any]

SCRIPTS = ("base.js", "serving.js")


def show(run: SimulatedRun, console: Console, ttft: float | None = None, tpot: float | None = None) -> None:
    """Print what came out of a run.

    Args:
        ttft, tpot: targets in seconds; None asks for nothing.
    """
    from tierwise.report.terminal import show as printed

    printed(described(_bounded(to_dict(run, ttft, tpot))), console)


def page(run: SimulatedRun, ttft: float | None = None, tpot: float | None = None) -> str:
    """The report as HTML; arguments as of :func:`show`."""
    from tierwise.report.page import page as drawn

    d = _bounded(to_dict(run, ttft, tpot))
    return drawn(described(d), "serving", SCRIPTS, d)


def _bounded(d: Json) -> Json:
    rows = d["tenants"]
    return d | {"tenants": rows[: choices.PAGE_TENANTS], "tenants_left_out": max(0, len(rows) - choices.PAGE_TENANTS)}


def described(d: Json) -> Report:
    """The report of a run's JSON form."""
    model, place = d["deployment"]["model"], f"on {words.machines(d)}"
    saturated, notices = d["load"]["saturated"], d["traffic"]["notices"]
    sections: dict[str, ReportSection] = {}
    if any(x["count"] for x in d["times"].values()):
        sections["times"] = _times(d)
    if len(d["series"]["time"]) > 1 and any(d["series"]["running"]):
        sections["series"] = _over_time(d)
    if len(d["tenants"]) > 1:
        sections["tenants"] = _tenants(d)
    sections["scenario"] = ReportSection(
        "What was simulated", Facts(words.scenario(d)), terminal=False, element="scenario"
    )
    sections["rests"] = ReportSection(
        "What this rests on", Sentences([words.basis(d)]), d["basis"] or "", element="basis"
    )  # fmt: skip
    if notices:
        sections["notices"] = ReportSection("About the traffic", Bullets([("", x) for x in notices]))
    return Report(
        title=f"{model} {place}: a simulation",
        subject=model,
        place=place,
        subtitle=words.subtitle(d),
        headline=d["text"]["headline"],
        state="empty" if not d["metrics"]["done"] else "saturated" if saturated else "fits",
        alarm=saturated,
        why=d["text"]["why"],
        numbers=words.key_numbers(d),
        sections=sections,
        aside="notices" if notices else "",
        hero="Goodput" if any(x is not None for x in d["targets"].values()) else "Throughput",
    )


def _times(d: Json) -> ReportSection:
    asked = any(x is not None for x in d["targets"].values())
    target_from = 0 if asked else PAGE_ONLY
    columns = (
        Column(left=True), Column(left=True, shown_from=PAGE_ONLY), Column("mean"), Column("p50"),
        Column("p90", less=1), Column("p95", less=3), Column("p99"), Column("longest", less=2),
        Column("target", shown_from=target_from),
    )  # fmt: skip
    rows: list[list[Cell | str]] = []
    for key, name, meaning in words.TIMES:
        x, target = d["times"][key], d["targets"].get(key)
        if not x["count"]:
            continue
        met = "" if target is None else f"{seconds(target)} for {percent(d['metrics'][f'{key[:-2]}_met'])}"
        late = "bad" if target is not None and x["p99"] > target else ""
        most = Cell(seconds(x["p99"]), late)
        rows.append([name, meaning, *(seconds(x[q]) for q in ("mean", "p50", "p90", "p95")), most, seconds(x["max"]),
                     met])  # fmt: skip
    return ReportSection("Times", Table(columns, rows), "of requests; ITL of all pairs of tokens", element="times")


def _over_time(d: Json) -> ReportSection:
    """Series as lines of bars; those that are nothing throughout, or never change, are left out."""
    series = d["series"]
    told: list[tuple[str, str, Callable[[float], str], float | None]] = [
        ("running", "running", rate, None),
        ("waiting", "waiting", rate, None),
        ("tokens/s out", "output_tokens", rate, None),
        ("prompt tokens/s", "prompt_tokens", rate, None),
        ("KV memory", "kv", percent, 1.0),
        ("compute busy", "compute", percent, 1.0),
        ("memory busy", "memory", percent, 1.0),
        ("link busy", "link", percent, 1.0),
        ("replicas up", "replicas", rate, None),
    ]
    rows: list[list[Cell | str]] = []
    for label, key, text, top in told:
        x = [v or 0.0 for v in series[key]]
        if any(x) and not (key == "replicas" and min(x) == max(x)):
            rows.append([label, Cell(line=x, top=top), f"at most {text(d['peaks'][key])}"])
    columns = (Column(left=True), Column(left=True), Column(left=True))
    return ReportSection("Over time", Table(columns, rows), f"0 to {seconds(series['time'][-1])}")


def _tenants(d: Json) -> ReportSection:
    rows, index = d["tenants"], d["metrics"]["jain"]
    most = max(r["service_tokens"] for r in rows) or 1.0
    columns = (
        Column("tenant", left=True, longest=20), Column("requests"), Column("rejected", shown_from=PAGE_ONLY),
        Column("TTFT"), Column("p99 TTFT"), Column("TPOT", shown_from=80), Column("latency", shown_from=80),
        Column("tokens"), Column("of fair part"),
    )  # fmt: skip
    cells: list[list[Cell | str]] = [
        [r["name"], count(r["requests"]), count(r["rejected"]),
         *(seconds(r[key]) for key in ("ttft_s", "ttft_p99_s", "tpot_s", "latency_s")),
         Cell(count(round(r["service_tokens"])), bar=r["service_tokens"] / most),
         percent(r["service_tokens"] / r["fair_tokens"] if r["fair_tokens"] else None)]
        for r in rows
    ]  # fmt: skip
    note = (
        "Tokens are those computed for the tenant until the last arrival, while tenants compete; its fair part is the "
        "max-min fair split of all of them. Times are means."
    )
    table = Table(columns, cells, note, "tenants with less service are not shown", choices.TERMINAL_TENANTS,
                  d["tenants_left_out"])  # fmt: skip
    return ReportSection("By tenant", table, f"Jain's index {index:.3f}, 1 is even" if index is not None else "",
                   element="tenants")  # fmt: skip


def compare_runs(
    names: Sequence[str], runs: Sequence[SimulatedRun], ttft: float | None = None, tpot: float | None = None
) -> RichTable:
    """One table of several runs (policies, deployments), a column each; the best of a row is bold.

    Args:
        names: one for each run.
    """
    from rich.text import Text

    from tierwise.report.terminal import grid

    if len(names) != len(runs):
        raise ValueError(f"{len(names)} names for {len(runs)} runs")
    ds = [to_dict(r, ttft, tpot) for r in runs]
    table = grid(["", *names])
    for label, of, text, best in _COMPARED:
        values = [of(d) for d in ds]
        known = [v for v in values if v is not None]
        if not known:
            continue
        shown = [text(v) if v is not None else "–" for v in values]
        wins = text(max(known) if best > 0 else min(known))
        # What prints alike is equally good.
        told = best != 0 and len(set(shown)) > 1
        table.add_row(label, *(Text(s, style="bold" if told and s == wins else "") for s in shown))
    table.add_row("keeps up", *(Text(_keeps_up(d)) for d in ds))
    return table


def _time(key: str, of: str) -> Callable[[Json], float | None]:
    return lambda d: d["times"][key][of]


def _metric(key: str) -> Callable[[Json], float | None]:
    return lambda d: d["metrics"][key]


def _if_asked(key: str) -> Callable[[Json], float | None]:
    return lambda d: d["metrics"][key] if any(d["targets"].values()) else None


# (label, value, text, 1 where more is better, -1 where less is, 0 where neither)
_COMPARED: tuple[tuple[str, Callable[[Json], float | None], Callable[[float], str], int], ...] = (
    ("finished requests", _metric("done"), count, 1),
    ("rejected", _metric("rejected"), count, -1),
    ("requests per second", _metric("requests_per_s"), rate, 1),
    ("tokens per second", _metric("output_tokens_per_s"), rate, 1),
    ("goodput, requests per second", _if_asked("goodput_per_s"), rate, 1),
    ("within the targets", _if_asked("good_share"), percent, 1),
    ("TTFT, median", _time("ttft_s", "p50"), seconds, -1),
    ("TTFT, p99", _time("ttft_s", "p99"), seconds, -1),
    ("TPOT, median", _time("tpot_s", "p50"), seconds, -1),
    ("TPOT, p99", _time("tpot_s", "p99"), seconds, -1),
    ("ITL, p99", _time("itl_s", "p99"), seconds, -1),
    ("latency, mean", _time("latency_s", "mean"), seconds, -1),
    ("latency, p99", _time("latency_s", "p99"), seconds, -1),
    ("running, mean", _metric("batch"), rate, 0),
    ("KV memory in use", _metric("kv"), percent, 0),
    ("preemptions", _metric("preemptions"), count, -1),
    ("prompt tokens found in cache", _metric("hit_rate"), percent, 1),
    ("fairness (Jain)", lambda d: d["metrics"]["jain"] if len(d["tenants"]) > 1 else None, lambda x: f"{x:.3f}", 1),
    ("per million tokens", _metric("usd_per_million"), dollars, -1),
    ("tokens per joule", _metric("tokens_per_joule"), rate, 1),
)


def _keeps_up(d: Json) -> str:
    load = d["load"]
    if load["kind"] != "open":
        return "–"
    return f"no, about {rate(load['sustainable'] or 0.0)}/s" if load["saturated"] else "yes"
