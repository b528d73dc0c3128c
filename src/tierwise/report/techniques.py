"""The techniques there are, as a list and one by one."""

from __future__ import annotations

import inspect
import re
import textwrap
from collections.abc import Callable
from typing import Any

from tierwise.core.errors import UnknownName
from tierwise.report.plain import put_json

_SOURCE = re.compile(r"arXiv:\d{4}\.\d{4,5}|\d{4}\.\d{4,5}(?=[),;])|[A-Z][\w, ]+, (?:19|20)\d\d")


def technique_row(name: str, maker: Callable[..., Any]) -> dict[str, Any]:
    """A technique in one row, as plain JSON: what it does in a sentence, its arguments, sources, an example."""
    from tierwise.techniques import example, usage

    text = " ".join((inspect.getdoc(maker) or "").split("\n\n")[0].split())
    sources = _SOURCE.findall(inspect.getdoc(maker) or "")
    # The first sentence, without the sources, which have a field of their own.
    words = re.sub(r"\s*\([^()]*(?:arXiv:|(?:19|20)\d\d)[^()]*\)", "", text)
    first = re.split(r"(?<=[a-z0-9`\"])\. (?=[A-Z])|: (?=the given|``)", words)[0].rstrip(".")
    return {"name": name, "summary": first.replace("``", "`"), "arguments": usage(maker), "sources": sources,
            "example": example(maker)}  # fmt: skip


def technique_rows() -> list[dict[str, Any]]:
    """Every technique as a row, by name."""
    from tierwise.techniques import all_techniques

    return [technique_row(name, maker) for name, maker in sorted(all_techniques().items())]


def show_techniques(to: str | None) -> None:
    """Every technique: one line, its arguments and where it comes from."""
    rows = technique_rows()
    if put_json(to, rows):
        return
    for row in rows:
        # A long list of arguments goes on below, after one of its commas.
        print(_wrapped(f"{row['name']}:{row['arguments']}".rstrip(":").replace(",", ", ")).replace(", ", ","))
        print(_wrapped(f"{row['summary']}.{' ' + ', '.join(row['sources']) if row['sources'] else ''}", "    "))
    print(f"\n{len(rows)} techniques. One of your own is named by its file:\n./mine.py:name:argument=value")


def _wrapped(text: str, indent: str = "") -> str:
    from tierwise.report.console import console

    width = min(console().width, 100)
    return textwrap.fill(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False,
                         break_long_words=False)  # fmt: skip


def show_technique(name: str, to: str | None) -> None:
    """One technique: its arguments and what it says of itself.

    Raises:
        UnknownName: there is none.
    """
    from tierwise.techniques import all_techniques, makers_in

    own = name.endswith(".py")
    known = makers_in(name) if own else all_techniques()
    if not own and name not in known:
        raise UnknownName("technique", name, known)
    wanted = {each: known[each] for each in (sorted(known) if own else [name])}
    rows = [{**technique_row(each, maker), "text": inspect.getdoc(maker) or ""} for each, maker in wanted.items()]
    if put_json(to, rows if own else rows[0]):
        return
    for row in rows:
        print(f"{row['name']}:{row['arguments']}".rstrip(":"))
        print(f"\n{row['text']}")
