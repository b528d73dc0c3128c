"""Published systems as scenarios, and the suite that says which of their results the engine reproduces.

One file a paper in ``catalog/``: ``PAPER = Paper(...)``. The file's name is the slug with underscores. Papers of which
nothing can be computed yet are entries of ``catalog/waiting.yaml``.
"""

from __future__ import annotations

from tierwise.papers.suite import load, run, slugs
from tierwise.papers.types import Claim, Outcome, Paper, standing

__all__ = ["Claim", "Outcome", "Paper", "load", "run", "slugs", "standing"]
