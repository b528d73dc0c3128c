"""The report on a plan: terminal and page say what its JSON form says."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from tests.search.cases import priced
from tierwise.report import choices, plan_words
from tierwise.report.numbers import with_units_kept
from tierwise.report.plan_data import cloud, to_dict
from tierwise.report.plan_report import page, show, thinned

from .test_html import Page

KINDS: dict[str, dict[str, object]] = {
    "free": {}, "rate": {"rate": 12.0}, "closed": {"concurrency": 64.0}, "missed": {"ttft": 1e-4, "tpot": 1e-5},
}  # fmt: skip


def shown(d: dict[str, object], width: int) -> str:
    out = io.StringIO()
    show(d, Console(file=out, width=width, no_color=True, highlight=False))
    return out.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_terminal_page_and_json_say_the_same(kind: str) -> None:
    answer = priced(**KINDS[kind])
    d = to_dict(answer)
    assert json.loads(json.dumps(d, allow_nan=False)) == d
    parsed = Page(page(d, cloud(answer)))
    assert parsed.open == [] and "{{" not in parsed.text
    assert json.loads(parsed.scripts[0])["plan"] == d
    said = " ".join(parsed.text.replace("\xa0", " ").split())
    for width in (60, 80, 100, 160):
        text = shown(d, width)
        assert max(map(len, text.splitlines())) <= width and "\x1b" not in text and "\ue000" not in text
        flat = " ".join(text.split())
        for sentence in [d["text"]["headline"], *d["text"]["why"], *d["text"]["others"], *d["text"]["changes"]]:
            assert sentence in flat
            assert sentence in said
    assert with_units_kept(said, " ") == said


def test_lists_are_made_of_items_and_not_cut_from_sentences() -> None:
    d = to_dict(priced())
    assert d["text"]["others"] == [f"{a}: {b}" for a, b in plan_words.others(d)]
    odd = {**d, "alternatives": [{**a, "name": f"a: {a['name']}"} for a in d["alternatives"]]}
    told = [a["name"] for a in odd["alternatives"] if a["verdict"] != "chosen"]
    assert {about for about, _ in plan_words.others(odd)} <= {*told, "Further off"}


def test_only_another_load_leaves_the_question_of_the_best_open() -> None:
    d = to_dict(priced())
    reloaded = [c for c in d["changes"] if c["reloaded"]]
    assert reloaded and all("in flight" in c["name"] for c in reloaded)
    for c in d["changes"]:
        assert ("the best then" in plan_words.changed(d, c) or c["best"] is None) != c["reloaded"]


def test_steady_times_lie_in_their_intervals() -> None:
    for asked in KINDS.values():
        d = to_dict(priced(**asked))
        for e in (d["answer"], d["runner_up"]):
            for name in ("ttft", "tpot"):
                if e is not None and f"{name}_interval" in e:
                    low, high = e[f"{name}_interval"]
                    assert low <= e[f"{name}_s"] <= high


def test_a_thinned_front_keeps_its_ends_and_its_order() -> None:
    front = [{"user_tokens_per_s": 1.1**i} for i in range(60)]
    kept = thinned(front)
    assert len(kept) == choices.PLAN_ROWS and kept[0] == front[0] and kept[-1] == front[-1]
    assert kept == sorted(kept, key=lambda e: e["user_tokens_per_s"])
