"""What a prompt and a notebook show: a table of a dozen lines, and a frame with a row a configuration."""

from __future__ import annotations

import sys
from html.parser import HTMLParser
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import tierwise as tw
from tierwise.core.errors import TierwiseError
from tierwise.report.notebook import columns

from .cases import SCALAR, result


@pytest.mark.parametrize("kind", [*SCALAR, "sweep"])
def test_a_result_is_a_table_of_a_dozen_lines(kind: str) -> None:
    r = result(kind)
    text = repr(r)
    assert 7 <= len(text.splitlines()) <= 13
    assert r.scenario.model.name in text and r.scenario.machine.name in text
    assert "interval" in text and "basis" in text and "nan" not in text


def test_the_page_says_the_same_and_escapes(monkeypatch: pytest.MonkeyPatch) -> None:
    r = tw.evaluate(tw.Scenario("llama-3.1-8b", "h100-sxm", techniques=("<b>bold</b>",)))
    cells: list[str] = []

    class Cells(HTMLParser):
        def handle_data(self, data: str) -> None:
            cells.append(data)

    Cells().feed(r._repr_html_())
    assert all(cell in repr(r) for cell in cells) and "<b>" not in r._repr_html_()


def test_to_dict_is_the_json_of_the_command_line() -> None:
    r = result("llm")
    assert r.to_dict()["schema"].startswith("tierwise.result/")
    assert r.to_dict()["summary"]["time_s"] == float(r.time)


def test_a_frame_has_a_row_a_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    prompts, batches = np.array([128.0, 1024.0]), np.array([[1.0], [8.0], [64.0]])
    form = tw.fmt(["bf16", "fp8"])
    plan = tw.Plan(weights=form)
    r = tw.evaluate(tw.Scenario("llama-3.1-8b", "h100-sxm", tw.Batch(prompts, 64.0, batches), plan))
    found = columns(r)
    assert {len(x) for x in found.values()} == {6}
    assert found["prompt"] == [128.0, 1024.0] * 3 and found["batch"] == [1.0, 1.0, 8.0, 8.0, 64.0, 64.0]
    assert found["weights"] == ["bf16", "fp8"] * 3
    for i in range(6):
        one = tw.Scenario("llama-3.1-8b", "h100-sxm", tw.Batch(found["prompt"][i], 64.0, found["batch"][i]),
                          tw.Plan(weights=tw.fmt(found["weights"][i])))  # fmt: skip
        alone = columns(tw.evaluate(one))
        assert len(alone["time_s"]) == 1
        for name in ("ttft_s", "tpot_s", "time_s", "throughput", "memory_peak", "energy_j"):
            assert found[name][i] == pytest.approx(alone[name][0], rel=1e-9), name


@pytest.mark.parametrize("there", [("pandas", "polars"), ("polars",), ()])
def test_the_frame_is_of_what_is_installed(there: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("pandas", "polars"):
        module: Any = ModuleType(name)
        module.DataFrame = lambda data, name=name: (name, data)
        monkeypatch.setitem(sys.modules, name, module if name in there else None)
    r = result("llm")
    if not there:
        with pytest.raises(TierwiseError, match="pip install pandas"):
            r.to_frame()
        return
    kind, data = r.to_frame()
    assert kind == there[0] and data == columns(r)
