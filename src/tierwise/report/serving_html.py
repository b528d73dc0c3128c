"""A simulation as one self-contained HTML page, as :mod:`tierwise.report.html` is for a result.

Text and tables are written here and escaped; time series and distributions are drawn by ``assets/serving.js`` from
the embedded JSON, which is bounded whatever the number of requests.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from tierwise.report import serving_words as words
from tierwise.report.html import cards, embedded, escaped, framed
from tierwise.report.serving_data import to_dict
from tierwise.report.serving_words import percent, seconds
from tierwise.report.words import count
from tierwise.serving.outcome import Run

Json = dict[str, Any]

SCRIPTS = ("base.js", "serving.js")
# Rows of the table of tenants; the embedded JSON has no more either.
_TENANTS = 50
_TRACK = '<span class="track"><i style="width:{:.1f}%;background:var(--accent)"></i></span>'


def page(run: Run, ttft: float | None = None, tpot: float | None = None) -> str:
    """The page, ready to write to a file as UTF-8.

    Args:
        ttft, tpot: targets in seconds; None asks for nothing.
    """
    d = to_dict(run, ttft, tpot)
    d["tenants_left_out"] = max(0, len(d["tenants"]) - _TENANTS)
    d["tenants"] = d["tenants"][:_TENANTS]
    state = "empty" if not d["metrics"]["done"] else "saturated" if d["load"]["saturated"] else "fits"
    model, machine = d["deployment"]["model"], words.machines(d)
    return framed(
        "serving.html",
        SCRIPTS,
        ("serving.css",),
        title=escape(f"{model} on {machine}: a simulation"),
        heading=f"{escape(model)} <span>on {escape(machine)}</span>",
        subtitle=escaped(words.subtitle(d)),
        headline=escaped(d["text"]["headline"]),
        state=state,
        cards=cards(words.key_numbers(d)),
        words=_words(d),
        times=_times(d),
        tenants=_tenants(d),
        scenario=_list(words.scenario(d)),
        basis=f"<p>{escaped(words.basis(d))}</p>",
        data=embedded(d),
    )


def _words(d: Json) -> str:
    """What explains the numbers, and what a reader must know about the traffic; nothing where there is neither."""
    said = "".join(f"<p>{escaped(x)}</p>" for x in d["text"]["why"])
    notes = "".join(f"<li>{escaped(x)}</li>" for x in d["traffic"]["notices"])
    parts = [f"<div><h2>Why</h2>{said}</div>"] if said else []
    if notes:
        parts.append(f'<div class="advice"><h3>About the traffic</h3><ul>{notes}</ul></div>')
    return f'<section class="words">{"".join(parts)}</section>' if parts else ""


def _times(d: Json) -> str:
    rows = []
    for key, name, meaning in words.TIMES:
        x, target = d["times"][key], d["targets"].get(key)
        if not x["count"]:
            continue
        over = target is not None and x["p99"] > target
        cells = [
            (seconds(x[q]), "over" if over and q == "p99" else "") for q in ("mean", "p50", "p90", "p95", "p99", "max")
        ]
        asked = "–" if target is None else f"{seconds(target)} for {percent(d['metrics'][f'{key[:-2]}_met'])}"
        rows.append([(name, "l"), (meaning, "l wide"), *cells, (asked, "")])
    head = ("time", "", "mean", "p50", "p90", "p95", "p99", "longest", "target")
    return _table(head, rows)


def _tenants(d: Json) -> str:
    rows = d["tenants"]
    if len(rows) < 2:
        return ""
    most = max(r["service_tokens"] for r in rows) or 1.0
    body: list[list[tuple[str, str]]] = []
    for r in rows:
        part = r["service_tokens"] / r["fair_tokens"] if r["fair_tokens"] else None
        times = [seconds(r[k]) if r[k] is not None else "–" for k in ("ttft_s", "ttft_p99_s", "tpot_s", "latency_s")]
        body.append([(r["name"], "l"), *((x, "") for x in (count(r["requests"]), count(r["rejected"]), *times)),
                     (count(round(r["service_tokens"])), ""), (percent(part), "")])  # fmt: skip
    bars = [_TRACK.format(100.0 * r["service_tokens"] / most) for r in rows]
    head = ("tenant", "requests", "rejected", "TTFT", "p99 TTFT", "TPOT", "latency", "tokens", "of its fair part")
    left = d["tenants_left_out"]
    more = f"{count(left)} more tenants with less service are not shown. " if left else ""
    jain = "" if d["metrics"]["jain"] is None else f"Jain's index {d['metrics']['jain']:.3f} (1 is even). "
    note = (
        f"{jain}{more}Tokens are those computed for the tenant until the last arrival, while tenants compete; its fair "
        "part is the max-min fair split of all of them. Times are means."
    )
    table = _table(head, body, bars)
    return (
        '<section id="tenants"><div class="head"><h2>By tenant</h2></div><div class="scroll" tabindex="0" '
        f'role="region" aria-label="Table of tenants">{table}</div><p class="note">{escaped(note)}</p></section>'
    )


def _table(head: Sequence[str], rows: Sequence[Sequence[tuple[str, str]]], bars: Sequence[str] = ()) -> str:
    """Cells are (text, class), a column's class that of its first cell; ``bars`` are markup put into the second last
    cell of each row."""
    styles = [style for _, style in rows[0]] if rows else [""] * len(head)
    top = "".join(f'<th class="{x if x != "over" else ""}">{escape(h)}</th>' for h, x in zip(head, styles, strict=True))
    body = ""
    for k, row in enumerate(rows):
        cells = [f'<td class="{style}">{escaped(x)}' for x, style in row]
        if bars:
            cells[-2] += bars[k]
        body += "<tr>" + "".join(f"{c}</td>" for c in cells) + "</tr>"
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _list(rows: Sequence[tuple[str, str]]) -> str:
    return "".join(f"<dt>{escape(name)}</dt><dd>{escaped(text)}</dd>" for name, text in rows)
