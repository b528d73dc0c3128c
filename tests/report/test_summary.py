"""A result in a dozen lines: every number a reader asks for, of one configuration or of many."""

from __future__ import annotations

import numpy as np
import pytest

from tierwise.core.units import gb, seconds
from tierwise.report.summary import table

from .cases import SCALAR, result


@pytest.mark.parametrize("kind", [*SCALAR, "sweep"])
def test_a_dozen_lines_at_most_and_none_unknown(kind: str) -> None:
    rows = table(result(kind))
    assert 6 <= len(rows) <= 12
    assert len({r.name for r in rows}) == len(rows)
    assert all(r.name and r.value and "nan" not in r.value for r in rows)


def test_the_numbers_are_those_of_the_result() -> None:
    r = result("llm")
    rows = {row.name: row for row in table(r)}
    assert rows["time"].value == seconds(float(r.time)) and rows["TPOT"].value == seconds(float(r.tpot))
    assert rows["TTFT"].value == seconds(float(r.ttft)) and rows["memory"].value == gb(float(r.memory.peak))
    assert rows["basis"].value == str(r.basis)
    assert "does not fit" in {row.name: row for row in table(result("too large"))}["memory"].remark


def test_what_does_not_apply_has_no_line() -> None:
    assert not {"TTFT", "TPOT"} & {row.name for row in table(result("cnn"))}


def test_a_sweep_shows_its_range() -> None:
    r = result("sweep")
    rows = {row.name: row for row in table(r)}
    ends = [seconds(float(f(np.asarray(r.time)))) for f in (np.min, np.max)]
    assert rows["time"].value == " to ".join(ends)
    assert "2 of 3 fit" in rows["memory"].remark


def test_the_interval_is_one_line() -> None:
    rows = {row.name: row for row in table(result("llm"))}
    assert rows["interval"].value == " to ".join(seconds(float(x)) for x in result("llm").interval)
    assert "×" in {row.name: row for row in table(result("sweep"))}["interval"].value
