"""Deployments to write launch files for, and a reader of command lines as an engine's own parser would take them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from tests.conftest import HIDDEN, decoder
from tierwise.core.numerics import fmt
from tierwise.launch import engines
from tierwise.launch.asked import Env
from tierwise.machines import system
from tierwise.models.blocks.moe import MoE
from tierwise.scenario.types import KV, Plan
from tierwise.serving.deployment import Deployment, Replicas, Settings, Speculation

ENGINES = tuple(engines())
MACHINE = system("32xh200-sxm")
DENSE = decoder()
EXPERTS = decoder(MoE(HIDDEN, 16.0, 2.0, 512.0))

FORMATS = [None, *map(fmt, ("bf16", "fp16", "fp8", "fp8-block", "int8", "nvfp4", "mxfp8", "int4-g128"))]
_powers = st.sampled_from([1, 2, 4, 8])


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    tp, pp, dp = draw(_powers), draw(st.sampled_from([1, 2])), draw(st.sampled_from([1, 2, 4]))
    key = draw(st.sampled_from(FORMATS))
    return Plan(
        tp=float(tp), pp=float(pp), dp=float(dp),
        ep=float(draw(st.sampled_from([n for n in (1, 2, 4, 8, 16) if (tp * dp) % n == 0]))),
        weights=draw(st.sampled_from(FORMATS)), activations=draw(st.sampled_from(FORMATS)),
        kv=KV(key=key, value=draw(st.sampled_from([key, *FORMATS]))),
        graphs=draw(st.booleans()), overlap=draw(st.booleans()), library=draw(st.booleans()), mtp=draw(st.booleans()),
    )  # fmt: skip


@st.composite
def settings(draw: st.DrawFn) -> Settings:
    length = draw(st.integers(0, 6))
    return Settings(
        engine=draw(st.sampled_from(ENGINES)), scheduler=draw(st.sampled_from(["chunked", "prefill_first", "static"])),
        kv=draw(st.sampled_from(["paged", "contiguous"])), max_seqs=draw(st.integers(1, 4096)),
        budget=draw(st.integers(1, 65536)), max_len=draw(st.integers(0, 1 << 20)), block=draw(st.integers(1, 256)),
        memory=draw(st.floats(0.05, 1.0)), watermark=draw(st.floats(0.0, 0.5)), prefix_cache=draw(st.booleans()),
        swap=draw(st.booleans()), host_cache=draw(st.sampled_from([0.0, 1e6, 64e9])),
        disk_cache=draw(st.sampled_from([0.0, 1e12])), graphs=draw(st.integers(0, 1024)),
        speculation=Speculation(length, tree=draw(st.integers(0, 64)) if length else 0, adaptive=draw(st.booleans())),
        adapters=draw(st.integers(0, 64)), rank=draw(st.integers(1, 1024)),
        prefill_share=draw(st.sampled_from([0.0, 0.5])),
    )  # fmt: skip


@st.composite
def deployments(draw: st.DrawFn) -> Deployment:
    kinds = [("both",), ("both", "both"), ("prefill", "decode"), ("prefill", "prefill", "decode")]
    roles = draw(st.sampled_from(kinds))
    fits = plans().filter(lambda p: p.devices <= MACHINE.count)
    groups = tuple(Replicas(MACHINE, draw(fits), draw(st.integers(1, 3)), role, draw(settings())) for role in roles)
    router = draw(st.sampled_from(["round_robin", "least_loaded", "power_of_two", "prefix_aware", "deficit"]))
    return Deployment(draw(st.sampled_from([DENSE, EXPERTS])), groups, router=router, pooled=draw(st.booleans()))


# What a person may call a model: an organization and a name, a path, and what a shell would stumble over.
NAMES = st.one_of(
    st.just("Qwen/Qwen3-32B-FP8"),
    st.just('/models/it\'s a $(path) with `ticks`, "quotes" and ${VARIABLES}'),
    st.text(st.characters(blacklist_categories=["Cc", "Cs"]), min_size=1, max_size=40).filter(
        lambda name: name.strip() and not name.startswith("-")
    ),
)


def refused(argv: Sequence[str], known: dict[str, Any]) -> list[str]:
    """What of a command line an engine would refuse, by the list of what it accepts."""
    words = list(argv)
    if words[: len(known.get("launcher", []))] == known.get("launcher", []):
        words = words[len(known.get("launcher", [])) :]
    command = known["command"]
    if words[: len(command)] != command:
        return [f"not {command}: {words[:3]}"]
    words, positional, out, seen = words[len(command) :], known["positional"], [], set()
    i = 0
    while i < len(words):
        if not words[i].startswith("-"):
            positional -= 1
            i += 1
            continue
        flag, rule = words[i], known["flags"].get(words[i])
        i += 1
        if rule is None:
            out.append(f"{flag}: not an argument")
            continue
        if flag in seen and flag not in ("--prefill", "--decode"):
            out.append(f"{flag}: given twice")
        seen.add(flag)
        values: list[str] = []
        while i < len(words) and rule["type"] != "flag" and (not values or rule.get("many")):
            if values and words[i].startswith("--"):
                break
            values.append(words[i])
            i += 1
        if rule["type"] != "flag" and not values:
            out.append(f"{flag}: no value")
        out += [f"{flag} {value}: {why}" for value in values if (why := _wrong(value, rule))]
    return out + ([f"{positional} positional arguments missing"] if positional else [])


def refused_options(found: dict[str, Any], rules: dict[str, Any]) -> list[str]:
    """The same of a file of options."""
    out = []
    for key, value in _flat(found):
        rule = rules.get(key)
        if rule is None:
            out.append(f"{key}: not an option")
        elif rule["type"] == "null":
            out += [] if value is None else [f"{key}: {value}"]
        elif rule["type"] == "bool":
            out += [] if isinstance(value, bool) else [f"{key}: {value} is no bool"]
        elif rule["type"] == "list":
            out += [] if isinstance(value, list) and value else [f"{key}: {value} is no list"]
        elif why := _wrong(str(value), rule):
            out.append(f"{key} {value}: {why}")
    return out


def _flat(found: dict[str, Any], path: str = "") -> list[tuple[str, Any]]:
    out: list[tuple[str, Any]] = []
    for key, value in found.items():
        if isinstance(value, dict):
            out += _flat(value, f"{path}{key}.")
        else:
            out.append((path + key, value))
    return out


def _wrong(value: str, rule: dict[str, Any]) -> str:
    """Why a value is not allowed, "" where it is."""
    if isinstance(value, Env):
        return ""
    if rule["type"] == "choice":
        return "" if value in [str(c) for c in rule["choices"]] else f"not one of {rule['choices']}"
    if rule["type"] == "json":
        return "" if set(json.loads(value)) <= set(rule["keys"]) else f"keys beyond {rule['keys']}"
    if rule["type"] not in ("int", "float"):
        return "" if value else "empty"
    try:
        x = int(value) if rule["type"] == "int" else float(value)
    except ValueError:
        return f"no {rule['type']}"
    low, high = rule.get("min", rule.get("above")), rule.get("max", rule.get("below"))
    if low is not None and (x < low or ("above" in rule and x == low)):
        return f"below {low}"
    if high is not None and (x > high or ("below" in rule and x == high)):
        return f"above {high}"
    return ""
