"""A serving plan as one self-contained HTML page, in the style of :mod:`tierwise.report.html`.

Text and tables are written here and escaped; the Pareto front is drawn by ``assets/plan.js`` from the embedded JSON.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from tierwise.core.units import dollars, seconds
from tierwise.report import plan_words as words
from tierwise.report.html import cards, embedded, escaped, framed
from tierwise.report.plan import counted, finalist_rows, front_rows
from tierwise.report.plan_expected import number

Json = dict[str, Any]

SCRIPTS = ("base.js", "plan.js")


def page(d: Json, cloud: Json) -> str:
    """The page, ready to write to a file as UTF-8.

    Args:
        d: the plan's JSON form; ``cloud``: see :func:`tierwise.report.plan_data.cloud`.
    """
    text = d["text"]
    model = d["question"]["model"]
    return framed(
        "plan.html",
        SCRIPTS,
        ("plan.css",),
        title=escape(f"{model}: a serving plan"),
        heading=f"Serving {escape(model)} <span>within {escape(words.machines(d))}</span>",
        subtitle=escaped(text["load"]),
        headline=escaped(text["headline"]),
        state="fits" if d["met"] else "missed",
        cards=cards(key_numbers(d)),
        why="".join(f"<p>{escaped(x)}</p>" for x in text["why"]),
        finalists=_section("Finalists", "Predicted → simulated, means.", finalist_rows(d)),
        front=_section("", "", front_rows(d)),
        others=_list("Why not", text["others"]),
        changes=_list("If things change", text["changes"]),
        basis="".join(f"<p>{escaped(x)}</p>" for x in [*text["rests"], counted(d)]),
        data=embedded({"plan": d, "cloud": cloud}),
    )


def key_numbers(d: Json) -> list[tuple[str, str, str]]:
    """(name, value, remark) of the answer."""
    a = d["answer"]
    if a is None:
        return []
    run = a.get("simulated")
    q = d["question"]
    how = "simulated" if run else "predicted"
    rate = run["requests_per_s"] if run else a["requests_per_s"]
    out = [("Devices", str(a["devices"]), a["device"])]
    if a["usd_per_hour"] is not None:
        each = a["usd_per_hour"] / 3600.0 / (rate * q["output"]) * 1e6
        out += [("Rent", f"{dollars(a['usd_per_hour'])} / h", ""), ("Cost", f"{dollars(each)} / M tokens", how)]
    for name in ("ttft", "tpot"):
        x = run[name + "_s"] if run else {"mean": a[name + "_s"]}
        tail = f"p99 {seconds(x['p99'])}" if "p99" in x else "mean"
        target = q[name + "_s"]
        remark = f"{tail}; target {seconds(target)}" if target is not None else tail
        out.append((name.upper(), seconds(x["mean"]), remark))
    out.append(("Throughput", f"{number(rate)} requests/s", f"{number(rate * q['output'])} tokens/s"))
    out.append(("Per device", f"{number(rate * q['output'] / a['devices'])} tokens/s", how))
    return out


def _section(title: str, note: str, table: tuple[Sequence[str], Sequence[Sequence[str]]]) -> str:
    columns, rows = table
    if not rows:
        return ""
    head = "".join(f"<th{' class=l' if i == 0 else ''}>{escape(c)}</th>" for i, c in enumerate(columns))
    body = "".join(
        "<tr>" + "".join(f"<td{' class=l' if i == 0 else ''}>{escaped(x)}</td>" for i, x in enumerate(row)) + "</tr>"
        for row in rows
    )
    inner = (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(title or "Pareto front")}"><table>'
        f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )
    if not title:
        return inner
    return (
        f'<section><div class="head"><h2>{escape(title)}</h2></div><p class="lead">{escape(note)}</p>{inner}</section>'
    )


def _list(title: str, lines: Sequence[str]) -> str:
    if not lines:
        return ""
    items = "".join(f"<li><b>{escape(a)}:</b> {escaped(b)}</li>" for a, _, b in (x.partition(": ") for x in lines))
    return f'<section><h2>{escape(title)}</h2><ul class="plain">{items}</ul></section>'
