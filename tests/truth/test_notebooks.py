"""The notebooks of ``examples/`` run from the first cell to the last, and hold no output that could be stale."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
spec = importlib.util.spec_from_file_location("run_notebook", EXAMPLES / "run_notebook.py")
assert spec is not None and spec.loader is not None
runner = importlib.util.module_from_spec(spec)
spec.loader.exec_module(runner)


@pytest.mark.truth
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_a_notebook_runs(path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    runner.run(path)
    assert len(capsys.readouterr().out.splitlines()) > 10


def test_notebooks_are_three_and_hold_no_output() -> None:
    assert len(NOTEBOOKS) >= 3
    for path in NOTEBOOKS:
        found = json.loads(path.read_text(encoding="utf-8"))
        assert found["nbformat"] == 4
        for cell in found["cells"]:
            assert cell["cell_type"] in ("markdown", "code") and cell["source"] and cell["id"]
            assert not cell.get("outputs") and cell.get("execution_count") is None
        for number, source in enumerate(runner.cells(path)):
            compile(source, f"{path.name}, cell {number}", "exec")
