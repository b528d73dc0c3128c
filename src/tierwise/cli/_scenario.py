"""From flags to a scenario. The same flags work in every command that takes one."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.numerics import fmt
from tierwise.core.units import parse
from tierwise.models.types import Model
from tierwise.scenario.types import KV, Batch, Plan, Scenario


@dataclass(frozen=True)
class Flags:
    """What a user wrote, still as text; None where nothing was."""

    model: str
    on: str
    batch: str = "1"
    prompt: str | None = None
    output: str = "256"
    images: str | None = None
    image_size: str | None = None
    tp: int | None = None
    pp: int | None = None
    dp: int | None = None
    ep: int | None = None
    weights: str | None = None
    activations: str | None = None
    kv: str | None = None
    chunk: str | None = None
    eager: bool = False
    unfused: bool = False
    framework: str | None = None


def scenario(flags: Flags) -> Scenario:
    """The scenario that flags describe.

    Raises:
        TierwiseError: an unknown name or a value that cannot be.
    """
    from tierwise.machines import system
    from tierwise.models.load import load_model
    from tierwise.scenario.resolve import default_plan
    from tierwise.techniques.execution import eager

    model, machine = load_model(flags.model), system(flags.on)
    given = {k: float(v) for k in ("tp", "pp", "dp", "ep") if (v := getattr(flags, k)) is not None}
    for key, value in given.items():
        if value < 1:
            raise BadField("--" + key, "degree", int(value), "a whole number of at least 1")
    plan = with_formats(default_plan(model, machine, **given), flags.weights, flags.activations, flags.kv)
    if flags.chunk is not None:
        plan = replace(plan, chunk=_count("--chunk", flags.chunk))
    plan = replace(plan, graphs=not flags.eager, flash=not flags.unfused)
    found = Scenario(model, machine, _traffic(flags, model), plan)
    return found if flags.framework is None else found.apply(eager(flags.framework))


def with_formats(plan: Plan, weights: str | None, activations: str | None, kv: str | None) -> Plan:
    """The plan with the formats that flags name; None keeps the plan's own."""
    if weights is not None:
        plan = replace(plan, weights=fmt(weights))
    if activations is not None:
        plan = replace(plan, activations=fmt(activations))
    if kv is not None:
        form = fmt(kv, zero_bits=16.0)
        plan = replace(plan, kv=KV(key=form, value=form))
    return plan


def _traffic(flags: Flags, model: Model) -> Batch:
    # A model that listens is prompted by its clip; its decoder starts from one token.
    usual = "1" if any(s.stream == "audio" for s in model.stacks) else "2048"
    batch: Any = "max" if flags.batch.strip().lower() == "max" else _count("--batch", flags.batch)
    images = _count("--images", flags.images) if flags.images is not None else 0.0
    size = _count("--image-size", flags.image_size) if flags.image_size is not None else None
    return Batch(_count("--prompt", flags.prompt or usual), _count("--output", flags.output), batch, images, size)


def _count(flag: str, text: str) -> float:
    value = parse(text, "count", flag, "value")
    if value != int(value):
        raise BadField(flag, "value", text, "a whole number")
    return value


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise TierwiseError(f"in the scenario text: {message}")


def from_text(text: str, base: str | None = None) -> Scenario:
    """A scenario written as ``"llama-2-7b --on a100-80gb --batch max"``; a leading ``…`` or ``...`` continues
    ``base``, so that a comparison says only what changes."""
    words = _split(text)
    if words and words[0] in ("…", "..."):
        if base is None:
            raise TierwiseError("the first scenario cannot start with '…': there is nothing before it to continue")
        words = [*_split(base), *words[1:]]
    parser = _Parser(prog="scenario", add_help=False)
    parser.add_argument("model")
    parser.add_argument("--on", required=True)
    for name in ("batch", "prompt", "output", "images", "image-size", "weights", "activations", "kv", "chunk",
                 "framework"):  # fmt: skip
        parser.add_argument("--" + name)
    for name in ("tp", "pp", "dp", "ep"):
        parser.add_argument("--" + name, type=int)
    for name in ("eager", "unfused"):
        parser.add_argument("--" + name, action="store_true")
    found = {k: v for k, v in vars(parser.parse_args(words)).items() if v is not None}
    return scenario(Flags(**found))


def _split(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError as error:
        raise TierwiseError(f"in the scenario text {text!r}: {error}") from None
