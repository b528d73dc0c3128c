"""``tierwise simulate``: requests of a trace (or made up by rule) played against replicas of a model."""

from __future__ import annotations

from tierwise.cli import Stopped
from tierwise.cli._flags import DEGREES, FORMATS, STREAM, Flags, flags
from tierwise.scenario.fields import names

# Policies that may be given several times, to compare.
POLICIES = ("scheduler", "router", "kv_manager")


@flags("machine", *DEGREES, *FORMATS, "eager", "technique", "engine", *STREAM, *names("serving"), "ttft", "tpot",
       "html", "trace_out", "table", "json", "save", many=POLICIES)  # fmt: skip
def command(asked: Flags) -> None:
    """Play requests against a deployment: what each waits and gets, what is busy, whether it keeps up."""
    from itertools import product

    from tierwise.cli._files import check
    from tierwise.cli._simulate import deployment, engine_scenario, heeded, played, traffic, written
    from tierwise.report.tables import ENDINGS

    check(asked, "html", "trace_out", "json", "save", table=ENDINGS)
    heeded(asked)
    scenario, form = engine_scenario(asked, POLICIES)
    policies = [[x] if isinstance(x := getattr(asked, name), str) else x for name in POLICIES]
    chosen = list(product(*policies))
    plans = [deployment(asked, scenario, *c) for c in chosen]
    # Everything that can be wrong with the question has been said by now; then the trace, which may be long.
    trace = traffic(asked)
    named = int(trace.adapter.max(initial=-1)) + 1
    if named and not asked.asks("adapters"):
        plans = [plan.with_settings(adapters=named) for plan in plans]
    runs = played(trace, plans, asked.seed, asked.calibration)
    several = [len(set(p)) > 1 for p in policies]
    labels = [" ".join(p for p, many in zip(c, several, strict=True) if many) for c in chosen[: len(runs)]]
    written(asked, runs, labels, form)
    if runs[-1].interrupted:
        raise Stopped
