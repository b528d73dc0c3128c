"""What changed between two answers, as data: inputs, numbers (beyond their interval or not), and the causes.

Both are JSON forms as commands write them, so an answer of an older version stands beside today's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tierwise.comparison import spread_of
from tierwise.core.errors import BadField

Json = dict[str, Any]

# Of each kind of answer, what was asked and what came out.
_ASKED = {"tierwise.result": ("scenario",), "tierwise.plan": ("question",),
          "tierwise.simulation": ("deployment", "traffic", "targets"),
          "tierwise.training": ("model", "machine", "framework", "layout")}  # fmt: skip
_FOUND = {"tierwise.result": ("summary",), "tierwise.plan": ("answer",),
          "tierwise.simulation": ("metrics", "times", "load"), "tierwise.training": ("summary",)}  # fmt: skip
# Numbers of a result that its time decides, with the way they go, and those that have errors of their own.
_TIMES = {"time_s": 1, "run_s": 1, "tokens_per_s": -1, "ttft_s": 1, "tpot_s": 1, "throughput": -1,
          "decode_throughput": -1, "energy_j": 1, "cost_usd": 1, "usd_per_million": 1, "mfu": -1,
          "mbu": -1}  # fmt: skip
_OWN = {"ttft_s": "ttft_s", "tpot_s": "tpot_s", "decode_throughput": "tpot_s", "mbu": "tpot_s"}
_SKIPPED = ("text", "wall_s", "cdf", "differs", "interval_s", "ttft_interval", "tpot_interval")
LEAST = 1e-9  # relative: less is rounding


def kind(d: Any, where: str) -> str:
    """The kind of an answer, without its version.

    Raises:
        BadField: not an answer that can be compared.
    """
    schema = d.get("schema") if isinstance(d, Mapping) else None
    name = str(schema).partition("/")[0]
    if name not in _ASKED or not all(isinstance(d.get(part), Mapping) for part in _ASKED[name]):
        raise BadField(where, "schema", schema, f"{', '.join(_ASKED)}: what explain, plan serve, plan train and "
                       "simulate write with --json")  # fmt: skip
    return name


def difference(a: Json, b: Json, names: tuple[str, str]) -> Json:
    """The JSON form ``tierwise.difference/1`` (``docs/json.md``).

    Args:
        a, b: answers of one kind. ``names``: what to call them.

    Raises:
        BadField: answers of different kinds, or none, or one that somebody changed.
    """
    try:
        return _difference(_viewed(a, names[0]), _viewed(b, names[1]), names)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise BadField(" and ".join(names), "contents", f"{type(error).__name__}: {error}",
                       "answers as --json writes them") from None  # fmt: skip


def _difference(a: Json, b: Json, names: tuple[str, str]) -> Json:
    what, other = kind(a, names[0]), kind(b, names[1])
    if what != other:
        raise BadField(names[1], "schema", b["schema"], f"{what}, as {names[0]} is")
    moved = [_changed(a, b, part, False) for part in _FOUND[what]]
    numbers = [x for part in moved for x in part if x["ratio"] is not None]
    whole = what in ("tierwise.result", "tierwise.training")
    return {
        "schema": "tierwise.difference/1",
        "kind": what,
        "before": names[0],
        "after": names[1],
        "made_by": [a.get("made_by"), b.get("made_by")],
        "inputs": [{**x, "field": f"{part}.{x['field']}" if len(_ASKED[what]) > 1 else x["field"]}
                   for part in _ASKED[what] for x in _changed(a, b, part, True)],
        "chosen": [x for part in moved for x in part if x["ratio"] is None],
        "numbers": [{**x, **(_beyond if whole else _known)(a, b, x)} for x in numbers],
        "time": _causes(_by_class(a), _by_class(b)) if whole else [],
        "resources": _causes(_by_resource(a), _by_resource(b)) if whole else [],
        "memory": _causes(_parts(a, "memory"), _parts(b, "memory")) if whole else [],
        "energy": _causes(_parts(a, "energy"), _parts(b, "energy")) if a.get("energy") and b.get("energy") else [],
    }


def _viewed(d: Any, name: str) -> Any:
    """A training step (of a plan, its best layout) with its numbers where other answers have theirs."""
    if not isinstance(d, Mapping) or str(d.get("schema")).partition("/")[0] != "tierwise.training":
        return d
    best = (d.get("candidates") or [d.get("tightest") or {}])[0]
    one = {**d, **best}
    seconds, run = one["seconds"], one.get("run") or {}
    numbers = {"time_s": seconds, "tokens_per_s": one["tokens_per_s"], "mfu": one["mfu"],
               "peak_bytes": one["memory"]["peak"], "run_s": run.get("seconds"),
               "cost_usd": run.get("usd")}  # fmt: skip
    step = {"name": "a step", "passes": 1.0, "pipeline_stretch": 1.0, "time_s": seconds, "seconds_by_bound": {},
            "ops": [{"kind": cause, "time_s": x} for cause, x in one["parts"].items()]}  # fmt: skip
    # How far one layout is off says little of another.
    errors = {"time_s": {"step": [math.log(x / seconds) for x in one["interval"]]}, "shared_by": name}
    return {**one, "summary": numbers, "errors": errors, "phases": [step]}


def _changed(a: Json, b: Json, part: str, asked: bool) -> list[Json]:
    """Fields of a part that differ; ``asked``: without a ratio."""
    before, after = (dict(_leaves(d.get(part) or {})) for d in (a, b))
    out: list[Json] = []
    x: Any
    y: Any
    for name in {**before, **after}:
        x, y = before.get(name), after.get(name)
        if x == y or (_number(x) and _number(y) and math.isclose(x, y, rel_tol=LEAST)):
            continue
        if not asked and (x is None or y is None) and (_number(x) or _number(y)):
            continue  # only one of them looked for it
        ratio = y / x if not asked and _number(x) and _number(y) and x != 0 else None
        out.append({"field": name, "before": x, "after": y, "ratio": ratio})
    return out


def _leaves(value: Any, above: str = "") -> Iterator[tuple[str, Any]]:
    """Every number, text and truth with its path; entries of a list by their name, where they have one."""
    if isinstance(value, Mapping):
        for name, x in value.items():
            if name not in _SKIPPED:
                yield from _leaves(x, f"{above}.{name}" if above else str(name))
    elif isinstance(value, list) and any(isinstance(x, (Mapping, list)) for x in value):
        for i, x in enumerate(value):
            name = x.get("name", i) if isinstance(x, Mapping) else i
            inner = {k: v for k, v in x.items() if k != "name"} if isinstance(x, Mapping) else x
            yield from _leaves(inner, f"{above}.{name}")
    else:
        yield above, tuple(value) if isinstance(value, list) else value


def _number(x: Any) -> bool:
    return isinstance(x, (int, float)) and not isinstance(x, bool)


def _beyond(a: Json, b: Json, x: Json) -> Json:
    """The interval of a ratio, and whether the change lies beyond it; a count has none and always does."""
    way, own = _TIMES.get(x["field"]), _OWN.get(x["field"], "time_s")
    before, after = (d.get("errors") or {} for d in (a, b))
    if way and not (before and after):
        return {"interval": None, "beyond": None}
    if way is None:
        return {"interval": [x["ratio"], x["ratio"]], "beyond": True}
    # Another calibration has errors of its own.
    tables = [(d.get("made_by") or {}).get("tables") for d in (a, b)]
    shared = before["shared_by"] == after["shared_by"] and tables[0] == tables[1]
    ends = [float(e) for e in spread_of(before[own], after[own], shared)]
    low, high = ends if way > 0 else [1.0 / e for e in reversed(ends)]
    span = [x["ratio"] * low, x["ratio"] * high]
    return {"interval": span, "beyond": not span[0] <= 1.0 <= span[1]}


def _known(a: Json, b: Json, x: Json) -> Json:
    """The same of a number of which both answers have an interval in seconds, as a plan has of its times."""
    ends = [(d.get("answer") or {}).get(x["field"].removesuffix("_s") + "_interval") or [] for d in (a, b)]
    if x["field"] not in ("ttft_s", "tpot_s") or not all(ends):
        return {"interval": None, "beyond": None}
    logs = [(math.log(low / x[side]), math.log(high / x[side]))
            for (low, high), side in zip(ends, ("before", "after"), strict=True)]  # fmt: skip
    low, high = spread_of({"a": logs[0]}, {"b": logs[1]}, False)
    span = [x["ratio"] * float(low), x["ratio"] * float(high)]
    return {"interval": span, "beyond": not span[0] <= 1.0 <= span[1]}


def _causes(before: Mapping[tuple[str, ...], float], after: Mapping[tuple[str, ...], float]) -> list[Json]:
    """What each cause adds to either answer, those that moved most first; what they moved adds up to the whole."""
    rows: list[Json] = [
        {"cause": list(name), "before": before.get(name, 0.0), "after": after.get(name, 0.0),
         "moved": after.get(name, 0.0) - before.get(name, 0.0)}
        for name in {**before, **after}
    ]  # fmt: skip
    whole = max(sum(before.values()), sum(after.values()), 1e-300)
    return sorted((r for r in rows if abs(r["moved"]) > LEAST * whole), key=lambda r: -abs(r["moved"]))


def _by_class(d: Json) -> dict[tuple[str, ...], float]:
    """Seconds of the batch by phase and class of op; what is beside other work counts against them."""
    out: dict[tuple[str, ...], float] = {}
    for p in d["phases"]:
        often = p["passes"] * p["pipeline_stretch"]
        for op in p["ops"]:
            key = (p["name"], op["kind"])
            out[key] = out.get(key, 0.0) + op["time_s"] * often
        rest = p["time_s"] - sum(x for key, x in out.items() if key[0] == p["name"])
        if abs(rest) > LEAST * p["time_s"]:
            out[p["name"], "beside each other" if rest < 0 else "between passes"] = rest
    return out


def _by_resource(d: Json) -> dict[tuple[str, ...], float]:
    return {(p["name"], name): t * p["passes"] * p["pipeline_stretch"]
            for p in d["phases"] for name, t in p["seconds_by_bound"].items()}  # fmt: skip


def _parts(d: Json, name: str) -> dict[tuple[str, ...], float]:
    """Bytes or joules by part."""
    return {(part,): x for part, x in d[name]["parts"].items() if x is not None}
