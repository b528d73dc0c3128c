"""The table of what fits where: formats by machines by contexts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from tierwise import machines
from tierwise.core.errors import TierwiseError
from tierwise.core.units import dollars, gb, seconds
from tierwise.core.yamltext import parsed
from tierwise.evaluation import evaluate_resolved, largest_batch, longest_context
from tierwise.machines.load import device, device_names
from tierwise.machines.types import System
from tierwise.report.layout import Cell, Column, Report, ReportSection, Sentences, Table
from tierwise.report.numbers import UNKNOWN, count

Json = dict[str, Any]

# Sizes on boxes are rounded: a card of 12 GB holds 12 GiB, of which its driver reports a little less.
NEAR = (0.93, 1.08)
# Tokens of a context that anyone would still use: half of GPT-2's.
SHORTEST = 512
REMARK = "one conversation at a time; memory: what the model takes of what the system and the runtime leave"


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
        asked = scenario.resolved()
        if asked.model.task != "generate":  # An input as long as the context, and no answer.
            asked = scenario.with_traffic(prompt=context).resolved()
        r = evaluate_resolved(asked)
        most, longest = float(np.asarray(largest_batch(asked))), float(np.asarray(longest_context(asked)))
    except TierwiseError as error:
        return {**out, "problem": str(error)}
    fits, made_for, tpot = bool(r.fits), float(np.asarray(asked.model.max_context)), float(np.asarray(r.tpot))
    return {
        **out,
        "fits": fits,
        "needs": float(np.asarray(r.memory.peak)),
        "has": float(np.asarray(r.memory.capacity)),
        "kept": float(np.asarray(r.memory.reserve)),
        "tokens_per_s": 1.0 / tpot if fits and np.isfinite(tpot) else None,
        # Of a model that writes nothing: inputs as long as the context.
        "inputs_per_s": 1.0 / float(np.asarray(r.time)) if fits and not np.isfinite(tpot) else None,
        "first_token_s": float(np.asarray(r.ttft)) if fits else None,
        "requests": most,
        "longest": min(longest, made_for),
        "beyond": context > made_for,
        "usd_per_hour": _rent(asked.machine),
        "engine": asked.engine,
        "basis": str(r.basis),
    }


def _rent(machine: System) -> float | None:
    """Dollars an hour of all of a machine, a rented node whole; None where no rent is known."""
    rent = float(np.asarray(machine.rent(machine.count))) * 3600.0
    return rent if np.isfinite(rent) else None


def advise(rows: list[Json]) -> list[Json]:
    """The rows with what would make those fit that do not, as ``change``: the context that does, a format that does.

    Where neither is enough, the model needs more memory than the machine has: more devices, or the host's.
    """
    out = []
    for r in rows:
        change = ""
        if r.get("fits") is False:
            others = [x for x in rows if x.get("fits") and (x["machine"], x["context"]) == (r["machine"], r["context"])]
            if r["longest"] >= SHORTEST:
                change = f"{count(r['longest'])} tokens"
            elif others:
                change = str(max(others, key=lambda x: x["needs"])["format"])
            else:
                change = "more memory"
        out.append({**r, "change": change})
    return out


def described(d: Json) -> Report:
    """The report of its JSON form."""
    rows = d["rows"]
    good = [r for r in rows if r.get("fits")]
    columns: tuple[Column, ...] = (
        Column("machine", left=True),
        Column("format", left=True),
        Column("context"),
        Column("memory"),
        Column("inputs/s" if any(r.get("inputs_per_s") for r in rows) else "tokens/s"),
        Column("instead", left=True, less=1),
        Column("first token", less=5),
        Column("requests", less=3),
        Column("longest context", less=4),
        Column("rent", less=2),
        Column("rests on", left=True, less=6),
    )
    keep = [i for i, c in enumerate(columns)
            if (c.name != "instead" or any(r.get("change") for r in rows))
            and (c.name != "rent" or any(r.get("usd_per_hour") for r in rows))]  # fmt: skip
    columns = tuple(columns[i] for i in keep)
    cells = [[_cells(r)[i] for i in keep] for r in rows]
    note = "More memory: more devices, or the host's and a disk's, as tierwise plan fit divides a model over them."
    note *= any(r.get("change") == "more memory" for r in rows)
    told = [f"{d['model']} was not made for so long a context: it knows fewer tokens than asked for."]
    problems = told * any(r.get("beyond") for r in rows) + list(
        dict.fromkeys(r["problem"] for r in rows if "problem" in r)
    )
    sections = {"fits": ReportSection("What fits", Table(columns, cells, note), REMARK, element="fits")}
    if problems:
        sections["problems"] = ReportSection("Besides", Sentences(problems), element="problems")
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
    fast = max(good, key=_rate)
    each = "tokens" if fast["tokens_per_s"] else "inputs"
    return (
        f"{len(good)} of {len(rows)} fit; fastest is {fast['format']} on {fast['machine']}, {_rate(fast):.3g} {each}/s."
    )


def _rate(r: Json) -> float:
    return float(r["tokens_per_s"] or r["inputs_per_s"])


def _cells(r: Json) -> list[Cell | str]:
    head: list[Cell | str] = [r["machine"], r["format"], count(r["context"])]
    if "problem" in r:
        return [*head, Cell(UNKNOWN), "", "", "", "", "", "", ""]
    longest = count(r["longest"]) if r["longest"] else UNKNOWN
    rent = UNKNOWN if r["usd_per_hour"] is None else f"{dollars(r['usd_per_hour'])}/h"
    memory = Cell(f"{gb(r['needs'] - r['kept'])} of {gb(r['has'] - r['kept'])}", tone="" if r["fits"] else "bad")
    if not r["fits"]:
        return [*head, memory, Cell("does not fit", tone="bad"), r["change"], "", "", longest, rent, ""]
    speed, first = f"{_rate(r):.3g}", seconds(r["first_token_s"])
    return [*head, memory, speed, r["change"], first, count(r["requests"]), longest, rent, r["basis"]]
