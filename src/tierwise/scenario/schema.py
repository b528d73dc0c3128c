r"""The canonical form of a scenario: plain JSON types under a versioned schema (``docs/scenarios.md``).

>>> to_dict(Scenario("llama-2-7b", "a100-80gb"))
{'schema': 'tierwise.scenario/1', 'model': 'llama-2-7b', 'machine': 'a100-80gb', 'traffic': {'prompt': 2048, \
'output': 256, 'batch': 1}}

What equals its default is left out, but never the size of the traffic nor a parallel degree: where a file lacks one of
them, it is chosen for the model and the machine, as the command line does. Model and machine are names or paths where
the scenario has such, else their contents.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Literal, TypeAlias, get_args, get_type_hints

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.jsontext import number
from tierwise.core.num import Num, num
from tierwise.core.numerics import Format, fmt
from tierwise.core.units import parse, whole
from tierwise.scenario import fields as table
from tierwise.scenario.content import decode, encode, format_name, unknown_field
from tierwise.scenario.types import Applied, Batch, Plan, Scenario

Json: TypeAlias = dict[str, Any]
Step: TypeAlias = Callable[[Json], Json]

# STEPS[i] rewrites a scenario of version i + 1 as one of version i + 2. The first form is version 1.
STEPS: tuple[Step, ...] = ()
NAME = "tierwise.scenario"
DEGREES = ("tp", "pp", "dp", "ep")
FIELDS = ("schema", "model", "machine", "traffic", "plan", "engine", "techniques", "applied")
# Beside them, the sections that only some commands read.
KNOWN = (*FIELDS, *table.SECTIONS)
SIZES = ("prompt", "output", "batch")


def to_dict(scenario: Scenario) -> Json:
    """The canonical form.

    Raises:
        TierwiseError: a model or machine given as a value holds what only Python can.
    """
    out: Json = {
        "schema": version(),
        "model": encode(scenario.model, "model"),
        "machine": encode(scenario.machine, "machine"),
        "traffic": {k: _plain(getattr(scenario.traffic, k), k) for k in SIZES} | _written(scenario.traffic),
    }
    if scenario.plan is not None:
        degrees = {k: _number(getattr(scenario.plan, k)) for k in DEGREES}
        out["plan"] = degrees | _written(scenario.plan)
    if scenario.engine:
        out["engine"] = scenario.engine
    if scenario.techniques or scenario.applied:
        out["applied"] = _noted(scenario)
    return out


def from_dict(data: Mapping[str, Any], where: str = "scenario", steps: Sequence[Step] = STEPS) -> Scenario:
    """The scenario of a canonical form, of this version or an earlier one.

    Args:
        data: the form. ``techniques`` (``"quantize_kv:bits=2"``) are applied, in order; what ``applied`` lists is in
            the model and the plan already and only named.
        where: the file, for errors.
        steps: how earlier versions become this one.

    Raises:
        TierwiseError: a version from the future, an unknown field, a value of the wrong type; says file, field, what
            was found and what is allowed.
    """
    found = migrate(data, where, steps)
    check_names(found, where)
    for name in ("model", "machine"):
        if isinstance(found.get(name), (int, float, list, bool)) or not found.get(name):
            raise BadField(where, name, found.get(name), f"a {name}'s name or path, or its contents")
    model, machine = (decode(found[name], where, name) for name in ("model", "machine"))
    _check_parts(model, machine, where)
    engine = found.get("engine") or ""
    if not isinstance(engine, str):
        raise BadField(where, "engine", engine, 'the name of an engine, or "" for the usual one')
    plan = None
    if found.get("plan") is not None:
        plan = _plan(model, machine, read_fields(Plan, found["plan"], where, "plan"))
    traffic = _batch(model, found.get("traffic"), where)
    names, applied = _applied(found.get("applied"), where)
    scenario = Scenario(model, machine, traffic, plan, names, engine, applied)
    return apply(scenario, _names(found.get("techniques"), where, "techniques"))


def check_names(form: Mapping[str, Any], where: str) -> None:
    """Refuse a name that no section has.

    Raises:
        BadField: with the nearest names.
    """
    for name in form:
        if name not in KNOWN:
            raise unknown_field(where, str(name), form[name], list(KNOWN))
    own = [f.name for f in fields(Batch)]
    allowed = {"traffic": list(dict.fromkeys([*own, *table.names("traffic")]))}
    for section in ("traffic", *table.SECTIONS):
        found = form.get(section)
        if found is None:
            continue
        if not isinstance(found, Mapping):
            raise BadField(where, section, found, "a mapping of fields to values")
        for name in found:
            known = allowed.get(section) or table.names(section)
            if name not in known:
                raise unknown_field(where, f"{section}.{name}", found[name], known)


def check_file(form: Mapping[str, Any], where: str) -> None:
    """Refuse a file's names that no section has, and what is no name where one belongs.

    Raises:
        BadField: which, and what may be there.
    """
    check_names(form, where)
    for name in ("model", "machine", "engine", "techniques"):
        value = form.get(name)
        texts = isinstance(value, (list, tuple)) and name != "model" and all(isinstance(v, str) for v in value)
        plain = isinstance(value, str) and name != "techniques"
        whole = isinstance(value, Mapping) and name in ("model", "machine")
        if not (value is None or texts or plain or whole):
            allowed = "a list of texts" if name == "techniques" else "a name" + (
                ", or its contents as `--save` writes them" if name in ("model", "machine") else "")
            raise BadField(where, name, value, allowed)


def usual_prompt(model: Any) -> Num:
    """Tokens of a prompt where nobody says: a model that listens is prompted by its clip, its decoder by one token."""
    from tierwise.models.load import load_model

    return 1.0 if any(s.stream == "audio" for s in load_model(model).stacks) else Batch.prompt


def apply(scenario: Scenario, techniques: Sequence[str]) -> Scenario:
    """The scenario with techniques given as text applied in order (``"quantize_kv:bits=2,group=32"``)."""
    if not techniques:
        return scenario
    # Techniques are made of scenarios; from here they are found by their place, as a user's own are.
    parse = importlib.import_module("tierwise.techniques").parse
    return scenario.apply(*(parse(text) for text in techniques))


def version(steps: Sequence[Step] = STEPS) -> str:
    """The schema's name and version today."""
    return f"{NAME}/{len(steps) + 1}"


def migrate(data: Mapping[str, Any], where: str = "scenario", steps: Sequence[Step] = STEPS) -> Json:
    """The form in today's version, by one step a version.

    Raises:
        BadField: no mapping, no such schema, or a version from the future.
    """
    newest = len(steps) + 1
    if not isinstance(data, Mapping):
        raise BadField(where, "scenario", data, "a mapping of fields to values")
    name, _, number = str(data.get("schema", version(steps))).partition("/")
    if name != NAME or not whole(number):
        raise BadField(where, "schema", data.get("schema"), f"{NAME}/1 to {NAME}/{newest}")
    if whole(number) > newest:
        allowed = f"{NAME}/1 to {NAME}/{newest}; a later version of Tierwise wrote this"
        raise BadField(where, "schema", data["schema"], allowed)
    out = dict(data)
    for step in steps[int(number) - 1 :]:
        out = step(out)
    return out | {"schema": version(steps)}


def read_fields(cls: type[Any], data: object, where: str, field: str) -> Json:
    """The arguments of a dataclass of settings, each read by its type.

    Raises:
        BadField: no mapping, an unknown field, a value of the wrong type.
    """
    if data is None:
        return {}
    if not isinstance(data, Mapping):
        raise BadField(where, field, data, "a mapping of fields to values")
    types = get_type_hints(cls)
    known = [f.name for f in fields(cls) if f.init]
    out: Json = {}
    for name, value in data.items():
        if name not in known:
            raise unknown_field(where, f"{field}.{name}", value, known)
        out[name] = _value(types[name], value, where, f"{field}.{name}")
    return out


def _value(kind: Any, value: Any, where: str, field: str) -> Any:
    options = get_args(kind) if type(kind).__name__ in ("UnionType", "_UnionGenericAlias", "Union") else (kind,)
    if value is None and type(None) in options:
        return None
    if Format in options:
        return _format(value, where, field)
    if bool in options:
        return _switch(value, where, field)
    words = [w for o in options if getattr(o, "__origin__", None) is Literal for w in get_args(o)]
    if isinstance(value, str) and value in words:
        return value
    if float in options:
        return _read_number(value, where, field, words)
    if str in options:
        if not isinstance(value, str):
            raise BadField(where, field, value, "text")
        return value
    if isinstance(kind, type) and is_dataclass(kind) and not (isinstance(value, Mapping) and "$" in value):
        if isinstance(value, str) and {"key", "value"} <= {f.name for f in fields(kind)}:  # kv: fp8
            value = {"key": value, "value": value}
        given = read_fields(kind, value, where, field)
        try:
            return kind(**given)
        except (TypeError, ValueError):
            raise BadField(where, field, value, "lists as they are written by `--save`") from None
    return decode(value, where, field)


def _format(value: Any, where: str, field: str) -> Format:
    if isinstance(value, Mapping):
        if "$" in value or "$format" in value:
            found = decode(value, where, field)
            if not isinstance(found, Format):
                raise BadField(where, field, value, "a number format")
            return found
        raise BadField(where, field, value, "the name of a number format such as fp8 or int4-g128, or a list of names")
    if not isinstance(value, (str, list)) or not value:
        raise BadField(where, field, value, "the name of a number format such as fp8 or int4-g128, or a list of names")
    try:
        return fmt(value, **_zeros(field))
    except (TierwiseError, ValueError) as error:
        raise TierwiseError(f"{where}: {field}: {error}") from None


def _zeros(field: str) -> dict[str, Any]:
    """Groups of keys and values have an fp16 zero where the name does not say, as ``--kv`` reads it."""
    return {"zero_bits": 16.0} if field.rpartition(".")[2] in ("key", "value", "kv") else {}


def _switch(value: Any, where: str, field: str) -> bool | NDArray[np.bool_]:
    if isinstance(value, bool):
        return value
    found = np.asarray(value if isinstance(value, list) else [], dtype=object)
    if found.size and all(isinstance(x, bool) for x in found.flat):
        return found.astype(bool)
    raise BadField(where, field, value, "true or false")


def _read_number(value: Any, where: str, field: str, words: Sequence[str] = ()) -> Num:
    allowed = "a number, or nested lists of equally many numbers" + "".join(f", or {w!r}" for w in words)
    if isinstance(value, list):
        try:
            found = np.asarray([_read_number(v, where, field) for v in value], dtype=np.float64)
        except (ValueError, TypeError):
            raise BadField(where, field, value, allowed) from None
        if not found.size:
            raise BadField(where, field, value, allowed)
        return num(found)
    if isinstance(value, str) and value.strip().lower() in ("inf", "-inf", "nan"):
        return float(value)
    if isinstance(value, str):
        try:
            return parse(value, "count", where, field)
        except BadField:
            raise BadField(where, field, value, allowed) from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise BadField(where, field, value, allowed)
    read = number(value)
    if math.isinf(read) and isinstance(value, int):
        raise BadField(where, field, value, allowed)
    return read


def _written(value: Any) -> Json:
    """The fields of settings that differ from their defaults."""
    plain = type(value)()
    out: Json = {}
    for f in fields(value):
        found = _plain(getattr(value, f.name), f.name)
        if found != _plain(getattr(plain, f.name), f.name):
            out[f.name] = found
    return out


def _plain(value: Any, field: str) -> Any:
    if isinstance(value, Format):
        name = format_name(value, **_zeros(field))
        return encode(value, field) if name is None else name
    if is_dataclass(value):
        written = _written(value)
        return written if _readable(type(value)) else encode(value, field)
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind == "b":
        return value.tolist()
    if isinstance(value, (bool, str)) or value is None:
        return value
    if isinstance(value, (int, float, np.ndarray, np.generic)):
        return _number(value)
    return encode(value, field)


def _readable(cls: type[Any]) -> bool:
    """Whether every field has a default, so that what is left out can be read back."""
    return cls is not Format


def _number(value: Any) -> Any:
    """A number, or nested lists of them; what is not finite as text. Whole numbers are written as such."""
    if isinstance(value, (np.ndarray, np.generic)):
        return _number(value.tolist())
    if isinstance(value, list):
        return [_number(v) for v in value]
    if not math.isfinite(value):
        return str(float(value))
    return int(value) if value == int(value) and abs(value) < 2**53 else float(value)


def _batch(model: Any, data: Mapping[str, Any] | None, where: str) -> Batch:
    """Equal requests of a traffic section, whose other fields describe requests over time."""
    own = [f.name for f in fields(Batch)]
    given = read_fields(Batch, {k: v for k, v in (data or {}).items() if k in own}, where, "traffic")
    return Batch(**{"prompt": usual_prompt(model)} | given if "prompt" not in given else given)


def _plan(model: Any, machine: Any, given: Json) -> Plan:
    """The plan; degrees that nobody gave are chosen."""
    from dataclasses import replace

    if any(name not in given for name in DEGREES):
        from tierwise.machines import system
        from tierwise.models.load import load_model
        from tierwise.scenario.resolve import default_plan

        chosen = {k: given.pop(k) for k in DEGREES if k in given}
        # Arrays of degrees have no choice that suits all: what is missing is 1.
        if any(np.ndim(x) for x in chosen.values()):
            return Plan(**chosen, **given)
        machine = system(machine) if isinstance(machine, str) else machine
        return replace(default_plan(load_model(model), machine, given.get("weights"), **chosen), **given)
    return Plan(**given)


def _check_parts(model: Any, machine: Any, where: str) -> None:
    from tierwise.machines.types import System
    from tierwise.models.types import Model

    for name, value, kind in (("model", model, Model), ("machine", machine, System)):
        if not isinstance(value, (str, kind)):
            raise BadField(where, name, value, f"a {name}'s name or path, or its contents as this package writes them")


def _noted(scenario: Scenario) -> list[Any]:
    """Techniques by name, each with what it touched where that is known."""
    known = list(scenario.applied)
    out: list[Any] = []
    for name in scenario.techniques:
        if known and known[0].name == name:
            out.append({"name": name, "matched": [[what, n] for what, n in known.pop(0).matched]})
        else:
            out.append(name)
    if known:
        raise TierwiseError(f"techniques: {known[0].name!r} is in `applied` of a scenario and not in its `techniques`")
    return out


def _applied(value: Any, where: str) -> tuple[tuple[str, ...], tuple[Applied, ...]]:
    allowed = "a list of names, or of mappings {name: …, matched: [[what, how many], …]}"
    if not isinstance(value, (list, tuple, type(None))):
        raise BadField(where, "applied", value, allowed)
    names, notes = [], []
    for item in value or ():
        try:
            name, matched = (item, None) if isinstance(item, str) else (item["name"], item["matched"])
            if not isinstance(name, str):
                raise TypeError
            if matched is not None:
                notes.append(Applied(name, tuple((str(what), float(n)) for what, n in matched)))
        except (KeyError, TypeError, ValueError):
            raise BadField(where, "applied", item, allowed) from None
        names.append(name)
    return tuple(names), tuple(notes)


def _names(value: Any, where: str, field: str) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, (list, tuple)) or not all(isinstance(x, str) for x in value):
        raise BadField(where, field, value, "a list of text")
    return tuple(value)
