"""``tierwise goodput``: requests a second that a deployment serves within its targets, over the rate they come at."""

from __future__ import annotations

from tierwise.cli import Stopped
from tierwise.cli._flags import DEGREES, FORMATS, STREAM, Flags, flags
from tierwise.scenario.fields import names

# Machines may be given several times, to compare.
_TRAFFIC = tuple(name for name in STREAM if name not in ("rate_scale", "concurrency", "search"))


@flags("machine", *DEGREES, *FORMATS, "eager", "technique", "engine", *_TRAFFIC, *names("serving"), "ttft", "tpot",
       "attainment", "html", "table", "json", "save", many=("machine", "rate"))  # fmt: skip
def command(asked: Flags) -> None:
    """How many requests a second hold the targets: goodput over the rate of arrivals, and where it ends."""
    from tierwise.cli._files import check, told, write_json
    from tierwise.cli._goodput import curves
    from tierwise.core.errors import TierwiseError
    from tierwise.core.files import write
    from tierwise.report.goodput_report import page, show, table_rows, to_dict
    from tierwise.report.tables import ENDINGS, write_table

    check(asked, "html", "json", "save", table=ENDINGS)
    if asked.save is not None and len(asked.several("machine")) > 1:
        raise TierwiseError("--save: a scenario has one machine; several are compared here")
    if asked.ttft is None and asked.tpot is None:
        raise TierwiseError("goodput within what? Give --ttft 500ms, --tpot 30ms, or both")
    machines, each, form = curves(asked)
    found = to_dict(machines, each, asked.ttft, asked.tpot, asked.attainment)
    if asked.save is not None:
        from tierwise.scenario.files import write_form

        rates = form["traffic"].get("rate")
        if isinstance(rates, (list, tuple)) and len(rates) == 1:  # which one simulation plays, too
            form["traffic"]["rate"] = rates[0]
        write_form(form, asked.save)
    if asked.html is not None:
        write(asked.html, page(found))
    if asked.table is not None:
        write_table(asked.table, table_rows(found))
    if asked.json is not None:
        write_json(asked.json, found)
    if "-" not in (asked.json, asked.save):
        from tierwise.report.console import console

        show(found, console())
        told(asked, "html", "table", "json", "save")
    if found["interrupted"]:
        raise Stopped
