"""Writes src/tierwise/models/families/_counted.json: how far types that no family builds are from `transformers`.

    python -m benchmarks.fit.readings

Every model type of `transformers` without a family is built there on the meta device, with its class's own sizes, and
read here by its fields: as a generic decoder, or, where it is an encoder, like BERT if that counts nearer.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tierwise.core.errors import TierwiseError
from tierwise.models import hf
from tierwise.models.defaults import COUNTED as TABLE


def main() -> None:
    import transformers
    from transformers.models.auto import modeling_auto as auto

    Path(TABLE).write_text('{"source": "", "types": {}}\n', encoding="utf-8")
    decodes = (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
               auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES, auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
               auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES)  # fmt: skip
    encodes = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    known, found = set(hf.supported_types()), {}
    for mapping in (encodes, *decodes):
        for kind, name in mapping.items():
            if kind not in known and kind not in found and (entry := _nearest(kind, name, mapping is encodes)):
                found[kind] = entry
                print(kind, entry, flush=True)
    source = f"class defaults of transformers {transformers.__version__} on the meta device"
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(found[k])}" for k in sorted(found))
    Path(TABLE).write_text(f'{{"source": {json.dumps(source)},\n"types": {{\n{lines}\n}}}}\n', encoding="utf-8")


def _nearest(kind: str, name: Any, encodes: bool) -> dict[str, Any] | None:
    """Of a type: ``off``, the relative error of the count; ``as``: another reading than the usual one."""
    try:
        data, theirs = _theirs(kind, name if isinstance(name, str) else name[0])
    except Exception as error:  # many classes cannot be built from their defaults alone
        print(kind, "not built:", type(error).__name__, flush=True)
        return None
    off = {}
    for reading in (None, *(["bert"] if encodes else [])):
        try:
            off[reading] = float(hf.from_config(data, kind, read_as=reading).parameters) / theirs - 1.0
        except TierwiseError:
            continue
    if not off:
        return None
    best = min(off, key=lambda r: abs(off[r]))
    return {"off": round(off[best], 4), **({"as": best} if best else {})}


def _theirs(kind: str, name: str) -> tuple[dict[str, Any], int]:
    import torch
    import transformers
    from transformers import CONFIG_MAPPING

    config = CONFIG_MAPPING[kind]()
    with torch.device("meta"):
        model = getattr(transformers, name)(config)
    model.tie_weights()
    data = json.loads(config.to_json_string(use_diff=False))
    return {**data, "architectures": [name]}, sum(p.numel() for p in model.parameters())


if __name__ == "__main__":
    main()
