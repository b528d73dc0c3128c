"""What `transformers` makes of the same configurations, on the meta device: shapes only, nothing downloaded."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tierwise.models.load import CATALOG, load_model
from tierwise.models.types import Model

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared" / "data" / "configs"

# Published with their own code, which is that of another model_type with other sizes.
_SAME_CODE = {"kimi_k2": "deepseek_v3"}

Case = tuple[str, Callable[[], Model], Mapping[str, Any]]


def cases() -> Iterator[Case]:
    """(name, our model, configuration) of every catalog entry and every shared configuration."""
    for path in sorted(CATALOG.glob("*.json")):
        yield path.stem, lambda p=path: load_model(p.stem), json.loads(path.read_text())["config"]  # type: ignore[misc]
    for path in sorted(SHARED.glob("*/config.json")):
        yield path.parent.name, lambda p=path: load_model(p), json.loads(path.read_text())  # type: ignore[misc]


class Unknown(Exception):
    """The installed `transformers` has no code for this model_type (it may be published with its own)."""


def count(data: Mapping[str, Any]) -> int:
    """Parameters of the model `transformers` builds from a configuration, tied ones once.

    Where a multimodal configuration describes no image tower, `transformers` puts in a default one, which is
    not part of the described model and left out here.

    Raises:
        Unknown: the installed version does not know the model.
    """
    config = config_of(data)
    # LongCat's experts that pass their input through: `transformers` allots them input projections, checkpoints none.
    idle = 0
    if data["model_type"] == "longcat_flash":
        idle = 2 * config.zero_expert_num * config.expert_ffn_hidden_size * config.hidden_size * config.num_layers
    invented = hasattr(config, "vision_config") and "vision_config" not in data
    # T5's configuration class ties the head whatever the file says; v1.1 checkpoints hold one of their own.
    own_head = data["model_type"] == "t5" and data.get("tie_word_embeddings") is False
    return (config.vocab_size * config.d_model if own_head else 0) - idle + sum(
        p.numel()
        for name, p in instantiate(data).named_parameters()
        if not (invented and ("vision" in name or "multi_modal" in name))
    )


def config_of(data: Mapping[str, Any]) -> Any:
    """The `transformers` configuration object of a configuration."""
    import transformers
    from transformers import CONFIG_MAPPING

    names = [n for n in data.get("architectures") or () if hasattr(transformers, n)]
    plain = _plain(data)
    if data["model_type"] in CONFIG_MAPPING:
        kind = CONFIG_MAPPING[data["model_type"]]
    elif names:
        # Repackaged under another model_type, but of a known architecture (DeepSeek-V4 as "deepseek_ref").
        kind = getattr(transformers, names[0]).config_class
    elif data["model_type"] in _SAME_CODE:
        kind = CONFIG_MAPPING[_SAME_CODE[data["model_type"]]]
    else:
        raise Unknown(f"transformers does not know model_type {data['model_type']!r}")
    if "text_config" in kind.sub_configs and "text_config" not in data:
        plain = {"text_config": plain}  # published flat (Step-3.7)
    return kind.from_dict(plain)


def instantiate(data: Mapping[str, Any]) -> Any:
    """The `transformers` model of a configuration, without storage."""
    import torch
    import transformers

    config = config_of(data)
    names = [n for n in data.get("architectures") or () if hasattr(transformers, n)]
    with torch.device("meta"):
        model = getattr(transformers, names[0])(config) if names else _model_class(config, data)(config)
    model.tie_weights()
    return model


def _plain(data: Mapping[str, Any]) -> dict[str, Any]:
    """Without quantization (which changes how weights are stored, not which there are) and remote code."""
    dropped = ("quantization_config", "auto_map", "_name_or_path")
    return {k: _plain(v) if isinstance(v, Mapping) else v for k, v in data.items() if k not in dropped}


def _model_class(config: Any, data: Mapping[str, Any]) -> Any:
    """What the auto classes choose for a configuration that names no architecture."""
    from transformers.models.auto import modeling_auto as auto

    language = [auto.MODEL_FOR_CAUSAL_LM_MAPPING, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING]
    for mapping in (
        *(reversed(language) if "text_config" in data else language),
        auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
        auto.MODEL_FOR_MASKED_LM_MAPPING,
        auto.MODEL_MAPPING,
    ):
        if type(config) in mapping:
            return mapping[type(config)]
    raise KeyError(f"no model class for {type(config).__name__}")
