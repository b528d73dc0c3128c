"""One self-contained HTML page: no network, no libraries, light and dark, on screen and on paper.

Text is written here and escaped; charts are drawn by the scripts in ``assets/`` from the embedded JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from html import escape
from importlib import resources
from typing import Any

from tierwise.report import words
from tierwise.report.data import scalar_dict
from tierwise.report.trace import timeline
from tierwise.result import Phase, Result

Json = dict[str, Any]

SCRIPTS = ("base.js", "lib.js", "breakdown.js", "roofline.js", "tiers.js", "timeline.js", "table.js", "main.js")


def page(
    result: Result,
    advice: list[Json] | None = None,
    *,
    largest_batch: object = None,
    longest_context: object = None,
) -> str:
    """The page, ready to write to a file as UTF-8.

    Raises:
        TierwiseError: the result is a sweep.
    """
    found = {"largest_batch": largest_batch, "longest_context": longest_context}
    d = scalar_dict(result, "HTML report", advice, **found)
    model, machine = d["scenario"]["model"]["name"], words.machine_text(d)
    return framed(
        "page.html",
        SCRIPTS,
        title=escape(f"{model} on {machine}"),
        heading=f"{escape(model)} <span>on {escape(machine)}</span>",
        subtitle=escaped(words.subtitle(d)),
        headline=escaped(d["text"]["headline"]),
        state="fits" if d["summary"]["fits"] else "too-large",
        conditional="" if d["summary"]["fits"] else '<p class="if">Were the memory large enough:</p>',
        cards=cards(words.key_numbers(d)),
        why="".join(f"<p>{escaped(x)}</p>" for x in d["text"]["why"]),
        advice=_advice(d),
        basis=_basis(d),
        scenario=_scenario(d),
        data=embedded(_payload(d, result)),
    )


def framed(body: str, scripts: Iterable[str], sheets: Iterable[str] = (), **parts: str) -> str:
    """A whole page around a body.

    Args:
        body: asset that stands between header and footer; ``scripts`` and ``sheets`` beside ``page.css`` likewise.
        parts: HTML by the names that body and frame (title, heading, subtitle, headline, state, data) ask for.
    """
    script = "\n".join(asset(name) for name in scripts)
    style = "".join(asset(name) for name in ("page.css", *sheets))
    main = fill(asset(body), **parts).removesuffix("\n")
    return fill(asset("frame.html"), main=main, style=style, script=f'"use strict";\n{script}', **parts)


def asset(name: str) -> str:
    return (resources.files("tierwise.report") / "assets" / name).read_text(encoding="utf-8")


def fill(template: str, **parts: str) -> str:
    """Every ``{{name}}`` replaced in one pass, so that what is put in is never read as a template."""
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], template)


def _payload(d: Json, result: Result) -> Json:
    """The result, and what its charts need beside it."""
    names = {p["bound_by"] for p in d["phases"]} | {n for p in d["phases"] for n in p["seconds_if_alone"]}
    return {
        "result": d,
        "rows": [words.grouped(p["ops"]) for p in d["phases"]],
        "timeline": [_timeline(p) for p in result.phases],
        "families": {name: words.family(d, name) for name in sorted(names)},
        "labels": {"resources": {name: words.resource(name) for name in sorted(names)}, "roles": words.ROLES},
    }


def _timeline(phase: Phase) -> Json:
    """Every execution of one pass as [op, layer, link?, start, duration]: indexes, and seconds."""
    segments = phase.graph.segments
    first = [sum(len(s.ops) for s in segments[:i]) for i in range(len(segments))]
    places = [first[i] + k for i in phase.graph.order for k in range(len(segments[i].ops))]
    layers: dict[str, int] = {}
    rows: list[list[float]] = []
    for place, (row, _, _) in zip(places, timeline(phase), strict=True):
        layer = layers.setdefault(str(row["layer"]), len(layers))
        link = 1 if row["stream"] == "link" else 0
        rows.append([place, layer, link, float(f"{row['start']:.9g}"), float(f"{row['duration']:.6g}")])
    return {"layers": list(layers), "rows": rows}


def embedded(payload: Json) -> str:
    """JSON that can stand in a script element: nothing in it can end the element."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def escaped(sentence: str) -> str:
    """Escaped text in which numbers keep their units."""
    return words.together(escape(sentence), "&nbsp;")


def cards(numbers: Iterable[tuple[str, str, str]]) -> str:
    """Cards of (name, value, remark)."""
    return "".join(
        f'<div class="card"><dt>{escape(name)}</dt><dd><b>{_value(value)}</b><span>{escaped(remark)}</span></dd></div>'
        for name, value, remark in numbers
    )


def _value(text: str) -> str:
    """A number, its unit smaller."""
    number, _, unit = text.partition(" ")
    return f"{escape(number)} <small>{escape(unit)}</small>" if unit and number[-1].isdigit() else escaped(text)


def _advice(d: Json) -> str:
    entries = words.advice_texts(d["advice"])
    if not entries:
        return ""
    title = "What would help" if d["summary"]["fits"] else "Nearest plans that fit"
    items = "".join(f"<li>{f'<b>{escape(t)}</b> ' if t else ''}{escaped(text)}</li>" for t, text in entries)
    return f'<div class="advice"><h3>{title}</h3><ul>{items}</ul></div>'


def _basis(d: Json) -> str:
    prices = d["sources"]["prices"]
    rows = [("Kernel efficiencies", f"{prices['calibration']}: {prices['source']}")]
    if d["sources"]["model"]:
        rows.append(("Model", d["sources"]["model"]))
    rows += [(f"Machine, {name}", text) for name, text in d["sources"]["machine"].items()]
    notes = "".join(f"<li>{escape(n)}</li>" for n in d["notes"])
    listed = "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)
    return (
        f"<p><b>{escape(words.basis_title(d).capitalize())}.</b> {escaped(words.basis_text(d))}</p>"
        + (f"<h3>Notes</h3><ul>{notes}</ul>" if notes else "")
        + f'<h3>Sources</h3><dl class="sources">{listed}</dl>'
    )


def _scenario(d: Json) -> str:
    model, plan, machine = (d["scenario"][k] for k in ("model", "plan", "machine"))
    degrees = ", ".join(f"{k} {plan[k]:g}" for k in ("tp", "pp", "dp", "ep"))
    other = [x for x in plan["differs"] if x.split()[0] not in ("tp", "pp", "dp", "ep")]
    rows = [
        ("Model", f"{model['name']} ({model['family']}), {_billions(model['parameters'])} parameters, "
                  f"{_billions(model['active_parameters'])} used by each token or input"),
        ("Machine", f"{machine['name']}: {words.machine_text(d)}"),
        ("Traffic", words.traffic_text(d)),
        ("Plan", f"{degrees}; {'; '.join(other) or 'nothing else changed from the plainest plan'}"),
        ("Formats", words.formats_text(d)),
    ]  # fmt: skip
    if d["scenario"]["techniques"]:
        rows.append(("Techniques", ", ".join(d["scenario"]["techniques"])))
    return "".join(f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in rows)


def _billions(x: float) -> str:
    return f"{x / 1e9:.3g} billion" if x >= 1e9 else f"{x / 1e6:.3g} million" if x >= 1e6 else f"{x:,.0f}"
