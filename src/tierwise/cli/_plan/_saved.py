"""A plan's answer as a saved scenario: what was asked, settled as the answer settles it."""

from __future__ import annotations

from typing import Any, TypeAlias

from tierwise.cli._flags import Flags
from tierwise.core.errors import TierwiseError
from tierwise.scenario.fields import FIELDS
from tierwise.search.answer import Answer
from tierwise.search.deploy import deployment

Json: TypeAlias = dict[str, Any]


def form(asked: Flags, answer: Answer) -> Json:
    """The canonical form: `simulate` plays it, `explain` takes one of its engines apart, `plan serve` asks again.

    The machine is the whole one that was offered. The cost of a drafted token, which no setting states, is left out.

    Raises:
        TierwiseError: nothing runs at all, so that there is no deployment to write down.
    """
    from tierwise.scenario.schema import to_dict
    from tierwise.scenario.types import Scenario

    if answer.best is None:
        raise TierwiseError(f"--save {asked.save}: no deployment runs at all, so there is none to save")
    found = deployment(answer.question, answer.families, answer.points, answer.best.row)
    *before, own = found.groups
    machine = next((name for name, system in zip(asked.several("machine"), answer.question.systems, strict=False)
                    if system is own.machine), own.machine.name)  # fmt: skip
    out = to_dict(Scenario(asked.model, machine, plan=own.plan, engine=own.settings.engine))
    sizes = {"prompt": answer.question.demand.prompt, "output": answer.question.demand.output}
    kept = {k: v for k, v in _said(asked, "traffic").items() if k != "batch"}
    out["traffic"] = (kept if "trace" in kept else sizes | kept) | {"batch": own.settings.max_seqs * own.plan.dp}
    settings = own.settings
    out["serving"] = {
        "router": found.router, "max_seqs": settings.max_seqs, "tokens": settings.budget, "max_len": settings.max_len,
        "memory": settings.memory, "prefix_cache": settings.prefix_cache,
    }  # fmt: skip
    if settings.speculation.length:
        out["serving"] |= {"draft": settings.speculation.length, "accept": settings.speculation.accept}
    if before:
        first = before[0]
        degrees = ",".join(f"{k}={int(getattr(first.plan, k))}" for k in ("tp", "pp", "dp", "ep"))
        out["serving"] |= {"prefill_replicas": first.count, "decode_replicas": own.count, "prefill_plan": degrees}
    else:
        out["serving"]["replicas"] = own.count
    if targets := _said(asked, "targets"):
        out["targets"] = targets
    return out


def _said(asked: Flags, section: str) -> Json:
    """What flags and the saved scenario say of a section; one load only, as the flags say it."""
    out: Json = dict(asked.saved.get(section) or {})
    if section == "traffic":
        for name in ("trace", "rate", "concurrency"):
            out.pop(name, None)
        out |= asked.load()
    return out | {k: v for k, v in asked.said.items() if FIELDS[k].section == section}
