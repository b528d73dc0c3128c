"""Sentences of a serving plan, written from its JSON form so that no sentence disagrees with a table."""

from __future__ import annotations

from typing import Any

from tierwise.core.units import dollars, seconds
from tierwise.report import choices
from tierwise.report.deployment_words import hardware, layout, price
from tierwise.report.numbers import rate
from tierwise.report.plan_expectation import demanded, expected, steady_state, superlative, what_is_missing

Json = dict[str, Any]
# Beyond which the array form of a schedule is said to be off.
EVENTS = 0.01

OBJECTIVES = {"cost": "the cost", "throughput": "the time per request served", "latency": "the latency"}


def sentences(d: Json) -> Json:
    """Everything that is said in words: ``headline``, ``load``, ``why``, ``others``, ``changes``, ``rests``."""
    return {
        "headline": headline(d),
        "load": load(d),
        "why": why(d),
        "others": [": ".join(item) for item in others(d)],
        "changes": [": ".join(item) for item in changes(d)],
        "rests": rests(d),
    }


def headline(d: Json) -> str:
    """The answer in one sentence, with its reason."""
    q, a = d["question"], d["answer"]
    if a is None:
        return f"{q['model']} cannot run on {machines(d)}: {what_is_missing(d)}"
    if not d["met"]:
        wanted = " ".join(x for x in (q["model"], demanded(d), conditions(d)) if x)
        serves, sure = ("is shown to serve", f" {surely(d)}") if state(a) == "unsure" else ("serves", "")
        return (
            f"Nothing within {machines(d)} {serves} {wanted}{sure}: "
            f"the nearest is {layout(a)} on {hardware(a)}, which {shortfall(d, a)}."
        )
    best = superlative(d, a)
    best += " shown to hold" if a.get("simulated") else " that should hold"
    priced = f"{d['considered']:,} configurations"
    return (
        f"Serve {q['model']} with {layout(a)}{_engine_and_formats(d, a)} on {hardware(a)}{price(a)}: "
        f"of {priced} {best} "
        f"{_targets_met(d)}{_next_limit(d)}."
    )


def _engine_and_formats(d: Json, a: Json) -> str:
    """Whose engines, and formats that change the model, where the question left them open."""
    parts = [f"of {a['engine']}"] if len(d["question"]["engines"]) > 1 else []
    return "".join(f" {x}" for x in parts) + ("" if a["own_formats"] else f" with {_changed_formats(a)}")


# How what was simulated stands to the targets, the best first.
STATES = ("met", "unsure", "missed", "behind")


def state(a: Json) -> str:
    """Which of :data:`STATES` a deployment is in; ``""`` where it was not simulated."""
    run = a.get("simulated")
    if not run:
        return ""
    return "met" if run["surely"] else "unsure" if run["meets"] else "missed" if run["keeps_up"] else "behind"


def surely(d: Json) -> str:
    """How sure a plan must be of what it promises."""
    return f"with {d['question']['confidence']} % confidence"


def _targets_met(d: Json) -> str:
    q, asked = d["question"], conditions(d).removeprefix("with ")
    if not asked:
        return "at all"
    timed = q["ttft_s"] is not None or q["tpot_s"] is not None
    return f"{asked} {surely(d)}" if timed and q["confidence"] > 50 else asked


def _next_limit(d: Json) -> str:
    by, value, q = d["binding"]["by"], d["binding"]["value"], d["question"]
    if by in ("ttft", "tpot") and value is not None:
        return f"; the next step could take {_above(value, q[by + '_s'])} {_LONG[by]}"
    return {
        "memory": "; the KV cache has no room for more",
        "load": "; it is the least that runs the model at all",
        "queue": "; more in flight would only wait",
        "rate": "; what was tried for less falls behind" if d["finalists"] else "; less would not surely keep up",
        "budget": "; the next step costs more than the budget",
        "devices": "; there are no more devices",
    }.get(by, "")


def _above(value: float, target: float) -> str:
    """A time that is over a target, with the target where both round to the same."""
    return seconds(value) if seconds(value) != seconds(target) else f"more than {seconds(target)}"


_LONG = {"ttft": "to the first token", "tpot": "per token"}


def next_device(d: Json) -> str:
    """How the answer compares with the best on another device, and how much of that is uncertainty."""
    x, q = d["rival"], d["question"]
    what = f"{layout(x['deployment'])} on {hardware(x['deployment'])}"
    sure = surely(d)
    if x["face"] <= 1.0:
        than = "as good" if x["face"] > 0.995 else f"{x['face']:.2f}× {OBJECTIVES[q['objective']]}"
        why = "does not meet the targets" if x["surely"] is None else f"is {x['surely']:.2f}×"
        return f"At face value {what} would be {than}, but {sure} it {why}: its times are not known as well."
    if x["surely"] is None:
        than = f"{x['face']:.2f}× {OBJECTIVES[q['objective']]}"
        return f"The next device is {what}, {than}; {sure} it misses the targets."
    share = f", {100.0 * x['uncertainty']:.0f} % of that advantage uncertainty" if x["uncertainty"] > 0.005 else ""
    share = share or (f" ({x['face']:.2f}× at face value)" if x["face"] > 1.005 * x["surely"] else "")
    return f"The next device is {what}, {x['surely']:.2f}× {OBJECTIVES[q['objective']]} {sure}{share}."


def shortfall(d: Json, a: Json) -> str:
    """What the nearest deployment misses."""
    if state(a) == "unsure":
        return "meets the targets as expected, not surely"
    q, run = d["question"], a.get("simulated")
    parts, times = [], []
    for name in ("ttft", "tpot"):
        target = q[name + "_s"]
        found = run[name + "_s"][q["statistic"]] if run else a[name + "_s"]
        if target is not None and found is not None and found > target:
            times.append(f"a {name.upper()} of {seconds(found)} ({found / target:.3g}× the target)")
    parts += [f"has {' and '.join(times)}"] if times else []
    if run and not run["keeps_up"]:
        parts.append(f"answers {rate(run['requests_per_s'])} requests/s and falls behind")
    if run and run["rejected"]:
        parts.append(f"turns {run['rejected']:,} requests away, too long for its memory")
    if q["requests_per_s"] is not None and a["requests_per_s"] < q["requests_per_s"] * choices.REACHED:
        parts.append(f"sustains {rate(a['requests_per_s'])} requests/s of the {rate(q['requests_per_s'])} asked")
    if q["concurrency"] is not None and a["in_flight"] < q["concurrency"] * choices.REACHED:
        parts.append(f"holds {rate(a['in_flight'])} of the {rate(q['concurrency'])} requests in flight")
    return " and ".join(parts) or ("misses the budget" if q["budget_usd_per_hour"] is not None else "falls behind")


def conditions(d: Json) -> str:
    """``with TTFT within 600 ms and TPOT within 25 ms (mean)``."""
    q = d["question"]
    parts = [f"{n.upper()} within {seconds(q[n + '_s'])}" for n in ("ttft", "tpot") if q[n + "_s"] is not None]
    text = f"with {' and '.join(parts)} ({q['statistic']})" if parts else ""
    if q["budget_usd_per_hour"] is not None:
        text += f"{', ' if text else ''}for at most {dollars(q['budget_usd_per_hour'])} an hour"
    return text


def load(d: Json) -> str:
    """What arrives, in one line."""
    q = d["question"]
    lengths = f"{q['prompt']:,.0f} tokens in · {q['output']:,.0f} out"
    if q["trace"]:
        text = (
            f"{q['trace']}: {q['trace_requests']:,} requests, {rate(q['requests_per_s'])}/s in the mean · {lengths}"
        )
        return text + (f" · {100 * q['shared']:.0f} % of prompt tokens seen before" if q["shared"] else "")
    arrives = {
        "open": f"{rate(q['requests_per_s'])} requests/s" if q["requests_per_s"] else "",
        "closed": f"{rate(q['concurrency'])} requests in flight" if q["concurrency"] else "",
        "free": "as many requests as the targets allow",
    }[q["load"]]
    return " · ".join(x for x in (arrives, lengths, conditions(d).removeprefix("with ")) if x)


def why(d: Json) -> list[str]:
    """What is expected of the answer, what simulation showed, and what the runner-up loses."""
    a, r, q = d["answer"], d["runner_up"], d["question"]
    if a is None:
        return []
    out = [expected(d, a)]
    if a.get("simulated"):
        out.append(steady_state(a))
    if r is not None:
        out.append(f"The runner-up, {layout(r)} on {hardware(r)}, {_disadvantage(d, a, r)}.")
    if d["rival"] is not None:
        out.append(next_device(d))
    if not d["met"]:
        out += fastest(d)
    if a and not a["own_formats"]:
        out.append(f"It stores {_changed_formats(a)}, which changes the model's answers: check their quality.")
    if q["too_long"]:
        out.append(f"{q['too_long']:,} requests of the trace are longer than the model's context; any deployment turns "
                   "them away.")  # fmt: skip
    if q["notices"]:
        out.append("Of the trace: " + "; ".join(q["notices"]) + ".")
    return out


def fastest(d: Json) -> list[str]:
    """What limits targets that nobody meets: the fastest there is."""
    out, limits = [], d["limits"]
    for name in ("ttft", "tpot"):
        least, target = limits[name + "_s"], d["question"][name + "_s"]
        if least is not None and target is not None and least["value"] > target:
            whose = layout(least["deployment"])
            out.append(f"No {name.upper()} below {seconds(least['value'])} is within reach, that of {whose}.")
    most = limits["rate"]
    if most is not None and d["question"]["requests_per_s"] is not None and layout(most) != layout(d["answer"]):
        a, sure = most, f" {surely(d)}" if d["question"]["confidence"] > 50 else ""
        out.append(f"Within the other targets {layout(a)} on {hardware(a)} would sustain "
                   f"{rate(a['requests_per_s'])} requests/s{sure}.")  # fmt: skip
    return out


def _disadvantage(d: Json, a: Json, r: Json) -> str:
    objective = d["question"]["objective"]
    if objective == "cost":
        ratio = price_paid(d, r) / price_paid(d, a)
        unit = "a token" if d["question"]["load"] == "free" else "an hour"
        if r["usd_per_hour"] is None:
            unit = "devices" + (" a token" if d["question"]["load"] == "free" else "")
        verb = "costs" if r["usd_per_hour"] is not None else "takes"
        more = f"{100 * (ratio - 1):.0f} % more" if ratio >= choices.EQUAL_RATIO else "the same"
        text = f"{verb} {more} {unit}"
    elif objective == "throughput":
        name = "capacity_requests_per_s" if d["question"]["load"] == "open" else ""
        most = [float(e[name]) if name else _rate(e) for e in (a, r)]
        text = f"serves {100 * (1 - most[1] / most[0]):.0f} % fewer requests"
    else:
        text = f"takes {seconds(_latency(d, r))} for a request instead of {seconds(_latency(d, a))}"
    return f"{text} (TTFT {seconds(_shown(r, 'ttft'))}, TPOT {seconds(_shown(r, 'tpot'))})"


def price_paid(d: Json, e: Json) -> float:
    """Dollars an hour for a given load, else per million tokens; simulated where it was."""
    run = e.get("simulated")
    free = d["question"]["load"] == "free"
    return float(e["cost"] * e["requests_per_s"] / run["requests_per_s"] if run and free else e["cost"])


def _rate(e: Json) -> float:
    return float((e.get("simulated") or e)["requests_per_s"])


def _shown(e: Json, name: str) -> float:
    run = e.get("simulated")
    return float(run[name + "_s"]["mean"] if run else e[name + "_s"])


def _latency(d: Json, e: Json) -> float:
    return _shown(e, "ttft") + float(d["question"]["output"] - 1.0) * _shown(e, "tpot")


_CLASSES = {
    "matmul": "reading the weights", "moe": "reading the experts", "attention": "attention over the cache",
    "collective": "communication", "other": "small kernels", "host": "the host",
    "power": "the cap on power",
}  # fmt: skip


def others(d: Json) -> list[tuple[str, str]]:
    """(alternative, why it is not the answer), those that come nearest first."""
    told = [a for a in d["alternatives"] if a["verdict"] != "chosen"]
    kinds = ("meets", "load", "misses", "memory")
    told.sort(key=lambda a: (a["deployment"] is None, kinds.index(a["verdict"]), a["worse"] or 0.0))
    items = [(str(a["name"]), verdict(d, a)) for a in told[:choices.PLAN_LINES]]
    if len(told) > choices.PLAN_LINES:
        items.append(("Further off", ", ".join(a["name"] for a in told[choices.PLAN_LINES:])))
    return items


def cause(d: Json, a: Json) -> str:
    """What its decode steps spend more of their time on than those of the answer; empty where nothing stands out."""
    mine, best = a["decode_shares"], a["answer_shares"]
    if not mine or not best or not d["answer"] or a["deployment"]["mode"] != d["answer"]["mode"]:
        return ""
    name = max(mine, key=lambda n: mine[n] - best[n])
    if mine[name] - best[name] < choices.NOTICEABLE_SHARE:
        return ""
    now, then = (f"{100 * x[name]:.0f} %" for x in (mine, best))
    return f"; {_CLASSES[name]} takes {now} of its decode step, {then} in the answer's"


def verdict(d: Json, a: Json) -> str:
    """Why an alternative is not the answer."""
    e, q = a["deployment"], d["question"]
    if a["verdict"] == "memory":
        return "the weights do not fit in the memory of its devices"
    if a["verdict"] == "load":
        return f"takes {rate(e['requests_per_s'])} requests/s at most ({layout(e)})"
    if a["verdict"] == "misses":
        over = []
        for name in ("ttft", "tpot"):
            if q[name + "_s"] is not None and e[name + "_s"] > q[name + "_s"]:
                over.append(f"{name.upper()} {seconds(e[name + '_s'])} at best")
        return f"misses the targets: {', '.join(over) or _beside_targets(d, e)} ({layout(e)}){cause(d, a)}"
    if a["worse"] is None:
        return f"would meet the targets as predicted ({layout(e)})"
    if a["worse"] < choices.EQUAL_RATIO:
        return f"as good by the steady state ({layout(e)})"
    return f"{a['worse']:.2f}× {OBJECTIVES[q['objective']]} ({layout(e)}){cause(d, a)}"


def _beside_targets(d: Json, e: Json) -> str:
    budget = d["question"]["budget_usd_per_hour"]
    over = budget is not None and e["usd_per_hour"] is not None and e["usd_per_hour"] > budget
    return "over the budget" if over else "it falls behind at this rate"


def changes(d: Json) -> list[tuple[str, str]]:
    """(small change of the question, what it does)."""
    return [(str(c["name"]), changed(d, c)) for c in d["changes"]]


def changed(d: Json, c: Json) -> str:
    """What a small change of the question does."""
    q, best = d["question"], c["best"]
    if c["tpot_s"] is None:
        text = "this deployment cannot keep up"
    else:
        text = f"{_holds(d, c)} (TTFT {seconds(c['ttft_s'])}, TPOT {seconds(c['tpot_s'])})"
    if c.get("reloaded"):
        return text
    if best is None:
        return f"{text}; no other would meet them then"
    where = f" on {hardware(best)}" if q["load"] != "free" else ""
    return f"{text}; the best then is {layout(best)}{where}{price(best)}"


def _holds(d: Json, c: Json) -> str:
    """Whether the answer still does; where its times would and it does not, the busiest moment is what it misses."""
    if c["holds"]:
        return f"{'still ' if d['met'] else ''}meets the targets"
    targets = ((d["question"][name], c[name]) for name in ("ttft_s", "tpot_s"))
    late = any(target is not None and (x is None or x > target) for target, x in targets)
    if c["expected"]:
        return f"should meet the targets, not {surely(d)}"
    if late or d["question"]["load"] != "open":
        return "misses the targets"
    return "meets the targets on average, but falls behind at the busiest time"


_FITTED = {
    "calibrated": "coefficients fitted to runs of this engine, machine and model",
    "transferred": "coefficients fitted to runs of other engines, machines or models",
    "disaggregated": "coefficients fitted to runs that disaggregate",
}


def rests(d: Json) -> list[str]:
    """What the numbers rest on, and how far off they may be."""
    a = d["answer"]
    if a is None:
        return []
    out = []
    if "basis" in a:
        out.append(f"Steady state: {_FITTED.get(a['basis'], a['basis'])}; 80 % of measurements are expected between "
                   f"{seconds(a['ttft_interval'][0])} and {seconds(a['ttft_interval'][1])} (TTFT), "
                   f"{seconds(a['tpot_interval'][0])} and {seconds(a['tpot_interval'][1])} (TPOT).")  # fmt: skip
    if d["measure"]:
        out.append(d["measure"]["text"])
    if not d["finalists"]:
        out.append("No finalist was simulated (--no-confirm, or Numba is missing: pip install "
                   "'tierwise[serve]'): these are times of the steady state.")  # fmt: skip
    if abs(a["events_off"]) > EVENTS:
        how = "longer" if a["events_off"] > 0 else "less"
        out.append(f"Event by event a step takes {100 * abs(a['events_off']):.0f} % {how} than in the array form "
                   "that it was priced with.")  # fmt: skip
    if a["draft_tokens"]:
        right = f"{100 * a['accept']:.0f} times in 100"
        out.append(f"A draft token is taken to be right {right}, as in the measured runs that speculated; the model "
                   "must come with drafts of that quality.")  # fmt: skip
    out += [f"Rent of {m['device']}: {dollars(m['usd_per_hour'])} an hour ({m['price_source']}, {m['price_date']})."
            if m["usd_per_hour"] is not None else f"Rent of {m['device']}: none known; cost counts devices."
            for m in _machines_shown(d)]  # fmt: skip
    return out


def _machines_shown(d: Json) -> list[Json]:
    told = [e for e in (d["answer"], d["runner_up"], *d["finalists"]) if e]
    shown = {name for e in told for name in (e["device"], *(e[g]["device"] for g in ("prefill", "decode")
                                                            if e["mode"] == "mixed"))}  # fmt: skip
    return [m for m in d["question"]["machines"] if m["device"] in shown]


def machines(d: Json) -> str:
    """What the plan may use."""
    names = [f"{m['devices']} × {m['device']}" for m in d["question"]["machines"]]
    return names[0] if len(names) == 1 else f"{len(names)} kinds of machine" if len(names) > 3 else " or ".join(names)


def _changed_formats(a: Json) -> str:
    parts = [f"weights in {a['weights']}"] if a["weights"] else []
    if a["mode"] == "mixed" and a["prefill"]["weights"] and not parts:
        parts = [f"weights in {a['prefill']['weights']} where it prefills"]
    return " and ".join([*parts, *([] if a["own_kv"] else [f"the KV cache in {a['kv']}"])])
