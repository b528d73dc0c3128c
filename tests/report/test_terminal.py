"""The terminal report: everything is there, at any width, with and without colour."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from tierwise.core.errors import TierwiseError
from tierwise.core.units import gb, seconds
from tierwise.report.explain_report import show
from tierwise.report.layout import Column, Report, ReportSection, Table
from tierwise.report.terminal import show as show_report

from .cases import ADVICE, HOSTILE, MORE_DEVICES, SCALAR, result


def shown(kind: str, width: int = 100, color: bool = False, **options: object) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=color, no_color=not color, highlight=False)
    show(result(kind), console, **options)  # type: ignore[arg-type]
    return out.getvalue()


@pytest.mark.parametrize("kind", SCALAR)
@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_line_is_too_long(kind: str, width: int) -> None:
    text = shown(kind, width, advice=ADVICE, largest_batch=40.0, longest_context=9000.0)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text and "\ue000" not in text


@pytest.mark.parametrize("width", [80, 100])
def test_numbers_are_whole_at_usual_widths(width: int) -> None:
    assert "…" not in shown("llm", width, advice=ADVICE, largest_batch=40.0, longest_context=9000.0)


def test_what_a_reader_looks_for_is_there() -> None:
    r = result("llm")
    text = shown("llm", advice=ADVICE, largest_batch=40.0, longest_context=9000.0)
    for wanted in ("Time to first token", "Time per output token", "prefill", "decode", "attn.core", "mlp.up",
                   "KV cache", "free", "Largest batch", "40", "9,000", "Energy", "What would help", "Weights in <b>&:",
                   "80 %", "datasheet", "Biases are left out.", "A chip that does not exist.", seconds(float(r.tpot)),
                   gb(r.memory.peak)):  # fmt: skip
        assert wanted in text


def test_too_large_names_the_plans_that_fit() -> None:
    text = shown("too large", advice=[MORE_DEVICES])
    assert "does not fit" in text and "too much" in text
    assert "Nearest plans that fit" in text
    assert "2 devices (tp=2, pp=1, dp=1) fits: 1.00 GB of 2.00 GB on each device, 2.00 s for the" in text


def test_the_table_of_ops_is_as_long_as_asked() -> None:
    assert "8 more" in shown("no decode", ops=4)
    assert " more " not in shown("no decode", ops=True)
    for none in (False, 0):
        assert "Ops of one" not in shown("no decode", ops=none)


def test_markup_in_names_is_text() -> None:
    assert HOSTILE[:20] in shown("hostile", 160)


def test_encoders_and_cnns_have_no_tokens_to_wait_for() -> None:
    for kind in ("cnn", "encoder"):
        text = shown(kind)
        assert "TTFT" not in text and "per output token" not in text and "KV" not in text
    assert "images/s" in shown("cnn")


def test_a_sweep_is_refused() -> None:
    with pytest.raises(TierwiseError, match="scalar scenarios only"):
        shown("sweep")


def test_columns_give_way_before_names_become_alike() -> None:
    """Names that begin alike are what a reader chooses by: other columns go first, and it is said which."""
    names = [f"h100-sxm + l40s {n}×TP1 + {m}×TP1" for n in (1, 2) for m in (1, 2, 3)]
    columns = (Column("deployment", left=True), *(Column(n) for n in ("$/h", "TTFT", "TPOT", "targets")))
    rows = [[n, "$1,234.00", "1.23 → 4.56 s", "12.3 → 45.6 ms", "missed"] for n in names]
    report = Report("t", "s", "p", "", "h", "fits", False, (), (), {"a": ReportSection("A", Table(columns, rows))})
    out = io.StringIO()
    show_report(report, Console(file=out, width=70, no_color=True, highlight=False))
    text = out.getvalue()
    assert all(name in text or f"{name[:-4]}" in text for name in names)
    shown_names = [line.split("  ")[1] for line in text.splitlines() if "h100-sxm" in line]
    assert len(set(shown_names)) == len(names) and "no room at 70 characters:" in text
