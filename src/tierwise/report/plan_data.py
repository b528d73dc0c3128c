"""A serving plan as JSON values (``tierwise.plan/1``); sentences and tables are written from these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.report import measuring
from tierwise.report.made import made_by
from tierwise.report.plain import plain
from tierwise.report.plan_words import sentences
from tierwise.search.answer import Answer, Choice, QuestionChange
from tierwise.search.confidence import uncertain
from tierwise.search.deploy import speculation
from tierwise.search.family import Family
from tierwise.search.judge import cost
from tierwise.search.parts import parts
from tierwise.search.points import Points
from tierwise.search.question import Question

Json = dict[str, Any]


def to_dict(answer: Answer) -> Json:
    """Everything a plan says."""
    simulated = {c.row: c for c in answer.finalists}

    def entry(choice: Choice | int | None) -> Json | None:
        if choice is None:
            return None
        row = choice if isinstance(choice, int) else choice.row
        found = deployment(answer, answer.known if isinstance(choice, int) else answer.points, row)
        run = simulated.get(row) if isinstance(choice, int) else choice
        found["events_off"] = run.events if run is not None else 0.0
        if run is not None and run.simulated is not None:
            s = run.simulated
            slower = (float(answer.points.slow_ttft[row]), float(answer.points.slow_tpot[row]))
            found["simulated"] = {"ttft_s": dict(s.ttft), "tpot_s": dict(s.tpot), "requests_per_s": s.rate,
                                  "requests": s.requests, "keeps_up": s.keeps_up, "rejected": s.rejected,
                                  "meets": s.meets(answer.question),
                                  "surely": s.meets(answer.question, slower)}  # fmt: skip
        return found

    d: Json = {
        "schema": "tierwise.plan/1",
        "made_by": made_by(),
        "goal": "serve",
        "question": question(answer.question),
        "met": answer.met,
        "considered": answer.priced,
        "meeting": int(np.count_nonzero(answer.feasible)),
        "seconds": dict(answer.seconds),
        "answer": entry(answer.best),
        "runner_up": entry(answer.runner_up),
        "finalists": [entry(c) for c in answer.finalists],
        "front": [entry(int(row)) for row in answer.front],
        "limits": limits(answer),
        "needs": [asdict(n) for n in answer.needs],
        "measure": measure(answer),
        "binding": {"by": answer.binding[0], "value": answer.binding[1]},
        "rival": None if answer.rival is None else {
            "device": answer.rival.device, "deployment": entry(answer.rival.row), "surely": answer.rival.surely,
            "face": answer.rival.face, "uncertainty": answer.rival.uncertainty,
        },
        "alternatives": alternatives(answer, entry),
        "changes": [change(answer, c) for c in answer.changes],
    }
    d = plain(d)
    d["text"] = sentences(d)
    return d


def candidate_rows(answer: Answer) -> dict[str, NDArray[Any]]:
    """Everything that was priced as columns by name, each (n,), in SI units: one row a configuration."""
    p = answer.known
    of = p.family.astype(int)

    def named(each: Callable[[Family], object]) -> NDArray[Any]:
        found: NDArray[Any] = np.array([each(f) for f in answer.families], dtype=object)[of]
        return found

    rows = np.arange(len(p))
    best = -1 if answer.best is None else answer.best.row
    return {
        "machine": named(lambda f: f.system.name), "engine": named(lambda f: f.engine),
        "weights": named(lambda f: str(f.weights or "")), "kv": named(lambda f: f.kv),
        **{f.name: getattr(p, f.name) for f in fields(p) if f.name not in ("family", "variant")},
        "meets": answer.feasible, "score": answer.score, "front": np.isin(rows, answer.front), "answer": rows == best,
    }  # fmt: skip


def measure(answer: Answer) -> Json | None:
    """The measurement that would narrow the answer's interval most; None where it is narrow enough."""
    if answer.best is None:
        return None
    family = answer.families[int(answer.points.family[answer.best.row])]
    return measuring.to_dict(uncertain(answer.question, family), family.system)


# Dots of the cloud behind the front, at most.
CLOUD = 1500


def cloud(answer: Answer) -> Json:
    """A bounded sample of everything that was priced, for a chart: cost, tokens per second and user, and layout."""
    p, q = answer.known, answer.question
    price = cost(q, p)
    usable = np.flatnonzero((p.ttft <= q.targets.ttft) & np.isfinite(price) & (p.rent <= q.budget))
    rows = usable[np.unique(np.linspace(0, max(len(usable) - 1, 0), min(CLOUD, len(usable))).astype(int))]
    unit = "$ an hour" if q.demand.kind != "free" else "$ per million tokens"
    return {
        "unit": unit if all(f.priced for f in answer.families) else unit.replace("$", "devices"),
        "dots": [[float(f"{price[r]:.5g}"), float(f"{1.0 / p.tpot[r]:.5g}"), int(p.prefills[r] > 0)] for r in rows],
        "target": 1.0 / q.targets.tpot if np.isfinite(q.targets.tpot) else None,
    }


def question(q: Question) -> Json:
    """What was asked."""
    machines = [{"name": s.name, "device": s.device.title, "devices": s.count,
                 "usd_per_hour": s.device.price.rent * 3600.0, "price_date": s.device.price.date,
                 "price_source": s.device.price.source} for s in q.systems]  # fmt: skip
    d = q.demand
    return {
        "model": q.name, "machines": machines, "prompt": d.prompt, "output": d.output, "load": d.kind,
        "requests_per_s": d.rate, "concurrency": d.concurrency, "trace": d.trace.source if d.trace else None,
        "trace_requests": len(d.trace) if d.trace else None, "notices": list(d.trace.notices) if d.trace else [],
        "shared": d.shared,
        "too_long": d.too_long, "ttft_s": q.targets.ttft, "tpot_s": q.targets.tpot, "statistic": q.targets.statistic,
        "tokens": list(q.freedom.budgets), "objective": q.objective,
        "confidence": q.confidence, "budget_usd_per_hour": q.budget * 3600.0, "engines": list(q.engines),
    }  # fmt: skip


def deployment(answer: Answer, p: Points, row: int) -> Json:
    """One row, with what is predicted of it."""
    q, family = answer.question, answer.families[int(p.family[row])]
    one = p.take(np.asarray([row]))
    known = family.priced
    output = q.demand.output
    out: Json = {
        "machine": " + ".join(f.system.name for f in family.roles), "device": family.title, "engine": family.engine,
        "mode": "disaggregated" if p.prefills[row] > 0 else "aggregated",
        "devices": int(p.devices[row]), "weights": str(family.weights or "") or None, "kv": family.kv,
        "own_kv": family.own, "own_formats": family.own and family.weights is None,
        "decode" if p.prefills[row] > 0 else "engines": _group(p, row, ""),
        "draft_tokens": int(p.draft[row]), "accept": speculation(family, int(p.draft[row])).accept,
        "max_num_batched_tokens": int(p.tokens[row]),
        "max_num_seqs": int(np.ceil(p.most[row] - 1e-6)),
        "in_flight": float(p.flight[row]), "requests_per_s": float(p.rate[row]),
        "capacity_requests_per_s": float(p.capacity[row]),
        "tokens_per_s": float(p.rate[row]) * output,
        "tokens_per_s_per_device": float(p.rate[row] * output / p.devices[row]),
        "user_tokens_per_s": float(1.0 / p.tpot[row]),
        "ttft_s": float(p.ttft[row]), "tpot_s": float(p.tpot[row]),
        "usd_per_hour": float(p.rent[row]) * 3600.0 if known else None,
        "usd_per_million": float(p.rent[row] / p.rate[row] / output * 1e6) if known else None,
        "cost": float(cost(q, one)[0]),
    }  # fmt: skip
    if p.prefills[row] > 0:
        out["prefill"] = _group(p, row, "p_")
    if family.first is not None:
        # Roles on machines or with weights of their own.
        for name, one_ in zip(("prefill", "decode"), family.roles, strict=True):
            degrees = out[name]
            out[name] |= {"device": one_.system.device.title, "weights": str(one_.weights or "") or None,
                          "devices": degrees["count"] * degrees["tp"] * degrees["pp"] * degrees["dp"]}  # fmt: skip
        out |= {"mode": "mixed", "own_formats": family.own and all(f.weights is None for f in family.roles)}
    if p is answer.points:
        ttft, tpot = answer.interval(row)
        out |= {"ttft_interval": list(ttft), "tpot_interval": list(tpot), "basis": answer.basis(row)}
    return out


def limits(answer: Answer) -> Json:
    """The least TTFT and TPOT any deployment reaches, and the most requests per second within the targets."""
    p = answer.known
    out: Json = {"ttft_s": None, "tpot_s": None, "rate": None}
    if len(p):
        for name, values in (("ttft_s", p.ttft), ("tpot_s", p.tpot)):
            row = int(np.argmin(values))
            out[name] = {"value": float(values[row]), "deployment": deployment(answer, p, row)}
    if answer.most is not None:
        found, row = answer.most
        out["rate"] = deployment(answer, found, row)
    return out


def _group(p: Points, row: int, prefix: str) -> Json:
    count = p.prefills[row] if prefix else p.decodes[row]
    return {
        "count": round(float(count)),
        **{n: int(getattr(p, prefix + n)[row]) for n in ("tp", "pp", "dp", "ep")},
    }


def alternatives(answer: Answer, entry: Any) -> list[Json]:
    """What a reader would have tried, and what its decode steps spend their time on."""
    rows = [a.row for a in answer.alternatives if a.row >= 0]
    best = [answer.best.row] if answer.best is not None else []
    shares = parts(answer, [*rows, *best])
    found = iter(shares)
    own = shares[-1] if best else {}
    return [
        {"name": a.name, "verdict": a.verdict, "worse": a.worse,
         "deployment": entry(a.row) if a.row >= 0 else None,
         "decode_shares": next(found) if a.row >= 0 else {}, "answer_shares": own}
        for a in answer.alternatives
    ]  # fmt: skip


def change(answer: Answer, c: QuestionChange) -> Json:
    """The question changed a little."""
    best = deployment(answer, c.points, c.best) if c.best >= 0 else None
    return {"name": c.name, "holds": c.holds, "expected": c.expected, "ttft_s": c.ttft, "tpot_s": c.tpot, "best": best,
            "reloaded": c.reloaded}  # fmt: skip
