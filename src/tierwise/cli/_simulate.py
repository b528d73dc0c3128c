"""From the flags of ``tierwise simulate`` to a trace and deployments, and from runs to what was asked for."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from tierwise.cli._flags import DEGREES, Flags, refuse
from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.units import parse, whole
from tierwise.scenario.fields import FIELDS, bad, known

if TYPE_CHECKING:
    from tierwise.machines.types import System
    from tierwise.models.types import Model
    from tierwise.scenario.types import Plan, Scenario
    from tierwise.serving.deployment import Deployment, Replicas, Settings
    from tierwise.serving.outcome import SimulatedRun
    from tierwise.serving.traffic.trace import Trace

Json: TypeAlias = dict[str, Any]
# Tokens, and so sequences, of one step at most: as long as the longest context that step prices reach.
LONGEST_STEP = 2**20


def traffic(asked: Flags) -> Trace:
    """The requests: of a file, or made up; each a tree of them where it is searched.

    Raises:
        TierwiseError: neither or both; a file or a rule that cannot be.
    """
    from tierwise.serving.traffic import searching

    found = _traffic(asked)
    return found if asked.search is None else searching(found, asked.search, seed=asked.seed)


def heeded(asked: Flags) -> None:
    """Refuse flags that nothing would follow beside the others: of requests that a trace has, of what is not there.

    Raises:
        TierwiseError: names the first of them.
    """
    load = asked.load()
    if "trace" in load:
        refuse(asked, ("requests", "prompt", "output", "turns", "think", "shared"), "nothing beside --trace, which has "
               "requests of its own")  # fmt: skip
    else:
        refuse(asked, ("format", "limit"), "nothing without --trace FILE")
    if "concurrency" in load:
        refuse(asked, ("arrivals", "rate_scale"), "nothing beside --concurrency, whose requests come as others end")
    for names, there, other in (
        (("think",), asked.asks("turns") or "trace" in load, "--turns above 1"),
        (("accept",), asked.draft, "--draft"),
        (("startup",), asked.autoscaler, "--autoscaler"),
        (("host_cache", "disk_cache"), asked.prefix_cache, "the prefix cache, which --no-prefix-cache leaves out"),
        (("pooled",), asked.host_cache or asked.disk_cache, "--host-cache or --disk-cache"),
        (("lora_rank", "lora_modules"), asked.adapters or "trace" in load, "--adapters, or a trace that names some"),
    ):
        if not there:
            refuse(asked, names, f"nothing without {other}")


def _traffic(asked: Flags) -> Trace:
    from tierwise.serving import traffic as made

    load = asked.load()
    rate, concurrency = load.get("rate"), load.get("concurrency")
    if "trace" in load:
        if rate is not None:
            raise TierwiseError("--rate makes requests up; a trace has its own (--rate-scale plays it faster)")
        found = made.load(load["trace"], asked.format, limit=asked.limit, rate_scale=asked.rate_scale)
        if asked.asks("arrivals"):
            found = made.arriving(found, asked.arrivals, seed=asked.seed)
        return found if concurrency is None else replace(found, closed_loop=concurrency)
    if rate is None and concurrency is None:
        raise TierwiseError("what comes in? Give --trace FILE, or --rate 4/s, or --concurrency 32")
    if rate is not None and concurrency is not None:
        raise TierwiseError("--rate is an open loop, --concurrency a closed one: give one of them")
    return made.synthetic(
        asked.requests, asked.arrivals, rate=None if rate is None else rate * asked.rate_scale,
        concurrency=concurrency, prompt=asked.prompt, output=asked.output, turns=asked.turns, think=asked.think,
        system=asked.shared, seed=asked.seed,
    )  # fmt: skip


def engine_scenario(asked: Flags, several: Collection[str]) -> tuple[Scenario, Json]:
    """(what one engine runs: the model under its plan, on the machine; the canonical form of what was asked).

    Without any degree an engine is tensor parallel over the devices that each replica has, or over the fewest that hold
    the model with room for requests where nobody says how many replicas there are; with some, the others are 1.

    Raises:
        TierwiseError: an unknown name, degrees that cannot be, a model that is not served token by token.
    """
    from tierwise.cli._scenario import looked_up, made, merged, one_of_each
    from tierwise.scenario.resolve import check_machine, check_plan

    form = merged(asked)
    one_of_each(asked.saved, asked.source, several)
    found = looked_up(form)
    check_machine(found["machine"])
    form["plan"] |= _degrees(asked, form["plan"], found["model"], found["machine"])
    form.setdefault("traffic", {})
    scenario, full = made(asked, form | {"traffic": {}}, found)
    check_plan(scenario.plan, scenario.model, scenario.machine)  # type: ignore[arg-type]
    return scenario, full | {"traffic": form["traffic"]}


def _degrees(asked: Flags, plan: Json, model: Model, machine: System) -> Json:
    from tierwise.scenario.resolve import default_plan
    from tierwise.scenario.schema import read_fields
    from tierwise.scenario.types import Plan

    given = read_fields(Plan, {k: plan[k] for k in DEGREES if k in plan}, asked.source or "the flags", "plan")
    if any(np.ndim(degree) for degree in given.values()):
        return {}  # a sweep, which is refused with its name
    split = asked.asks("prefill_replicas") or asked.asks("decode_replicas")
    engines = (asked.prefill_replicas or 1) + (asked.decode_replicas or 1) if split else asked.replicas or 1
    if not given and not split and asked.replicas is None:
        return _least(asked, plan, model, machine)
    if not given or ("ep" in given and "dp" not in given and "tp" not in given):
        chosen = default_plan(model, replace(machine, count=max(1, machine.count // engines)), **given)
        return {k: getattr(chosen, k) for k in DEGREES}
    whole: Json = dict.fromkeys(DEGREES, 1.0)
    return {**whole, **given}


def _least(asked: Flags, plan: Json, model: Model, machine: System) -> Json:
    """The degrees of the smallest engine that has room for requests; those of all devices where none has."""
    from tierwise.core.numerics import fmt
    from tierwise.scenario.resolve import default_engine, default_plan
    from tierwise.scenario.types import KV
    from tierwise.search.engines import with_room

    weights = fmt(plan["weights"]) if isinstance(plan.get("weights"), str) else None
    cache = (plan.get("kv") or {}).get("key") if isinstance(plan.get("kv"), dict) else None
    whole = default_plan(model, machine, weights)
    given = {n: getattr(asked, n) for n in ("prompt", "output")}
    lengths = [x if isinstance(x, (int, float)) else FIELDS[n].default for n, x in given.items()]
    sized = replace(whole, weights=weights, kv=KV(key=fmt(cache), value=fmt(cache)) if isinstance(cache, str) else KV())
    engine = asked.engine or default_engine(model, machine, sized)
    found = with_room(model, machine, sized, engine, asked.memory, float(sum(lengths)), asked.tokens, asked.max_seqs)
    return {k: getattr(found, k) for k in DEGREES}


def deployment(asked: Flags, scenario: Scenario, scheduler: str, router: str, kv: str) -> Deployment:
    """The replicas and policies that were asked for.

    Args:
        scenario: what one engine runs.

    Raises:
        TierwiseError: an unknown name; more devices than the machine has; settings that cannot be.
    """
    from tierwise.scenario.resolve import check_plan, default_engine
    from tierwise.serving.deployment import Deployment, Settings, Speculation
    from tierwise.serving.policies import load

    autoscaler = asked.autoscaler or ""
    for kind, name in (("schedulers", scheduler), ("routers", router), ("kv", kv), ("autoscalers", autoscaler)):
        if name:
            load(kind, name)
    for name in ("max_seqs", "tokens"):
        if (value := getattr(asked, name)) > LONGEST_STEP:
            raise bad(FIELDS[name].option, value, f"a whole number from 1 to {LONGEST_STEP:,}")
    model: Any = scenario.model
    machine: Any = scenario.machine
    plan: Any = scenario.plan
    if model.task != "generate" or not any(x.stream == "text" for x in model.stacks):
        raise BadField(model.name, "task", model.task, "a model that generates text")
    if other := [x.stream for x in model.stacks if x.stream in ("encode", "audio")]:
        raise BadField(model.name, "stacks", other[0], "a decoder alone: steps know no encoder's passes")
    settings = Settings(
        engine=scenario.engine or default_engine(model, machine, plan), scheduler=scheduler, kv=kv,
        max_seqs=asked.max_seqs, budget=asked.tokens, max_len=asked.max_len, block=asked.block, memory=asked.memory,
        prefix_cache=asked.prefix_cache, swap=asked.swap, host_cache=asked.host_cache, disk_cache=asked.disk_cache,
        graphs=Settings.graphs if plan.graphs else 0,
        speculation=Speculation(length=asked.draft, accept=asked.accept, tree=asked.draft),
        adapters=asked.adapters, rank=asked.lora_rank, modules=_modules(asked.lora_modules, model),
        prefill_share=asked.prefill_share,
    )  # fmt: skip
    if asked.prefill_share and float(plan.pp) > 1.0:
        raise bad("--prefill-share", asked.prefill_share, "nothing with --pp above 1, whose stages have a step each")
    first = _prefill_plan(asked, plan)
    check_plan(first, model, machine)
    groups = _groups(asked, machine, plan, first, settings)
    failures = tuple(_failure(f, sum(g.count for g in groups)) for f in asked.fail or ())
    return Deployment(model, groups, router, autoscaler, _startup(asked.startup, model, groups), asked.pooled, failures)


def _modules(text: str, model: Any) -> str:
    """The matrices that adapters change, if the model has any such."""
    from tierwise.models.lora import MODULES, changes, ends, module

    layers = [w for stack in model.stacks if stack.active for layer, _ in stack.runs() for w in layer.weights()]
    found = {module(w) for w in (*layers, *ends(model)) if changes(module(w), w)}
    given = [text] if text in MODULES else text.split("+")
    for name in given:
        if name not in MODULES and name not in found:
            known("--lora-modules", name, [*MODULES, *sorted(found)])
    return text


def _startup(text: str, model: Any, groups: tuple[Replicas, ...]) -> float:
    from tierwise.serving.startup import SOURCES, startup

    word = text.strip().lower()
    if word not in SOURCES:
        return parse(text, "time", "--startup")
    found = max(startup(model, g, word) for g in groups)
    if not math.isfinite(found):
        raise BadField("--startup", "source", word, "a source this machine has a link to, or seconds")
    return found


def _prefill_plan(asked: Flags, plan: Plan) -> Plan:
    """That of engines which only prefill, where their degrees are others than those of the engines that decode."""
    if asked.prefill_plan is None:
        return plan
    if asked.prefill_replicas is None:
        raise BadField("--prefill-plan", "value", asked.prefill_plan, "nothing without --prefill-replicas")
    given: dict[str, Any] = {"tp": 1.0, "pp": 1.0, "dp": 1.0, "ep": 1.0}
    for part in asked.prefill_plan.split(","):
        name, _, value = part.partition("=")
        if name.strip() not in given or not whole(value.strip()):
            raise BadField("--prefill-plan", "degrees", asked.prefill_plan, "such as tp=2 or tp=2,pp=1,dp=4,ep=8")
        given[name.strip()] = float(value)
    return replace(plan, **given)


def _groups(asked: Flags, machine: System, plan: Plan, first: Plan, settings: Settings) -> tuple[Replicas, ...]:
    """``first``: the plan of engines that only prefill."""
    from tierwise.serving.deployment import Replicas

    size = int(plan.devices)
    if asked.prefill_replicas is None and asked.decode_replicas is None:
        count = asked.replicas or max(machine.count // size, 1)
        groups: tuple[Replicas, ...] = (Replicas(machine, plan, count, "both", settings),)
        told = f"{count} engines of {size} devices"
    else:
        if asked.replicas is not None:
            raise TierwiseError("--replicas are engines that do both; with --prefill-replicas give --decode-replicas")
        before, after = asked.prefill_replicas or 1, asked.decode_replicas or 1
        groups = (Replicas(machine, first, before, "prefill", settings),
                  Replicas(machine, plan, after, "decode", settings))  # fmt: skip
        told = f"{before} engines of {int(first.devices)} devices and {after} of {size}"
        if first.devices == plan.devices:
            told = f"{before + after} engines of {size} devices"
    needed = sum(int(g.plan.devices) * g.count for g in groups)
    if needed > machine.count:
        raise TierwiseError(f"{told} need {needed}; {machine.name} has {machine.count}")
    return groups


def _failure(text: str, replicas: int) -> tuple[float, int, float]:
    parts = text.split(":")
    try:
        if len(parts) != 3:
            raise ValueError
        at, who, down = parse(parts[0], "time", "--fail"), int(parts[1]), parse(parts[2], "time", "--fail")
    except ValueError:
        raise BadField("--fail", "failure", text, "SECONDS:REPLICA:SECONDS-DOWN, as 60s:0:30s") from None
    if not 0 <= who < replicas:
        raise BadField("--fail", "replica", who, f"0 to {replicas - 1}")
    return at, who, down


def played(trace: Trace, plans: Sequence[Deployment], seed: int, calibration: str | None = None) -> list[SimulatedRun]:
    """A run of each deployment; fewer where the user stopped. ``calibration``: what a recorded run said."""
    from tierwise.cli._progress import compiling, progress
    from tierwise.serving.pricing import step_prices
    from tierwise.serving.simulate import simulate
    from tierwise.steps.corrections import read_corrections

    found = None if calibration is None else read_corrections(Path(calibration))
    runs: list[SimulatedRun] = []
    with progress("pricing steps") as tell:
        for deployment_ in plans:

            def going(done: int, total: int, at: float) -> None:
                tell("simulating", done, total, f"{at:,.0f} s")

            prices = [step_prices(deployment_.model, g, *(() if found is None else (found,)))
                      for g in deployment_.groups]  # fmt: skip
            tell(compiling() or "simulating", 0, 0, "")
            runs.append(simulate(trace, deployment_, prices, progress=going, seed=seed))
            if runs[-1].interrupted:
                break
    return runs


def written(asked: Flags, runs: Sequence[SimulatedRun], names: Sequence[str], form: Json) -> None:
    """What was asked for: files of the first run, JSON of all, tables on the terminal."""
    from tierwise.cli._files import told, write_json
    from tierwise.core.files import write

    run, ttft, tpot = runs[0], asked.ttft, asked.tpot
    if asked.save is not None:
        from tierwise.scenario.files import write_form

        write_form(form, asked.save)
    if asked.html is not None:
        from tierwise.report.serving_report import page

        write(asked.html, page(run, ttft, tpot))
    if asked.trace_out is not None:
        from tierwise.report.serving_trace import perfetto

        write_json(asked.trace_out, perfetto(run), indent=None)
    if asked.table is not None:
        from tierwise.report.serving_requests import columns
        from tierwise.report.tables import write_table

        write_table(asked.table, columns(run))
    if asked.json is not None:
        from tierwise.report.serving_data import to_dict

        found: Any = to_dict(run, ttft, tpot)
        if len(runs) > 1:
            found = {name: to_dict(r, ttft, tpot) for name, r in zip(names, runs, strict=True)}
        write_json(asked.json, found)
    if "-" in (asked.json, asked.save):
        return
    from tierwise.report.console import console
    from tierwise.report.serving_report import compare_runs, show

    screen = console()
    if len(runs) > 1:
        screen.print(compare_runs(list(names), list(runs), ttft, tpot))
    else:
        show(run, screen, ttft, tpot)
    if run.interrupted:
        print(f"stopped by the user after {run.totals['end']:.1f} simulated seconds; the numbers are of what happened")
    first = {name: f" (of {names[0]})" for name in ("html", "trace_out", "table") if len(runs) > 1}
    told(asked, "html", "trace_out", "table", "json", "save", notes=first)
