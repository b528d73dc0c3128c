"""What the scripts of a recorded run set where its row does not say: recomputation, graphs, how tokens reach experts."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

FILE = Path(__file__).with_suffix(".yaml")
# Fields of a recipe that rules set.
FIELDS = ("dispatch", "aside", "grouped", "graphs", "ahead", "reduced")
_SET = (*FIELDS, "recompute", "first", "last", "zero_stage")


def stated(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with what its framework's scripts set in place of blanks (``recipes.yaml``); what it says itself stays."""
    found: dict[str, Any] = {}
    name = str(row.get("framework") or "").lower()
    for rule in _rules():
        if name.startswith(rule.get("framework", "")) and _holds(rule, row, name):
            found |= {k: v for k, v in rule.items() if k in _SET}
    return {**row, **{k: v for k, v in found.items() if row.get(k) in (None, "")}}


@cache
def _rules() -> tuple[dict[str, Any], ...]:
    import yaml

    return tuple(yaml.safe_load(FILE.read_text(encoding="utf-8"))["rules"])


def _holds(rule: Mapping[str, Any], row: Mapping[str, Any], name: str) -> bool:
    model = re.sub(r"[^a-z0-9]", "", str(row.get("model") or "").lower())
    form = str(row.get("precision") or "bf16")
    release = _release(name.rpartition(" ")[2])
    return (
        str(row.get("source") or "").startswith(rule.get("source", ""))
        and (model.startswith(tuple(rule["models"])) if "models" in rule else True)
        and row.get("gpu") in rule.get("gpus", [row.get("gpu")])
        and (form.startswith(tuple(rule["precisions"])) if "precisions" in rule else True)
        and ("since" not in rule or release >= _release(rule["since"]))
        and ("until" not in rule or () < release <= _release(rule["until"]))
        and all(row.get(k) == rule[k] for k in ("pp", "vp") if k in rule)
        and rule.get("flags", "") in str(row.get("flags") or "")
        and ("zero" not in rule or (float(row.get("zero_stage") or 0.0) >= 3.0) == (rule["zero"] >= 3))
    )


def _release(text: str) -> tuple[int, ...]:
    """``26.02.01`` as numbers that compare; nothing where there is none."""
    return tuple(int(n) for n in text.split(".")) if re.fullmatch(r"\d+(\.\d+)+", text) else ()
