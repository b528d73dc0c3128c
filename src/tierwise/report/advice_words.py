"""Advice in words, and as JSON: the changes, what they bring, and the sentence that says it."""

from __future__ import annotations

import math
from typing import Any

from tierwise.advise import Advice
from tierwise.core.units import dollars, gb, seconds
from tierwise.report.numbers import count
from tierwise.report.plain import plain

Json = dict[str, Any]


def to_dict(advice: Advice) -> Json:
    """One advice as plain JSON values, with a ``title`` and a ``text`` made from them."""
    found: Json = plain({
        "kind": advice.kind,
        "aim": advice.aim,
        "changes": [{"field": c.field, "from": c.before, "to": c.after} for c in advice.changes],
        "timed": advice.timed,
        "time_s": list(advice.time),
        "time_ratio": advice.time_ratio,
        "rate_ratio": advice.rate_ratio,
        "rate_interval": list(advice.rate_interval),
        "usd_per_million": list(advice.cost),
        "memory": {"peak": advice.peak, "capacity": advice.capacity},
    })  # fmt: skip
    return found | {"title": title(found), "text": text(found)}


def title(a: Json) -> str:
    """The change, as a label: ``batch 64``, ``weights in fp8``, ``2 devices (tp=2, pp=1, dp=1)``."""
    to = {change["field"]: change["to"] for change in a["changes"]}
    if a["kind"] == "batch":
        return f"batch {count(to['traffic.batch'])}"
    if a["kind"] == "machine":
        return f"on {to['machine']}"
    if a["kind"] == "context":
        return f"prompts of {count(to['traffic.prompt'])} tokens"
    if a["kind"] == "weights and context":
        return f"weights in {to['plan.weights']} and prompts of {count(to['traffic.prompt'])} tokens"
    if a["kind"] == "precision":
        return f"half precision ({to['plan.activations']}) throughout"
    if a["kind"] == "devices":
        degrees = ", ".join(f"{name}={to[f'plan.{name}']:g}" for name in ("tp", "pp", "dp"))
        return f"{count(to['machine.count'])} devices ({degrees})"
    names = {"plan.weights": "weights", "plan.kv": "KV cache"}
    return " and ".join(f"{names[field]} in {after}" for field, after in to.items())


def text(a: Json) -> str:
    """What the change brings, in one sentence."""
    if a["aim"] == "fits":
        m = a["memory"]
        return f"fits: {gb(m['peak'])} of {gb(m['capacity'])} on each device, {seconds(a['time_s'][1])} for the batch."
    before, after = a["usd_per_million"]
    known = before is not None and after is not None and math.isfinite(before) and math.isfinite(after)
    money = f"; {dollars(before)} → {dollars(after)} per million {_unit(a)}" if known else ""
    return f"{gain(a)}{money}."


def gain(a: Json) -> str:
    """``1.1× the step time (1.00 ms → 1.10 ms) for 1.8× the tokens a second``."""
    ratios = a["time_ratio"], a["rate_ratio"]
    time, rate = (f"{x:.2g}×" for x in ratios)
    if a["timed"] == "step":
        steps = " → ".join(seconds(x) for x in a["time_s"])
        return f"{time} the step time ({steps}) for {rate} the {_unit(a)} a second"
    return f"{time} the time for {rate} the {_unit(a)} a second"


def _unit(a: Json) -> str:
    return "tokens" if a["timed"] == "step" else "requests"


def labelled(a: Json) -> tuple[str, str]:
    """(label, sentence), as a list of them shows it."""
    label = str(a["title"])
    return label[:1].upper() + label[1:] + ("" if a["aim"] == "fits" else ":"), str(a["text"])
