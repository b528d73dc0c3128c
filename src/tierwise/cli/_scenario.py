"""From what a user asked to a scenario: flags are a way to write its canonical form."""

from __future__ import annotations

import os
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

from tierwise.cli._flags import BATCH, DEGREES, FORMATS, KERNELS, Flags, asked, parsed, refuse
from tierwise.core.errors import BadField, TierwiseError
from tierwise.scenario.fields import FIELDS, SECTIONS, bad, known
from tierwise.scenario.types import Scenario

Json: TypeAlias = dict[str, Any]
# What a scenario written as text may say: all that a Scenario is made of.
TAKEN = ("machine", *BATCH, *DEGREES, *FORMATS, *KERNELS, "engine", "technique")


def asked_for(given: Flags) -> tuple[Scenario, Json]:
    """(the scenario, model and machine looked up; the canonical form that says the same, with names as given).

    Raises:
        TierwiseError: an unknown name or a value that cannot be.
    """
    for name in ("prompt", "output"):
        if isinstance(rule := getattr(given, name), str):
            raise bad(FIELDS[name].option, rule, "a whole number; a rule describes requests over time")
    return made(given, merged(given))


def made(given: Flags, form: Json, found: Mapping[str, Any] | None = None) -> tuple[Scenario, Json]:
    """(the scenario of a canonical form, the form with everything that was chosen for it).

    Args:
        found: model and machine, where they were looked up before.
    """
    from tierwise.scenario.schema import apply, from_dict, to_dict

    techniques = form.get("techniques", [])
    plain = {k: v for k, v in form.items() if k != "techniques"}
    values = dict(looked_up(form) if found is None else found)
    _check_images(given, form, values["model"])
    base = from_dict(plain | values, given.source or "the flags")
    chosen = to_dict(replace(base, model="", machine=""))
    full = chosen | form | {"plan": chosen["plan"], "traffic": form.get("traffic", {}) | chosen["traffic"]}
    order = ("schema", "model", "machine", "engine", "traffic", "plan", "techniques", "applied", *SECTIONS)
    scenario = apply(base, techniques)
    _check_copies(given, scenario)
    return scenario, {k: full[k] for k in order if full.get(k)}


def _check_copies(given: Flags, scenario: Scenario) -> None:
    """Refuse a schedule of copies where all lies on the device and nothing is copied."""
    from tierwise.schedule import moves_only

    plan = scenario.plan
    if "schedule" not in given.said or plan is None or plan.placement.tensors or plan.placement.parts:
        return
    if moves_only(plan.schedule):
        raise bad(FIELDS["schedule"].option, plan.schedule, "a schedule that orders more than copies: all lies on "
                  "the device; put something elsewhere, as with --technique offload_weights")  # fmt: skip


def _check_images(given: Flags, form: Json, model: Any) -> None:
    """Refuse images for a model of text alone, which would answer as if nobody had asked."""
    images = (form.get("traffic") or {}).get("images")
    blind = model.task == "generate" and not any(s.stream == "vision" for s in model.stacks)
    if blind:
        refuse(given, ["image_size"], f"nothing: {model.name} has no part that looks at images")
    if blind and isinstance(images, (int, float)) and images > 0:
        where = FIELDS["images"].option if "images" in given.said else f"{given.source}: traffic.images"
        raise bad(where, images, f"0: {model.name} has no part that looks at images")


def merged(given: Flags) -> Json:
    """The canonical form with what the flags say in its place.

    Raises:
        TierwiseError: no machine; an engine that nobody knows.
    """
    from tierwise.scenario.schema import version

    out: Json = {k: dict(v) if isinstance(v, Mapping) and k != "model" else v for k, v in given.saved.items()}
    out |= {"schema": version(), "model": given.model or out.get("model")}
    for name, value in given.said.items():
        row = FIELDS[name]
        if row.section in ("traffic", "serving", "targets"):
            out.setdefault(row.section, {})[name] = value
    if "machine" in given.said:
        out["machine"] = given.machine if isinstance(given.machine, str) else given.machine[0]
    if not out.get("machine"):
        raise TierwiseError("on which machine? Give --on h100-sxm, 8xh200-sxm, dgx-h100 or a YAML file")
    if "engine" in given.said or out.get("engine"):
        out["engine"] = engine(given, out)
    return out | {"plan": _plan(given, out), "techniques": _techniques(given, out)}


def one_of_each(form: Mapping[str, Any], source: str, several: Collection[str]) -> None:
    """Refuse a form with several values where what is asked plays one configuration.

    Args:
        several: what the command compares several of, a plan's own fields never.

    Raises:
        TierwiseError: names the field.
    """
    for section in ("traffic", "plan", "serving", "targets"):
        for name, value in (form.get(section) or {}).items():
            told = (name in several or (name in FIELDS and FIELDS[name].many)) and section != "plan"
            if isinstance(value, list) and not told:
                raise TierwiseError(f"{source}: {section}.{name} holds several values; one configuration is asked for")


def engine(given: Flags, form: Mapping[str, Any]) -> str:
    """The engine asked for, "" for the usual one of the model and machine.

    Raises:
        TierwiseError: neither an engine on file nor one that the machine was measured with.
    """
    from tierwise import engines
    from tierwise.machines.held import split

    found: str = given.engine or ""
    if not isinstance(found, str):
        raise BadField(given.source or "--engine", "engine", found, "one engine; `plan serve` takes several")
    # A machine file of one's own names the engines it was measured with; the step function knows them.
    own = isinstance(form.get("machine"), str) and split(form["machine"])[0].lower().endswith((".yaml", ".yml"))
    if not found or own:
        return found
    name, at, version = found.partition("@")
    if at and not version[:1].isdigit():
        raise BadField("--engine", "version", version, f"a number after @, as in {engines.DEFAULT}@0.24")
    return known("--engine", name, [*engines.names(), engines.TYPICAL, engines.KERNELS]) + at + version


def _plan(given: Flags, form: Json) -> Json:
    held = form.get("plan") or {}
    if not isinstance(held, Mapping):
        raise BadField("scenario", "plan", held, "a mapping of fields to values")
    plan: Json = dict(held)
    said = given.said
    plan |= {name: said[name] for name in (*DEGREES, "weights", "activations", "chunk", "schedule") if name in said}
    if "kv" in said:
        plan["kv"] = {**_mapping(plan.get("kv")), "key": said["kv"], "value": said["kv"]}
    if "eager" in said:
        plan["graphs"] = not said["eager"]
    if "unfused" in said:
        plan["flash"] = not said["unfused"]
    return plan


def _mapping(kv: Any) -> Json:
    if isinstance(kv, str):
        return {"key": kv, "value": kv}
    if not isinstance(kv, Mapping | None):
        raise BadField("scenario", "plan.kv", kv, "a format, or a mapping of key and value to formats")
    return dict(kv or {})


def _techniques(given: Flags, form: Json) -> list[str]:
    own = [f"eager:framework={given.said['framework']}"] if "framework" in given.said else []
    return [*(form.get("techniques") or []), *own, *given.said.get("technique", [])]


def looked_up(form: Mapping[str, Any]) -> Json:
    """Model and machine of a canonical form as values; from here on they are looked up no more."""
    from tierwise.machines import system
    from tierwise.machines.types import System
    from tierwise.models.load import load_model
    from tierwise.models.types import Model
    from tierwise.scenario.content import decode

    found = {key: form[key] for key in ("model", "machine")}
    size = (form.get("traffic") or {}).get("image_size")

    def model(spec: str) -> Any:
        return load_model(spec, size if isinstance(size, (int, float)) else None)

    out: Json = {}
    for name, load, kind in (("model", model, Model), ("machine", system, System)):
        held = found[name]
        value = load(held) if isinstance(held, str) else decode(held, "scenario", name)
        if not isinstance(value, kind):
            raise BadField("scenario", name, held, f"the name of one {name}, or its contents as `--save` writes them")
        out[name] = value
    return out


def from_text(text: str, base: str | None = None, common: Mapping[str, Any] | None = None) -> tuple[Scenario, Json]:
    """A scenario written as ``"llama-2-7b --on a100-80gb --batch max"``, and its canonical form.

    A leading ``…`` or ``...`` continues ``base``, so that a comparison says only what changes.

    Args:
        common: settings that hold where the text says nothing.

    Raises:
        TierwiseError: a flag or value that cannot be, or a training step.
    """
    found = flags_of(text, base, TAKEN, common)
    if found.train:
        raise TierwiseError(f"{text}: a training step; `tierwise diff` sets two of them side by side")
    return asked_for(found)


def flags_of(text: str, base: str | None, taken: Sequence[str], common: Mapping[str, Any] | None = None) -> Flags:
    """What a scenario written as text asks, with the settings that it may name; otherwise as :func:`from_text`."""
    words = _split(text)
    if words and words[0] in ("…", "..."):
        if base is None:
            raise TierwiseError("the first scenario cannot start with '…': there is nothing before it to continue")
        words = [*_split(base), *words[1:]]
    model, said = parsed(words, taken)
    return asked(model, {**(common or {}), **said})


def _split(text: str) -> list[str]:
    if os.path.isfile(text):  # whose name may have spaces
        return [text]
    try:
        return shlex.split(text)
    except ValueError as error:
        raise TierwiseError(f"in the scenario text {text!r}: {error}") from None
