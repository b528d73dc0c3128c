"""A simulation in a terminal: a sentence, its reasons, tables, and how it went over time. Runs side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from tierwise.core.units import dollars
from tierwise.report import serving_words as words
from tierwise.report.serving_data import to_dict
from tierwise.report.serving_words import seconds
from tierwise.report.terminal import heading, paragraph, plain_table
from tierwise.report.words import count, rate
from tierwise.serving.outcome import Run

Json = dict[str, Any]

_TENANTS = 10
_LEVELS, _ASCII = "▁▂▃▄▅▆▇█", "_.-=+*#%"


def show(run: Run, console: Console, ttft: float | None = None, tpot: float | None = None) -> None:
    """Print what came out of a run.

    Args:
        ttft, tpot: targets in seconds; None asks for nothing.
    """
    d = to_dict(run, ttft, tpot)
    console.print()
    paragraph(console, d["text"]["headline"], style="bold red" if d["load"]["saturated"] else "bold", indent="")
    paragraph(console, words.subtitle(d), style="dim", indent="")
    if d["text"]["why"]:
        console.print()
        paragraph(console, " ".join(d["text"]["why"]), indent="")
    _numbers(console, d)
    _times(console, d)
    _over_time(console, d)
    _tenants(console, d)
    heading(console, "What this rests on", d["basis"])
    paragraph(console, words.basis(d))
    if d["traffic"]["notices"]:
        heading(console, "Notes")
        for note in d["traffic"]["notices"]:
            paragraph(console, note, first="  • ", indent="    ")
    console.print()


def compare_runs(
    names: Sequence[str], runs: Sequence[Run], ttft: float | None = None, tpot: float | None = None
) -> Table:
    """One table of several runs (policies, deployments), a column each; the best of a row is bold.

    Args:
        names: one for each run.
    """
    if len(names) != len(runs):
        raise ValueError(f"{len(names)} names for {len(runs)} runs")
    ds = [to_dict(r, ttft, tpot) for r in runs]
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("")
    for name in names:
        table.add_column(Text(name), justify="right")
    for label, of, text, best in _ROWS:
        values = [of(d) for d in ds]
        if all(v is None for v in values):
            continue
        known = [v for v in values if v is not None]
        shown = [text(v) if v is not None else "–" for v in values]
        wins = max(known) if best > 0 else min(known) if best < 0 else None
        # What prints alike is equally good.
        mark = wins is not None and len(set(shown)) > 1
        winner = text(wins) if mark else None  # type: ignore[arg-type]
        table.add_row(label, *(Text(s, style="bold" if s == winner else "") for s in shown))
    table.add_row("keeps up", *(Text(_kept(d)) for d in ds))
    return table


def _time(key: str, of: str) -> Callable[[Json], float | None]:
    return lambda d: d["times"][key][of]


def _metric(key: str) -> Callable[[Json], float | None]:
    return lambda d: d["metrics"][key]


# (label, value, text, 1 where more is better, -1 where less is, 0 where neither)
_ROWS: tuple[tuple[str, Callable[[Json], float | None], Callable[[float], str], int], ...] = (
    ("finished requests", _metric("done"), count, 1),
    ("rejected", _metric("rejected"), count, -1),
    ("requests per second", _metric("requests_per_s"), rate, 1),
    ("tokens per second", _metric("output_tokens_per_s"), rate, 1),
    ("goodput, requests per second",
     lambda d: d["metrics"]["goodput_per_s"] if any(d["targets"].values()) else None, rate, 1),
    ("within the targets",
     lambda d: d["metrics"]["good_share"] if any(d["targets"].values()) else None, words.percent, 1),
    ("TTFT, median", _time("ttft_s", "p50"), seconds, -1),
    ("TTFT, p99", _time("ttft_s", "p99"), seconds, -1),
    ("TPOT, median", _time("tpot_s", "p50"), seconds, -1),
    ("TPOT, p99", _time("tpot_s", "p99"), seconds, -1),
    ("ITL, p99", _time("itl_s", "p99"), seconds, -1),
    ("latency, mean", _time("latency_s", "mean"), seconds, -1),
    ("latency, p99", _time("latency_s", "p99"), seconds, -1),
    ("running, mean", _metric("batch"), rate, 0),
    ("KV memory in use", _metric("kv"), words.percent, 0),
    ("preemptions", _metric("preemptions"), count, -1),
    ("prompt tokens found in cache", _metric("hit_rate"), words.percent, 1),
    ("fairness (Jain)", lambda d: d["metrics"]["jain"] if len(d["tenants"]) > 1 else None, lambda x: f"{x:.3f}", 1),
    ("per million tokens", _metric("usd_per_million"), dollars, -1),
    ("tokens per joule", _metric("tokens_per_joule"), rate, 1),
)  # fmt: skip


def _kept(d: Json) -> str:
    load = d["load"]
    if load["kind"] != "open":
        return "–"
    return f"no, about {rate(load['sustainable'] or 0.0)}/s" if load["saturated"] else "yes"


def _numbers(console: Console, d: Json) -> None:
    heading(console, "Key numbers")
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(style="dim")
    for row in words.key_numbers(d):
        table.add_row(*row)
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _times(console: Console, d: Json) -> None:
    if not any(x["count"] for x in d["times"].values()):
        return
    heading(console, "Times", "of requests; ITL of all pairs of tokens")
    narrow, asked = console.width < 96, any(x is not None for x in d["targets"].values())
    quantiles = ("mean", "p50", "p90", "p99", "max") if narrow else ("mean", "p50", "p90", "p95", "p99", "max")
    shows = asked and not narrow
    named = [q.replace("max", "longest") for q in quantiles]
    table = plain_table("", *named, *(["target"] if shows else []))
    for key, name, _ in words.TIMES:
        x = d["times"][key]
        if not x["count"]:
            continue
        target, met = d["targets"].get(key), d["metrics"].get(f"{key[:-2]}_met")
        over = target is not None and x["p99"] > target
        cells = [Text(seconds(x[q]), style="red" if over and q == "p99" else "") for q in quantiles]
        within = "" if target is None else f"{seconds(target)} for {words.percent(met)}"
        table.add_row(name, *cells, *([within] if shows else []))
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _over_time(console: Console, d: Json) -> None:
    s = d["series"]
    if len(s["time"]) < 2 or not any(s["running"]):
        return
    heading(console, "Over time", f"0 to {seconds(s['time'][-1])}")
    rows: list[tuple[str, str, Callable[[float], str], float | None]] = [
        ("running", "running", rate, None),
        ("waiting", "waiting", rate, None),
        ("tokens/s out", "output_tokens", rate, None),
        ("prompt tokens/s", "prompt_tokens", rate, None),
        ("KV memory", "kv", words.percent, 1.0),
        ("compute busy", "compute", words.percent, 1.0),
        ("memory busy", "memory", words.percent, 1.0),
        ("link busy", "link", words.percent, 1.0),
        ("replicas up", "replicas", rate, None),
    ]
    width = max(10, min(60, console.width - 36))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="dim", no_wrap=True)
    for label, key, text, top in rows:
        x = np.array([0.0 if v is None else v for v in s[key]])
        if not x.any() or (key == "replicas" and np.ptp(x) == 0.0):
            continue
        table.add_row(
            label, Text(_spark(x, width, top, console.options.ascii_only)), f"at most {text(d['peaks'][key])}"
        )
    console.print(Padding(table, (0, 0, 0, 2), expand=False))


def _spark(x: np.ndarray[Any, np.dtype[np.float64]], width: int, top: float | None, ascii_only: bool) -> str:
    """The largest value of each of ``width`` parts of the time as a row of bars, ``top`` (or the largest) full."""
    levels = _ASCII if ascii_only else _LEVELS
    width = min(width, len(x))
    start = (np.arange(width) * len(x)) // width
    peaks = np.maximum.reduceat(x, start)
    whole = max(float(peaks.max()) if top is None else top, 1e-300)
    level = np.clip(np.ceil(peaks / whole * len(levels)).astype(int) - 1, 0, len(levels) - 1)
    return "".join(" " if p <= 0 else levels[i] for p, i in zip(peaks, level, strict=True))


def _tenants(console: Console, d: Json) -> None:
    rows = d["tenants"]
    if len(rows) < 2:
        return
    index = d["metrics"]["jain"]
    heading(console, "Tenants", f"Jain's index {index:.3f}, 1 is even" if index is not None else "")
    times = [("TTFT", "ttft_s"), ("p99 TTFT", "ttft_p99_s"), ("TPOT", "tpot_s"), ("latency", "latency_s")]
    if console.width < 80:
        times = times[:2]
    table = plain_table("tenant", "requests", *(name for name, _ in times), "tokens", "of fair part")
    table.columns[0].max_width = 20
    for r in rows[:_TENANTS]:
        part = r["service_tokens"] / r["fair_tokens"] if r["fair_tokens"] else None
        shown = [seconds(r[key]) if r[key] is not None else "–" for _, key in times]
        tokens = count(round(r["service_tokens"]))
        table.add_row(Text(r["name"]), count(r["requests"]), *shown, tokens, words.percent(part))
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
    note = "Tokens: computed for the tenant until the last arrival, while tenants compete; times are means."
    if len(rows) > _TENANTS:
        note = f"{count(len(rows) - _TENANTS)} more tenants with less service. " + note
    paragraph(console, note, style="dim")
