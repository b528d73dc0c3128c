"""The report on a serving plan: the answer, its reasons, what was beside it; for a terminal and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tierwise.core.units import dollars, seconds
from tierwise.report import choices, sensitivity
from tierwise.report import plan_words as words
from tierwise.report.layout import Bullets, Column, Report, ReportSection, Sentences, Table
from tierwise.report.numbers import rate

if TYPE_CHECKING:
    from rich.console import Console

Json = dict[str, Any]

SCRIPTS = ("base.js", "plan.js")


def show(d: Json, console: Console) -> None:
    """Print a plan from its JSON form."""
    from tierwise.report.terminal import show as printed

    printed(described(d), console)


def page(d: Json, cloud: Json) -> str:
    """The plan as HTML; ``cloud``: see :func:`tierwise.report.plan_data.cloud`."""
    from tierwise.report.page import page as drawn

    return drawn(described(d), "plan", SCRIPTS, {"plan": d, "cloud": cloud})


def described(d: Json) -> Report:
    """The report of a plan's JSON form."""
    text, model = d["text"], d["question"]["model"]
    sections: dict[str, ReportSection] = {}
    if d["finalists"]:
        remark = "predicted → simulated, means"
        if any(words.state(e) == "unsure" for e in d["finalists"]):
            remark += f"; unsure: met as expected, not {words.surely(d)}"
        sections["finalists"] = ReportSection("Finalists", Table(*_finalists(d)), remark, element="finalists")
    if d["front"]:
        remark = "cost against speed per user, TTFT within its target"
        sections["front"] = ReportSection("Pareto front", Table(*_front(d)), remark)
    for name, title, items in (("others", "Why not", words.others(d)), ("changes", "If things change",
                                                                        words.changes(d))):  # fmt: skip
        if items:
            sections[name] = ReportSection(title, Bullets([(f"{about}:", said) for about, said in items]), element=name)
    if d.get("sensitivity"):
        sections |= sensitivity.sections(d["sensitivity"])
    if text["rests"]:
        sections["rests"] = ReportSection(
            "What this rests on", Sentences([*text["rests"], counted(d)]), element="basis"
        )
    else:
        sections["rests"] = ReportSection("", Sentences([counted(d)]))
    return Report(
        title=f"{model}: a serving plan",
        subject=f"Serving {model}",
        place=f"within {words.machines(d)}",
        subtitle=text["load"],
        headline=text["headline"],
        state="fits" if d["met"] else "missed",
        alarm=not d["met"],
        why=text["why"],
        why_title="What to expect",
        numbers=key_numbers(d),
        numbers_in_terminal=False,
        hero="Rent",
        sections=sections,
    )


def key_numbers(d: Json) -> list[tuple[str, str, str]]:
    """(name, value, remark) of the answer."""
    a, q = d["answer"], d["question"]
    if a is None:
        return []
    run = a.get("simulated")
    how = "simulated" if run else "predicted"
    served = run["requests_per_s"] if run else a["requests_per_s"]
    out = [("Devices", str(a["devices"]), a["device"])]
    if a["usd_per_hour"] is not None and served:
        each = a["usd_per_hour"] / 3600.0 / (served * q["output"]) * 1e6
        out += [("Rent", f"{dollars(a['usd_per_hour'])} / h", ""), ("Cost", f"{dollars(each)} / M tokens", how)]
    for name in ("ttft", "tpot"):
        x = run[name + "_s"] if run else {"mean": a[name + "_s"]}
        tail = f"p99 {seconds(x['p99'])}" if "p99" in x else "mean"
        target = q[name + "_s"]
        aim = "" if target is None else f"; {q['statistic']} within {seconds(target)}"
        out.append((name.upper(), seconds(x["mean"]), tail + aim))
    out.append(("Throughput", f"{rate(served)} requests/s", f"{rate(served * q['output'])} tokens/s"))
    out.append(("Per device", f"{rate(served * q['output'] / a['devices'])} tokens/s", how))
    return out


def counted(d: Json) -> str:
    """How much was looked at, and how long it took."""
    took = d["seconds"]
    if not d["considered"]:
        return f"No division holds the weights and a request; nothing was priced, in {seconds(took['pricing'])}."
    text = f"{d['considered']:,} configurations priced in {seconds(took['pricing'])}"
    if d["finalists"]:
        text += f", {len(d['finalists'])} simulated in {seconds(took['simulation'])}"
    return text + "."


def short(e: Json) -> str:
    """``10×TP1 + 6×TP2`` prefilling and decoding, ``16×TP2`` for engines that do both."""

    def one(g: Json) -> str:
        shown = [n for n in ("tp", "pp", "dp", "ep") if g[n] > 1] or ["tp"]
        names = "".join(f"{n.upper()}{g[n]}" for n in shown)
        return f"{g['count']}×{names}"

    text = f"{one(e['prefill'])} + {one(e['decode'])}" if "prefill" in e else one(e["engines"])
    return text + (f" draft {e['draft_tokens']}" if e["draft_tokens"] else "")


def _finalists(d: Json) -> tuple[tuple[Column, ...], list[list[str]]]:
    """What was simulated, those that hold first."""
    ranked = sorted(d["finalists"], key=lambda e: (words.STATES.index(words.state(e)), words.price_paid(d, e)))
    names = ["dev", "flight", "budget", *_money(d), "tok/s/dev", "TTFT", "TPOT", "targets"]
    return _columns(names), [_finalist(d, e) for e in ranked[: choices.PLAN_ROWS]]


def _front(d: Json) -> tuple[tuple[Column, ...], list[list[str]]]:
    """The Pareto front, thinned."""
    names = ["dev", "flight", *_money(d), "tok/s/user", "requests/s", "TTFT", "TPOT"]
    return _columns(names), [_point(d, e) for e in thinned(d["front"])]


# How soon columns give way in a narrow terminal: what the answer turns on stays.
_LESS = {"budget": 4, "flight": 3, "requests/s": 2, "tok/s/dev": 1}


def _columns(names: Sequence[str]) -> tuple[Column, ...]:
    return (Column("deployment", left=True), *(Column(name, less=_LESS.get(name, 0)) for name in names))


def thinned(front: list[Json], most: int = choices.PLAN_ROWS) -> list[Json]:
    """At most so many rows, evenly from the cheapest to the fastest; none that gains under a hundredth on the last."""
    kept: list[Json] = []
    for e in front:
        if not kept or e["user_tokens_per_s"] > choices.FRONT_STEP * kept[-1]["user_tokens_per_s"]:
            kept.append(e)
    if len(kept) <= most:
        return kept
    return [kept[round(i * (len(kept) - 1) / (most - 1))] for i in range(most)]


def _money(d: Json) -> list[str]:
    """Columns of what is paid: an hour for a given load, else a token."""
    if not any(e["usd_per_hour"] is not None for e in [*d["finalists"], *d["front"]]):
        return []
    return ["$/Mtok"] if d["question"]["load"] == "free" else ["$/h"]


def _named(d: Json, e: Json) -> str:
    several = len({m["device"] for m in d["question"]["machines"]}) > 1
    parts = [" + ".join(m.split("x", 1)[-1] for m in e["machine"].split(" + "))] if several else []
    parts += [e["engine"]] if len(d["question"]["engines"]) > 1 else []
    formats = [] if e["own_formats"] else [e["weights"] or f"kv {e['kv']}"]
    return " ".join([*parts, short(e), *formats])


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
    load = [f"{e['in_flight']:,.0f}", f"{e['max_num_batched_tokens']:,}"]
    return [_named(d, e), str(e["devices"]), *load, *_prices(d, e, paid), rate(per_device), *times, words.state(e)]


def _change(before: float, after: float | None) -> str:
    """``23.1 → 25.2 ms``: the unit once where both have it."""
    first, second = seconds(before), "never" if after is None else seconds(after)
    number, _, unit = first.partition(" ")
    return f"{number if second.endswith(' ' + unit) else first} → {second}"


def _point(d: Json, e: Json) -> list[str]:
    return [_named(d, e), str(e["devices"]), f"{e['in_flight']:,.0f}", *_prices(d, e, e["usd_per_million"]),
            rate(e["user_tokens_per_s"]), rate(e["requests_per_s"]), seconds(e["ttft_s"]),
            seconds(e["tpot_s"])]  # fmt: skip
