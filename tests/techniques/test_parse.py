"""Techniques from text: the same as those made in Python, and mistakes answered with what is allowed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.conftest import decoder

import tierwise as tw
from tierwise import techniques as t
from tierwise.cli import main
from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.scenario.types import Plan, Scenario

BASE = tw.Scenario(decoder(), "8xh100-sxm", tw.Batch(prompt=1024, output=8, batch=4), tw.Plan(tp=2.0))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 8), st.sampled_from([16, 32, 64, 128]), st.floats(0.0, 512.0))
def test_text_and_python_make_the_same(bits: int, group: int, residual: float) -> None:
    text = f"quantize_kv:bits={bits},group={group},residual={residual!r}"
    assert BASE.apply(t.parse(text)).plan == BASE.apply(t.quantize_kv(bits, group, residual)).plan


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("evict_kv", t.evict_kv()),
        ("evict_kv:keep=0.5", t.evict_kv(keep=0.5)),
        ("evict_kv: 0.5, budget = 300", t.evict_kv(0.5, 300.0)),
        ("evict_kv:budget=inf,keep=1e-1", t.evict_kv(0.1)),
        ("share_prefix:tokens=512,relay=true", t.share_prefix(512, relay=True)),
        ("share_prefix:512,relay=no", t.share_prefix(512)),
        ("prune_layers:layers=[0,2]", t.prune_layers(layers=[0, 2])),
        ("prune_layers:count=1", t.prune_layers(1)),
        ("budget_kv_layers:[10,20,30,40]", t.budget_kv_layers([10, 20, 30, 40])),
        ("quantize_weights:fp8", t.quantize_weights("fp8")),
        ("quantize_kv:format=fp8,value_format=int4-g64", t.quantize_kv(format="fp8", value_format="int4-g64")),
        ("quantize_roles:fp8,mlp,attn", t.quantize_roles("fp8", "mlp", "attn")),
        ("quantize_roles:form=fp8,roles=[mlp,attn]", t.quantize_roles("fp8", "mlp", "attn")),
        ("concatenate_cache:2", t.concatenate_cache(2)),
    ],
)
def test_arguments_of_every_kind(text: str, same: object) -> None:
    found, wanted = BASE.apply(t.parse(text)), BASE.apply(same)  # type: ignore[arg-type]
    assert found.plan == wanted.plan and found.applied == wanted.applied
    assert tw.evaluate(found).time == tw.evaluate(wanted).time


def test_lists_of_numbers_are_sweeps() -> None:
    swept = tw.evaluate(BASE.apply(t.parse("quantize_kv:bits=[2,4,8],group=64"))).memory.kv
    each = [float(tw.evaluate(BASE.apply(t.quantize_kv(b, 64))).memory.kv) for b in (2, 4, 8)]
    assert np.asarray(swept).tolist() == pytest.approx(each)


@pytest.mark.parametrize(
    ("text", "kind", "words"),
    [
        ("quantise_kv:bits=2", UnknownName, "quantize_kv"),
        ("quantize_kv:bit=2", UnknownName, "'bits'"),
        ("quantize_kv:bits=two", BadField, "a number"),
        ("quantize_kv:bits=2.5", BadField, "whole numbers"),
        ("quantize_kv:bits=nan", BadField, "a number"),
        ("quantize_kv:bits=2,bits=4", BadField, "given twice"),
        ("quantize_kv:2,bits=4", BadField, "given twice"),
        ("evict_kv:keep=0.5,300", BadField, "a name in front"),
        ("expand_heads:3", BadField, "at most 0"),
        ("prune_layers:count=1.5", BadField, "a whole number"),
        ("share_prefix", BadField, "tokens"),
        ("share_prefix:10,relay=maybe", BadField, "true or false"),
        ("slide_window:128,where=f", BadField, "only be given from Python"),
        ("./no_such_file.py:x", TierwiseError, "no such file"),
    ],
)
def test_mistakes_are_answered(text: str, kind: type[Exception], words: str) -> None:
    with pytest.raises(kind, match=words):
        t.parse(text)


FILE = """
from tierwise.core.num import Num
from tierwise.techniques._make import on_plan


def _helper():
    return None


def headroom(share: Num = 0.1):
    '''Leave a share of the memory to others.'''
    from dataclasses import replace
    return on_plan(f"headroom of {share}", lambda p: replace(p, reserve=share))
"""


def test_a_file_of_the_users_is_named_by_its_path(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "mine.py"
    path.write_text(FILE)
    for text in (f"{path}:headroom:share=0.25", f"{path}:headroom:0.25"):
        s = BASE.apply(t.parse(text))
        assert s.plan is not None and s.plan.reserve == 0.25
    assert t.parse(str(path)) is not None  # its only technique
    with pytest.raises(UnknownName, match="headroom"):
        t.parse(f"{path}:headrom")
    with pytest.raises(UnknownName, match="share"):
        t.parse(f"{path}:headroom:shar=1")
    with pytest.raises(SystemExit) as done:
        main(["techniques", str(path)])
    assert done.value.code == 0 and "Leave a share" in capsys.readouterr().out


def test_a_file_that_fails_says_where(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("def f():\n    return 1\n\nx = 1 / 0\n")
    with pytest.raises(TierwiseError, match=r"broken\.py, line 4: ZeroDivisionError"):
        t.parse(f"{path}:f")
    path.write_text("def f():\n    return 1\n")
    with pytest.raises(TierwiseError, match="a maker returns a function"):
        t.parse(f"{path}:f")


def test_a_file_without_a_technique_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "none.py"
    path.write_text("share = 0.25\n")
    with pytest.raises(SystemExit) as done:
        main(["techniques", str(path)])
    assert done.value.code == 2 and "no technique in it" in capsys.readouterr().err


def run(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    with pytest.raises(SystemExit) as done:
        main(list(args))
    assert done.value.code == 0
    return capsys.readouterr().out


def test_the_command_lists_every_technique_and_explains_one(capsys: pytest.CaptureFixture[str]) -> None:
    listed = run(capsys, "techniques")
    assert all(f"\n{name}" in "\n" + listed for name in t.all_techniques())
    rows = json.loads(run(capsys, "techniques", "--json", "-"))
    assert {r["name"] for r in rows} == set(t.all_techniques())
    assert all(r["summary"] for r in rows)
    kivi = next(r for r in rows if r["name"] == "quantize_kv")
    assert kivi["sources"] == ["arXiv:2402.02750"] and "group=128" in kivi["arguments"]
    assert "scale" in run(capsys, "techniques", "quantize_kv")


def test_an_unknown_technique_is_answered_with_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["techniques", "quantise_kv"])
    assert done.value.code == 2 and "quantize_kv" in capsys.readouterr().err


def test_the_scenario_keeps_a_record(capsys: pytest.CaptureFixture[str]) -> None:
    s: Scenario = BASE.apply(t.parse("quantize_kv:bits=4"), t.parse("prune_layers:count=1"))
    assert [a.name for a in s.applied] == list(s.techniques)
    assert s.applied[0].matched == (("caches of keys and values", 4.0),)
    assert str(s.applied[1]) == "1 layers removed (1 layers removed)"
    assert s.resolved().applied == s.applied
    assert isinstance(s.plan, Plan)
