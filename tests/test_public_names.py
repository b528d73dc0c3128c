"""The Python API that is promised: every name documented, and an old one warns before it goes."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

import tierwise as tw
from tierwise import machines

DOC = (Path(__file__).parents[1] / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [n for n in tw.__all__ if n != "__version__"])
def test_every_public_name_has_a_docstring_and_is_documented(name: str) -> None:
    assert (getattr(tw, name).__doc__ or "").strip(), name
    assert re.search(rf"`(tw\.)?{name}\b", DOC), name


@pytest.mark.parametrize("name", machines.__all__)
def test_so_has_every_name_of_machines(name: str) -> None:
    assert (getattr(machines, name).__doc__ or "").strip(), name
    assert re.search(rf"`(tw\.machines\.)?{name}\b", DOC), name


@pytest.mark.parametrize("name", ["Result", "Comparison", "Scenario"])
def test_every_public_attribute_of_the_main_values_is_documented(name: str) -> None:
    cls = getattr(tw, name)
    mine = [n for n in vars(cls) if not n.startswith("_")]
    assert mine and [n for n in mine if f"`{n}`" not in DOC] == []
    for attribute in mine:
        value = vars(cls)[attribute]
        if callable(value) or isinstance(value, property):
            assert (value.__doc__ or "").strip(), attribute


def test_a_name_of_before_still_works_and_warns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(tw._BEFORE, "assess", "evaluate")
    with pytest.warns(DeprecationWarning, match=r"tierwise\.evaluate now"):
        assert tw.assess is tw.evaluate
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tw.evaluate is tw.evaluate
    with pytest.raises(AttributeError, match="no attribute"):
        tw.asess  # noqa: B018


def test_answers_say_what_made_them() -> None:
    scenario = tw.Scenario("llama-3.1-8b", "h100-sxm")
    r, c = tw.evaluate(scenario), tw.compare(scenario, scenario)
    made = r.to_dict()["made_by"]
    assert made == c.to_dict()["made_by"]
    assert made["version"] == tw.__version__ and len(made["code"]) == len(made["tables"]) == 64
    from tierwise.report.explain_report import page

    for text in (repr(r), repr(c), r._repr_html_(), page(r)):
        assert made["code"][:8] in text and made["tables"][:8] in text


def test_the_old_name_of_a_phases_ops_still_works_with_a_word() -> None:
    phase = tw.evaluate(tw.Scenario("llama-3.2-1b", "h100-sxm", tw.Batch(prompt=64, output=2))).phase("decode")
    with pytest.warns(DeprecationWarning, match=r"phase\.program now"):
        assert phase.graph is phase.program
