"""The page: self-contained, well-formed, safe with hostile names, and true to the data."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.report.explain_data import to_dict
from tierwise.report.explain_report import SCRIPTS, page
from tierwise.report.page import asset

from .cases import ADVICE, HOSTILE, MORE_DEVICES, SCALAR, advice, result

_VOID = {"meta", "br", "img", "input", "link", "hr", "path"}


class Page(HTMLParser):
    """Tags in balance, every attribute, the text of each script, and all other text."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.scripts: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag == "script":
            self.scripts.append("")
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if tag not in _VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open and self.open[-1] != "style":
            self.text += data


@pytest.mark.parametrize("kind", SCALAR)
def test_the_page_parses_and_loads_nothing(kind: str) -> None:
    text = page(result(kind), ADVICE, largest_batch=40.0, longest_context=9000.0)
    parsed = Page(text)
    assert parsed.open == []
    assert len(parsed.scripts) == 2
    loading = {"src", "href", "srcset", "action", "poster", "data", "background"}
    inside = [a for a in parsed.attributes if a[2].startswith("#")]  # an anchor of the page itself
    assert [a for a in parsed.attributes if a not in inside and (a[1] in loading or a[1].startswith("on"))] == []
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    policy = next(v for _, name, v in parsed.attributes if name == "content" and "default-src" in v)
    assert "default-src 'none'" in policy
    assert "{{" not in parsed.text or kind == "hostile"


@pytest.mark.parametrize("kind", SCALAR)
def test_the_embedded_data_is_that_of_the_json_form(kind: str) -> None:
    data = json.loads(Page(page(result(kind), ADVICE)).scripts[0])
    assert data["result"] == to_dict(result(kind), ADVICE)
    for p, rows, time in zip(data["result"]["phases"], data["rows"], data["timeline"], strict=True):
        assert sum(o["time_s"] for o in rows) == pytest.approx(sum(o["time_s"] for o in p["ops"]))
        assert len(time["rows"]) == sum(o["count"] for o in p["ops"])
        for place, layer, lane, start, duration in time["rows"]:
            op = p["ops"][place]
            assert duration == pytest.approx(op["time_s"] / op["count"], rel=1e-5)
            assert time["layers"][layer].split(" ")[0] == op["layer"] and start >= 0
            assert (time["lanes"][lane] == "link") == (op["kind"] == "collective")


def test_hostile_names_stay_text() -> None:
    text = page(result("hostile"), [advice("weights", ("plan.weights", HOSTILE, HOSTILE))])
    parsed = Page(text)
    assert "<img" not in text
    assert parsed.text.count(HOSTILE) >= 5  # the title, the heading, the sentence, the advice, the scenario
    assert json.loads(parsed.scripts[0])["result"]["scenario"]["model"]["name"] == HOSTILE


def test_words_and_numbers_are_on_the_page_without_scripts() -> None:
    r = result("llm")
    parsed = Page(page(r, ADVICE, largest_batch=40.0, longest_context=9000.0))
    said = parsed.text.replace("\xa0", " ")
    d = to_dict(r, ADVICE)
    assert d["text"]["headline"] in said
    assert all(reason in said for reason in d["text"]["why"])
    for wanted in ("9,000", "What would help", "Weights in <b>&: 0.6× the step time", "Biases are left out.",
                   "made up for tests"):  # fmt: skip
        assert wanted in said


def test_too_large_is_marked() -> None:
    text = page(result("too large"), [MORE_DEVICES])
    assert '<body class="too-large">' in text and "Nearest plans that fit" in text
    assert '<body class="fits">' in page(result("llm"))


def test_scripts_never_write_markup_or_reach_out() -> None:
    source = "\n".join(asset(name) for name in SCRIPTS)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "XMLHttpRequest",
                 "import(", "</script"):  # fmt: skip
        assert word not in source


def test_controls_can_be_reached_and_read() -> None:
    parsed = Page(page(result("llm")))
    labelled = {v for _, name, v in parsed.attributes if name == "aria-label"}
    assert {"Key numbers", "Table of ops"} <= labelled
    source = asset("base.js")
    assert 'setAttribute("aria-pressed"' in source and '"aria-label": label' in source


def test_a_sweep_is_refused() -> None:
    with pytest.raises(TierwiseError, match="scalar scenarios only"):
        page(result("sweep"))
