"""Results and comparisons as a prompt or a notebook shows them: a table of a dozen lines, or a frame of many rows."""

from __future__ import annotations

import html as escaping
import importlib
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from tierwise.comparison import Comparison
from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import Format
from tierwise.report import comparison, explain_data, summary
from tierwise.report.made import made_by
from tierwise.report.made import text as made_text
from tierwise.result import Result
from tierwise.scenario.resolve import describe


def text(of: Result | Comparison) -> str:
    """The table as aligned text."""
    title, rows = _table(of)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    lines = ["  ".join([*(cell.ljust(w) for cell, w in zip(row, widths, strict=False)), row[-1]]) for row in rows]
    return "\n".join([title, *("  " + line.rstrip() for line in [*lines, made_text(made_by())])])


def html(of: Result | Comparison) -> str:
    """The table as HTML."""
    title, rows = _table(of)
    body = "".join(_row(row) for row in rows)
    made = f'<tfoot><tr><td colspan="3">{escaping.escape(made_text(made_by()))}</td></tr></tfoot>'
    return f"<table><caption>{escaping.escape(title)}</caption><tbody>{body}</tbody>{made}</table>"


def as_dict(of: Result | Comparison) -> dict[str, Any]:
    """The JSON form of ``explain --json`` (without advice) or of ``compare --json``."""
    if isinstance(of, Comparison):
        return comparison.as_dict([of], [_title(of.base), _title(of.other)])
    return explain_data.to_dict(of)


def frame(result: Result) -> Any:
    """A pandas (else polars) frame of :func:`columns`.

    Raises:
        TierwiseError: neither is installed.
    """
    for name in ("pandas", "polars"):
        try:
            made = importlib.import_module(name)
        except ImportError:
            continue
        return made.DataFrame(columns(result))
    raise TierwiseError("to_frame needs pandas or polars, and neither is installed: pip install pandas")


def columns(result: Result) -> dict[str, list[Any]]:
    """One list a column, one entry a configuration, in the order of a sweep's elements (last axis fastest)."""
    s, plan = result.scenario, result.scenario.plan
    low, high = result.interval
    found: dict[str, Any] = {
        "model": s.model.name, "machine": s.machine.name, "engine": s.engine, "techniques": ", ".join(s.techniques),
        "prompt": s.traffic.prompt, "output": s.traffic.output, "batch": result.batch,
        "tp": plan.tp, "pp": plan.pp, "dp": plan.dp, "ep": plan.ep, "devices": result.devices,
        "weights": _name(plan.weights), "activations": _name(plan.activations), "kv": _name(plan.kv.key),
        "fits": result.fits, "ttft_s": result.ttft, "tpot_s": result.tpot, "time_s": result.time,
        "time_low_s": low, "time_high_s": high, "throughput": result.throughput, "memory_peak": result.memory.peak,
        "energy_j": result.energy, "cost_usd": result.cost, "usd_per_million": result.cost_per_million,
        "mfu": result.mfu, "basis": result.basis,
    }  # fmt: skip
    shape = np.broadcast_shapes(*(np.shape(x) for x in found.values()))
    return {name: np.broadcast_to(np.asarray(x), shape).ravel().tolist() for name, x in found.items()}


def _name(form: Format | None) -> Any:
    """The format's name; "" for the checkpoint's own."""
    return "" if form is None else form.name


def _table(of: Result | Comparison) -> tuple[str, Sequence[tuple[str, ...]]]:
    if isinstance(of, Comparison):
        return f"{_title(of.base)}  →  {_title(of.other)}", comparison.lines(of)
    return _title(of), [tuple(row) for row in summary.table(of)]


def _title(result: Result) -> str:
    s = result.scenario
    used = [describe(s.plan), *s.techniques]
    return f"{s.model.name} on {s.machine.name} ({', '.join([*([s.engine] if s.engine else []), *used])})"


def _row(cells: Iterable[str]) -> str:
    first, *rest = (escaping.escape(cell) for cell in cells)
    return f'<tr><th scope="row">{first}</th>' + "".join(f"<td>{cell}</td>" for cell in rest) + "</tr>"
