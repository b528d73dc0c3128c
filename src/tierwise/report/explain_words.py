"""Sentences: what a result says and why, for a reader who does not know the words of the trade.

Everything is written from the JSON form of a scalar result, so a sentence and a table never disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tierwise.core.units import dollars, gb, joules, si
from tierwise.report import choices
from tierwise.report.numbers import count, percent, percents, rate, seconds, things

Json = dict[str, Any]

PHASES = {
    "prefill": "Prefill, which reads the prompts",
    "last prefill": "The last pass of prefill, with what full ones leave",
    "decode": "Decode, which writes the answers token by token",
    "encode": "Encoding, which reads the inputs",
    "vision": "The vision part, which looks at the images",
    "audio": "The encoder, which takes in the clip or picture",
}

ROLES = {
    "weight": "weights",
    "table": "embedding rows",
    "kv": "KV cache",
    "state": "recurrent state",
    "act": "activations",
    "score": "attention scores",
    "refetched": "moved again",
}

BASES = {
    "datasheet": "the published figures of the device and what well-written kernels usually reach of "
    "them",
    "transferred": "coefficients fitted to measurements of a sibling of this device",
    "calibrated": "coefficients fitted to measurements of this device",
    "measured": "measurements of this device",
}


def headline(d: Json) -> str:
    """One sentence: what runs on what, and how fast, or what is missing."""
    model, machine = d["scenario"]["model"]["name"], machine_text(d)
    memory, s = d["memory"], d["summary"]
    if not s["fits"]:
        missing = f" ({gb(-memory['free'])} too much)" if memory["free"] < 0 else ""
        return (
            f"{model} does not fit on {machine}: it needs {gb(memory['peak'])} of memory a device and has "
            f"{gb(memory['capacity'])}{missing}."
        )
    traffic, batch = d["scenario"]["traffic"], s["batch"]
    if d["scenario"]["model"]["task"] == "generate":
        work = (
            f"{things(batch, 'request')} of {things(traffic['prompt'], 'token')} in and "
            f"{count(traffic['output'])} out"
        )
        first = f"the first tokens come after {seconds(s['ttft_s'])}"
        if s["tpot_s"] is not None:
            first += f", then each request gets a token every {seconds(s['tpot_s'])}"
        return (
            f"{model} on {machine} answers {work} in {seconds(s['time_s'])}: {first}; "
            f"{rate(s['throughput'])} tokens/s in all."
        )
    return (
        f"{model} on {machine} works through {inputs(d, batch)} in {seconds(s['time_s'])}: "
        f"{rate(s['throughput'])} a second."
    )


def why(d: Json) -> list[str]:
    """Sentences on what the time goes into, the longest phase first, and on memory."""
    phases = sorted(d["phases"], key=lambda p: -p["time_s"])
    shares = percents([p["time_s"] for p in phases])
    several = len(phases) > 1
    out = [_why_phase(d, p, x if several else None) for p, x in zip(phases, shares, strict=True)]
    m = d["memory"]
    if d["summary"]["fits"]:
        text = f"Memory is {percent(m['peak'] / m['capacity'])} full"
        if m["per_sequence"]:
            text += f"; each further request of this length would add {gb(m['per_sequence'])}"
        return [*_beyond(d), *out, text + "."]
    biggest = sorted(memory_roles(d).items(), key=lambda x: -x[1])[:3]
    parts = ", ".join(f"{gb(size)} of {name}" for name, size in biggest)
    return [*_beyond(d), f"It would hold {parts}.", "Were the memory large enough, it would run like this:", *out]


def memory_roles(d: Json) -> dict[str, float]:
    """Bytes in memory by role, all weights together."""
    parts: dict[str, float] = d["memory"]["parts"]
    weights = sum(size for name, size in parts.items() if name.startswith("weights"))
    rest = {name: size for name, size in parts.items() if not name.startswith("weights")}
    return ({"weights": weights} if weights else {}) | rest


def _why_phase(d: Json, p: Json, share: int | None) -> str:
    name = PHASES.get(p["name"], p["name"])
    step = "each step" if p["name"] == "decode" else "each pass" if p["passes"] > 1 else "the one pass"
    bound, whole = p["bound_by"], p["pass_time_s"]
    mine = p["seconds_by_bound"].get(bound, 0.0)
    part = f"{seconds(mine)} of the {seconds(whole)} of {step}"
    if p["overlap"] and mine > whole:
        part = f"{seconds(mine)} in {step}, partly beside other work"
    most = "most" if mine > choices.MOST * whole else "the largest part"
    reason = _reason(d, p, bound)
    if share is None:
        return f"{name}, spends {most} of its time {reason}: {part}."
    return f"{name}, takes {seconds(p['time_s'])} ({share} % of the whole), {most} of it {reason}: {part}."


def _reason(d: Json, p: Json, bound: str) -> str:
    kind = tier_kinds(d).get(bound)
    if kind in ("memory", "storage"):
        roles = p["bytes_by_role"].get(bound, {})
        biggest = sorted(((size, r) for r, size in roles.items()), reverse=True)[:2]
        least = choices.NAMED_TRAFFIC * sum(roles.values())
        parts = [f"{gb(size)} of {_GLOSSED.get(r, ROLES[r])}" for size, r in biggest if size > least]
        return f"moving {' and '.join(parts) or 'data'} through memory ({bound})"
    if kind is not None:
        return f"moving {gb(p['bytes'].get(bound, 0.0))} through the on-chip {kind} ({bound})"
    if bound == "compute":
        return f"on arithmetic, {si(p['flops'], 'FLOP')} of it"
    return _REASONS.get(bound, f"on {bound}")


_GLOSSED = {
    "weight": "weights (the model itself)",
    "kv": "KV cache (what it remembers of each request)",
    "act": "activations (intermediate results)",
    "refetched": "operands fetched more than once",
}
_REASONS = {
    "softmax": "on the exponentials of attention",
    "dequantize": "on scaling the sums of quantized products",
    "link": "on communication between devices",
    "host.in": "on copies from the host's memory",
    "host.out": "on copies to the host's memory",
    "dispatch": "on the gaps between kernels (the programs of the device, started one after the other)",
    "host": "on the host starting kernels (the programs of the device) one by one",
    "overlap": "where arithmetic and memory should run at once and do not quite",
    "split": "on adding up products that were cut along K",
    "throttle": "at the lower clock that the power limit leaves",
    "quantize": "on quantizing activations",
    "routing": "on bringing tokens to their experts and back",
    "unexplained": "on what measurements show and no term of its price explains",
    "latency": "waiting for the first byte of each read",
    "layout": "turning tensors into the layout that kernels read",
    "preparing": "on expanding formats and laying out caches with plain tensor operations",
}
_SHORT = {"dispatch": "kernel gaps", "latency": "memory latency", "overlap": "imperfect overlap", "split": "split-K",
          "throttle": "power limit", "layout": "layout changes", "preparing": "formats expanded"}  # fmt: skip


def resource(name: str) -> str:
    """A resource as tables name it."""
    return _SHORT.get(name, name)


def family(d: Json, name: str) -> str:
    """The kind of a resource: ``compute``, ``memory``, ``cache``, ``link`` or ``overhead``."""
    if name in ("compute", "softmax", "dequantize"):
        return "compute"
    if name in ("link", "network", "host.in", "host.out"):
        return "link"
    kind = tier_kinds(d).get(name)
    return "overhead" if kind is None else "memory" if kind in ("memory", "storage") else "cache"


def tier_kinds(d: Json) -> dict[str, str]:
    """Kind of each tier of the device by name."""
    return {t["name"]: t["kind"] for t in d["scenario"]["machine"]["tiers"]}


def machine_text(d: Json) -> str:
    """``8 × NVIDIA H100 SXM5 80GB``."""
    machine = d["scenario"]["machine"]
    used = d["scenario"]["plan"]["devices"]
    some = f" (of {machine['devices']})" if used != machine["devices"] else ""
    return f"{used:g} × {machine['device']}{some}"


def inputs(d: Json, n: float) -> str:
    """What an encoder works through: images, clips, or requests of so many tokens."""
    text = things(n, unit(d))
    if any(p["name"] == "encode" for p in d["phases"]):
        text += f" of {things(d['scenario']['traffic']['prompt'], 'token')}"
    return text


def unit(d: Json) -> str:
    """What throughput counts: a token, an image, a clip or a request."""
    names = {p["name"] for p in d["phases"]}
    if d["summary"]["throughput_unit"] == "tokens/s":
        return "token"
    if "encode" not in names and names & {"vision", "audio"}:
        return "image" if "vision" in names else "clip"
    return "request"


def traffic_text(d: Json) -> str:
    """``32 requests · 2,048 tokens in · 256 out``."""
    traffic, s = d["scenario"]["traffic"], d["summary"]
    if d["scenario"]["model"]["task"] != "generate":
        return inputs(d, s["batch"])
    requests = things(s["batch"], "request") if s["batch"] else "as many requests as fit"
    parts = [requests, f"{things(traffic['prompt'], 'token')} in", f"{count(traffic['output'])} out"]
    return " · ".join(parts + ([f"{things(traffic['images'], 'image')} each"] if traffic["images"] else []))


def subtitle(d: Json) -> str:
    """Traffic and plan in one line."""
    plan = d["scenario"]["plan"]
    return " · ".join([traffic_text(d), *plan["differs"], *d["scenario"]["techniques"], formats_text(d)])


def formats_text(d: Json) -> str:
    """``weights bf16, activations bf16, KV bf16``."""
    f = d["scenario"]["plan"]["formats"]
    stored = [v for r, v in f["weights"].items() if r not in ("norm", "router")]
    weights = "/".join(dict.fromkeys(one for v in stored for one in v.split("/")))
    text = f"weights {weights or 'none'}, activations {f['activations']}"
    if "keys" in f and d["memory"]["parts"].get("KV cache"):
        text += f", KV {'/'.join(dict.fromkeys((f['keys'], f['values'])))}"
    return text


def _beyond(d: Json) -> list[str]:
    """That more context is asked for than the model was made for, where it is."""
    longest, traffic = d["scenario"]["model"]["max_context"], d["scenario"]["traffic"]
    asked = sum(traffic[name] or 0 for name in ("prompt", "output"))
    if longest is None or d["scenario"]["model"]["task"] != "generate" or asked <= longest:
        return []
    return [f"The model was made for {count(longest)} tokens of context and {count(asked)} are asked for: what it "
            "answers beyond may be worth little."]  # fmt: skip


def key_numbers(d: Json) -> list[tuple[str, str, str]]:
    """(name, value, remark) of the numbers people ask for first."""
    s, m = d["summary"], d["memory"]
    low, high = s["interval_s"]
    per = unit(d)
    full = percent(m["peak"] / m["capacity"])
    out: list[tuple[str, str, str]] = []
    if s["ttft_s"] is not None:
        out.append(("Time to first token", seconds(s["ttft_s"]), "TTFT, of the last request of the batch"))
    if s["tpot_s"] is not None:
        out.append(("Time per output token", seconds(s["tpot_s"]), "TPOT, of one request at mean context"))
    out.append(("Whole batch", seconds(s["time_s"]), f"80 % interval {seconds(low)} to {seconds(high)}"))
    if s["fits"]:
        decoding = s["decode_throughput"]
        remark = f"{rate(decoding)} while decoding" if decoding else "whole system"
        out.append(("Throughput", f"{rate(s['throughput'])} {per}s/s", remark))
    out.append(("Memory", f"{gb(m['peak'])}", f"of {gb(m['capacity'])} a device, {full}"))
    used = f"MFU {percent(s['mfu'])}" if s["mfu"] is not None else "MFU unknown"
    if s["mbu"] is not None:
        mbu = percent(s["mbu"])
        out.append(("Utilization", used, f"of the arithmetic; MBU {mbu} of the memory's rate in decode"))
    else:
        out.append(("Utilization", used, "of the device's arithmetic"))
    if s["energy_j"] is not None:
        tokens = s["time_s"] * s["throughput"]
        each = f"{joules(s['energy_j'] / tokens)} per {per}" if s["fits"] and tokens else "for the batch"
        out.append(("Energy", joules(s["energy_j"]), each))
    hourly = d["scenario"]["machine"]["usd_per_hour"]
    if s["usd_per_million"] is not None and hourly is not None:
        when = d["scenario"]["machine"]["price_date"]
        dated = f" ({when})" if when else ""
        price = f"at {dollars(hourly)} a device and hour{dated}"
        out.append(("Rent", f"{dollars(s['usd_per_million'])} / M {per}s", price))
    elif why := d["scenario"]["machine"].get("no_price"):
        out.append(("Rent", "not known", f"{why}; say yours with --rent 2.50/h"))
    many = "requests of this length" if per == "token" else f"{per}s at once"
    # With "max" the caller looks for the longest of a lone request.
    alone = d["scenario"]["traffic"]["batch"] == "max"
    where = "for one request alone" if alone else "at this batch"
    made_for = d["scenario"]["model"]["max_context"]
    if s["longest_context"] is not None and made_for is not None and s["longest_context"] > made_for:
        where += f"; made for {count(made_for)}"
    limits = (
        ("Largest batch", "largest_batch", f"{many} that fit"),
        ("Longest context", "longest_context", f"tokens that fit {where}"),
    )
    for name, key, remark in limits:
        if s["fits"] and s[key] is not None and not (key == "longest_context" and per in ("image", "clip")):
            out.append((name, count(s[key]), remark))
    return out


def basis_text(d: Json) -> str:
    """What the numbers rest on and how far off they may be."""
    low, high = d["summary"]["interval_s"]
    said = (
        f"These are predictions. {_resting(d['bases'])}. "
        f"80 % of measurements of the whole batch are expected between {seconds(low)} and {seconds(high)}."
    )
    return f"{said} {d['measure']['text']}" if d["measure"] else said


def _resting(shares: Json) -> str:
    """Of what share of the time the prices rest on what, the largest first; slivers are left out."""
    told = sorted((x for x in shares.items() if x[1] >= choices.ROUNDS_TO_NOTHING), key=lambda x: -x[1])
    if len(told) == 1:
        nothing = "; nothing was measured on it" if told[0][0] == "datasheet" else ""
        return f"They rest on {BASES[told[0][0]]}{nothing}"
    whole = percents([share for _, share in told])
    parts = [f"{n} % on {BASES[name]}" for (name, _), n in zip(told, whole, strict=True)]
    return f"The time rests to {', to '.join(parts[:-1])}, and to {parts[-1]}"


def basis_title(d: Json) -> str:
    """What most of the time rests on, and how much of it: ``calibrated for 93 % of the time``."""
    share = d["bases"][d["basis"]]
    return f"{d['basis']} for {100.0 * share:.0f} % of the time" if share < choices.ROUNDS_TO_ALL else str(d["basis"])


def grouped(ops: Sequence[Json]) -> list[Json]:
    """Equal ops of a layer (two norms, say) as one row with their executions, time and work added."""
    rows: dict[tuple[object, ...], Json] = {}
    for op in ops:
        base = op["name"].split("#")[0]
        key = (base, op["kind"], op["layer"], op["bound_by"], op["flops"], tuple(op["bytes"].items()))
        old = rows.get(key)
        if old is None:
            rows[key] = {**op, "name": base}
            continue
        for name in ("count", "time_s", "share", "flops"):
            old[name] = old[name] + op[name]
        for name in ("bytes", "operand_bytes", "seconds"):
            old[name] = {k: old[name].get(k, 0.0) + op[name].get(k, 0.0) for k in {**old[name], **op[name]}}
    return list(rows.values())
