"""A serving plan in a terminal: the answer, its reasons, what was beside it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.padding import Padding

from tierwise.core.units import dollars, seconds
from tierwise.report import plan_words as words
from tierwise.report.plan_expected import number
from tierwise.report.terminal import heading, paragraph, plain_table

Json = dict[str, Any]

# Rows of the Pareto front that are shown.
FRONT = 10


def show(d: Json, console: Console) -> None:
    """Print a plan from its JSON form."""
    text = d["text"]
    console.print()
    paragraph(console, text["headline"], style="bold" if d["met"] else "bold red", indent="")
    paragraph(console, text["load"], style="dim", indent="")
    console.print()
    if text["why"]:
        paragraph(console, " ".join(text["why"]), indent="")
    if d["finalists"]:
        heading(console, "Finalists", "predicted → simulated, means")
        _table(console, *finalist_rows(d))
    if d["front"]:
        heading(console, "Pareto front", "cost against speed per user, TTFT within its target")
        _table(console, *front_rows(d))
    if text["others"]:
        heading(console, "Why not")
        for line in text["others"]:
            paragraph(console, line, indent="    ", first="  • ")
    if text["changes"]:
        heading(console, "If things change")
        for line in text["changes"]:
            paragraph(console, line, indent="    ", first="  • ")
    if text["rests"]:
        heading(console, "What this rests on")
        for line in text["rests"]:
            paragraph(console, line)
    paragraph(console, counted(d), style="dim")
    console.print()


def finalist_rows(d: Json) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of what was simulated, those that hold first."""
    ranked = sorted(d["finalists"], key=lambda e: _order(d, e))
    columns = ["deployment", "dev", "flight", "budget", *_money(d), "tok/s/dev", "TTFT", "TPOT", "targets"]
    return columns, [_finalist(d, e) for e in ranked[:FRONT]]


def front_rows(d: Json) -> tuple[list[str], list[list[str]]]:
    """(columns, rows) of the Pareto front, thinned."""
    columns = ["deployment", "dev", "flight", *_money(d), "tok/s/user", "requests/s", "TTFT", "TPOT"]
    return columns, [_point(d, e) for e in thinned(d["front"])]


def counted(d: Json) -> str:
    """How much was looked at, and how long it took."""
    s = d["seconds"]
    if not d["considered"]:
        return f"No division holds the weights and a request; nothing was priced, in {seconds(s['pricing'])}."
    text = f"{d['considered']:,} configurations priced in {seconds(s['pricing'])}"
    if d["finalists"]:
        text += f", {len(d['finalists'])} simulated in {seconds(s['simulation'])}"
    return text + "."


def thinned(front: list[Json], most: int = FRONT) -> list[Json]:
    """At most so many rows, evenly from the cheapest to the fastest; none that gains under a hundredth on the last."""
    kept: list[Json] = []
    for e in front:
        if not kept or e["user_tokens_per_s"] > 1.01 * kept[-1]["user_tokens_per_s"]:
            kept.append(e)
    front = kept
    if len(front) <= most:
        return front
    places = [round(i * (len(front) - 1) / (most - 1)) for i in range(most)]
    return [front[i] for i in places]


def short(e: Json) -> str:
    """``10×TP1 + 6×TP2`` prefilling and decoding, ``16×TP2`` for engines that do both."""

    def one(g: Json) -> str:
        shown = [n for n in ("tp", "pp", "dp", "ep") if g[n] > 1] or ["tp"]
        names = "".join(f"{n.upper()}{g[n]}" for n in shown)
        return f"{g['count']}×{names}"

    text = f"{one(e['prefill'])} + {one(e['decode'])}" if e["mode"] == "disaggregated" else one(e["engines"])
    return text + (f" draft {e['draft_tokens']}" if e["draft_tokens"] else "")


def _order(d: Json, e: Json) -> tuple[bool, float]:
    return not e["simulated"]["meets"], words.paid(d, e)


def _money(d: Json) -> list[str]:
    """Columns of what is paid: an hour for a given load, else a token."""
    if not any(e["usd_per_hour"] is not None for e in [*d["finalists"], *d["front"]]):
        return []
    return ["$/Mtok"] if d["question"]["load"] == "free" else ["$/h"]


def _named(d: Json, e: Json) -> str:
    several = len({m["device"] for m in d["question"]["machines"]}) > 1
    parts = [e["machine"].split("x", 1)[-1]] if several else []
    parts += [e["engine"]] if len(d["question"]["engines"]) > 1 else []
    return " ".join(
        [*parts, short(e), *([] if e["own_formats"] else [f"kv {e['kv']}" if not e["weights"] else e["weights"]])]
    )


def _prices(d: Json, e: Json, per_million: float | None) -> list[str]:
    price = per_million if d["question"]["load"] == "free" else e["usd_per_hour"]
    return [dollars(price) if price is not None else "–" for _ in _money(d)]


def _finalist(d: Json, e: Json) -> list[str]:
    run = e["simulated"]
    paid = e["usd_per_million"]
    if paid is not None and run["requests_per_s"]:
        paid = paid * e["requests_per_s"] / run["requests_per_s"]
    per_device = run["requests_per_s"] * d["question"]["output"] / e["devices"]
    times = [_change(e[n], run[n]["mean"]) for n in ("ttft_s", "tpot_s")]
    state = "met" if run["meets"] else "missed" if run["keeps_up"] else "behind"
    load = [f"{e['in_flight']:,.0f}", f"{e['max_num_batched_tokens']:,}"]
    return [_named(d, e), str(e["devices"]), *load, *_prices(d, e, paid), number(per_device), *times, state]


def _change(before: float, after: float | None) -> str:
    """``23.1 → 25.2 ms``: the unit once where both have it."""
    first, second = seconds(before), "never" if after is None else seconds(after)
    number, _, unit = first.partition(" ")
    return f"{number if second.endswith(' ' + unit) else first} → {second}"


def _point(d: Json, e: Json) -> list[str]:
    return [_named(d, e), str(e["devices"]), f"{e['in_flight']:,.0f}", *_prices(d, e, e["usd_per_million"]),
            number(e["user_tokens_per_s"]), number(e["requests_per_s"]), seconds(e["ttft_s"]),
            seconds(e["tpot_s"])]  # fmt: skip


def _table(console: Console, columns: list[str], rows: list[list[str]]) -> None:
    table = plain_table(*columns)
    for row in rows:
        table.add_row(*row)
    # Names give way before numbers do.
    for i, column in enumerate(table.columns[1:], start=1):
        column.min_width = max(len(cells[i]) for cells in [columns, *rows])
    console.print(Padding(table, (0, 0, 0, 2), expand=False))
