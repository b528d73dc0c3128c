"""From the flags of ``tierwise goodput`` to a curve for each machine."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tierwise.cli._flags import Flags
from tierwise.scenario.fields import bad

if TYPE_CHECKING:
    from tierwise.serving.goodput import GoodputCurve


def curves(asked: Flags) -> tuple[list[str], list[GoodputCurve], dict[str, Any]]:
    """(names of the machines, their curves, the canonical form of what was asked of the first); fewer where the user
    stopped.

    Raises:
        TierwiseError: whatever ``simulate`` would refuse; a rate that is not above zero.
    """
    from tierwise.cli._progress import compiling, progress
    from tierwise.cli._simulate import deployment, engine_scenario, heeded, traffic
    from tierwise.serving.goodput import goodput
    from tierwise.serving.pricing import step_prices
    from tierwise.steps.corrections import read_corrections

    heeded(asked)
    rates = asked.several("rate") if asked.asks("rate") else []
    for rate in rates:
        if not (np.isfinite(rate) and rate > 0):
            raise bad("--rate", rate, "a number of requests above zero")
    names = [str(m) for m in asked.several("machine")] or [""]
    each = [_of(asked, name) for name in names]
    plans = []
    forms = []
    for one in each:
        scenario, form = engine_scenario(one, ("rate",))
        forms.append(form)
        plans.append(deployment(one, scenario, one.scheduler, one.router, one.kv_manager))
    # At any rate: each curve plays them at its own.
    made = {} if asked.asks("trace") else {"rate": 1.0}
    requests = traffic(replace(asked, said={k: v for k, v in asked.said.items() if k != "rate"} | made))
    fixes = None if asked.calibration is None else read_corrections(Path(asked.calibration))
    found: list[GoodputCurve] = []
    with progress("pricing steps") as tell:
        for name, plan in zip(names, plans, strict=True):
            prices = [step_prices(plan.model, g, *(() if fixes is None else (fixes,))) for g in plan.groups]
            tell(compiling() or "simulating", 0, 0, "")

            def going(done: int, total: int, name: str = name) -> None:
                tell(f"playing rates on {name}" if len(names) > 1 else "playing rates", done, total, "")

            found.append(goodput(requests, plan, prices, asked.ttft, asked.tpot, attainment=asked.attainment,
                                 rates=rates, seed=asked.seed, tell=going))  # fmt: skip
            if found[-1].interrupted:
                break
    return names[: len(found)], found, forms[0]


def _of(asked: Flags, machine: str) -> Flags:
    said = {k: v for k, v in asked.said.items() if k != "machine"}
    return replace(asked, said=said | ({"machine": machine} if machine else {}))
