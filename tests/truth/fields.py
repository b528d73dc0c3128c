"""One field of a configuration dropped or changed at a time, read here and by `transformers`: no silent difference.

A row is ``equal`` (the same count), ``named`` (a note names the field), ``refused`` (an error names it, or both
refuse), ``beyond`` (`transformers` refuses it) or ``silent``. The whole sweep, over one shared configuration of each
type (or, with ``--all``, over all):

    PYTHONPATH=src:tests/truth python tests/truth/fields.py
"""

from __future__ import annotations

import copy
import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import reference

from tierwise.core.errors import TierwiseError
from tierwise.models.hf import from_config

# Counts agree to the router biases, which `transformers` keeps as buffers, not parameters.
TOLERANCE = 1e-6
# Neither shapes nor counts: names, versions, how weights are stored, what has its own tests.
_ASIDE = {"model_type", "architectures", "quantization_config", "torch_dtype", "dtype", "transformers_version",
          "auto_map", "_name_or_path", "name_or_path", "language", "license", "id2label", "label2id"}  # fmt: skip


@dataclass(frozen=True)
class Row:
    """One change of one field and what came of it."""

    config: str
    field: str
    change: str
    outcome: str
    ours: float | None = None
    theirs: int | None = None


def changes(data: Mapping[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str, Any]]:
    """(path of a field, what is done to it, its new value or None to drop it), for every field and section."""
    for name, value in data.items():
        if name in _ASIDE or name.startswith("_"):
            continue
        at = (*path, name)
        if isinstance(value, Mapping):
            yield from changes(value, at)
            continue
        yield at, "dropped", None
        if isinstance(value, bool):
            yield at, "flipped", not value
        elif isinstance(value, int) and value > 0:
            yield at, "doubled", 2 * value
            if value > 1:
                yield at, "halved", value // 2
        elif isinstance(value, list) and value and all(isinstance(v, str) for v in value):
            yield at, "reversed", value[::-1]


def changed(data: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    out: dict[str, Any] = copy.deepcopy(dict(data))
    inner = out
    for name in path[:-1]:
        inner = inner[name]
    if value is None:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return out


def outcome(name: str, data: Mapping[str, Any], path: tuple[str, ...], change: str, value: Any) -> Row:
    """What a change comes to, here and there."""
    new, field = changed(data, path, value), ".".join(path)
    try:
        theirs = reference.count(new)
    except Exception:  # whatever its own checks and layers raise
        return Row(name, field, change, "beyond")
    try:
        model = from_config(new, name)
    except TierwiseError as error:
        return Row(name, field, change, "refused" if path[-1] in str(error) else "silent")
    ours = float(model.parameters)
    if abs(ours - theirs) <= TOLERANCE * theirs:
        return Row(name, field, change, "equal")
    told = any(path[-1] in note for note in model.notes)
    return Row(name, field, change, "named" if told else "silent", ours, theirs)


def configurations(one_a_type: bool = False) -> Iterator[tuple[str, dict[str, Any]]]:
    """Shared configurations that `transformers` builds, each once (many differ in quantization only)."""
    seen = set()
    for path in sorted(reference.SHARED.glob("*/config.json")):
        data = json.loads(path.read_text())
        shape = json.dumps({k: v for k, v in data.items() if k not in _ASIDE}, sort_keys=True)
        key = data["model_type"] if one_a_type else shape
        try:
            reference.config_of(data)
        except reference.Unknown:
            continue
        if key not in seen:
            seen.add(key)
            yield path.parent.name, data


def main() -> None:
    counts: Counter[str] = Counter()
    for name, data in configurations("--all" not in sys.argv):
        for path, change, value in changes(data):
            row = outcome(name, data, path, change, value)
            counts[row.outcome] += 1
            if row.outcome == "silent":
                print(f"{row.config} {row.field} {row.change}: {row.ours} here, {row.theirs} there", flush=True)
    print(sum(counts.values()), dict(counts), file=sys.stderr)
    print(sum(counts.values()), dict(counts))


if __name__ == "__main__":
    main()
