"""What every row of papers is held to, whatever its numbers."""

import numpy as np

from tierwise.papers import load, run


def check(slug: str) -> None:
    """A source for every claim, a reason for every one that does not come out, and numbers where there is a value."""
    paper = load(slug)
    assert paper.slug == slug and paper.source.startswith("arXiv:")
    for outcome in run(paper):
        claim = outcome.claim
        assert claim.source and not outcome.error, claim.what
        assert outcome.state == "reproduced" or claim.why, claim.what
        assert claim.compute is None or np.isfinite(outcome.value), claim.what
