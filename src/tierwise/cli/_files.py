"""Files that commands write: refused before any work is done, written whole, and named at the end."""

from __future__ import annotations

import json
from typing import Any

from tierwise.cli._flags import Flags
from tierwise.core.files import check_writable, write
from tierwise.scenario.fields import FIELDS, bad

_WHAT = {"html": "report", "trace_out": "timeline", "table": "table", "json": "JSON", "save": "scenario",
         "out": "launch files"}  # fmt: skip


def check(asked: Flags, *names: str, **endings: tuple[str, ...]) -> None:
    """Refuse targets that cannot be written. ``endings``: those a file's name may have, by setting."""
    if len(printed := [name for name in (*names, *endings) if getattr(asked, name) == "-"]) > 1:
        raise bad(FIELDS[printed[1]].option, "-", f"a file name: --{printed[0]} prints already")
    for name in (*names, *endings):
        if (target := getattr(asked, name)) is not None:
            check_writable(target, endings.get(name, ()))


def write_json(path: str, data: Any, indent: int | None = 2) -> None:
    """Write plain data as JSON; ``-`` prints it."""
    write(path, json.dumps(data, indent=indent, allow_nan=False))


def write_rows(path: str, rows: Any) -> None:
    """Write a table of what a command would list, and say so."""
    from tierwise.report.tables import write_table

    write_table(path, rows)
    print(f"table written to {path}")


def told(asked: Flags, *names: str, notes: dict[str, str] | None = None) -> None:
    """Say which files were written. ``notes``: what to add, by setting."""
    for name in names:
        if (path := getattr(asked, name)) not in (None, "-"):
            print(f"{_WHAT[name]} written to {path}{(notes or {}).get(name, '')}")
