"""The JSON form of a result: every number a report shows, in SI units, under one documented schema.

``docs/json.md`` says what each field means and ``result.schema.json`` which are there. The terminal and the
HTML page are written from this form, so that all of them say the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, TypeAlias

import numpy as np

from tierwise import engines
from tierwise.advise import Advice
from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import Format
from tierwise.core.units import seconds
from tierwise.cost import efficiency
from tierwise.engines import KERNELS
from tierwise.influence import Moved
from tierwise.models.facts import blocks
from tierwise.models.step import Step, formatted
from tierwise.report import advice_words, measuring, sensitivity
from tierwise.report.explain_phases import energy_dict, phase_dict
from tierwise.report.explain_words import headline, why
from tierwise.report.made import made_by
from tierwise.report.plain import plain
from tierwise.result import Result, changes
from tierwise.scenario.types import Plan, Resolved
from tierwise.steps.doubt import doubt

SCHEMA = "tierwise.result/3"

Json: TypeAlias = dict[str, Any]


def to_dict(
    result: Result,
    advice: Sequence[Advice] = (),
    *,
    largest_batch: object = None,
    longest_context: object = None,
    moved: Sequence[Moved] = (),
) -> Json:
    """The result in plain JSON types: numbers, text, lists, dicts, true, false and null.

    A sweep gives nested lists where a scalar scenario gives a number; what does not vary stays a number. What
    is not finite or not known is null.

    Args:
        advice: what would help; each entry has its data and a sentence.
        largest_batch, longest_context: what still fits, where the caller has looked for it.
        moved: what each input does (:func:`tierwise.influence.sensitivity`), where the caller asked.
    """
    found = {"largest_batch": largest_batch, "longest_context": longest_context}
    return signed(_contents(result, advice, **found, moved=moved))


def signed(d: Json) -> Json:
    """The form with what made it, which takes reading all of the code: for what is saved."""
    return {"schema": SCHEMA, "made_by": made_by(), **d}


def _contents(
    result: Result, advice: Sequence[Advice] = (), *, largest_batch: object = None, longest_context: object = None,
    moved: Sequence[Moved] = (),
) -> Json:  # fmt: skip
    """As :func:`to_dict`, without what made it."""
    shape = _shape(result)
    out: Json = {
        "shape": list(shape),
        "scenario": _scenario(result.scenario),
        "summary": _summary(result) | {
            "largest_batch": plain(largest_batch), "longest_context": plain(longest_context),
        },
        "phases": [phase_dict(p, result) for p in result.phases],
        "memory": _memory(result),
        "energy": energy_dict(result),
        "errors": None if shape else _errors(result),
        "basis": plain(result.basis),
        "bases": {name: plain(share) for name, share in result.bases.items()},
        "sources": _sources(result.scenario),
        "notes": _notes(result),
        "advice": [advice_words.to_dict(a) for a in advice],
        "sensitivity": sensitivity.to_dict(result, moved) if moved else None,
        "text": None,
    }  # fmt: skip
    out["measure"] = None
    if not shape:
        found = doubt([(p.cost, float(p.passes * p.pipeline_stretch)) for p in result.phases])
        out["measure"] = measuring.to_dict(found, result.scenario.machine)
        out["text"] = {"headline": headline(out), "why": why(out)}
    return out


def op_rows(d: Json) -> list[Json]:
    """One row an op of every phase, as ``phases[].ops`` has it, with its joules of the whole system for the batch.

    Args:
        d: a scalar result's JSON form.
    """
    spent = iter(d["energy"]["ops"])
    return [
        {"phase": p["name"], "passes": p["passes"], **op, "energy_j": next(spent)["energy_j"]}
        for p in d["phases"] for op in p["ops"]
    ]  # fmt: skip


def scalar_dict(result: Result, what: str, advice: Sequence[Advice] = (), **found: Any) -> Json:
    """As :func:`to_dict` without what made it, for reports that show one configuration.

    Raises:
        TierwiseError: the result is a sweep.
    """
    check_one(result, what)
    return _contents(result, advice, **found)


def check_one(result: Result, what: str) -> None:
    """Refuse a sweep where one configuration is shown.

    Raises:
        TierwiseError: how many configurations the result holds.
    """
    shape = _shape(result)
    if shape:
        sizes = " × ".join(map(str, shape))
        raise TierwiseError(
            f"{what}: scalar scenarios only, and this result holds {sizes} configurations; "
            "evaluate one of them, or write all of them as JSON"
        )


def _shape(result: Result) -> tuple[int, ...]:
    sizes = (result.time, result.batch, result.memory.peak, result.devices)
    return np.broadcast_shapes(*(np.shape(x) for x in sizes))


def _errors(r: Result) -> Json:
    """What each error does to the logarithm of a time at its ends, and with whom this result shares its errors."""
    of = {"time_s": r.phases, "ttft_s": [p for p in r.phases if p.name != "decode"],
          "tpot_s": [p for p in r.phases if p.name == "decode"]}  # fmt: skip
    told = {name: {group: [plain(x) for x in ends] for group, ends in changes(phases).items()}
            for name, phases in of.items()}  # fmt: skip
    s = r.scenario
    return {"shared_by": [s.machine.device.family, s.engine, s.plan.framework], **told}


def _summary(r: Result) -> Json:
    generates = r.scenario.model.task == "generate"
    rates: Json = {"mbu": None, "decode_throughput": None}
    if r.has("decode"):
        decode, memory = r.phase("decode"), r.scenario.machine.device.memory
        rates["mbu"] = plain(decode.traffic.get(memory.name, 0.0) / (decode.pass_time * memory.bandwidth))
        rates["decode_throughput"] = plain(r.decode_throughput)
    return {
        "fits": plain(r.fits),
        "batch": plain(r.batch),
        "ttft_s": plain(r.ttft) if generates else None,
        "tpot_s": plain(r.tpot),
        "time_s": plain(r.time),
        "interval_s": [plain(x) for x in r.interval],
        "throughput": plain(r.throughput),
        "throughput_unit": "tokens/s" if generates else "requests/s",
        "energy_j": plain(r.energy),
        "cost_usd": plain(r.cost),
        "usd_per_million": _per_million(r),
        "mfu": plain(r.mfu),
        **rates,
    }


def _per_million(r: Result) -> object:
    """Dollars per million tokens; null where not even one request runs."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return plain(np.asarray(r.cost) / np.asarray(r.output_tokens) * 1e6)


def _memory(r: Result) -> Json:
    m = r.memory
    return {
        "capacity": plain(m.capacity),
        "peak": plain(m.peak),
        "free": plain(m.capacity - m.peak),
        "fits": plain(m.fits),
        "parts": {name: plain(size) for name, size in m.parts.items() if np.any(np.asarray(size) > 0)},
        "per_sequence": plain(m.per_sequence),
    }


def _scenario(s: Resolved) -> Json:
    model, traffic = s.model, s.traffic
    return {
        "model": {
            "name": model.name,
            "family": model.family,
            "task": model.task,
            "parameters": plain(model.parameters),
            "active_parameters": plain(model.active_parameters),
            "max_context": plain(model.max_context),
        },
        "machine": _machine(s),
        "traffic": {f.name: plain(getattr(traffic, f.name)) for f in fields(traffic)},
        "plan": _plan(s),
        "techniques": list(s.techniques),
        "engine": s.engine,
    }


def _machine(s: Resolved) -> Json:
    machine, device = s.machine, s.machine.device
    return {
        "name": machine.name,
        "device": device.title,
        "kind": device.kind,
        "devices": machine.count,
        "per_node": machine.per_node,
        "tiers": [
            {"name": t.name, "kind": t.kind, "capacity": plain(t.capacity), "bandwidth": plain(t.bandwidth)}
            for t in device.tiers
        ],
        "engines": [
            {"name": e.name, "kind": e.kind, "rates": {d: plain(x) for d, x in e.rates.items()}}
            for e in device.engines
        ],
        "links": [
            {"name": x.name, "kind": x.kind, "bandwidth": plain(x.bandwidth)}
            for x in (machine.scale_up, machine.scale_out)
            if x is not None
        ],
        "power_w": {"rated": plain(device.power.rated), "idle": plain(device.power.idle)},
        "usd_per_hour": plain(device.price.rent * 3600.0),
        "price_date": device.price.date,
        "no_price": device.price.source if np.isnan(device.price.rent) and np.isnan(device.price.list_price) else None,
    }


def _plan(s: Resolved) -> Json:
    step = Step(s.model, s.plan, 1.0, 1.0, 0.0, "decode")
    layers = [layer for stack in s.model.stacks if stack.active for layer in stack.kinds]
    roles = sorted({w.role for layer in layers for w in layer.weights()})
    weights = {role: plain(step.weight(role)) for role in roles}
    formats: Json = {"weights": weights, "activations": plain(step.act)}
    if s.model.task == "generate":
        formats |= {"keys": plain(step.key), "values": plain(step.value)}
    choices = {k: v for k, v in _flat(s.plan).items() if k not in ("weights", "activations")}
    return {"devices": plain(s.plan.devices), **choices, "formats": formats, "differs": plan_differs(s.plan)}


def _flat(value: object) -> Json:
    """A dataclass as a dict, formats by name."""
    out: Json = {}
    for f in fields(value):  # type: ignore[arg-type]
        x = getattr(value, f.name)
        out[f.name] = _flat(x) if is_dataclass(x) and not isinstance(x, Format) else plain(x)
    return out


def plan_differs(plan: Plan) -> list[str]:
    """The choices that differ from the plainest plan, for people."""
    plain_plan = Plan()
    out: list[str] = []
    for part, usual, prefix in ((plan, plain_plan, ""), (plan.kv, plain_plan.kv, "kv ")):
        for f in fields(part):
            value = getattr(part, f.name)
            default = getattr(usual, f.name)
            if f.name == "kv" or isinstance(value, Format):  # formats have a line of their own
                continue
            if value is default or np.all(np.asarray(plain(value) == plain(default))):
                continue
            out.append(_choice(prefix + f.name.replace("_", " "), plain(value)))
    return out


_SWITCHES = {
    ("flash", False): "unfused attention",
    ("graphs", False): "eager launches",
    ("overlap", True): "communication overlapped",
    ("library", True): "library collectives",
}


def _choice(name: str, value: object) -> str:
    if isinstance(value, bool):
        return _SWITCHES.get((name, value), name if value else f"no {name}")
    if isinstance(value, list):
        return f"{name} varies"
    shown = f"{value:g}" if isinstance(value, float) else "unlimited" if value is None else str(value)
    return f"{name} {shown}"


def _sources(s: Resolved) -> Json:
    prices = efficiency(s.machine.device)
    machine: Mapping[str, str] = s.machine.device.sources
    return {
        "model": s.model.source,
        "machine": {name: str(text) for name, text in machine.items()},
        "prices": {"calibration": prices.name, "basis": prices.basis, "interval": list(prices.interval),
                   "source": prices.source},
    }  # fmt: skip


def _notes(result: Result) -> list[str]:
    s = result.scenario
    machine = s.machine.device.notes
    return [*s.model.notes, *_kept(s), *_run_by(s), *_outside(result), *([machine] if machine else [])]


def _outside(result: Result) -> list[str]:
    """What a client waits for beside the engine, which a run of requests over time counts and a batch does not."""
    if not result.request_overhead:
        return []
    return [f"TTFT is of the engine alone; a client sees its first token {seconds(result.request_overhead)} later "
            "(tokenizer, transport), which simulate, goodput and plan serve count"]  # fmt: skip


def _run_by(s: Resolved) -> list[str]:
    """What runs a model of images where nobody said."""
    images = s.model.task != "generate" and any(x.stream == "vision" for x in s.model.stacks)
    if not images or s.engine != KERNELS or s.plan.framework or s.machine.device.kind != "gpu":
        return []
    others = ", ".join(n for n in engines.names() if engines.load(n).framework)
    return [f"kernels alone, norms and activations merged into convolutions; as software runs it: --engine {others}"]


def _kept(s: Resolved) -> list[str]:
    """Weights that a format asked for does not hold for; of a model that sees and stands in fp32, that nobody asked."""
    asked, model = s.plan.weights, s.model
    if asked is None:
        wide = model.task == "classify" and str(model.format_of("*")) == "fp32" and s.plan.activations is None
        return ["computed in fp32, as its file has it: --weights fp16 for half precision"] if wide else []
    own: dict[str, str] = {}
    running = (stack for stack in model.stacks if stack.active)
    for role in (w.role for stack in running for block, _ in blocks(stack) for w in block.weights()):
        if role not in formatted(model) and role != "norm" and str(model.format_of(role)) != str(asked):
            own[role] = str(model.format_of(role))
    kept = ", ".join(f"{role} {form}" for role, form in own.items())
    return [f"{asked} holds for linear layers and convolutions; in their own format stay: {kept}"] if kept else []
