"""Launch files of a plan that makes a model fit: a module a program, found by its place. Nothing here runs anything.

A module has ``files(d)``: file name to text, nothing where the program cannot divide a model so. What its flags are was
read from what its ``SOURCE`` names.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from tierwise.models.marks import decoder, experts_of
from tierwise.program.placement import MARK
from tierwise.scenario.types import Scenario


@dataclass(frozen=True)
class Divided:
    """A model divided over tiers, as programs are told.

    Attributes:
        model: its published name. ``weights``, ``kv``: formats.
        depth: layers. ``routed``: those with experts. ``experts``: of such a layer.
        host_layers, host_experts, host_feed, host_caches: numbers of the layers that the host holds wholly, the experts
            of, the feed-forward parts of, the caches of.
        shares: of all weights by node (``""`` the device), where they stream to it; empty where the host computes.
        cache_shares: likewise. ``weight_bytes``: of all weights, over all devices.
        context, ubatch, batch: tokens of a conversation, of a micro-batch; conversations at once.
        cards, threads, sockets: devices, the host's cores, its sockets. ``vendor``: of the device.
        from_disk: the node that weights are read from while running; ``""`` for none.
        predicted: tokens per second, seconds to the first token, and an interval of the former.
    """

    model: str
    weights: str
    kv: str
    depth: int
    routed: tuple[int, ...]
    experts: int
    host_layers: tuple[int, ...]
    host_experts: tuple[int, ...]
    host_feed: tuple[int, ...]
    host_caches: tuple[int, ...]
    shares: Mapping[str, float]
    cache_shares: Mapping[str, float]
    weight_bytes: float
    context: int
    ubatch: int
    batch: int
    cards: int
    threads: int
    sockets: int
    vendor: str
    from_disk: str
    predicted: Mapping[str, Any]

    @property
    def whole(self) -> bool:
        """Whether the device holds all of it (but the embeddings)."""
        return not (self.host_layers or self.host_experts or self.host_feed or self.host_caches or self.from_disk
                    or any(v for k, v in self.shares.items() if k))  # fmt: skip

    @property
    def streams(self) -> bool:
        """Whether weights are copied to the device step by step, not computed where they lie."""
        return bool(self.shares)


def divided(
    s: Scenario, name: str, weights: str, kv: str, predicted: Mapping[str, Any],
    shares: Mapping[str, float] | None = None, cache_shares: Mapping[str, float] | None = None,
    weight_bytes: float = 0.0,
) -> Divided:  # fmt: skip
    """What a scenario's placement comes to, layer by layer."""
    r = s.resolved()
    stack = decoder(r.model)
    assert stack is not None
    placement = r.plan.placement
    on: dict[str, list[int]] = {"layer": [], "expert": [], "feed": [], "cache": []}
    for number, index in enumerate(stack.pattern):
        part = placement.of(stack.kinds[index].name)
        if MARK not in stack.kinds[index].name:
            continue
        if part.fractions("weights"):
            on["layer"].append(number)
            continue
        for key, group in (("expert", "expert"), ("feed", "mlp"), ("cache", "kv")):
            if part.fractions(group):
                on[key].append(number)
    facts = [b.facts() for k in stack.kinds for b in k.blocks]
    host = r.machine.host
    cpu = host.cpu if host is not None else None
    disks = [n for n in placement.nodes if n != "host"]
    return Divided(
        name, weights, kv, stack.depth, tuple(experts_of(stack)),
        int(max((float(np.max(f.experts)) for f in facts if f.experts is not None), default=0.0)),
        tuple(on["layer"]), tuple(on["expert"]), tuple(on["feed"]), tuple(on["cache"]), dict(shares or {}),
        dict(cache_shares or {}), weight_bytes, int(float(np.max(r.traffic.prompt)) + float(np.max(r.traffic.output))),
        int(float(np.max(r.plan.chunk))), int(float(np.max(np.asarray(r.traffic.batch, dtype=float)))),
        int(float(np.max(r.plan.devices))), sum(e.units for e in cpu.engines[:1]) * (host.sockets if host else 1) if cpu
        else 0, host.sockets if host is not None else 1, r.machine.device.vendor, disks[0] if disks else "", predicted,
    )  # fmt: skip


def targets() -> dict[str, ModuleType]:
    """Every program that files are written for, by module name."""
    return {i.name: importlib.import_module(f"{__name__}.{i.name}") for i in pkgutil.iter_modules(__path__)
            if not i.name.startswith("_")}  # fmt: skip


def files(d: Divided) -> dict[str, str]:
    """Every file of every program that can divide a model so, and a README.md with what was predicted."""
    out: dict[str, str] = {}
    said = []
    for name, module in targets().items():
        made: Mapping[str, str] = module.files(d)
        for path, text in made.items():
            out[path] = text
        if made:
            said.append(f"- `{', '.join(made)}`: {module.TITLE} ({module.SOURCE})")
        else:
            said.append(f"- nothing for {name}: {module.CANNOT}")
    out["prediction.json"] = json.dumps(dict(d.predicted), indent=1) + "\n"
    readme = [f"# {d.model} in {d.weights.upper() or 'its own format'}", "", prediction(d), "", *said, ""]
    return {"README.md": "\n".join(readme), **out}


def prediction(d: Divided) -> str:
    """One line for people."""
    p = d.predicted
    low, high = p.get("interval", (None, None))
    between = "" if low is None else f" (80 % of measurements between {low:.3g} and {high:.3g})"
    return (f"Predicted by Tierwise: {p['tokens_per_s']:.3g} tokens/s{between}, first token of a prompt of "
            f"{p['prompt']:,.0f} tokens after {p['first_token_s']:.3g} s. Not measured.")  # fmt: skip


def script(d: Divided, words: list[str], before: tuple[str, ...] = ()) -> str:
    """A shell script that starts a program, a flag a line, with the prediction above."""
    lines: list[str] = []
    for word in words:
        if word.startswith("-") or not lines:
            lines.append(word)
        else:
            lines[-1] += f" {word}"
    head = ["#!/bin/sh", f"# {prediction(d)}", *before]
    return "\n".join([*head, "exec " + " \\\n  ".join(lines), ""])


def one_line(words: list[str]) -> str:
    """The same on one line, without ``exec``."""
    return " ".join(words)
