"""Sentences about a plan that makes a model fit."""

from __future__ import annotations

from typing import Any

from tierwise.core.units import gb, seconds
from tierwise.report.numbers import count, percent, rate, things

Json = dict[str, Any]

# What bounds a step, in words.
_BOUNDS = {"dram": "reading what the host computes with from its memory", "latency": "waiting for the other side",
           "host.in": "copying to the device", "host.out": "copying to the host", "dispatch": "starting kernels",
           "compute": "arithmetic", "nvme": "reading from the disk", "activations": "moving activations",
           "storage": "reading from the disk", "host": "the engine's own work"}  # fmt: skip


def placed(x: Json, q: Json) -> str:
    """Where everything goes: ``"experts of 62 of 94 layers on the host"``."""
    told = []
    for key, what, whole in (("layers_on_host", "", q["layers"]), ("experts_on_host", "experts of ", q["routed"]),
                             ("feed_forward_on_host", "feed-forward parts of ", q["layers"]),
                             ("caches_on_host", "caches of ", q["layers"])):  # fmt: skip
        if x[key]:
            told.append(f"{what}{x[key]} of {whole} layers")
    if not told and not x["read_from_disk"]:
        return "everything on the device"
    text = (" and ".join(told) + " on the host") if told else "as much in memory as it holds"
    if x["read_from_disk"]:
        share = "all of" if x["read_from_disk"] >= 1.0 else f"{percent(x['read_from_disk'])} of"
        whose = "a token's experts" if q["routed"] else "the weights"
        text += f", {share} {'what a token needs there' if told else whose} read from {x['disk']}"
    return text


def headline(d: Json) -> str:
    q = d["question"]
    if "policies" in d:
        return _throughput(d)
    if not d["fits"]:
        return _refused(d)
    a = d["answer"]
    low, high = (a["tokens_per_s"] * f for f in a["interval"])
    return (
        f"{q['model']} in {a['weights'].upper()} with {a['kv']} caches: {placed(a, q)}; {rate(a['tokens_per_s'])} "
        f"tokens/s (80 % of measurements between {rate(low)} and {rate(high)}), the first of a prompt of "
        f"{count(q['context'] - q['output'])} tokens after {seconds(a['first_token_s'])}."
    )


def _throughput(d: Json) -> str:
    q = d["question"]
    if not d["fits"]:
        return f"No policy holds one sequence of {count(q['context'])} tokens of {q['model']} on {q['machine']}."
    p = d["policies"][0]
    return (
        f"{q['model']} in {p['weights']}, {things(p['batch'], 'sequence')} at once: {rate(p['tokens_per_s'])} "
        f"tokens/s; "
        f"weights {_shares(p['weight_shares'])}, caches {_shares(p['cache_shares'])}, attention on the "
        f"{p['attends']}."
    )


def _shares(x: Json) -> str:
    told = [f"{percent(f)} on the {node or 'device'}" for node, f in x.items() if f > 1e-9]
    return " and ".join(told)


def _refused(d: Json) -> str:
    q = d["question"]
    if not d["nearest"]:
        return (f"No format of {q['model']} has {q['min_bits']:g} bits a weight or more and fits on {q['machine']}: "
                "all that was tried is narrower.")  # fmt: skip
    n = d["nearest"][0]
    over = []
    if n["peak"] > n["capacity"]:
        over.append(f"the device has {gb(n['capacity'])} and {gb(n['peak'])} would lie there")
    for t in n["tiers"][1:]:
        size = sum(t["parts"].values())
        if t["capacity"] is not None and size > t["capacity"]:
            over.append(f"the {t['node']} has {gb(t['capacity'])} for it and {gb(size)} would lie there")
    return (
        f"{q['model']} does not fit on {q['machine']} with {q['min_bits']:g} bits a weight or more. Nearest is "
        f"{n['weights'].upper()}: {'; '.join(over) or 'the memory is too small'}."
    )


def why(d: Json) -> list[str]:
    """What the time goes to."""
    a = d["policies"][0] if d.get("policies") else d.get("answer")
    if not a:
        return []
    out = []
    for p in a["phases"]:
        top = sorted(p["bounds"].items(), key=lambda x: -x[1])[:2]
        parts = [f"{_bound(k, d['question'])} {percent(v / p['pass_s'])}" for k, v in top]
        what = "A token" if p["name"] == "decode" else f"A pass of {p['name']}"
        text = f"{what} takes {seconds(p['pass_s'])}: {', '.join(parts)}"
        if p["on_host_s"]:
            text += f"; the host's processors work {percent(p['on_host_s'] / p['pass_s'])} of it"
        moved = {k: v for k, v in p["copied"].items() if v > 1e6}
        if moved:
            text += "; copied: " + ", ".join(f"{gb(v)} from {k}" for k, v in moved.items())
        out.append(text + ".")
    disk = a.get("read_from_disk") or 0.0
    if disk:
        out.append("Warm: the page cache holds what it can of the file. " + (
            "A sweep over more than it holds finds nothing in it, whatever order." if disk >= 1.0 else
            _found(a, d["question"])))  # fmt: skip
    return out


def _found(a: Json, q: Json) -> str:
    """How the experts of a token are found in memory."""
    if not q["skew"]:
        return ("Experts are taken to be chosen alike often; popular ones would be found more often (--expert-skew).")
    return (f"Experts are taken to be chosen by Zipf's law with exponent {q['skew']:.3g}: memory has no room for "
            f"{percent(a['without_room'])} of them, and {percent(1.0 - a['read_from_disk'])} of what a token needs is "
            "found there.")  # fmt: skip


def _bound(name: str, q: Json) -> str:
    """What a resource does, in words."""
    near = f"reading memory of the device ({name})"
    return near if name == q["memory"] else _BOUNDS.get(name, near)


def helping(d: Json) -> list[tuple[str, str]]:
    """(what, what it brings)."""
    out = []
    for h in d.get("helps", ()):
        speed = "" if h["tokens_per_s"] is None else f" {rate(h['tokens_per_s'])} tokens/s"
        n = h["amount"]
        name = {
            "bandwidth": f"Memory of the host {n:g} times as fast (more channels):",
            "link": f"A link to the host {n:g} times as fast:",
            "card": f"{n:g} cards:",
            "bits": f"{str(h['weights'] or 'its own format').upper()} (--min-bits {_floor(n)}):",
            "memory": f"{gb(n)} more memory beside the device:",
            "disk": "A disk, said in the machine (+ nvme-gen4):",
        }[h["what"]]
        slow = "what memory does not hold is read from it for every token" if h["what"] == "disk" else "it fits then"
        out.append((name, speed.strip() or slow))
    return out


def _floor(bits: float) -> str:
    return f"{int(bits * 10) / 10:g}"
