"""How an answer moves with its inputs: as data, and as a table whose bars are a tornado."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tierwise.core.num import num
from tierwise.core.units import seconds
from tierwise.evaluation import evaluate
from tierwise.influence import ANSWERS, BY, Moved, sensitivity
from tierwise.report import measuring
from tierwise.report.layout import Bullets, Cell, Column, ReportSection, Table
from tierwise.report.numbers import count
from tierwise.report.plain import plain
from tierwise.result import Result
from tierwise.scenario.types import Scenario

Json = dict[str, Any]

# Of elasticities, the least that is told: a tenth of a per cent for ten.
LEAST = 0.01
_UNITS = {"time": "time_s", "ttft": "ttft_s", "tpot": "tpot_s", "throughput": "throughput", "energy": "energy_j"}


def to_dict(result: Result, moved: Sequence[Moved]) -> Json:
    """Plain JSON (``docs/json.md``): every input with what it does, and numbers of the machine by what they bring."""
    base = {name: float(getattr(result, name)) for name in ANSWERS}
    inputs = [
        {"name": m.name, "kind": m.kind, "what": measuring.named(m.name) if m.kind == "error" else m.name,
         "usual": plain(m.usual), "low": m.low, "high": m.high,
         **{_UNITS[k]: [plain(x) for x in m.answers[k]] for k in ANSWERS},
         "elasticity": plain(m.elasticity("time", base["time"])) if m.kind != "error" else None}
        for m in moved
    ]  # fmt: skip
    return {
        "by": BY,
        "base": {_UNITS[k]: plain(x) for k, x in base.items()},
        "inputs": inputs,
        "machine": _machine(moved, base["time"]),
    }


def of_engine(scenario: Scenario) -> Json:
    """The same of one engine of a plan, with what it works on; its machine is that of the whole deployment."""
    result = evaluate(scenario)
    return {"batch": float(num(result.batch))} | to_dict(result, sensitivity(result.scenario))


def _machine(moved: Sequence[Moved], time: float) -> list[Json]:
    """Numbers of the machine that would shorten the time, the most worth first: what an architect would change."""
    rows = []
    for m in moved:
        if m.kind != "machine":
            continue
        # Of a latency, a gap or the host less is better; of a rate more.
        better = min(m.answers["time"])
        factor = m.low if m.answers["time"][0] < m.answers["time"][1] else m.high
        if better < time * (1.0 - LEAST * BY):
            slope = abs(m.elasticity("time", time))
            rows.append({"name": m.name, "factor": factor, "time_s": better, "saved": 1.0 - better / time,
                         "elasticity": plain(slope)})  # fmt: skip
    return sorted(rows, key=lambda r: -r["saved"])


def sections(d: Json, rows: int | None = None) -> dict[str, ReportSection]:
    """The tornado and what to change in the machine, of :func:`to_dict`'s form."""
    base = d["base"]["time_s"]
    told = [x for x in d["inputs"] if max(abs(t / base - 1.0) for t in x["time_s"]) >= LEAST * d["by"]]
    widest = max((abs(t / base - 1.0) for x in told for t in x["time_s"]), default=1.0)
    cells: list[list[Cell | str]] = []
    for x in told[:rows]:
        ends = [t / base - 1.0 for t in x["time_s"]]
        cells.append([x["what"], _range(x), *(f"{100 * e:+.1f} %" for e in ends),
                      Cell(ends=(ends[0] / widest, ends[1] / widest)), *_others(d, x)])  # fmt: skip
    columns = (
        Column("input", left=True, longest=28), Column("moved to", left=True),
        *map(Column, ("time, low", "time, high")), Column(left=True, bar=24),
        *(Column(name, less=3, shown_from=100) for name in ("TTFT", "TPOT")),
    )  # fmt: skip
    note = "Time of the batch with the input at its lower and its higher value; TTFT and TPOT at the higher."
    rest = len(d["inputs"]) - len(cells)
    if rest:
        note += f" {rest} more move it by less than {100 * LEAST * d['by']:.1f} %."
    of = f"{count(d['batch'])} requests on one engine, {seconds(base)}" if "batch" in d else seconds(base)
    remark = f"{of}; each input moved by {100 * d['by']:.0f} %, fitted coefficients to their own ends"
    out = {
        "sensitivity": ReportSection("How the answer moves", Table(columns, cells, note), remark, element="sensitivity")
    }
    if d["machine"]:
        items = [(f"{x['name']} × {x['factor']:g}:", f"{100 * x['saved']:.1f} % less time ({seconds(x['time_s'])})")
                 for x in d["machine"][:6]]  # fmt: skip
        out["machine"] = ReportSection("What to change in the machine", Bullets(items), "one number at a time",
                                 element="machine")  # fmt: skip
    return out


def _range(x: Json) -> str:
    if x["kind"] == "traffic":
        return f"{count(x['low'])} to {count(x['high'])}"
    return f"{x['low']:.2f}× to {x['high']:.2f}×"


def _others(d: Json, x: Json) -> list[str]:
    out = []
    for name in ("ttft_s", "tpot_s"):
        usual, high = d["base"][name], x[name][1]
        out.append(f"{100 * (high / usual - 1.0):+.1f} %" if usual and high is not None else "–")
    return out


def table_rows(d: Json) -> list[Json]:
    """One row an input, for a file."""
    return [{k: v for k, v in x.items() if not isinstance(v, list)}
            | {f"{k}_{end}": x[k][i] for k in _UNITS.values() for i, end in enumerate(("low", "high"))}
            for x in d["inputs"]]  # fmt: skip
