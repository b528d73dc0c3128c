"""From a Hugging Face configuration to a Model: find the family, build it, read its number formats."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import takewhile
from types import ModuleType
from typing import Any

from tierwise.core.errors import BadField, TierwiseError, nearest
from tierwise.models import families
from tierwise.models.config import Config
from tierwise.models.defaults import NOTHING, defaults_of
from tierwise.models.hf_quant import numerics
from tierwise.models.types import Model
from tierwise.models.unread import unread

_USUAL = (
    "hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "head_dim",
    "intermediate_size", "vocab_size", "n_embd", "n_layer", "n_head", "d_model", "num_experts",
    "n_routed_experts", "num_experts_per_tok", "moe_intermediate_size", "text_config", "vision_config",
)  # fmt: skip


def from_config(
    data: Mapping[str, Any],
    where: str,
    quant: Mapping[str, Any] | None = None,
    name: str | None = None,
    source: str | None = None,
    complete: bool = True,
) -> Model:
    """The model a configuration describes.

    Args:
        data: contents of ``config.json``.
        where: file or catalog name, for messages.
        quant: contents of ``hf_quant_config.json``, when there is one.
        name: what to call the model; its ``model_type`` otherwise.
        source: where the figures come from; ``where`` otherwise.
        complete: absent fields get the defaults of their configuration class; otherwise the family's own.

    Raises:
        TierwiseError: no family builds this ``model_type``; says what was understood and what is near.
        BadField: a field is missing or holds something it cannot hold.
    """
    if not isinstance(data, Mapping):
        raise BadField(where, "(whole file)", data, "a JSON object")
    kind = Config(data, where).text("model_type")
    c = Config(data, where, defaults=defaults_of(kind) if complete else NOTHING)
    family = find_family(kind)
    if family is None:
        raise _unknown(c, kind)
    built: Model = family.build(c, name or kind)
    formats, kv, act, notes = numerics(c, quant, built)
    notes += unread(c, getattr(family, "ASIDE", ()))
    return replace(
        built,
        family=kind,
        formats=formats,
        kv_format=kv,
        activations=act,
        source=source or where,
        notes=(*built.notes, *notes),
    )


def find_family(kind: str) -> ModuleType | None:
    """The module of ``families/`` whose ``TYPES`` has this ``model_type``; likely names are tried first."""
    for name in sorted(_modules(), key=lambda n: (-_likeness(n, kind), n)):
        module = importlib.import_module(f"{families.__name__}.{name}")
        if kind in module.TYPES:
            return module
    return None


def supported_types() -> list[str]:
    """Every ``model_type`` some family builds."""
    return sorted(t for n in _modules() for t in importlib.import_module(f"{families.__name__}.{n}").TYPES)


def _modules() -> Iterator[str]:
    return (m.name for m in pkgutil.iter_modules(families.__path__) if not m.name.startswith("_"))


def _likeness(name: str, kind: str) -> int:
    kind = kind.replace("-", "_")
    return 1000 if name == kind else sum(1 for _ in takewhile(lambda ab: ab[0] == ab[1], zip(name, kind, strict=False)))


def _unknown(c: Config, kind: str) -> TierwiseError:
    seen = [f"{f}={c.data[f]}" for f in _USUAL if c.has(f) and not isinstance(c.data[f], (dict, list))]
    seen += [f for f in _USUAL if isinstance(c.data.get(f), dict)]
    near = nearest(kind, supported_types())
    text = f"{c.where}: model_type: no family for {kind!r}"
    text += f"; nearest supported: {', '.join(near)}" if near else ""
    text += f". Understood fields: {', '.join(seen)}" if seen else ". None of the usual size fields is there"
    return TierwiseError(text + ". Add a module to tierwise/models/families (see docs/adding-a-model.md).")
