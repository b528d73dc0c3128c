"""The report on one scenario: what it costs, why, and what would help; for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tierwise.advise import Advice
from tierwise.core.units import gb, seconds, si
from tierwise.report import explain_layers, sensitivity
from tierwise.report import explain_words as words
from tierwise.report.advice_words import labelled
from tierwise.report.explain_data import scalar_dict, signed
from tierwise.report.layout import WIDE, Bullets, Cell, Column, Facts, Report, ReportSection, Sentences, Table
from tierwise.report.numbers import count, percent, rate
from tierwise.report.timeline import executions
from tierwise.result import Phase, Result

if TYPE_CHECKING:
    from rich.console import Console

Json = dict[str, Any]

SCRIPTS = ("base.js", "lib.js", "breakdown.js", "roofline.js", "tiers.js", "timeline.js", "table.js", "main.js")


def show(
    result: Result, console: Console, *, advice: Sequence[Advice] = (), ops: bool | int = 12, data: Json | None = None,
    **found: Any,
) -> None:  # fmt: skip
    """Print a report.

    Args:
        advice: what would help; for a scenario that does not fit, the nearest plans that do.
        ops: how many rows of the table of ops; True for all, False or 0 for no table.
        found: ``largest_batch`` and ``longest_context``, where the caller has looked for what still fits, and
            ``moved``, what each input does.
        data: all of it as :func:`tierwise.report.explain_data.scalar_dict` gives it, where the caller has it already.

    Raises:
        TierwiseError: the result is a sweep.
    """
    from tierwise.report.terminal import show as printed

    printed(described(data or scalar_dict(result, "terminal report", advice, **found), ops), console)


def page(result: Result, advice: Sequence[Advice] = (), data: Json | None = None, **found: Any) -> str:
    """The report as HTML; arguments as of :func:`show`.

    Raises:
        TierwiseError: the result is a sweep.
    """
    from tierwise.report.page import page as drawn

    d = signed(data or scalar_dict(result, "HTML report", advice, **found))
    return drawn(described(d), "explain", SCRIPTS, _charts(d, result))


def described(d: Json, ops: bool | int = 12) -> Report:
    """The report of a result's JSON form."""
    model, place, fits = d["scenario"]["model"]["name"], f"on {words.machine_text(d)}", d["summary"]["fits"]
    advice = Bullets([labelled(a) for a in d["advice"]])
    sections = {
        "advice": ReportSection("What would help" if fits else "Nearest plans that fit", advice, terminal=False)
    }
    sections["phases"] = _phases(d)
    for phase in d["phases"] if ops else ():
        sections[f"ops of {phase['name']}"] = _ops(d, phase, None if ops is True else int(ops))
    sections["layers"] = explain_layers.layers(d)
    if (spent := explain_layers.energy(d)) is not None:
        sections["energy"] = spent
        sections |= {"energy_ops": each} if (each := explain_layers.by_op(d)) is not None else {}
    if d["sensitivity"]:
        sections |= sensitivity.sections(d["sensitivity"])
    sections["memory"] = _memory(d)
    sources, title = _sources(d), words.basis_title(d)
    said = [f"{name}: {text}" for name, text in sources if name == "Model"]
    told = [words.basis_text(d), *said, "Where each other number comes from: --html FILE, or --json -.",
            *(f"Note: {note}" for note in d["notes"])]  # fmt: skip
    sections["rests"] = ReportSection("What this rests on", Sentences(told), title)
    sections["basis"] = ReportSection("", Sentences([words.basis_text(d)]), title, terminal=False)
    if d["notes"]:
        sections["notes"] = ReportSection("Notes", Bullets([("", note) for note in d["notes"]]), terminal=False)
    sections["sources"] = ReportSection("Sources", Facts(sources), terminal=False)
    sections["scenario"] = ReportSection("What was asked", Facts(_scenario(d)), terminal=False, element="scenario")
    return Report(
        title=f"{model} {place}",
        subject=model,
        place=place,
        subtitle=words.subtitle(d),
        headline=d["text"]["headline"],
        state="fits" if fits else "too-large",
        alarm=not fits,
        why=d["text"]["why"],
        numbers=words.key_numbers(d),
        sections=sections,
        condition="" if fits else "if the memory were large enough",
        aside="advice" if d["advice"] else "",
        hero="Throughput",
    )


def _main_memory(d: Json) -> str:
    return next(str(t["name"]) for t in d["scenario"]["machine"]["tiers"] if t["kind"] == "memory")


def _phases(d: Json) -> ReportSection:
    memory = _main_memory(d)
    columns = (Column("phase", left=True), *map(Column, ("passes", "a pass", "total")), Column("bound by"),
               *map(Column, (memory, "FLOP", "MFU", "MBU")))  # fmt: skip
    rows = [[p["name"], count(p["passes"]), seconds(p["pass_time_s"]), seconds(p["time_s"]), _bound(d, p["bound_by"]),
             gb(p["bytes"].get(memory, 0.0)), si(p["flops"]), percent(p["mfu"]), percent(p["mbu"])]
            for p in d["phases"]]  # fmt: skip
    note = "MFU: arithmetic done over what the device could do. MBU: memory traffic over what it could carry."
    filled = [p["name"] for p in d["phases"] if p["pipeline_stretch"] != 1]
    if filled:
        note += f" The total of {' and '.join(filled)} includes filling the pipeline."
    remark = "traffic and FLOP of one pass through all layers on one device"
    return ReportSection("Phases", Table(columns, rows, note), remark)


def _ops(d: Json, phase: Json, limit: int | None) -> ReportSection:
    """The ops that take longest, and one row for the rest."""
    rows = sorted(words.grouped(phase["ops"]), key=lambda op: -op["time_s"])
    shown, rest = rows[:limit], rows[limit:] if limit is not None else []
    several = len({op["layer"] for op in rows}) > 3  # otherwise the op says it: input, layer, output
    memory, kinds = _main_memory(d), words.tier_kinds(d)
    columns = (
        Column("op", left=True, longest=34), Column("runs"), Column("time"), Column("share"),
        Column(left=True, shown_from=WIDE, bar=12), Column("bound by", left=True), Column("FLOP"), Column(memory),
        Column("FLOP/B", shown_from=WIDE),
    )  # fmt: skip
    cells: list[list[Cell | str]] = []
    for op in shown:
        name = f"{op['layer']}/{op['name']}" if several else op["name"]
        moved = op["bytes"].get(memory, 0.0)
        stays = any(kinds.get(tier) in ("cache", "scratchpad") for tier in op["bytes"])
        cells.append([
            name, count(op["count"]), seconds(op["time_s"]), percent(op["share"]), Cell(bar=op["share"]),
            _bound(d, op["bound_by"]), si(op["flops"]) if op["flops"] else "–",
            gb(moved) if moved else "on chip" if stays else "–",
            rate(op["flops"] / moved if moved and op["flops"] else None),
        ])  # fmt: skip
    if rest:
        left, share = (sum(op[name] for op in rest) for name in ("time_s", "share"))
        runs = count(sum(op["count"] for op in rest))
        cells.append([f"{len(rest)} more", runs, seconds(left), percent(share), Cell(bar=share), *[""] * 4])
    faint = frozenset({len(shown)} if rest else ())
    if phase["host_s"]:
        cells.append(["between passes", count(1), seconds(phase["host_s"]), "", "", _bound(d, "host"), *[""] * 3])
    unit = "step" if phase["name"] == "decode" else "pass"
    table = Table(columns, cells, faint=faint)
    return ReportSection(f"Ops of one {phase['name']} {unit}", table, seconds(phase["pass_time_s"]))


def _memory(d: Json) -> ReportSection:
    m = d["memory"]
    over, whole = m["free"] < 0, max(m["capacity"], m["peak"])
    parts = [(name, size, "") for name, size in m["parts"].items()]
    parts.append(("too much", -m["free"], "bad") if over else ("free", m["free"], "good"))
    rows = [[Cell(name, tone), Cell(gb(size), tone), Cell(percent(size / m["capacity"]), tone),
             Cell(tone=tone, bar=size / whole)] for name, size, tone in parts]  # fmt: skip
    columns = (Column(left=True), Column(), Column(), Column(left=True, bar=30))
    return ReportSection(
        "Memory of the fullest device", Table(columns, rows), f"{gb(m['peak'])} of {gb(m['capacity'])}"
    )


def _bound(d: Json, name: str) -> Cell:
    return Cell(words.resource(name), words.family(d, name))


def _sources(d: Json) -> list[tuple[str, str]]:
    """What each number comes from; those of the machine last."""
    prices = d["sources"]["prices"]
    rows = [("Kernel efficiencies", f"{prices['calibration']} ({prices['source']})")]
    if d["sources"]["model"]:
        rows.append(("Model", d["sources"]["model"]))
    return [*rows, *((f"Machine, {name}", text) for name, text in d["sources"]["machine"].items())]


def _scenario(d: Json) -> list[tuple[str, str]]:
    model, plan, machine = (d["scenario"][k] for k in ("model", "plan", "machine"))
    degrees = ", ".join(f"{k} {plan[k]:g}" for k in ("tp", "pp", "dp", "ep"))
    other = [x for x in plan["differs"] if x.split()[0] not in ("tp", "pp", "dp", "ep")]
    rows = [
        ("Model", f"{model['name']} ({model['family']}), {_billions(model['parameters'])} parameters, "
                  f"{_billions(model['active_parameters'])} used by each token or input"),
        ("Machine", f"{machine['name']}: {words.machine_text(d)}"),
        ("Traffic", words.traffic_text(d)),
        ("Plan", f"{degrees}; {'; '.join(other) or 'nothing else changed from the plainest plan'}"),
        ("Formats", words.formats_text(d)),
    ]  # fmt: skip
    if d["scenario"]["techniques"]:
        rows.append(("Techniques", ", ".join(d["scenario"]["techniques"])))
    return rows


def _billions(x: float) -> str:
    return f"{x / 1e9:.3g} billion" if x >= 1e9 else f"{x / 1e6:.3g} million" if x >= 1e6 else f"{x:,.0f}"


def _charts(d: Json, result: Result) -> Json:
    """The result, and what its charts need beside it."""
    names = {p["bound_by"] for p in d["phases"]} | {n for p in d["phases"] for n in p["seconds_if_alone"]}
    return {
        "result": d,
        "rows": [words.grouped(p["ops"]) for p in d["phases"]],
        "timeline": [_timeline(p) for p in result.phases],
        "families": {name: words.family(d, name) for name in sorted(names)},
        "labels": {"resources": {name: words.resource(name) for name in sorted(names)}, "roles": words.ROLES},
    }


def _timeline(phase: Phase) -> Json:
    """Every execution of one pass as [op, layer, lane, start, duration]: indexes, and seconds."""
    layers: dict[str, int] = {}
    lanes: dict[str, int] = {}
    rows = [[x.op, layers.setdefault(x.layer, len(layers)), lanes.setdefault(x.lane, len(lanes)),
             float(f"{x.start:.9g}"), float(f"{x.duration:.6g}")]
            for x in executions(phase) if x.op is not None]  # fmt: skip
    return {"layers": list(layers), "lanes": list(lanes), "rows": rows}
