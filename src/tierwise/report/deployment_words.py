"""A deployment of a plan in words: its engines, its hardware, its price."""

from __future__ import annotations

from typing import Any

from tierwise.core.units import dollars
from tierwise.report.numbers import things

Json = dict[str, Any]


def layout(e: Json) -> str:
    """``10 prefilling engines (TP=1) beside 6 decoding ones (TP=2)``."""
    drafts = f", drafting {e['draft_tokens']} tokens a step" if e["draft_tokens"] else ""
    if "prefill" in e:
        p, n = e["prefill"], e["decode"]
        stored = ["", ""] if e["mode"] != "mixed" else [_stored(p), _stored(n)]
        return (f"{_engines(p['count'], 'prefilling')} ({degrees(p)}{stored[0]}) beside "
                f"{_engines(n['count'], 'decoding')} ({degrees(n)}{stored[1]}){drafts}")  # fmt: skip
    return f"{_engines(e['engines']['count'], '')} ({degrees(e['engines'])}){drafts}"


def _stored(g: Json) -> str:
    return f", weights in {g['weights']}" if g["weights"] else ""


def _engines(count: int, what: str) -> str:
    return things(count, f"{what} engine" if what else "engine")


def degrees(g: Json) -> str:
    """``TP=2`` or ``TP=4, DP=8, EP=32``: degrees above one."""
    return ", ".join(f"{n.upper()}={g[n]}" for n in ("tp", "pp", "dp", "ep") if g[n] > 1 or n == "tp")


def hardware(e: Json) -> str:
    """``22 × NVIDIA H200``, or those of both roles."""
    if e["mode"] == "mixed" and e["prefill"]["device"] != e["decode"]["device"]:
        p, n = (f"{g['devices']} × {g['device']}" for g in (e["prefill"], e["decode"]))
        return f"{p} that prefill and {n} that decode"
    return f"{e['devices']} × {e['device']}"


def price(e: Json) -> str:
    """``, $87.78 an hour and $1.28 per million tokens``; nothing where no rent is known."""
    if e["usd_per_hour"] is None:
        return ""
    run = e.get("simulated")
    each = e["usd_per_million"] * (
        e["requests_per_s"] / run["requests_per_s"] if run and run["requests_per_s"] else 1.0
    )
    return f", {dollars(e['usd_per_hour'])} an hour and {dollars(each)} per million tokens"
