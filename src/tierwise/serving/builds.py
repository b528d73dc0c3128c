"""Which build of an engine is older: what a newer one inherits, it has from the nearest older one."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from tierwise.core.yamltext import parsed

_MONTH = re.compile(r"\d{4}-\d\d")


def place(engine: str, build: str) -> int:
    """Where a build stands among those of ``builds.yaml``, or the nearest older one; the newest where its name says
    nothing of its age (a branch, nothing at all), 0 for one older than all."""
    known = _builds().get(engine, ())
    names = [name for name, _ in known]
    if build in names:
        return names.index(build)
    if _MONTH.fullmatch(build):
        return max((i for i, (_, month) in enumerate(known) if month <= build), default=0)
    if not build[:1].isdigit():
        return max(len(known) - 1, 0)
    older = [(version(name), i) for i, name in enumerate(names) if name[:1].isdigit() and not _MONTH.fullmatch(name)]
    return max(((v, i) for v, i in older if v <= version(build)), default=((), 0))[1]


def nearest(engine: str, build: str, among: Iterable[str]) -> str:
    """The newest of some builds that is no newer than ``build``, else the oldest of them; "" where there are none."""
    by_age = sorted(among, key=lambda name: place(engine, name))
    older = [name for name in by_age if place(engine, name) <= place(engine, build)]
    return older[-1] if older else by_age[0] if by_age else ""


def version(name: str) -> tuple[int, ...]:
    """The numbers of a version."""
    return tuple(map(int, re.findall(r"\d+", name)))


@cache
def _builds() -> dict[str, tuple[tuple[str, str], ...]]:
    data = parsed(Path(__file__).with_name("builds.yaml").read_text(encoding="utf-8"))
    return {engine: tuple((str(name), str(month)) for name, month in rows)
            for engine, rows in data.items() if engine != "source"}  # fmt: skip
