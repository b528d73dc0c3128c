"""Run notebooks without a notebook server: every code cell of each file in order, as a script would.

``python examples/run_notebook.py examples/*.ipynb`` prints what the cells print, and the value of a cell's last line.
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any


def cells(path: Path) -> list[str]:
    """The code cells of a notebook, in order."""
    found = json.loads(path.read_text(encoding="utf-8"))
    return ["".join(c["source"]) for c in found["cells"] if c["cell_type"] == "code"]


def run(path: Path) -> dict[str, Any]:
    """The names that the cells leave behind; the value of a cell's last expression is printed, as a notebook does."""
    names: dict[str, Any] = {"__name__": path.stem}
    for number, source in enumerate(cells(path), 1):
        tree, where = ast.parse(source), f"{path.name}, cell {number}"
        last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, where, "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), where, "eval"), names)
            if value is not None:
                print(value)
    return names


if __name__ == "__main__":
    for name in sys.argv[1:]:
        run(Path(name))
