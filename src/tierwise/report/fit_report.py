"""The table of what fits where: formats by machines by contexts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tierwise import machines
from tierwise.core.errors import TierwiseError
from tierwise.core.units import gb, seconds
from tierwise.core.yamltext import parsed
from tierwise.evaluation import evaluate, largest_batch, longest_context
from tierwise.machines.load import device, device_names
from tierwise.report.layout import Cell, Column, Report, ReportSection, Sentences, Table
from tierwise.report.numbers import count

Json = dict[str, Any]

# Sizes on boxes are rounded: a card of 12 GB holds 12 GiB, of which its driver reports a little less.
NEAR = (0.93, 1.08)


def ordinary() -> Json:
    """``machines`` and ``formats`` that are asked about where nobody names any: machines/ordinary.yaml."""
    text = (Path(machines.__file__).with_name("ordinary.yaml")).read_text(encoding="utf-8")
    return {k: [str(v) for v in found] for k, found in parsed(text).items() if k != "source"}


def of_size(size: float) -> list[str]:
    """GPUs of the catalog whose memory is of a size, by name."""
    out = []
    for name in device_names():
        one = device(name)
        if one.kind == "gpu" and NEAR[0] * size <= float(np.asarray(one.memory.capacity)) <= NEAR[1] * size:
            out.append(name)
    return sorted(out)


def row(scenario: Any, machine: str, quant: str, context: float) -> Json:
    """What one format on one machine comes to; ``problem`` where it cannot be asked."""
    out: Json = {"machine": machine, "format": quant, "context": context}
    try:
        r = evaluate(scenario)
        asked = scenario.resolved()
        most, longest = float(np.asarray(largest_batch(asked))), float(np.asarray(longest_context(asked)))
    except TierwiseError as error:
        return {**out, "problem": str(error)}
    fits, made_for = bool(r.fits), float(np.asarray(asked.model.max_context))
    return {
        **out,
        "fits": fits,
        "needs": float(np.asarray(r.memory.peak)),
        "has": float(np.asarray(r.memory.capacity)),
        "tokens_per_s": 1.0 / float(np.asarray(r.tpot)) if fits else None,
        "first_token_s": float(np.asarray(r.ttft)) if fits else None,
        "requests": most,
        "longest": min(longest, made_for),
        "beyond": context > made_for,
        "engine": asked.engine,
        "basis": str(r.basis),
    }


def described(d: Json) -> Report:
    """The report of its JSON form."""
    rows = d["rows"]
    good = [r for r in rows if r.get("fits")]
    columns = (
        Column("machine", left=True),
        Column("format", left=True),
        Column("context"),
        Column("memory"),
        Column("tokens/s"),
        Column("first token", shown_from=88),
        Column("requests", shown_from=90),
        Column("longest context", shown_from=90),
        Column("rests on", left=True, shown_from=110),
    )
    cells = [_cells(r) for r in rows]
    told = [f"{d['model']} was not made for so long a context: it knows fewer tokens than asked for."]
    problems = told * any(r.get("beyond") for r in rows) + list(
        dict.fromkeys(r["problem"] for r in rows if "problem" in r)
    )
    sections = {"fits": ReportSection("What fits", Table(columns, cells), "one conversation at a time", element="fits")}
    if problems:
        sections["problems"] = ReportSection("Besides", Sentences(problems))
    return Report(
        title=f"{d['model']}: what fits where",
        subject=str(d["model"]),
        place="on what people have",
        subtitle="",
        headline=_headline(rows, good),
        state="fits" if good else "too-large",
        alarm=not good,
        why=(),
        numbers=(),
        sections=sections,
    )


def _headline(rows: list[Json], good: list[Json]) -> str:
    if not good:
        short = [r for r in rows if "problem" not in r]
        if not short:
            return "None of these could be answered."
        near = min(short, key=lambda r: r["needs"] / r["has"])
        return (
            f"None of these fits: nearest is {near['format']} on {near['machine']}, which needs {gb(near['needs'])} "
            f"and has {gb(near['has'])}; a narrower format, a shorter context or more devices would help."
        )
    fast = max(good, key=lambda r: r["tokens_per_s"])
    return (
        f"{len(good)} of {len(rows)} fit; fastest is {fast['format']} on {fast['machine']}, "
        f"{fast['tokens_per_s']:.3g} tokens/s."
    )


def _cells(r: Json) -> list[Cell | str]:
    head: list[Cell | str] = [r["machine"], r["format"], count(r["context"])]
    if "problem" in r:
        return [*head, Cell("-"), "", "", "", "", ""]
    memory = Cell(f"{gb(r['needs'])} of {gb(r['has'])}", tone="" if r["fits"] else "bad")
    if not r["fits"]:
        return [
            *head,
            memory,
            Cell("does not fit", tone="bad"),
            "",
            "",
            count(r["longest"]) if r["longest"] else "-",
            "",
        ]
    return [
        *head,
        memory,
        f"{r['tokens_per_s']:.3g}",
        seconds(r["first_token_s"]),
        count(r["requests"]),
        count(r["longest"]),
        r["basis"],
    ]
