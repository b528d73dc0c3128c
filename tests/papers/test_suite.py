"""The frame: tolerances, states, and that every paper asked for is there in an honest state."""

import math

import pytest

from tierwise import papers
from tierwise.core.errors import UnknownName
from tierwise.papers.types import Claim, Outcome, paper_state


def claim(kind: str = "ratio", published: float | tuple[float, float] = 2.0, **more: object) -> Claim:
    return Claim("a", published, "x", kind, "abstract", lambda: 1.0, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "published", "value", "state"),
    [
        ("count", 100.0, 104.9, "reproduced"),
        ("count", 100.0, 105.1, "off"),
        ("memory", 100.0, 90.1, "reproduced"),
        ("ratio", 2.0, 2.41, "off"),
        ("up-to", 4.0, 3.01, "reproduced"),
        ("exponent", 2.0, 1.94, "off"),
        ("at-most", 24.0, 24.01, "off"),
        ("at-least", 4.0, 4.0, "reproduced"),
        ("ratio", (2.0, 3.0), 3.5, "reproduced"),
        ("ratio", (2.0, 3.0), 3.7, "off"),
        ("ratio", 2.0, math.nan, "off"),
    ],
)
def test_tolerances_are_those_of_the_kind(kind: str, published: object, value: float, state: str) -> None:
    assert claim(kind, published).judge(value) == state  # type: ignore[arg-type]


def test_the_abstract_decides_and_one_claim_off_is_off() -> None:
    def outcome(state: str, extra: bool = False) -> Outcome:
        return Outcome(claim(extra=extra), 1.0, state)

    assert paper_state([outcome("reproduced"), outcome("needs-setup")]) == "reproduced"
    assert paper_state([outcome("reproduced"), outcome("off")]) == "off"
    assert paper_state([outcome("needs-setup"), outcome("reproduced", True)]) == "needs-setup"
    assert paper_state([outcome("reproduced", True), outcome("off", True)]) == "off"
    assert paper_state([outcome("reproduced"), outcome("off", True)]) == "reproduced"


def test_a_claim_without_a_value_says_what_is_missing() -> None:
    with pytest.raises(ValueError, match="what is missing"):
        Claim("a", 1.0, "x", "ratio", "abstract")
    with pytest.raises(ValueError, match="none of"):
        claim("nonsense")


def test_every_paper_runs_and_every_claim_has_a_reason() -> None:
    assert len(papers.slugs()) >= 35
    for slug in papers.slugs():
        paper = papers.load(slug)
        assert paper.slug == slug and paper.source and paper.mechanism
        for o in papers.run(paper):
            assert o.claim.source, slug
            assert o.state == "reproduced" or o.claim.why, f"{slug}: {o.claim.what} is {o.state} without a reason"


def test_unknown_papers_name_the_nearest() -> None:
    with pytest.raises(UnknownName, match="kivi"):
        papers.load("kivy")
