"""What a page looks like, by its style sheet and frame: contrast, one number that stands out, print, keys."""

from __future__ import annotations

import re

import pytest

from tests.report.cases import result
from tierwise.report.explain_report import page
from tierwise.report.page import asset

SHEET = asset("page.css")


def colours(text: str) -> dict[str, str]:
    """Custom properties of a block."""
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})\b", text))


def luminance(colour: str) -> float:
    """Relative luminance, as WCAG 2 defines it."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * c for c in colour[1:])
    parts = [int(digits[i : i + 2], 16) / 255.0 for i in (0, 2, 4)]
    linear = [x / 12.92 if x <= 0.03928 else ((x + 0.055) / 1.055) ** 2.4 for x in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: str, other: str) -> float:
    """From 1, equal, to 21, black on white."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


LIGHT = colours(SHEET.split("@media (prefers-color-scheme: dark)")[0])
DARK = LIGHT | colours(SHEET.split("@media (prefers-color-scheme: dark)")[1].split("* {")[0])
PRINT = LIGHT | colours(SHEET.split("@media print")[1])


def test_contrast_is_measured_as_the_standard_does() -> None:
    assert contrast("#000", "#ffffff") == pytest.approx(21.0)
    assert contrast("#777777", "#fff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_text_is_readable_on_what_it_stands_on(scheme: dict[str, str]) -> None:
    for text in ("ink", "soft", "accent", "bad"):
        for behind in ("bg", "panel"):
            assert contrast(scheme[text], scheme[behind]) >= 4.5, (text, behind)
    assert contrast(scheme["bad"], scheme["badbg"]) >= 4.5
    assert contrast(scheme["panel"], scheme["accent"]) >= 4.5  # a pressed button


@pytest.mark.parametrize("scheme", [LIGHT, DARK, PRINT], ids=["light", "dark", "print"])
def test_words_on_bars_are_readable_and_bars_stand_off(scheme: dict[str, str]) -> None:
    assert "svg text.in { fill: #fff;" in SHEET
    bars = {n: c for n, c in scheme.items() if re.fullmatch(r"[cbr]-\w+|t[123]", n)}
    assert len(bars) > 20
    assert {n: c for n, c in bars.items() if contrast("#fff", c) < 4.5} == {}
    assert {n: c for n, c in bars.items() if n != "t1" and contrast(scheme["panel"], c) < 3.0} == {}


@pytest.mark.parametrize("script", ["plan_fit.js", "training.js", "breakdown.js"])
def test_bars_with_words_have_colours_that_words_are_readable_on(script: str) -> None:
    """Of the tables of colours of bars: none is the accent or that of text, which in the dark are light."""
    tables = re.findall(r"const [A-Z]+ = [\[{].*?;\n", asset(script), re.S)
    colours = set(re.findall(r"--[a-z0-9-]+", "".join(tables)))
    assert {c for c in colours if not re.fullmatch(r"--([cbr]-\w+|t[123])", c)} == set()


def test_shades_of_a_bar_are_darker_than_it() -> None:
    mixed = re.findall(r"color-mix\(in srgb, var\(--[a-z-]+\) [^,]*, ([^)]*)\)", asset("tiers.js"))
    assert mixed and set(mixed) == {"#000"}


def test_axes_have_fewer_labels_where_there_is_no_room() -> None:
    assert "width < 560 ? 2 : 4" in asset("training.js") and "width < 560" in asset("plan_fit.js")


def test_one_number_stands_out() -> None:
    text = page(result("llm"))
    assert text.count('<dl class="hero">') == 1
    assert re.search(r'<dl class="hero"><dt>Throughput</dt><dd><b>', text)
    assert "<dt>Throughput</dt>" not in text.split('<dl class="cards">')[1].split("</dl>")[0]


def test_the_keyboard_gets_past_the_heading_and_through_a_chart_in_one_step() -> None:
    text = page(result("llm"))
    body = text[text.index("<body") :]
    assert body.index('<a class="skip" href="#main">') < body.index("<header>")
    assert 'id="main"' in body
    # Marks are reached by arrows; a chart has one stop.
    source = asset("base.js")
    assert 'setAttribute("tabindex", "-1")' in source and "ArrowRight" in source


def test_print_breaks_between_parts_and_draws_charts_as_wide_as_the_paper() -> None:
    sheet = SHEET.split("@media print")[1]
    assert "break-inside: auto" in sheet and ".words { grid-template-columns: minmax(0, 3fr) minmax(0, 2fr)" in sheet
    assert ".pair { grid-template-columns: minmax(0, 1fr)" in sheet
    # What stands beside a table is no larger than the text.
    assert re.search(r"\.lead, \.note, \.legend[^{]*\{ font-size: 10\.5px; \}", sheet)
    # What only a mouse does is not said on paper.
    assert '<span class="screen">Drag' in asset("training.html")
    assert re.search(r"\.screen, \.skip[^{]*\{ display: none; \}", sheet)


def test_a_plan_tells_met_from_missed_and_names_its_dots() -> None:
    script, style = asset("plan.js"), asset("plan.css")
    assert '"failed"' in script and ".failed" in style and ".missed" in style
    assert "text(free[0], free[1], words" in script
