"""Writes src/tierwise/models/families/_defaults.json: class defaults of the configurations that `transformers` has.

    python -m benchmarks.fit.defaults

A type has one line: beside its fields, the class that has its layers without a head (``bare``), and the one that is the
text model alone where another class has towers or an encoder (``text``). ``other`` are types none of whose classes
writes text, by whether one predicts masked tokens. Left out: what neither a shape nor a count follows from (token ids,
dropout, scales, generation).
"""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

from tierwise.models.families._generic import TEXT
from tierwise.models.hf import supported_types

TABLE = Path(__file__).parents[2] / "src/tierwise/models/families/_defaults.json"
# Published with code of their own under another model_type, of the same fields.
SAME_CODE = {"kimi_k2": "deepseek_v3", "deepseek_ref": "deepseek_v4"}
_LEFT_OUT = re.compile(
    r"token_id|token_index|dropout|drop$|_eps$|^eps$|epsilon|initializer|init_std|init_scale|^init_|jitter|aux_loss"
    r"|_loss|^output_|return_|use_cache|is_decoder|is_encoder|_pdrop|layerdrop|^rope_theta|scaling|multiplier|^summary_"
    r"|softcap|soft_cap|time_step_(min|max|floor|limit|scale)|mask_|temperature|^freeze|chunk_size_feed_forward|_act$"
    r"|activation|^languages|^use_mamba|norm_topk_prob|theta|coef|capping|is_causal|pretraining_tp|limit$|alpha|beta|^context_length$"
)


def main() -> None:
    import transformers
    from transformers import CONFIG_MAPPING
    from transformers.models.auto import modeling_auto as auto

    wanted = {*supported_types(), *auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
              *auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
              *auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, *auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
              *auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES, *auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES}  # fmt: skip
    types: dict[str, Any] = {}
    for kind in sorted(wanted):
        of = SAME_CODE.get(kind, kind)
        if of in CONFIG_MAPPING:
            _add(types, kind, CONFIG_MAPPING[of])
    for kind, entry in types.items():
        entry.update(_classes(SAME_CODE.get(kind, kind)))
    source = f"class defaults of transformers {transformers.__version__} (src/transformers/models/*/configuration_*.py)"
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(types[k], sort_keys=True)}" for k in sorted(types))
    masked = set(auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES)
    writes = {k for names in _writing() for k in names}
    writes |= {text for k in writes & types.keys() for text in _texts(types[k])}
    other = {k: k in masked for k in sorted(CONFIG_MAPPING) if k not in writes}
    TABLE.write_text(f'{{"source": {json.dumps(source)},\n"other": {json.dumps(other)},\n"types": {{\n{lines}\n}}}}\n',
                     encoding="utf-8")
    print(f"{len(types)} types, {TABLE.stat().st_size / 1e3:.0f} kB")


def _writing() -> list[dict[str, Any]]:
    """Classes that write text, by type: those of text alone first."""
    from transformers.models.auto import modeling_auto as auto

    return [auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
            auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES,
            auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES]  # fmt: skip


def _texts(entry: dict[str, Any]) -> list[str]:
    """Types of the sections that are the text models of a type."""
    parts = {**entry.get("usual", {}), **entry.get("sections", {})}
    return [kind for name, kind in parts.items() if name in (*TEXT, "decoder")]


def _classes(kind: str) -> dict[str, str]:
    from transformers.models.auto import modeling_auto as auto

    alone, *others = (names.get(kind) for names in _writing())
    bare = auto.MODEL_MAPPING_NAMES.get(kind)
    found = {}
    if isinstance(bare, str) and bare not in (alone, *others):
        found["bare"] = bare
    if isinstance(alone, str) and any(name and name != alone for name in others):
        found["text"] = alone
    return found


def _add(types: dict[str, Any], kind: str, cls: Any) -> None:
    if kind in types:
        return
    sections = {name: sub.model_type for name, sub in cls.sub_configs.items() if getattr(sub, "model_type", "")}
    # A section of any type that does not say which is what an empty parent puts there.
    empty = _empty(cls)
    usual = {name: getattr(getattr(empty, name, None), "model_type", "") for name in cls.sub_configs}
    usual = {name: kind for name, kind in usual.items() if kind and name not in sections}
    fields = {f.name: value for f in dataclasses.fields(cls) if (value := _plain(f)) is not None}
    fields = {k: v for k, v in fields.items() if k not in cls.sub_configs and not _LEFT_OUT.search(k)}
    entry = {"fields": fields, "sections": sections, "usual": usual, "same": dict(cls.attribute_map)}
    types[kind] = {k: v for k, v in entry.items() if v}
    from transformers import CONFIG_MAPPING

    for sub in (*sections.values(), *usual.values()):
        if sub in CONFIG_MAPPING:
            _add(types, sub, CONFIG_MAPPING[sub])
    for sub_class in cls.sub_configs.values():
        if getattr(sub_class, "model_type", "") and sub_class.model_type not in types:
            _add(types, sub_class.model_type, sub_class)


def _empty(cls: Any) -> Any:
    try:
        return cls()
    except Exception:  # some classes have to be told a section
        return None


def _plain(f: Any) -> Any:
    """A default as JSON has it; None for one that is left out."""
    value = f.default
    if value is dataclasses.MISSING:
        value = None if f.default_factory is dataclasses.MISSING else f.default_factory()
    if isinstance(value, tuple):
        value = list(value)
    plain = isinstance(value, (bool, int, str)) or (isinstance(value, float) and abs(value) < 1e9)
    if isinstance(value, list):
        plain = all(isinstance(v, (bool, int, str)) for v in value)
    return value if plain and value != "" else None


if __name__ == "__main__":
    main()
