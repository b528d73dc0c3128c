"""Writes src/tierwise/models/families/_counted.json: how far types that no family builds are from `transformers`.

    python -m benchmarks.fit.readings

Every model type of `transformers` without a family is built there on the meta device, with its class's own sizes, and
read here by its fields: as a generic decoder, or, where it is an encoder, like BERT if that counts nearer. What a
decoder's layers have that no field says (norms of queries, gates, biases) is read off the names and shapes of its
tensors: its ``style``; what an image tower has, likewise: its ``tower``.
"""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path
from typing import Any

from tierwise.core.errors import TierwiseError
from tierwise.models import hf
from tierwise.models.defaults import COUNTED as TABLE
from tierwise.models.defaults import counted


def main() -> None:
    from transformers.models.auto import modeling_auto as auto

    Path(TABLE).write_text('{"source": "", "types": {}}\n', encoding="utf-8")
    decodes = (auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES,
               auto.MODEL_FOR_MULTIMODAL_LM_MAPPING_NAMES, auto.MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING_NAMES,
               auto.MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING_NAMES)  # fmt: skip
    encodes = auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES
    known, found, built = set(hf.supported_types()), {}, {}
    for mapping in (encodes, *decodes):
        for kind, name in mapping.items():
            if kind not in known and kind not in built and (entry := _theirs(kind, name, mapping is encodes)):
                built[kind] = (*entry[:2], mapping is encodes)
                for part, traits in entry[2]:
                    if traits and (part not in known or "tower" in traits):  # towers are also parts of others
                        found.setdefault(part, {}).update(traits)
    _write(found)
    for kind, entry in built.items():
        if near := _nearest(kind, *entry):
            found[kind] = {**near, **found.get(kind, {})}
            print(kind, found[kind], flush=True)
    _write(found)


def _write(found: dict[str, Any]) -> None:
    import transformers

    source = f"class defaults of transformers {transformers.__version__} on the meta device"
    lines = ",\n".join(f"{json.dumps(k)}: {json.dumps(found[k])}" for k in sorted(found))
    Path(TABLE).write_text(f'{{"source": {json.dumps(source)},\n"types": {{\n{lines}\n}}}}\n', encoding="utf-8")
    counted.cache_clear()


def _nearest(kind: str, data: dict[str, Any], theirs: int, encodes: bool) -> dict[str, Any] | None:
    """Of a type: ``off``, the relative error of the count; ``as``: another reading than the usual one."""
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


def _theirs(kind: str, name: Any, encodes: bool) -> tuple[dict[str, Any], int, list[tuple[str, dict[str, Any]]]] | None:
    """(configuration, parameters, what tensors say of its parts by their types) at a class's own sizes."""
    import torch
    import transformers
    from transformers import CONFIG_MAPPING

    name = name if isinstance(name, str) else name[0]
    try:
        config = CONFIG_MAPPING[kind]()
        with torch.device("meta"):
            model = getattr(transformers, name)(config)
        model.tie_weights()
    except Exception as error:  # many classes cannot be built from their defaults alone
        print(kind, "not built:", type(error).__name__, flush=True)
        return None
    data = json.loads(config.to_json_string(use_diff=False))
    text = next((part for n in ("text_config", "thinker_config") if (part := getattr(config, n, None))), config)
    shapes = {n: tuple(p.shape) for n, p in model.named_parameters()}
    parts = [] if encodes else [(text.model_type, {"style": found} if (found := style(shapes, text)) else {})]
    if vision := getattr(config, "vision_config", None):
        parts.append((vision.model_type, {"tower": found} if (found := tower(shapes)) else {}))
    return {**data, "architectures": [name]}, sum(p.numel() for p in model.parameters()), parts


def tower(shapes: dict[str, tuple[int, ...]]) -> dict[str, bool]:
    """Of an image tower: whether its MLPs have three maps, whether there are biases, whether positions are a table."""
    seen = {n: s for n, s in shapes.items() if re.search("vision|visual|image_tower", n)}
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in seen.items():
        if found := re.match(r"(.*\b(?:layers|layer|blocks))\.\d+\.(.+)", name):
            layers.setdefault(found[1], {})[found[2]] = shape
    if not layers:
        return {}
    layer = layers[max(layers, key=lambda k: sum(n.startswith(k + ".") for n in seen))]
    maps = [n for n, s in layer.items() if len(s) == 2 and not re.search("att|norm|conv", n)]
    return {
        "gated": len(maps) == 3,
        "bias": any(n.endswith("bias") and "norm" not in n for n in layer),
        "table": any("pos" in n and len(s) > 1 for n, s in seen.items()),
    }


def style(shapes: dict[str, tuple[int, ...]], text: Any) -> dict[str, Any]:
    """What a decoder's layers have beyond pre-norms and maps without biases, by names and shapes of its tensors."""
    layers: dict[str, dict[str, tuple[int, ...]]] = {}
    for name, shape in shapes.items():
        found = re.match(r"(.*\b(?:layers|h|blocks))\.\d+\.(.+)", name)
        if found and not re.search("vision|visual|audio|encoder|tower|image|speech|talker|mtp", found[1]):
            layers.setdefault(found[1], {})[found[2]] = shape
    sizes = {**{v: text.to_dict().get(k) for k, v in text.attribute_map.items()}, **text.to_dict()}
    if own := sizes.get("per_layer_config"):  # the shapes kept are those of the last layer that has them
        sizes |= own[max(own)]
    sizes = {k: sizes.get(k) or sizes.get(text.attribute_map.get(k, ""), 0)
             for k in ("hidden_size", "num_attention_heads", "head_dim", "v_head_dim")}  # fmt: skip
    hidden, heads = sizes["hidden_size"], sizes["num_attention_heads"]
    if not layers or not hidden or not isinstance(heads, int) or not heads:
        return {}
    layer = layers[max(layers, key=lambda k: sum(n.startswith(k + ".") for n in shapes))]
    head = sizes["head_dim"] or hidden // heads
    value = sizes["v_head_dim"] or head
    of = {n: s for n, s in layer.items() if re.match(r"[a-z_]*att[a-z_]*\.", n) and "norm" not in n.split(".")[0]}
    mlp = {n: s for n, s in layer.items() if n not in of}

    def widths(tensors: dict[str, tuple[int, ...]], pattern: str) -> set[int]:
        return {s[0] for n, s in tensors.items() if re.search(pattern, n)}

    norms = sum(1 for n, s in layer.items() if re.fullmatch(r"\w*(norm|ln)\w*(\.norm)?\.weight", n) and s == (hidden,))
    scales = [prod(s) for n, s in of.items() if re.search(r"\bq\w*norm\.(weight|scale)", n) and "_a_" not in n]
    gates = widths(of, r"\.(gate_proj|g_proj|output_gate|gate)\.weight")
    out: dict[str, Any] = {
        "norms": norms if norms in (0, 1, 4) else 2,
        "norm_bias": any(re.fullmatch(r"\w*(norm|ln)\w*\.bias", n) for n in layer),
        "qk_norm": "" if not scales else "head" if scales[0] == head else "full",
        "gate": "full" if heads * value in gates else "head" if heads in gates else "",
        "qkv_bias": bool(widths(of, r"(q_proj|qkv_proj|query_key_value)\.bias")),
        "out_bias": bool(widths(of, r"(o_proj|out_proj|dense)\.bias")),
        "mlp_bias": bool(widths(mlp, r"mlp\.(up_proj|fc1|c_fc|dense_h_to_4h)\.bias")),
        "router_bias": bool(widths(mlp, r"(correction_bias|expert_bias)$")),
        "head_bias": any(n.endswith("lm_head.bias") for n in shapes),
    }
    usual = {"norms": 2}
    found_style = {k: v for k, v in out.items() if v != usual.get(k, type(v)())}
    if widths(mlp, r"shared_experts?\.") and not widths(mlp, r"shared_expert_gate"):
        found_style["shared_gate"] = False
    return found_style


if __name__ == "__main__":
    main()
