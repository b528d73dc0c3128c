"""What a configuration leaves unsaid: the defaults of its configuration class in `transformers`.

Published configurations hold only what differs from the class, so an absent field is the class's default and nothing
else. The table ``families/_defaults.json`` is written by ``benchmarks/fit/defaults.py`` and says from which version.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

_TABLE = Path(__file__).parent / "families" / "_defaults.json"
COUNTED = Path(__file__).parent / "families" / "_counted.json"
# A file that describes one model says how large it is: a default in its place would be another model.
_SAID = frozenset({"hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size", "d_model", "n_embd",
                   "n_layer", "num_layers", "d_ff", "n_layers"})  # fmt: skip


@dataclass(frozen=True)
class Defaults:
    """Of one configuration class.

    Attributes:
        fields: value by name.
        sections: ``model_type`` of each nested section whose class is fixed, whatever the section says it is.
        usual: ``model_type`` of the others, where they do not say.
        same: other spellings of a field, either way.
        bare: the class that has its layers and no head; ``text``: its text model alone, where another has towers or an
            encoder as well. Empty for none.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    sections: Mapping[str, str] = field(default_factory=dict)
    usual: Mapping[str, str] = field(default_factory=dict)
    same: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    bare: str = ""
    text: str = ""

    def spellings(self, names: tuple[str, ...]) -> tuple[str, ...]:
        """Names with the other spellings their class accepts."""
        if not self.same:
            return names
        return tuple(dict.fromkeys(s for n in names for s in (n, *self.same.get(n, ()))))

    def section(self, name: str, kind: str) -> Defaults:
        """Of a nested section that says it is of a type (``""``: says nothing)."""
        return _of(self.sections.get(name, "")) or _of(kind) or _of(self.usual.get(name, "")) or NOTHING


NOTHING = Defaults()


def defaults_of(kind: str) -> Defaults:
    """Defaults of a ``model_type``, without those sizes that a file of one model has to say; empty for one that
    `transformers` does not have."""
    found = _of(kind)
    if found is None:
        return NOTHING
    return replace(found, fields={k: v for k, v in found.fields.items() if k not in _SAID})


def writes_text(kind: str) -> bool:
    """Whether a type has a class that writes text; so has one that `transformers` does not know."""
    return kind not in _table()["other"]


def predicts_masked(kind: str) -> bool:
    """Whether a type that writes no text has a class that fills in masked tokens."""
    return bool(_table()["other"].get(kind))


@lru_cache(maxsize=1)
def counted() -> dict[str, dict[str, Any]]:
    """Of types that no family builds, by name: ``off``, the relative error of the count that their fields are read to,
    with the class's own sizes; ``as``, the family they are nearer to than to a generic decoder. Written by
    ``benchmarks/fit/readings.py``."""
    found: dict[str, dict[str, Any]] = json.loads(COUNTED.read_text(encoding="utf-8"))["types"]
    return found


@lru_cache(maxsize=256)
def _of(kind: str) -> Defaults | None:
    entry = _table()["types"].get(kind)
    if entry is None:
        return None
    same: dict[str, list[str]] = {}
    for other, name in entry.get("same", {}).items():
        same.setdefault(name, []).append(other)
        same.setdefault(other, []).append(name)
    return Defaults(entry.get("fields", {}), entry.get("sections", {}), entry.get("usual", {}),
                    {k: tuple(v) for k, v in same.items()}, entry.get("bare", ""), entry.get("text", ""))  # fmt: skip


@lru_cache(maxsize=1)
def _table() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return found
