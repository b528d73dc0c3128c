"""A report as one self-contained HTML page: no network, no libraries, light and dark, on screen and on paper.

Text is written here and escaped; charts are drawn by the scripts in ``assets/`` from the embedded JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib import resources
from typing import Any

from tierwise.report.layout import Bullets, Cell, Command, Facts, Report, ReportSection, Sentences, Table
from tierwise.report.made import made_by, text
from tierwise.report.numbers import count, with_units_kept

Json = dict[str, Any]

_TRACK = '<span class="track"><i style="width:{:.1f}%;background:var(--accent)"></i></span>'

_ENDS = ('<span class="track" style="position:relative;min-width:120px"><i style="position:absolute;left:{:.1f}%;'
         'width:{:.1f}%;background:var(--accent)"></i></span>')  # fmt: skip


def page(report: Report, template: str, scripts: Iterable[str], data: Json) -> str:
    """The page, ready to write to a file as UTF-8.

    Args:
        template: asset of that name with the charts, and with ``{{name}}`` where a section of the report stands; where
            there is none, the sections stand in their order. The rest of the frame is the same for all reports;
            ``template.css`` is added where there is one.
        scripts: assets that draw the charts. ``data``: what they draw.
    """
    sections = {name: _section(section) for name, section in report.sections.items() if name != report.aside}
    # One number stands out: the one the report names, else its first.
    hero = [n for n in report.numbers if n[0] == report.hero][:1] or report.numbers[:1]
    drawn = _there(f"{template}.html")
    sheets = [name for name in ("page.css", f"{template}.css") if _there(name)]
    return fill(
        asset("frame.html"),
        title=escape(report.title),
        heading=f"{escape(report.subject)} <span>{escape(report.place)}</span>",
        subtitle=escaped(report.subtitle),
        headline=escaped(report.headline),
        state=report.state,
        conditional=f'<p class="if">{escape(report.condition)}</p>' if report.condition else "",
        hero="".join(f'<dl class="hero">{_number(*n)}</dl>' for n in hero),
        cards="".join(f'<div class="card">{_number(*n)}</div>' for n in report.numbers if n not in hero),
        words=_words(report),
        main=fill(asset(f"{template}.html"), **sections).strip() if drawn else "\n".join(sections.values()),
        style="".join(asset(name) for name in sheets),
        script="\n".join(['"use strict";', *(asset(name) for name in scripts)]),
        made=escape(text(made_by())),
        data=embedded(data),
    )


def asset(name: str) -> str:
    return (resources.files("tierwise.report") / "assets" / name).read_text(encoding="utf-8")


def _there(name: str) -> bool:
    return (resources.files("tierwise.report") / "assets" / name).is_file()


def fill(template: str, **parts: str) -> str:
    """Every ``{{name}}`` replaced in one pass, so that what is put in is never read as a template; a section that a
    report does not have leaves nothing."""
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts.get(m[1], ""), template)


def embedded(payload: Json) -> str:
    """JSON that can stand in a script element: nothing in it can end the element."""
    text = json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def escaped(sentence: str) -> str:
    """Escaped text in which numbers keep their units."""
    return with_units_kept(escape(sentence), "&nbsp;")


def _number(name: str, value: str, remark: str) -> str:
    number, _, unit = value.partition(" ")
    sized = unit and number[-1].isdigit()
    shown = f"{escape(number)} <small>{escape(unit)}</small>" if sized else escaped(value)
    return f"<dt>{escape(name)}</dt><dd><b>{shown}</b><span>{escaped(remark)}</span></dd>"


def _words(report: Report) -> str:
    """The reasons, and beside them what else a reader must know; nothing where there is neither."""
    parts = []
    if report.why:
        parts.append(f"<div><h2>{escape(report.why_title)}</h2>{_paragraphs(report.why)}</div>")
    if report.aside:
        section = report.sections[report.aside]
        parts.append(f'<div class="advice"><h3>{escape(section.title)}</h3>{_body(section)}</div>')
    return f'<section class="words">{"".join(parts)}</section>' if parts else ""


def _section(section: ReportSection) -> str:
    """A whole section where it names its element; else what a section of the template holds."""
    body = _body(section)
    if not section.element:
        return body if section.terminal or not section.title else f"<h3>{escape(section.title)}</h3>{body}"
    lead = f'<p class="lead">{escape(section.remark)}</p>' if section.remark and isinstance(section.body, Table) else ""
    head = f'<div class="head"><h2>{escape(section.title)}</h2></div>'
    return f'<section id="{section.element}">{head}{lead}{body}</section>'


def _body(section: ReportSection) -> str:
    body = section.body
    if isinstance(body, Sentences):
        lead = f"<p><b>{escape(section.remark.capitalize())}.</b> " if section.remark else ""
        return _paragraphs(body.lines).replace("<p>", lead or "<p>", 1)
    if isinstance(body, Command):
        return f'<pre tabindex="0"><code>{escape(body.text)}</code></pre>'
    if isinstance(body, Bullets):
        return f'<ul class="plain">{"".join(_item(*item) for item in body.items)}</ul>'
    if isinstance(body, Facts):
        rows = "".join(f"<dt>{escape(name)}</dt><dd>{escaped(text)}</dd>" for name, text in body.rows)
        return f'<dl class="sources">{rows}</dl>'
    note = f"{count(body.left_out)} more {body.more}. {body.note}" if body.left_out else body.note
    said = f'<p class="note">{escaped(note)}</p>' if note else ""
    region = f'tabindex="0" role="region" aria-label="Table: {escape(section.title)}"'
    return f'<div class="scroll" {region}>{_table(body)}</div>{said}'


def _paragraphs(lines: Sequence[str]) -> str:
    return "".join(f"<p>{escaped(line)}</p>" for line in lines)


def _item(about: str, said: str) -> str:
    return f"<li>{f'<b>{escape(about)}</b> ' if about else ''}{escaped(said)}</li>"


def _table(table: Table) -> str:
    columns = table.columns
    head = "".join(f'<th class="{_side(c.left)}">{escape(c.name)}</th>' for c in columns)
    rows = []
    for row in table.rows:
        cells = [_cell(cell, _side(column.left)) for column, cell in zip(columns, row, strict=True)]
        rows.append(f"<tr>{''.join(cells)}</tr>")
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _side(left: bool) -> str:
    return "l" if left else ""


def _cell(cell: Cell | str, side: str) -> str:
    if isinstance(cell, str):
        return f'<td class="{side}">{escaped(cell)}</td>'
    classes = " ".join(x for x in (side, "over" if cell.tone == "bad" else "") if x)
    bar = _TRACK.format(100.0 * min(max(cell.bar, 0.0), 1.0)) if cell.bar is not None else ""
    if cell.ends is not None:
        left, right = sorted(50.0 * (1.0 + min(max(x, -1.0), 1.0)) for x in cell.ends)
        bar = _ENDS.format(left, right - left)
    return f'<td class="{classes}">{escaped(cell.text)}{bar}</td>'
