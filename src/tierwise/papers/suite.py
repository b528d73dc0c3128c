"""Finding the papers and running them."""

from __future__ import annotations

import importlib
import pkgutil

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.papers import catalog
from tierwise.papers.types import NEEDS_FEATURE, Outcome, Paper


def slugs() -> list[str]:
    """Every paper there is a file for."""
    found = (i.name for i in pkgutil.iter_modules(catalog.__path__) if not i.name.startswith("_"))
    return sorted(name.replace("_", "-") for name in found)


def load(slug: str) -> Paper:
    """A paper by its slug.

    Raises:
        UnknownName: there is no such file.
    """
    if slug not in slugs():
        raise UnknownName("paper", slug, slugs())
    module = importlib.import_module(f"{catalog.__name__}.{slug.replace('-', '_')}")
    paper: Paper = module.PAPER
    return paper


def run(paper: Paper) -> list[Outcome]:
    """Every claim of a paper, computed and judged."""
    out = []
    for claim in paper.claims:
        if claim.compute is None:
            out.append(Outcome(claim, float("nan"), claim.missing))
            continue
        try:
            value = float(claim.compute())
        except TierwiseError as error:  # a part that is not installed: simulating needs an extra
            out.append(Outcome(claim, float("nan"), NEEDS_FEATURE, str(error)))
            continue
        out.append(Outcome(claim, value, claim.judge(value)))
    return out
