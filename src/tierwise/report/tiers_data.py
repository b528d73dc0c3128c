"""A plan that makes a model fit, as plain data: what ``tierwise plan fit --json`` writes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tierwise.core.intervals import factors
from tierwise.memory.account import Memory
from tierwise.program.residency import missed_experts
from tierwise.report.timeline import executions
from tierwise.result import Phase, changes
from tierwise.search.fit import FitAnswer, FitCandidate
from tierwise.search.fit_batch import OffloadPolicy
from tierwise.search.fit_help import Help
from tierwise.search.fit_question import FitQuestion

Json = dict[str, Any]
ROWS = 8  # runners-up that are told


def to_dict(a: FitAnswer, helping: Sequence[Help], flags: str = "") -> Json:
    """Everything of an answer."""
    q = a.question
    best = a.best
    shown = _distinct(a.candidates)
    return {
        "schema": "tierwise.plan-fit/1",
        "question": _question(q),
        "fits": best is not None,
        "answer": None if best is None else candidate(best, q, full=True),
        "candidates": [candidate(c, q) for c in shown[:ROWS]],
        "narrower": [candidate(c, q) for c in a.narrower],
        "nearest": [candidate(c, q, full=True) for c in a.missed[:1]],
        "helps": [{"what": h.what, "amount": h.amount, "tokens_per_s": _known(h.rate),
                   "weights": h.candidate.choice.weights if h.candidate else None} for h in helping],
        "considered": a.considered,
        "flags": flags,
        "assumed": q.machine.source,
    }  # fmt: skip


def of_policies(q: Any, found: Sequence[OffloadPolicy], flags: str = "") -> Json:
    """The same of a search over fractions and batches."""
    return {
        "schema": "tierwise.plan-fit/1",
        "question": _question(q),
        "fits": bool(found),
        "policies": [policy(p, full=i == 0) for i, p in enumerate(found)],
        "flags": flags,
        "assumed": q.machine.source,
    }


def _question(q: Any) -> Json:
    return {"model": q.name, "machine": q.on, "context": q.context, "output": q.output, "batch": q.batch,
            "min_bits": q.min_bits, "goal": q.goal, "engine": q.engine, "layers": q.layers,
            "routed": q.routed, "skew": q.skew, "memory": q.machine.device.memory.name}  # fmt: skip


def candidate(c: FitCandidate, q: FitQuestion, full: bool = False) -> Json:
    """A candidate: where everything goes and what it costs; ``full``: with its memory and its time in parts."""
    x, r = c.choice, c.result
    out: Json = {
        "weights": x.weights or _own(c), "kv": x.kv, "bits": x.bits, "layers_on_host": x.layers,
        "experts_on_host": x.experts, "caches_on_host": x.caches, "feed_forward_on_host": x.feed_forward,
        "micro_batch": x.ubatch, "read_from_disk": _read(c, q), "without_room": x.missed, "disk": x.disk,
        "tokens_per_s": c.rate, "first_token_s": float(r.ttft), "total_s": c.seconds, "basis": str(r.basis),
        "peak": float(np.max(r.memory.peak)), "capacity": float(r.memory.capacity),
        "host": float(np.max(r.memory.elsewhere.get("host", 0.0))),
    }  # fmt: skip
    if full:
        out |= _full(r.phases, r.memory)
    return out


def policy(p: OffloadPolicy, full: bool = False) -> Json:
    """A policy, likewise."""
    r = p.result
    out: Json = {
        "weights": p.weights, "kv": p.kv, "batch": p.batch, "weight_shares": p.weight_shares,
        "cache_shares": p.cache_shares, "attends": p.attends or "device", "tokens_per_s": p.throughput,
        "total_s": float(r.time), "first_token_s": float(r.ttft), "peak": float(np.max(r.memory.peak)),
        "capacity": float(r.memory.capacity), "basis": str(r.basis),
    }  # fmt: skip
    return out | (_full(r.phases, r.memory) if full else {})


def _full(phases: Sequence[Phase], m: Memory) -> Json:
    decode = [p for p in phases if p.name == "decode"]
    low, high = factors(changes(decode).values()) if decode else (1.0, 1.0)
    first = [p for p in phases if p.name != "decode"]
    early, late = factors(changes(first).values()) if first else (1.0, 1.0)
    return {
        "interval": [1.0 / float(high), 1.0 / float(low)],
        "first_token_interval": [float(early), float(late)],
        "tiers": tiers(m),
        "phases": [_phase(p) for p in phases],
        "timeline": _timeline(decode[0]) if decode else [],
    }


# Executions that a page draws; a step has a few thousand.
EVENTS = 6000


def _timeline(phase: Phase) -> list[list[Any]]:
    """(lane, op, start, seconds) of one decode step: lanes ``device``, ``host``, ``copy`` for what moves between."""
    out: list[list[Any]] = []
    for e in executions(phase)[:EVENTS]:
        op = phase.ops[e.op].op if e.op is not None else None
        lane = "host" if op is not None and op.options.get("on") == "host" else e.lane
        out.append(["copy" if "copy" in lane or lane in ("in", "out") else lane, e.name, e.start, e.duration])
    return out


def tiers(m: Memory) -> list[Json]:
    """What lies on each tier, bytes of one device's share."""
    parts = {name: float(np.max(size)) for name, size in m.parts.items() if float(np.max(size)) > 0.0}
    out: list[Json] = [{"node": "device", "capacity": float(m.capacity), "parts": parts}]
    for node, held in m.elsewhere.items():
        caches = float(np.max(m.elsewhere_caches.get(node, 0.0)))
        room = m.room_elsewhere.get(node)
        size = float(np.max(held))
        split = {"weights": size - caches, "KV cache": caches}
        if size > 0.0:
            out.append({"node": node, "capacity": None if room is None else float(np.max(room)),
                        "parts": {k: v for k, v in split.items() if v > 0.0}})  # fmt: skip
    return out


def _phase(p: Phase) -> Json:
    bounds = {k: float(np.max(v)) for k, v in p.bounds.items() if float(np.max(v)) > 0.0}
    copies = [x for x in p.ops if x.op.kind == "copy"]
    ways = sorted({_way(x.op.options) for x in copies})
    return {"name": p.name, "passes": float(np.max(p.passes)), "pass_s": float(np.max(p.pass_time)), "bounds": bounds,
            "copied": {kind: sum(float(np.max(x.segment.repeat * x.op.dims["bytes"])) for x in copies
                                 if _way(x.op.options) == kind) for kind in ways},
            "on_host_s": sum(float(np.max(x.time)) for x in p.ops if x.op.options.get("on") == "host"),
            "copying_s": sum(float(np.max(x.time)) for x in copies)}  # fmt: skip


def _way(options: Any) -> str:
    return f"{options.get('from') or 'device'} to {options.get('to') or 'device'}"


def _distinct(found: Sequence[FitCandidate]) -> list[FitCandidate]:
    """The best of each format and each way to divide, in order."""
    out: list[FitCandidate] = []
    seen = set()
    for c in found:
        x = c.choice
        key = (x.weights, x.kv, bool(x.layers), bool(x.experts), bool(x.caches), bool(x.feed_forward))
        if key not in seen:
            seen.add(key)
            out.append(c)
    return out


def _known(x: float) -> float | None:
    return x if np.isfinite(x) else None


def _read(c: FitCandidate, q: FitQuestion) -> float:
    """Share of what a token needs of the weights outside the device that is read from the disk."""
    if not c.choice.missed or not q.skew:
        return c.choice.missed
    experts, chosen = q.experts
    return float(missed_experts(c.choice.missed, experts, chosen * (q.batch or 1.0), q.skew))


def _own(c: FitCandidate) -> str:
    """What the checkpoint's experts, or its layers, are stored in."""
    model = c.result.scenario.model
    return str(model.format_of("expert" if "expert" in model.formats else "mlp"))
