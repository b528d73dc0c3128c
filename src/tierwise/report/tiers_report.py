"""The report on a plan that makes a model fit, for a terminal and as a page."""

from __future__ import annotations

from typing import Any

from tierwise.core.units import gb, seconds
from tierwise.report import tiers_words as words
from tierwise.report.explain_words import BASES
from tierwise.report.layout import Bullets, Cell, Column, Command, Report, ReportSection, Sentences, Table
from tierwise.report.numbers import count, percent, rate

Json = dict[str, Any]
SCRIPTS = ("base.js", "plan_fit.js")


def page(d: Json) -> str:
    """The plan as HTML."""
    from tierwise.report.page import page as drawn

    return drawn(described(d), "plan_fit", SCRIPTS, {"fit": d})


def described(d: Json) -> Report:
    """The report of its JSON form."""
    q = d["question"]
    chosen = d["policies"][0] if d.get("policies") else d.get("answer")
    sections: dict[str, ReportSection] = {}
    memory = chosen or (d.get("nearest") or [None])[0]
    if memory:
        sections["memory"] = ReportSection(
            "Memory by tier", _memory(memory), "of one device and its share", element="memory"
        )
    if d.get("candidates"):
        sections["others"] = ReportSection(
            "Beside it", _table(d["candidates"], q), "the best of each way", element="others"
        )
    if len(d.get("policies", ())) > 1:
        sections["others"] = ReportSection(
            "Beside it", _policies(d["policies"]), "the best of each way", element="others"
        )
    if d.get("narrower"):
        remark = f"below {q['min_bits']:g} bits a weight"
        sections["narrower"] = ReportSection("Narrower formats", _table(d["narrower"], q), remark, element="narrower")
    if items := words.helping(d):
        sections["helps"] = ReportSection("What would help", Bullets(items), element="helps")
    if d["flags"]:
        sections["flags"] = ReportSection("Run it", Command(d["flags"]), element="flags")
    rests = [f"Machine: {d['assumed']}."] if d["assumed"] else []
    if chosen:
        rests.insert(0, f"Most of the time rests on {BASES[chosen['basis']]}.")
    if rests:
        sections["rests"] = ReportSection("What this rests on", Sentences(rests), element="basis")
    return Report(
        title=f"{q['model']} on {q['machine']}",
        subject=f"Fitting {q['model']}",
        place=f"on {q['machine']}",
        subtitle=f"{count(q['context'])} tokens of context, {count(q['output'])} of them generated; at least "
                 f"{q['min_bits']:g} bits a weight",
        headline=words.headline(d),
        state="fits" if d["fits"] else "too-large",
        alarm=not d["fits"],
        why=words.why(d),
        why_title="Where the time goes",
        numbers=_numbers(d, chosen),
        sections=sections,
    )  # fmt: skip


def rows(d: Json) -> list[Json]:
    """One row a division of the model that was looked at, without its parts."""
    found = d.get("policies") or [*d["candidates"], *d["narrower"], *(d["nearest"] or () if not d["fits"] else ())]
    return [{k: x for k, x in row.items() if not isinstance(x, (list, dict))} for row in found]


def _numbers(d: Json, a: Json | None) -> list[tuple[str, str, str]]:
    if a is None:
        return []
    low, high = (a["tokens_per_s"] * f for f in a["interval"])
    first = [f * a["first_token_s"] for f in a["first_token_interval"]]
    host = sum(sum(t["parts"].values()) for t in a["tiers"] if t["node"] != "device")
    return [
        ("Tokens a second", rate(a["tokens_per_s"]), f"80 % interval {rate(low)} to {rate(high)}"),
        ("Time to first token", seconds(a["first_token_s"]), f"{seconds(first[0])} to {seconds(first[1])}"),
        ("Whole conversation", seconds(a["total_s"]), f"{count(d['question']['output'])} tokens generated"),
        ("On the device", gb(a["peak"]), f"of {gb(a['capacity'])}"),
        ("Elsewhere", gb(host), "on the host or a disk"),
    ]


def _memory(a: Json) -> Table:
    names = list(dict.fromkeys(name for t in a["tiers"] for name in t["parts"]))
    columns = (Column("tier", left=True), *(Column(n.removeprefix("weights: ")) for n in _merged(names)),
               Column("in all"), Column("has"))  # fmt: skip
    rows: list[list[Cell | str]] = []
    for t in a["tiers"]:
        parts: dict[str, float] = {}
        for name, size in t["parts"].items():
            parts[_role(name)] = parts.get(_role(name), 0.0) + size
        total = sum(parts.values())
        over = t["capacity"] is not None and total > t["capacity"]
        rows.append([t["node"], *(gb(parts[n]) if n in parts else "" for n in _merged(names)),
                     Cell(gb(total), tone="bad" if over else ""),
                     "–" if t["capacity"] is None else gb(t["capacity"])])  # fmt: skip
    return Table(columns, rows)


def _role(name: str) -> str:
    return "weights" if name.startswith("weights") else name


def _merged(names: list[str]) -> list[str]:
    return list(dict.fromkeys(_role(n) for n in names))


def _table(rows: list[Json], q: Json) -> Table:
    columns = (Column("weights", left=True), Column("KV", left=True), Column("on the host", left=True),
               Column("-ub", shown_from=100), Column("device"), Column("host"), Column("first token"),
               Column("tokens/s"), Column("whole", shown_from=88))  # fmt: skip
    cells = [[x["weights"], x["kv"], _short(x, q), count(x["micro_batch"]), gb(x["peak"]), gb(x["host"]),
              seconds(x["first_token_s"]), rate(x["tokens_per_s"]), seconds(x["total_s"])] for x in rows]  # fmt: skip
    return Table(columns, cells)


def _short(x: Json, q: Json) -> str:
    parts = [f"{x[key]}/{whole} {what}" for key, what, whole in (
        ("layers_on_host", "layers", q["layers"]), ("experts_on_host", "experts", q["routed"]),
        ("feed_forward_on_host", "ffn", q["layers"]), ("caches_on_host", "KV", q["layers"])) if x[key]]  # fmt: skip
    if x["read_from_disk"]:
        parts.append(f"{percent(x['read_from_disk'])} disk")
    return ", ".join(parts) or "nothing"


def _policies(rows: list[Json]) -> Table:
    columns = (Column("format", left=True), Column("sequences"), Column("weights: device", shown_from=88),
               Column("host"), Column("disk"), Column("caches: host"), Column("attention", left=True),
               Column("tokens/s"))  # fmt: skip
    cells = []
    for p in rows:
        w = p["weight_shares"]
        far = sum(v for k, v in w.items() if k not in ("", "host"))
        cells.append([p["weights"], count(p["batch"]), percent(w[""]), percent(w["host"]), percent(far),
                      percent(p["cache_shares"]["host"]), p["attends"], rate(p["tokens_per_s"])])  # fmt: skip
    return Table(columns, cells)
