"""Scenarios as files: YAML or JSON of the canonical form, with paths that stay right wherever the file lies.

A path in a file that begins with ``./`` or ``../`` is meant from the file's own folder, any other as it stands.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from tierwise.core.files import write
from tierwise.scenario.schema import NAME, from_dict, migrate, to_dict
from tierwise.scenario.types import Scenario

Json: TypeAlias = dict[str, Any]
_COUNTED = re.compile(r"^(\d+\s*[x×*]\s*)?(.*)$", re.DOTALL)
# Fields that may hold a path, by their place; policies and techniques may be a user's own file.
_PATHS = (
    ("model",), ("machine",), ("techniques",), ("traffic", "trace"), ("traffic", "arrivals"),
    ("serving", "scheduler"), ("serving", "router"), ("serving", "kv_manager"), ("serving", "autoscaler"),
    ("serving", "calibration"),
)  # fmt: skip


def load(path: str | Path) -> Scenario:
    """The scenario of a file.

    Raises:
        TierwiseError: no such file, no YAML, or not a scenario; says where and how.
    """
    return from_dict(read(path), str(path))


def save(scenario: Scenario, path: str | Path) -> None:
    """Write a scenario; ``-`` prints it.

    Raises:
        TierwiseError: a place that cannot be written, or a model given as a value that cannot be written down.
    """
    write_form(to_dict(scenario), str(path))


def read(path: str | Path) -> Json:
    """The canonical form in a file, in today's version, with its paths as seen from here."""
    from tierwise.machines.read import read_mapping

    found = migrate(read_mapping(Path(path)), str(path))
    folder = os.path.dirname(os.fspath(path))
    return _changed(found, lambda text: _here(text, folder)) if folder else found


def write_form(form: Json, path: str) -> None:
    """Write a canonical form, with its paths as seen from the file's folder."""
    import yaml

    folder = os.path.dirname(os.path.realpath(path)) if path != "-" else os.getcwd()
    data = _tidy(_changed(form, lambda text: _there(text, folder)))

    class Plain(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True

    write(path, yaml.dump(data, Dumper=Plain, sort_keys=False, default_flow_style=None, width=120))


def is_scenario(text: str) -> bool:
    """Whether a text means a saved scenario: a YAML file, or a JSON file that says so."""
    if text.lower().endswith((".yaml", ".yml")):
        return True
    if not text.lower().endswith(".json") or not os.path.isfile(text):
        return False
    with open(text, "rb") as file:
        return re.search(rb'"schema"\s*:\s*"' + NAME.encode() + rb"/", file.read(4096)) is not None


def _tidy(data: Any) -> Any:
    """Whole numbers without a point, for readers; model and machine keep theirs, whose fields tell them apart."""
    if isinstance(data, dict):
        return {k: v if k in ("model", "machine") else _tidy(v) for k, v in data.items()}
    if isinstance(data, list):
        return [_tidy(v) for v in data]
    return int(data) if isinstance(data, float) and data.is_integer() and abs(data) < 2**53 else data


def _here(text: str, folder: str) -> str:
    count, name = _parts(text)
    return count + os.path.normpath(os.path.join(folder, name)) if name.startswith(("./", "../")) else text


def _there(text: str, folder: str) -> str:
    count, name = _parts(text)
    path, tail = name, ""
    for mark in ("#", ":"):  # a model with the type it is read as, a user's file with arguments
        if not os.path.exists(path) and mark in name:
            path, found, rest = name.partition(mark)
            tail = found + rest
    if not os.path.exists(path) or os.path.isabs(path) or not ("/" in path or "." in path):
        return text
    found = os.path.relpath(os.path.realpath(path), folder)
    return count + (found if found.startswith("..") else "./" + found) + tail


def _parts(text: str) -> tuple[str, str]:
    match = _COUNTED.match(text)
    assert match is not None
    return match[1] or "", match[2]


def _changed(form: Json, change: Callable[[str], str]) -> Json:
    out = dict(form)
    for place in _PATHS:
        *above, last = place
        holder: Any = out
        for name in above:
            if isinstance(holder.get(name), dict):
                holder[name] = dict(holder[name])
            holder = holder.get(name)
            if not isinstance(holder, dict):
                break
        if not isinstance(holder, dict) or last not in holder:
            continue
        value = holder[last]
        if isinstance(value, str):
            holder[last] = change(value)
        elif isinstance(value, list):
            holder[last] = [change(v) if isinstance(v, str) else v for v in value]
    return out
