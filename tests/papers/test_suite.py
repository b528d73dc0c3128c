"""The frame: tolerances, where a paper stands, papers found by place, and what their files may use."""

from __future__ import annotations

import ast
import math
from functools import cache
from pathlib import Path

import pytest

from tierwise import papers
from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.papers import suite
from tierwise.papers.types import Claim, Outcome, standing
from tierwise.report.papers import table_states

CATALOG = Path(papers.__file__).parent / "catalog"
README = Path(__file__).resolve().parents[2] / "docs" / "papers.md"


def claim(kind: str = "ratio", published: float | tuple[float, float] = 2.0, **more: object) -> Claim:
    return Claim("a", published, "x", kind, "abstract", lambda: 1.0, **more)  # type: ignore[arg-type]


def outcome(state: str, **more: object) -> Outcome:
    return Outcome(claim(**more), 1.0, state)  # type: ignore[arg-type]


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
    assert claim(kind, published, metric="time").judge(value) == state  # type: ignore[arg-type]
    for other in ("identity", "blind", "unread"):
        found = claim(kind, published, metric="time", **{other: True}).judge(value)  # type: ignore[arg-type]
        assert found == (other if state == "reproduced" else "off")


@pytest.mark.parametrize(
    ("outcomes", "expected"),
    [
        ([outcome("reproduced")], "reproduced"),
        # What the engine cannot express does not keep a paper from being reproduced; what was not computed does.
        ([outcome("reproduced"), outcome("needs-feature")], "reproduced"),
        ([outcome("reproduced"), outcome("needs-setup")], "partly (1 of 2)"),
        ([outcome("reproduced"), outcome("off")], "partly (1 of 2)"),
        ([outcome("off"), outcome("needs-setup")], "off"),
        ([outcome("needs-setup"), outcome("needs-feature")], "needs-setup"),
        ([outcome("needs-feature")], "needs-feature"),
        ([], "needs-setup"),
        # Further results of the same metric count, those of another do not.
        ([outcome("reproduced"), outcome("off", extra=True)], "partly (1 of 2)"),
        ([outcome("reproduced"), outcome("off", extra=True, kind="memory")], "reproduced"),
        ([outcome("needs-setup"), outcome("reproduced", extra=True)], "partly (1 of 2)"),
        # They stand for an abstract without a number that could be wrong.
        ([outcome("reproduced", extra=True)], "reproduced"),
        ([outcome("identity", identity=True), outcome("reproduced", extra=True, kind="memory")], "reproduced"),
        # What follows from inputs alone never counts.
        ([outcome("identity", identity=True)], "needs-feature"),
        ([outcome("identity", identity=True), outcome("off")], "off"),
        ([outcome("off", identity=True), outcome("reproduced")], "reproduced"),
        # What comes out on wrong engines as well reproduces nothing.
        ([outcome("blind", blind=True), outcome("reproduced")], "partly (1 of 2)"),
        ([outcome("blind", blind=True)], "partly (0 of 1)"),
        ([outcome("unread", unread=True), outcome("reproduced")], "partly (1 of 2)"),
        ([outcome("blind", blind=True), outcome("off")], "off"),
    ],
)
def test_where_a_paper_stands_follows_from_the_claims_that_count(outcomes: list[Outcome], expected: str) -> None:
    assert str(standing(outcomes)) == expected


def test_a_claim_says_what_is_missing_what_it_measures_and_what_was_published() -> None:
    with pytest.raises(ValueError, match="what is missing"):
        Claim("a", 1.0, "x", "ratio", "abstract")
    with pytest.raises(ValueError, match="none of"):
        claim("nonsense")
    with pytest.raises(ValueError, match="a bound has to say"):
        claim("at-most")
    with pytest.raises(ValueError, match="published number"):
        claim(published=math.nan)


@cache
def everything() -> list[tuple[papers.Paper, list[Outcome]]]:
    return list(suite.run_all(papers.slugs(), jobs=2))


def test_every_claim_has_a_source_every_gap_a_reason_and_every_value_is_a_number() -> None:
    pytest.importorskip("numba")
    for (paper, outcomes), slug in zip(everything(), papers.slugs(), strict=True):
        assert paper.slug == slug and paper.source.startswith("arXiv:") and paper.mechanism
        assert len({c.what for c in paper.claims}) == len(paper.claims), slug
        for o in outcomes:
            assert o.claim.source and not o.error, f"{slug}: {o.claim.what}: {o.error}"
            told = o.claim.why or o.claim.identity or o.claim.unread
            assert o.state == "reproduced" or told, f"{slug}: {o.claim.what}: {o.state}"
            assert (o.claim.compute is None) == (not math.isfinite(o.value)), f"{slug}: {o.claim.what}"


def test_the_readme_says_of_each_paper_what_the_suite_does() -> None:
    """A claim made to readers: to be refreshed by ``tierwise papers --mutate --update docs/papers.md``."""
    pytest.importorskip("numba")
    assert table_states(README.read_text("utf-8")) == {
        paper.slug: standing(outcomes).state for paper, outcomes in everything()
    }


def test_unknown_papers_name_the_nearest() -> None:
    with pytest.raises(UnknownName, match="kivi"):
        papers.load("kivy")
    with pytest.raises(UnknownName, match="no such file"):
        papers.load("./nowhere.py")


def test_a_file_of_ones_own_is_a_paper(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(
        "import tierwise as tw\n"
        "from tierwise.papers.base import scenario\n"
        "from tierwise.papers.types import Claim, Paper\n"
        "def size():\n"
        "    return float(tw.evaluate(scenario('llama-2-7b', 'a100-sxm-80gb')).memory.weight_bytes) / 1e9\n"
        "PAPER = Paper('mine', 'Mine', 'arXiv:0', 'none', (Claim('weights', 13.5, 'GB', 'memory', 'here', size),))\n"
    )
    assert [o.state for o in papers.run(papers.load(str(path)))] == ["reproduced"]
    path.write_text("PAPER = None\n")
    with pytest.raises(BadField, match=r"mine\.py: PAPER"):
        papers.load(str(path))


def test_an_entry_that_waits_says_what_is_wrong_with_it() -> None:
    good = {"slug": "a", "title": "A", "source": "arXiv:0", "mechanism": "none", "claims": []}
    one = {"what": "b", "published": [1, 2], "unit": "x", "kind": "ratio", "source": "abstract",
           "missing": "needs-setup"}  # fmt: skip
    assert suite._entry("here", {**good, "claims": [one]}).claims[0].published == (1.0, 2.0)
    with pytest.raises(BadField, match="here: titel"):
        suite._entry("here", {**good, "titel": "A"})
    with pytest.raises(BadField, match="here: mechanism"):
        suite._entry("here", {k: v for k, v in good.items() if k != "mechanism"})
    with pytest.raises(BadField, match="what is missing"):
        suite._entry("here", {**good, "claims": [{**one, "missing": "luck"}]})


# What a paper may use: the public package, parts that models are arranged of, and what serves and simulates. Never
# prices, programs, memory's account or the insides of a machine: a paper does not compute what the engine should.
ALLOWED = (
    "tierwise", "tierwise.techniques", "tierwise.papers", "tierwise.result", "tierwise.scenario.types",
    "tierwise.core.num", "tierwise.core.numerics", "tierwise.models.blocks", "tierwise.models.types",
    "tierwise.models.load", "tierwise.models.hf", "tierwise.models.family", "tierwise.serving.traffic",
    "tierwise.serving.drafts", "tierwise.serving.deployment", "tierwise.serving.outcome",
)  # fmt: skip


@pytest.mark.parametrize("path", sorted(CATALOG.glob("*.py")), ids=lambda p: p.stem)
def test_a_paper_brings_no_engine_of_its_own(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in ("walk", "price"), f"line {node.lineno}"
            if isinstance(node, ast.Attribute):
                assert node.attr not in ("graph", "program", "segment", "target"), f"line {node.lineno}: .{node.attr}"
            continue
        for name in names:
            inside = name.startswith("tierwise")
            good = any(name == a or name.startswith(a + ".") for a in ALLOWED[1:]) or name == ALLOWED[0]
            assert good or not inside, f"line {node.lineno}: {name} is the engine's"
            assert not name.startswith("tierwise.techniques._"), f"line {node.lineno}: {name} is private"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("\n1 / 0\n", r"mine\.py, line 2: ZeroDivisionError"),
        ("PAPER = 3\n", "PAPER = Paper"),
        ("from tierwise.papers import Claim, Paper\nPAPER = Paper('a', 'A', 'b', 'c', (Claim('x', 1.0, 'x', 'ratio', "
         "'abstract', lambda: [].y),))\n", "claim 'x': AttributeError"),
    ],
)  # fmt: skip
def test_a_broken_file_is_told_in_one_line(text: str, told: str, tmp_path: Path) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(text)
    with pytest.raises(TierwiseError, match=told) as caught:
        list(suite.run_all([str(mine)]))
    assert "\n" not in str(caught.value)
