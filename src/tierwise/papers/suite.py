"""Finding the papers and running them."""

from __future__ import annotations

import pkgutil
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.userfile import executed
from tierwise.papers import catalog
from tierwise.papers.types import NEEDS_FEATURE, Claim, Outcome, Paper

_HERE = Path(catalog.__path__[0])


def slugs() -> list[str]:
    """Every paper of the catalog: those with a file of their own, and those that wait."""
    found = (i.name for i in pkgutil.iter_modules([str(_HERE)]) if not i.name.startswith("_"))
    return sorted({*(name.replace("_", "-") for name in found), *_waiting()})


def load(name: str) -> Paper:
    """A paper by its slug, or by the path of a file that has one (``PAPER = Paper(...)``).

    The file runs anew at each call, so nothing it worked out before is kept.

    Raises:
        UnknownName: there is no such paper.
        BadField: the file has no paper in it.
    """
    path = Path(name).expanduser()
    if path.suffix != ".py":
        if name in _waiting():
            return _waiting()[name]
        path = _HERE / f"{name.replace('-', '_')}.py"
        if name.startswith("_") or "/" in name or not path.is_file():
            raise UnknownName("paper", name, slugs())
    elif not path.is_file():
        raise UnknownName("paper", name, slugs(), "(no such file)")
    paper = getattr(executed(path, f"paper_{path.stem}"), "PAPER", None)
    if not isinstance(paper, Paper):
        raise BadField(str(path), "PAPER", type(paper).__name__, "PAPER = Paper(...), see docs/adding-a-paper.md")
    return paper


def run(paper: Paper) -> list[Outcome]:
    """Every claim of a paper, computed and judged."""
    return judged(paper, values(paper))


def run_all(names: Iterable[str], jobs: int | None = None) -> Iterator[tuple[Paper, list[Outcome]]]:
    """Papers with their outcomes, in order, ``jobs`` at a time (None: as many as there are processors)."""
    wanted = list(names)
    if len(wanted) < 4 or jobs == 1:
        for name in wanted:
            paper = load(name)
            yield paper, run(paper)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        for name, found in zip(wanted, pool.map(_values_of, wanted), strict=True):
            paper = load(name)
            yield paper, judged(paper, found)


def values(paper: Paper) -> list[tuple[float, str]]:
    """(the engine's value, or nan; what kept it from being computed) of every claim."""
    return [_value(claim) for claim in paper.claims]


def judged(paper: Paper, found: list[tuple[float, str]]) -> list[Outcome]:
    """Outcomes from what :func:`values` found."""
    out = []
    for claim, (value, error) in zip(paper.claims, found, strict=True):
        state = claim.missing if claim.compute is None else NEEDS_FEATURE if error else claim.judge(value)
        out.append(Outcome(claim, value, state, error))
    return out


def _values_of(name: str) -> list[tuple[float, str]]:
    return values(load(name))


def _value(claim: Claim) -> tuple[float, str]:
    if claim.compute is None:
        return float("nan"), ""
    try:
        return float(claim.compute()), ""
    except TierwiseError as error:  # a part that is not installed: simulating needs an extra
        return float("nan"), str(error)
    except Exception as error:
        raise TierwiseError(f"claim {claim.what!r}: {type(error).__name__}: {error}") from error


# ---------------------------------------------------------------- papers that wait

_FIELDS = {"slug", "title", "source", "mechanism", "claims", "assumptions"}
_CLAIM = {"what", "published", "unit", "kind", "metric", "source", "missing", "why", "extra"}


@cache
def _waiting() -> Mapping[str, Paper]:
    """Papers of which nothing can be computed yet, by slug: the entries of every YAML file of the catalog."""
    import yaml

    out: dict[str, Paper] = {}
    for path in sorted(_HERE.glob("[!_]*.yaml")):
        for i, entry in enumerate(yaml.safe_load(path.read_text("utf-8"))):
            paper = _entry(f"{path.name}, entry {i + 1}", entry)
            out[paper.slug] = paper
    return out


def _entry(where: str, entry: Mapping[str, Any]) -> Paper:
    for name in sorted(set(entry) - _FIELDS):
        raise BadField(where, name, entry[name], f"one of {', '.join(sorted(_FIELDS))}")
    for name in sorted(_FIELDS - {"assumptions"} - set(entry)):
        raise BadField(where, name, None, "a value: it is required")
    claims = tuple(_claim(f"{where} ({entry['slug']})", c) for c in entry["claims"])
    texts = {k: str(entry[k]) for k in ("slug", "title", "source", "mechanism")}
    return Paper(**texts, claims=claims, assumptions=tuple(map(str, entry.get("assumptions", ()))))


def _claim(where: str, entry: Mapping[str, Any]) -> Claim:
    for name in sorted(set(entry) - _CLAIM):
        raise BadField(where, name, entry[name], f"one of {', '.join(sorted(_CLAIM))}")
    published = entry.get("published")
    value = tuple(map(float, published)) if isinstance(published, list) else published
    try:
        return Claim(**{**entry, "published": value})
    except (TypeError, ValueError) as error:
        raise BadField(where, "claims", entry.get("what"), str(error)) from error
