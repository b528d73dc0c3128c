"""Sentences about a simulation, written from its JSON form so that a sentence and a table never disagree."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from tierwise.core.units import dollars, joules, si
from tierwise.report import choices
from tierwise.report.explain_words import BASES
from tierwise.report.numbers import count, percent, rate, seconds, things

Json = dict[str, Any]

# From here on a rate that was drawn looks unlike the one asked for.
_SEEN = 0.02
TIMES = (
    ("queueing_s", "Queueing", "from sending to the first step"),
    ("ttft_s", "TTFT", "to the first token"),
    ("tpot_s", "TPOT", "a token after the first"),
    ("itl_s", "ITL", "between two tokens"),
    ("latency_s", "Latency", "to the last token"),
)


def headline(d: Json) -> str:
    """One sentence: does it keep up, and how fast is it."""
    m, load, where = d["metrics"], d["load"], f"{d['deployment']['model']} on {machines(d)}"
    if d["interrupted"]:
        where = f"Interrupted after {seconds(m['span_s'])}: {where}"
    if not m["done"]:
        none = "no request arrived" if not m["requests"] else f"none of {things(m['requests'], 'request')} finished"
        return f"{where}: {none}{_rejection(d)}."
    if load["saturated"]:
        about = f"sustains about {rate(load['sustainable'])}/s" if load["sustainable"] else "serves less"
        return f"{where} is saturated: {rate(load['judged'])} requests/s are offered and it {about}; {_verdict(d)}."
    if load["kind"] == "closed":
        does = (
            f"serves {rate(m['requests_per_s'])} requests/s and {rate(m['output_tokens_per_s'])} tokens/s "
            f"with {things(load['clients'], 'request')} in flight"
        )
    elif load["kind"] == "at once":
        does = (
            f"serves {things(m['done'], 'request')} sent at once in {seconds(m['span_s'])}, "
            f"{rate(m['output_tokens_per_s'])} tokens/s"
        )
    else:
        does = f"keeps up with {rate(load['offered'])} requests/s{_drawn(d)}"
        if load["behind"]:
            when = f"{things(round(load['peak']), 'request')} waited at {seconds(load['peak_time'])}"
            does += f" on average, but not at the busiest time, when {when}"
        elif load["filling"]:
            does = (
                f"takes in {rate(load['offered'])} requests/s{_drawn(d)}, too briefly to tell whether it keeps up "
                f"(when arrivals ended it held {things(round(load['filling']), 'request')} more than halfway)"
            )
    verdict = _verdict(d)
    return f"{where} {does}{', but ' if ' misses ' in verdict else ': '}{verdict}."


def _drawn(d: Json) -> str:
    """How the rate that arrived came of the one asked for, where chance moved it far enough to be seen."""
    t, load = d["traffic"], d["load"]
    asked = t["rate_per_s"]
    if not asked or not load["offered"] or abs(load["offered"] / asked - 1.0) < _SEEN:
        return ""
    return f" ({things(t['requests'], 'request')} drawn at {rate(asked)}/s; more come nearer to it)"


def _verdict(d: Json) -> str:
    """TTFT and TPOT, against the targets where there are any."""
    t, targets = d["times"], d["targets"]
    parts = []
    for key, name in (("ttft_s", "TTFT"), ("tpot_s", "TPOT")):
        x, target = t[key], targets[key]
        if x["count"] and target is not None:
            word = "meets" if x["p99"] <= target else "misses"
            parts.append(f"p99 {name} {seconds(x['p99'])} {word} {seconds(target)}")
    if not parts:
        parts = [f"{name} {seconds(t[key]['p50'])} at the median and {seconds(t[key]['p99'])} at p99"
                 for key, name in (("ttft_s", "TTFT"), ("tpot_s", "TPOT")) if t[key]["count"]]  # fmt: skip
    return ", ".join(parts) or "no tokens were generated"


def why(d: Json) -> list[str]:
    """Sentences on targets, queue, memory and what was left out."""
    out = [_targets(d), _queue(d), _binding(d), _uneven(d), _preempted(d), _shared(d)]
    if d["metrics"]["rejected"] and d["metrics"]["done"]:
        out.append(f"{things(d['metrics']['rejected'], 'request')} of {count(d['metrics']['requests'])} rejected"
                   f"{_rejection(d)}.")  # fmt: skip
    if d["metrics"]["unfinished"]:
        out.append(f"{things(d['metrics']['unfinished'], 'request')} had not finished at the end.")
    return [x for x in out if x]


def _targets(d: Json) -> str:
    m, targets = d["metrics"], d["targets"]
    asked = [(name, targets[key], m[met]) for key, met, name in
             (("ttft_s", "ttft_met", "TTFT"), ("tpot_s", "tpot_met", "TPOT")) if targets[key] is not None]  # fmt: skip
    if not asked or m["good_share"] is None:
        return ""
    each = ", ".join(f"{name} within {seconds(x)} for {percent(met)}" for name, x, met in asked)
    both = f"; {percent(m['good_share'])} meet both" if len(asked) > 1 else ""
    return f"{each}{both}: a goodput of {rate(m['goodput_per_s'])} requests/s."


def _queue(d: Json) -> str:
    load, m = d["load"], d["metrics"]
    if load["saturated"]:
        grew, chance = load["growth"], load["noise"]
        text = f"In the second half of the arrivals the queue grew by {things(round(grew), 'request')}"
        if grew <= chance or load["judged"] == load["offered"]:
            grew, chance = load["queue"], load["queue_noise"]
            text = f"When the last request arrived {things(round(grew), 'request')} still waited"
        return (
            f"{text}, more than the {count(round(chance))} that chance explains; what it sustains is what finished "
            "while others waited. Times of a saturated system depend on how long the trace is."
        )
    q, t, target = d["times"]["queueing_s"], d["times"]["ttft_s"], d["targets"]["ttft_s"]
    missed = target is not None and t["count"] and t["p99"] > target
    if q["count"] and (missed or load["behind"]) and q["p99"] > choices.MOST * t["p99"]:
        return (
            f"Most of the p99 TTFT is waiting: p99 queueing is {seconds(q['p99'])}, and at the busiest time "
            f"{things(round(m['waiting_max']), 'request')} waited."
        )
    return ""


def _binding(d: Json) -> str:
    """What requests wait for: places in the batch, room for their KV, or steps that read their prompts."""
    load = d["load"]
    kv, seats, room = load["kv_waiting"], load["seats_waiting"], load["room_waiting"]
    if kv is None or seats is None:
        return ""
    text = (
        f"While requests waited, {percent(seats)} of the places in the batch and {percent(kv)} of the KV memory "
        "were taken"
    )
    busy = f" Compute was busy for {percent(load['compute_waiting'])} of that time, memory for "
    busy += f"{percent(load['memory_waiting'])}."
    if seats >= choices.FULL:
        return f"{text}: a place in the batch is what they waited for.{busy}"
    if kv >= choices.FULL or (room is not None and room < choices.FEW_REQUESTS):
        left = f", which leaves room for {rate(room)} more requests a replica" if room is not None else ""
        return f"{text}{left}: room for their KV is what they waited for.{busy}"
    return f"{text}: what they waited for is that steps read their prompts.{busy}" if load["saturated"] else ""


def _uneven(d: Json) -> str:
    """Tokens held up by prompts read in the same steps, where that is why TPOT misses its target."""
    itl, tpot, target = d["times"]["itl_s"], d["times"]["tpot_s"], d["targets"]["tpot_s"]
    both = [g["settings"]["budget"] for g in d["deployment"]["groups"] if g["role"] == "both"]
    if not both or target is None or not (tpot["count"] and itl["count"]) or tpot["p99"] <= target:
        return ""
    if itl["p50"] > target or itl["p99"] < choices.UNEVEN * itl["p50"]:
        return ""
    return (
        f"Half of the tokens come within {seconds(itl['p50'])} of the one before, but 1 % after {seconds(itl['p99'])} "
        f"or more, behind prompts: steps may take {things(max(both), 'token')}, and a smaller budget makes them "
        "shorter."
    )


def _preempted(d: Json) -> str:
    m, t = d["metrics"], d["totals"]
    if not m["preemptions"]:
        return ""
    share = percent(m["preempted"] / m["requests"])
    text = f"{things(m['preemptions'], 'preemption')}: {share} of the requests lost their place"
    again = t.get("recomputed_tokens")
    return text + (f", {things(again, 'token')} were computed again." if again else ".")


def _shared(d: Json) -> str:
    m = d["metrics"]
    return f"{percent(m['hit_rate'])} of the prompt tokens were found in a prefix cache." if m["hit_rate"] else ""


def _rejection(d: Json) -> str:
    items = list(d["reasons"].items())
    if not items:
        return ""
    return ": " + ", ".join(f"{count(n)} {reason}" for reason, n in items)


def machines(d: Json) -> str:
    """``2 replicas of 4 × NVIDIA H100 SXM5 80GB``; ``up to 8`` where an autoscaler decides."""
    parts = []
    for g in d["deployment"]["groups"]:
        role = "" if g["role"] == "both" else g["role"] + " "
        one = f"{count(g['devices'])} × {g['device']}"
        many = g["count"] != 1 or role
        parts.append(f"{things(g['count'], f'{role}replica')} of {one}" if many else one)
    several = d["deployment"]["autoscaler"] and any("replica" in part for part in parts)
    return ("up to " if several else "") + " and ".join(parts)


def subtitle(d: Json) -> str:
    """Traffic and policies in one line."""
    t, deployment = d["traffic"], d["deployment"]
    prompt, output = t["prompt"], t["output"]
    source = _source(t["source"])
    parts = [things(t["requests"], "request") + (f" ({source})" if source else "")]
    if t["requests"]:
        parts += [f"{count(round(prompt['mean']))} tokens in and {count(round(output['mean']))} out on average"]
    g = deployment["groups"][0]["settings"]
    replicas = sum(x["count"] for x in deployment["groups"])
    degrees = dict.fromkeys(", ".join(x["plan"]) or "tp 1" for x in deployment["groups"])
    parts += [f"{' and '.join(degrees)}, {things(replicas, 'replica')}"]
    parts += [f"{g['scheduler']} scheduler", f"{g['kv']} KV"]
    if g["adapters"]:
        parts.append(f"{things(g['adapters'], 'adapter')} of rank {g['rank']}")
    if replicas > 1:
        parts.append(f"{deployment['router']} router")
    if deployment["autoscaler"]:
        parts.append(f"{deployment['autoscaler']} autoscaler")
    return " · ".join(parts)


def key_numbers(d: Json) -> list[tuple[str, str, str]]:
    """(name, value, remark) of the numbers people ask for first."""
    m, t = d["metrics"], d["times"]
    asked = any(x is not None for x in d["targets"].values())
    tenants = len(d["tenants"]) + d.get("tenants_left_out", 0)
    wasted = f", {percent(m['fragmentation'])} of it reserved and not filled" if m["fragmentation"] is not None else ""
    times = [(f"{name}, p99", t[key]["p99"], seconds, f"median {seconds(t[key]['p50'] or 0.0)}")
             for key, name, _ in TIMES if key in ("ttft_s", "tpot_s", "latency_s")]  # fmt: skip
    rows: list[tuple[str, float | None, Callable[[float], str], str]] = [
        ("Finished", m["done"], count, f"of {things(m['requests'], 'request')} in {seconds(m['span_s'] or 0.0)}"),
        ("Throughput", m["output_tokens_per_s"], lambda x: f"{rate(x)} tokens/s",
         f"{rate(m['requests_per_s'])} requests/s, {rate(m['prompt_tokens_per_s'])} prompt tokens/s"),
        ("Goodput", m["goodput_per_s"] if asked else None, lambda x: f"{rate(x)} requests/s",
         f"{percent(m['good_share'])} within the targets"),
        *times,
        ("Replicas", _up(d), rate, f"up on average, {rate(d['peaks'].get('replicas'))} at most"),
        ("Batch", m["batch"], rate, f"requests running on average, {rate(m['batch_max'])} at most"),
        ("Waiting", m["waiting"], rate, f"requests on average, {rate(m['waiting_max'])} at most"),
        ("KV memory in use", m["kv"], percent, f"on average, {percent(m['kv_max'])} at most{wasted}"),
        ("Preemptions", m["preemptions"] if m["done"] else None, count,
         f"{things(m['preempted'], 'request')} lost their place"),
        ("Prefix cache", m["hit_rate"] or None, percent, "of the prompt tokens found"),
        ("Drafts accepted", m["accepted"], percent, "of the draft tokens"),
        ("Memory busy", m["memory"], percent,
         f"of the time; compute {percent(m['compute'])}, link {percent(m['link'])}"),
        ("Energy", m["tokens_per_joule"], lambda x: f"{rate(x)} tokens/J", f"{joules(m['energy_j'] or 0.0)} in all"),
        ("Rent", m["usd_per_million"], lambda x: f"{dollars(x)} / M tokens",
         f"{si(m['tokens_per_usd'] or 0.0)} tokens per dollar; {dollars(m['rent_usd'] or 0.0)} in all"),
        ("Fairness", m["jain"] if tenants > 1 else None, lambda x: f"{x:.3f}",
         f"Jain's index over {count(tenants)} tenants, 1 is even"),
    ]  # fmt: skip
    return [(name, text(value), remark) for name, value, text, remark in rows if value is not None]


def _up(d: Json) -> float | None:
    """Replicas that were up in the mean, where an autoscaler decides how many are."""
    known = [x for x in d["series"]["replicas"] if x is not None]
    return sum(known) / len(known) if known and d["deployment"]["autoscaler"] else None


def scenario(d: Json) -> list[tuple[str, str]]:
    """(name, text) of what was simulated."""
    t, deployment = d["traffic"], d["deployment"]
    prompt, output = t["prompt"], t["output"]
    if t["closed_loop"]:
        arrivals = f"{things(t['closed_loop'], 'request')} kept in flight"
    else:
        arrivals = f"over {seconds(t['duration_s'])}" if t["duration_s"] else "all at once"
    text = f"{things(t['requests'], 'request')}, {arrivals}" + (
        f"; {_source(t['source'], whole=True)}" if t["source"] else ""
    )
    rows = [("Model", deployment["model"]), ("Traffic", text)]
    if t["requests"]:
        rows.append(("Lengths", f"prompts of {_lengths(prompt)}; answers of {_lengths(output)}"))
    for g in deployment["groups"]:
        name = "Replicas" if g["role"] == "both" else f"Replicas, {g['role']}"
        plan = f": {', '.join(g['plan'])}" if g["plan"] else ""
        rows.append((name, f"{count(g['count'])} of {count(g['devices'])} × {g['device']}{plan}"))
    for g in deployment["groups"]:
        s = g["settings"]
        told = [s["engine"], f"{s['scheduler']} scheduler", f"at most {things(s['max_seqs'], 'request')} and "
                f"{things(s['budget'], 'token')} a step", f"{s['kv']} KV in blocks of {s['block']} tokens",
                f"{percent(s['memory'])} of the memory", "prefix cache" if s["prefix_cache"] else "no prefix cache",
                "preemption by swapping" if s["swap"] else "preemption by recomputing"]  # fmt: skip
        if s["speculation"]["length"]:
            told.append(f"{things(s['speculation']['length'], 'draft token')} a step, each right with "
                        f"{percent(s['speculation']['accept'])}")  # fmt: skip
        if s["adapters"]:
            told.append(f"{things(s['adapters'], 'adapter')} of rank {s['rank']}")
        if s["prefill_share"]:
            told.append(f"prefill beside decode on {percent(s['prefill_share'])} of the units")
        rows.append(("Engine" if g["role"] == "both" else f"Engine, {g['role']}", "; ".join(told)))
    cluster = [f"{deployment['router']} router"]
    if deployment["autoscaler"]:
        cluster.append(f"{deployment['autoscaler']} autoscaler, a replica starts in {seconds(deployment['startup_s'])}")
    if deployment["pooled"]:
        cluster.append("one prefix cache for all replicas")
    if deployment["failures"]:
        cluster.append(things(len(deployment["failures"]), "failure"))
    rows.append(("Cluster", "; ".join(cluster)))
    return rows


def _source(text: str, whole: bool = False) -> str:
    """Where requests come from: of a path the file's name, of made-up ones not how many, which is said beside it."""
    if "/" in text and " " not in text and not whole:
        return text.rsplit("/", 1)[-1]
    return re.sub(r"^[\d,]+ requests?, ", "", text)


def _lengths(x: Json) -> str:
    """``4,000 tokens``, or mean, median and longest where they differ."""
    if x["p50"] == x["max"] == x["mean"]:
        return things(x["max"], "token")
    return f"{count(round(x['mean']))} tokens on average (median {count(round(x['p50']))}, longest {count(x['max'])})"


# Of runs that were served, on top of what single operations were measured to take.
_FITTED = {
    "calibrated": "coefficients fitted to recorded serving on this device",
    "transferred": "coefficients fitted to recorded serving on a sibling of this device",
}


def basis(d: Json) -> str:
    """What the numbers rest on."""
    text = "These are predictions of a simulation, request by request and step by step."
    if d["basis"]:
        low, high = d["interval"]
        text += f" Step times rest on {_FITTED.get(d['basis'], BASES[d['basis']])}"
        wide = f"; 80 % of measured steps are expected to take {low:.2f} to {high:.2f} times as long"
        text += (wide if high > low else "") + "."
    return text
