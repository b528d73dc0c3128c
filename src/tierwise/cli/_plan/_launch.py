"""Launch files of a plan's answer, with what was predicted of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tierwise.search.answer import Answer
from tierwise.search.deploy import deployment


def launch(answer: Answer, found: Mapping[str, Any], out: str) -> None:
    """Write the files of the answer into a folder; nothing where no deployment runs at all.

    Raises:
        TierwiseError: a folder that cannot be written.
    """
    from tierwise.launch import write

    if answer.best is None:
        return
    made = deployment(answer.question, answer.families, answer.points, answer.best.row)
    write(made, Path(out), model_name=published(answer.question.name), predicted=predicted(found))


def predicted(found: Mapping[str, Any]) -> dict[str, object]:
    """What the README says was predicted: simulated where it was."""
    a, q = found["answer"], found["question"]
    run = a.get("simulated")
    rate = run["requests_per_s"] if run else a["requests_per_s"]
    out: dict[str, object] = {
        "ttft": run["ttft_s"]["mean"] if run else a["ttft_s"],
        "tpot": run["tpot_s"]["mean"] if run else a["tpot_s"],
        "throughput": rate * q["output"],
        "throughput_per_device": rate * q["output"] / a["devices"],
        "prompt": q["prompt"],
        "output": q["output"],
        "basis": f"{a['basis']}, {'simulated' if run else 'steady state'}",
        "interval": [x / a["tpot_s"] for x in a["tpot_interval"]],
    }
    if q["load"] == "open":
        out["rate"] = q["requests_per_s"]
    else:
        out["concurrency"] = round(a["in_flight"])
    if a["usd_per_hour"] is not None:
        out["cost"] = a["usd_per_hour"]
        out["cost_per_million"] = a["usd_per_hour"] / 3600.0 / (rate * q["output"]) * 1e6
    return out


def published(name: str) -> str:
    """The name by which engines download a model of the catalog; paths and hub names as they are."""
    from tierwise.models.jsonfile import read_json
    from tierwise.models.load import CATALOG

    path = CATALOG / f"{name.lower()}.json"
    if not path.is_file():
        return name.removeprefix("hf:")
    aliases = [str(a) for a in read_json(path).get("aliases", ())]
    return next((a for a in aliases if "/" in a), name)
