"""What a plan's answer is expected to do, in words: as simulated, and how far off the steady state was."""

from __future__ import annotations

from typing import Any

from tierwise.core.units import seconds
from tierwise.report import choices
from tierwise.report.numbers import rate

Json = dict[str, Any]


def expected(d: Json, a: Json) -> str:
    """What users will see: as simulated, else of the steady state."""
    run = a.get("simulated")
    limits = f"{a['max_num_seqs']:,} sequences and {a['max_num_batched_tokens']:,} tokens in a step of an engine"
    tail = f"{rate(a['in_flight'])} requests in flight; at most {limits}."
    if not run:
        return (
            f"Expected: TTFT {seconds(a['ttft_s'])}, {rate(1 / a['tpot_s'])} tokens/s for each user "
            f"(TPOT {seconds(a['tpot_s'])}), {rate(a['requests_per_s'])} requests/s in all, "
            f"{rate(a['tokens_per_s_per_device'])} tokens/s a device, {tail}"
        )
    if not run["requests"]:
        return f"Simulated: no request is answered of {tail}"
    t, p = run["ttft_s"], run["tpot_s"]
    behind = "" if run["keeps_up"] else "it falls behind; "
    each = run["requests_per_s"] * d["question"]["output"] / a["devices"]
    speed = f"{rate(1 / p['mean'])} tokens/s for each user (" if p["mean"] else "("
    return (
        f"Simulated over {run['requests']:,} requests: TTFT {seconds(t['mean'])} (p99 {seconds(t['p99'])}), "
        f"{speed}TPOT {seconds(p['mean'])}, p99 {seconds(p['p99'])}), {rate(run['requests_per_s'])} requests/s in "
        f"all, {rate(each)} tokens/s a device; {behind}{tail}"
    )


def steady_state(a: Json) -> str:
    """How far the steady state is from what was simulated."""
    run = a["simulated"]
    parts = []
    for name, shown in (("TTFT", run["ttft_s"]["mean"]), ("TPOT", run["tpot_s"]["mean"])):
        parts.append(f"{name} {seconds(a[name.lower() + '_s'])}{_difference(a[name.lower() + '_s'], shown)}")
    parts.append(f"{rate(a['requests_per_s'])} requests/s{_difference(a['requests_per_s'], run['requests_per_s'])}")
    return f"The steady state had promised {', '.join(parts)}."


def _difference(said: float, shown: float | None) -> str:
    """`` (34 % less)``; nothing where they agree to a hundredth."""
    if not shown or abs(said / shown - 1.0) < choices.AGREES:
        return ""
    ratio = said / shown
    if not 1 / choices.TOLD_AS_FACTOR < ratio < choices.TOLD_AS_FACTOR:
        return f" ({rate(max(ratio, 1 / ratio))} times {'more' if ratio > 1 else 'less'})"
    return f" ({100 * abs(ratio - 1.0):.0f} % {'more' if ratio > 1 else 'less'})"


def demanded(d: Json) -> str:
    """``at 40 requests/s``; nothing where the plan takes what it can."""
    q = d["question"]
    if q["load"] == "open":
        return f"at {rate(q['requests_per_s'])} requests/s"
    return f"with {rate(q['concurrency'])} requests in flight" if q["load"] == "closed" else ""


def superlative(d: Json, a: Json) -> str:
    """``the cheapest``: what the answer is the most of; without a rent it is devices that are counted."""
    q = d["question"]
    if q["objective"] != "cost":
        return {"throughput": "the one with most throughput", "latency": "the fastest"}[q["objective"]]
    if a["usd_per_hour"] is not None:
        return "the cheapest"
    return "the one with fewest devices" + (" for each token" if q["load"] == "free" else "")


def what_is_missing(d: Json) -> str:
    """Why nothing runs at all, and what would."""
    needs = d["needs"]
    if any(n["room"] for n in needs):
        tokens = min(d["question"]["tokens"])
        beside = f"the activations of a step of {tokens:,.0f} tokens"
        return f"its weights fit, but not one request beside {beside}: fewer --tokens or shorter requests may."
    text = "no division of its weights fits their memory"
    if not needs:
        return f"{text}."
    some = [f"{n['devices']} × {n['device']}" + (f" with weights in {n['weights']}" if n["weights"] else "")
            for n in needs[:3]]  # fmt: skip
    return f"{text}; they would fit {' or '.join(some)}."
