"""From a Hugging Face configuration to a Model: find the family, build it, read its number formats."""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from itertools import takewhile
from types import ModuleType
from typing import Any

from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.models import families
from tierwise.models.classes import as_class
from tierwise.models.config import Config
from tierwise.models.defaults import NOTHING, Defaults, counted, defaults_of, predicts_masked, writes_text
from tierwise.models.families import _generic
from tierwise.models.families._towers import AUDIO, IMAGES, towers
from tierwise.models.hf_quant import numerics
from tierwise.models.types import Model
from tierwise.models.unread import unread

GENERIC = "generic"  # reads any decoder by its fields
TOWERS = (*IMAGES, *AUDIO)
_TELL = 0.003  # a difference in the count that is worth a word
_FAR = 0.1  # one that says that the type is built otherwise than its fields read
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
    read_as: str | None = None,
) -> Model:
    """The model a configuration describes.

    Args:
        data: contents of ``config.json``.
        where: file or catalog name, for messages.
        quant: contents of ``hf_quant_config.json``, when there is one.
        name: what to call the model; its ``model_type`` otherwise.
        source: where the figures come from; ``where`` otherwise.
        read_as: a ``model_type`` to read it as in place of its own, or :data:`GENERIC`.
        complete: absent fields get the defaults of their configuration class; otherwise the family's own.

    Raises:
        TierwiseError: no family builds this ``model_type``; says what was understood and what is near.
        BadField: a field is missing or holds something it cannot hold.
    """
    if not isinstance(data, Mapping):
        raise BadField(where, "(whole file)", data, "a JSON object")
    kind = Config(data, where).text("model_type") if read_as is None else read_as
    if not kind:
        raise BadField(where, "model_type", kind, "the name of a model type")
    c = Config(data if read_as is None else {**data, "model_type": kind}, where, defaults=_defaults(kind, complete))
    family, text, label = _family(c, kind, read_as is not None)
    built: Model = family.build(text, name or kind)
    if text is not c:
        sensed, said = towers(_around(c), float(built.hidden))
        built, label = replace(built, stacks=(*sensed, *built.stacks)), (*label, *said)
    built, more = as_class(built, c)
    formats, kv, act, notes = numerics(c, quant, built)
    notes += unread(c, (*getattr(family, "ASIDE", ()), *(TOWERS if text is not c else ())), family is not _generic)
    return replace(
        built,
        family=kind if family is not _generic else f"{kind}, read as a generic decoder",
        formats=formats,
        kv_format=kv,
        activations=act,
        source=source or where,
        notes=(*label, *more, *built.notes, *notes),
    )


def _family(c: Config, kind: str, asked: bool) -> tuple[ModuleType, Config, tuple[str, ...]]:
    """(what builds a configuration, the section it builds it from, what to tell the user of that).

    Raises:
        TierwiseError: nothing builds this type, and its fields do not suffice for a generic decoder.
    """
    if kind == GENERIC:
        text, _ = _text_of(c)
        return _generic, text, ("read as a generic decoder, as asked",)
    if (family := find_family(kind)) is not None:
        return family, c, (f"read as {kind}, as asked",) if asked else ()
    if asked:
        raise UnknownName("model_type", kind, [*supported_types(), GENERIC])
    text, part = _text_of(c)
    inner = text.text("model_type", default="") if part else ""
    checked = counted().get(kind, {})
    off = float(checked.get("off", 0.0))
    said = f"; of that type's default sizes this counts {off:+.1%} parameters" if abs(off) >= _TELL else ""
    if abs(off) > _FAR and not part:
        raise _unknown(c, kind, f" Of that type's default sizes they count {off:+.0%} parameters, too far to go by: ")
    if like := checked.get("as"):
        return _family_of(like), c, (f"no family for {kind!r}: read as a text encoder like {like}{said}",)
    if not writes_text(kind) and not predicts_masked(kind):
        raise _unknown(c, kind)
    if inner and (family := find_family(inner)) is not None:
        return family, text, (f"no family for {kind!r}: its {part} is read as {inner}{said}",)
    if not _generic.enough(text):
        raise _unknown(c, kind)
    near = _akin(kind)
    also = f"; --as {near[0]} reads it as that instead" if near else ""
    return _generic, text, (f"no family for {kind!r}: read as a generic decoder{also}{said}",)


def _family_of(kind: str) -> ModuleType:
    family = find_family(kind)
    assert family is not None, kind  # the table names families that there are
    return family


def _akin(kind: str) -> list[str]:
    """Types that may be meant or be built alike: of the same beginning, or a slip of the pen away."""
    import difflib

    start = kind.replace("-", "_").split("_")[0]
    known = supported_types()
    close = difflib.get_close_matches(kind, known, n=3, cutoff=0.8)
    alike = [t for t in known if len(start) > 2 and t.replace("-", "_").split("_")[0] == start]
    return list(dict.fromkeys([*close, *alike]))[:3]


def _text_of(c: Config) -> tuple[Config, str]:
    """The text model's section of a multimodal configuration and its name, else the whole."""
    for name in _generic.TEXT:
        if isinstance(c.data.get(name), Mapping):
            text, outer = c.section(name), c.raw("tie_word_embeddings", default=None)
            if not text.given("model_type") and (own := _part(c, name)):
                text = text.but(model_type=own)
            inner, _ = _text_of(text)
            return inner if outer is None else inner.but(tie_word_embeddings=outer), name
    # Published flat: fields of the text model stand beside its towers (Qwen2-VL).
    kind = _part(c, "text_config")
    if kind and any(c.given(n) for n in ("hidden_size", "n_embd", "d_model")):
        inside = c.defaults.section("text_config", "")
        return Config({**c.data, "model_type": kind}, c.where, c.path, inside, c.seen), "text_config"
    return c, ""


def _part(c: Config, name: str) -> str:
    """The type of a section that does not say, as the class around it has it; nothing where that is not known."""
    return c.defaults.sections.get(name) or c.defaults.usual.get(name, "")


def _around(c: Config) -> Config:
    """The section that holds towers beside the text model: the whole, or what thinks before other parts speak."""
    return next((_around(c.section(n)) for n in _generic.THINKER if isinstance(c.data.get(n), Mapping)), c)


def _defaults(kind: str, complete: bool) -> Defaults:
    return defaults_of(kind) if complete else NOTHING


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


def _modules() -> tuple[str, ...]:
    return _listed(tuple((path, os.stat(path).st_mtime_ns) for path in families.__path__))


@lru_cache(maxsize=4)
def _listed(folders: tuple[tuple[str, int], ...]) -> tuple[str, ...]:
    """Modules of folders, listed once as long as these stay as they are: a list of the catalog asks for each entry."""
    found = pkgutil.iter_modules([path for path, _ in folders])
    return tuple(m.name for m in found if not m.name.startswith("_"))


def _likeness(name: str, kind: str) -> int:
    kind = kind.replace("-", "_")
    return 1000 if name == kind else sum(1 for _ in takewhile(lambda ab: ab[0] == ab[1], zip(name, kind, strict=False)))


def _unknown(c: Config, kind: str, why: str = "") -> TierwiseError:
    seen = [f"{f}={c.data[f]}" for f in _USUAL if c.given(f) and not isinstance(c.data[f], (dict, list))]
    seen += [f for f in _USUAL if isinstance(c.data.get(f), dict)]
    near = _akin(kind)
    text = f"{c.where}: model_type: no family for {kind!r}"
    text += f"; nearest supported: {', '.join(near)}" if near else ""
    text += f". Understood fields: {', '.join(seen)}." if seen else ". None of the usual size fields is there."
    lacks = (" They do not suffice for a generic decoder (width, depth, heads, vocabulary, an MLP's or experts' "
             "width): " if writes_text(kind) else " No class of this type writes text, so it is no generic decoder: "
             "export it to ONNX (see docs/importing-models.md), ")  # fmt: skip
    return TierwiseError(text + (why or lacks) + "read it --as another type, or add a module to "
                         "tierwise/models/families (see docs/adding-a-model.md).")  # fmt: skip
