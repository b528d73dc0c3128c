"""The scripts of every page belong together: what they call is defined among them, and nothing is named twice."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re

import pytest

from tierwise import report
from tierwise.cli import main
from tierwise.report.page import asset

PAGES = {
    name: scripts
    for name in sorted(i.name for i in pkgutil.iter_modules(report.__path__))
    if (scripts := getattr(importlib.import_module(f"tierwise.report.{name}"), "SCRIPTS", None))
}


@pytest.mark.parametrize("name", PAGES)
def test_what_scripts_call_is_defined_once(name: str) -> None:
    code = "\n".join(asset(script) for script in PAGES[name])
    functions = re.findall(r"^(?:async )?function (\w+)", code, re.M)
    values = re.findall(r"^(?:const|let) (\w+) =", code, re.M)
    named = [*functions, *values]
    assert len(named) == len(set(named))
    drawn = set(re.findall(r"\b(draw\w*)\(", code))
    assert drawn <= set(functions) | set(values)


DRAWN = PAGES | {name: ("base.js", f"{name}.js") for name in ("packing", "training")}


@pytest.mark.parametrize("name", DRAWN)
def test_charts_are_drawn_anew_at_another_width_and_in_print(name: str) -> None:
    code = "\n".join(asset(script) for script in DRAWN[name])
    charts = re.findall(r"^ .*\bcanvas\(", "\n".join(asset(s) for s in DRAWN[name] if s != "base.js"), re.M)
    for event in ("resize", "beforeprint", "afterprint"):
        heard = re.findall(rf'^(?:  )?addEventListener\("{event}", (.+)\);', code, re.M)
        assert bool(heard) >= bool(charts), event
    if charts:  # what was drawn before goes
        assert "replaceChildren()" in code


def test_the_page_of_an_explanation_has_the_data_its_scripts_read(tmp_path) -> None:  # type: ignore[no-untyped-def]
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as end:
        main(["explain", "llama-3.1-8b", "--on", "h100-sxm", "--html", str(page)])
    assert end.value.code == 0
    text = page.read_text()
    data = json.loads(re.search(r'<script[^>]*id="data"[^>]*>(.*?)</script>', text, re.S)[1])  # type: ignore[index]
    code = "\n".join(asset(script) for script in PAGES["explain_report"])
    read = set(re.findall(r"\bDATA\.(\w+)(?! \|\|)", code))
    assert read <= set(data)
    ids = set(re.findall(r'(?:getElementById\("|querySelector\("#)([\w-]+)', code))
    assert all(f'id="{i}"' in text for i in ids)
