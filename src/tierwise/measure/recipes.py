"""What a recorded run did that its row does not say: by its framework's scripts, the model it names, its parameters."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.machines.load import system
from tierwise.machines.types import System
from tierwise.models.load import load_model, model_names
from tierwise.models.names import letters
from tierwise.training.work import decoder

FILE = Path(__file__).with_suffix(".yaml")
# Fields of a recipe that rules set.
FIELDS = ("dispatch", "aside", "grouped", "graphs", "ahead", "reduced", "gradients")
_SET = (*FIELDS, "recompute", "first", "last", "zero_stage", "stage")


def stated(row: Mapping[str, Any]) -> dict[str, Any]:
    """The row with what its framework's scripts set in place of blanks (``recipes.yaml``); what it says stays."""
    found: dict[str, Any] = {}
    name = str(row.get("framework") or "").lower()
    for rule in _rules():
        if name.startswith(rule.get("framework", "")) and _holds(rule, row, name):
            found |= {k: v for k, v in rule.items() if k in _SET}
    if name.startswith(("megatron-deepspeed", "megatron/deepspeed")):
        found |= dealt(row)
    return {**row, **{k: v for k, v in found.items() if row.get(k) in (None, "")}}


@cache
def _rules() -> tuple[dict[str, Any], ...]:
    import yaml

    return tuple(yaml.safe_load(FILE.read_text(encoding="utf-8"))["rules"])


def _holds(rule: Mapping[str, Any], row: Mapping[str, Any], name: str) -> bool:
    model = letters(str(row.get("model") or ""))
    form = str(row.get("precision") or "bf16")
    release = _release(name.rpartition(" ")[2])
    return (
        str(row.get("source") or "").startswith(rule.get("source", ""))
        and (model.startswith(tuple(rule["models"])) if "models" in rule else True)
        and row.get("gpu") in rule.get("gpus", [row.get("gpu")])
        and (form.startswith(tuple(rule["precisions"])) if "precisions" in rule else True)
        and ("since" not in rule or release >= _release(rule["since"]))
        and ("until" not in rule or () < release <= _release(rule["until"]))
        and all(row.get(k) == rule[k] for k in ("pp", "vp") if k in rule)
        and rule.get("flags", "") in str(row.get("flags") or "")
        and rule.get("file", "") in str(row.get("source_file") or "")
        and ("zero" not in rule or (float(row.get("zero_stage") or 0.0) >= 3.0) == (rule["zero"] >= 3))
    )


def _release(text: str) -> tuple[int, ...]:
    """``26.02.01`` as numbers that compare; nothing where there is none."""
    return tuple(int(n) for n in text.split(".")) if re.fullmatch(r"\d+(\.\d+)+", text) else ()


def gated(r: Mapping[str, Any], family: str) -> bool:
    """Whether feed-forward layers have three matrices: by the family's name, but where the row's count of parameters is
    that of two and not of three, or the other way round (above a billion: embeddings decide below)."""
    named = "gpt" not in family and "bloom" not in family and "nemotron" not in str(r.get("model") or "").lower()
    said, h, layers, inner = (float(r.get(k) or 0.0) for k in ("params_b", "hidden", "layers", "ffn"))
    if said < 1.0 or not inner or r.get("experts"):
        return named
    kept = layers * h * h * (2.0 + 2.0 * float(r.get("kv_heads") or r["heads"]) / float(r["heads"]))
    kept += float(r.get("vocab") or 0.0) * h * (1.0 if r.get("tied") else 2.0)
    off = [abs((kept + n * layers * h * inner) / (said * 1e9) - 1.0) for n in (2.0, 3.0)]
    return off[1] < off[0] if min(off) < 0.05 and max(off) > 0.15 else named


@cache
def known(name: str, hidden: float, layers: float) -> str:
    """The catalog's model with experts that a row names, where its width and depth are that model's: columns cannot say
    latent attention, windows, biases or layers of two kinds."""
    said = letters(name)
    for entry in model_names():
        if len(letters(entry)) > 5 and said.startswith(letters(entry)):
            found = load_model(entry)
            if (float(np.asarray(found.hidden)), float(decoder(found).depth)) == (hidden, layers):
                return entry
    return ""


def dealt(r: Mapping[str, Any]) -> dict[str, float]:
    """Layers of the first and the last stage where DeepSpeed does not deal all stages as many: it fills one after the
    other with as few as all must take at most, so that the last has what is left (runtime/utils.py of 2022,
    ``partition_balanced``). Embedding and head count as layers where that is asked for (``--pp-partition-method
    'type:transformer|embedding'``)."""
    layers, stages = float(r.get("layers") or 0.0), float(r.get("pp") or 1.0)
    ends = float("pp-partition transformer|embedding" in str(r.get("flags") or ""))
    most = math.ceil((layers + 2.0 * ends) / stages)
    first, last = most - ends, layers + ends - most * (stages - 1.0)
    return {"first": first, "last": last} if stages > 1 and last >= 1 and (first != last or ends) else {}


def network(flags: str) -> float:
    """Bytes a second that lead out of a node, where a row's flags say its ports ("4x100Gb OPA per node"); else 0."""
    ports = re.search(r"(\d+)x(\d+)Gb \w+ per node", flags)
    return float(ports[1]) * float(ports[2]) * 1e9 / 8.0 if ports else 0.0


def machine(gpu: str, per_node: float, network: float) -> System:
    """A machine of such nodes; where links reach beyond a node, of as many devices as they reach.

    Args:
        network: bytes a second that lead out of a node; 0 for the devices' own.
    """
    # A recording's name of a GPU with its memory written out.
    short = ("a100_sxm_80", "a100_sxm_40", "v100_sxm_32", "v100_sxm_16")
    device = gpu.replace("_", "-") + "gb" if gpu in short else gpu
    link = system(device).device.link("scale-up")
    reach = 0.0 if link is None else float(np.asarray(link.domain))
    found = system(f"{max(per_node, reach if reach > 8 else 0.0):.0f}x{device}")
    if network <= 0 or found.scale_out is None:
        return found
    return replace(found, scale_out=replace(found.scale_out, bandwidth=network / per_node))


def fused(flags: str) -> bool:
    """Whether attention is fused: Megatron-Core's own writes its scores (core/transformer/dot_product_attention.py)."""
    return "unfused" not in flags and ("transformer-impl=local" not in flags or "flash" in flags)


def deepspeed(flags: str) -> tuple[tuple[str, float], ...]:
    """What DeepSpeed's optimizers keep of gradients: that for bf16 adds autograd's, which it sets to zero and does not
    free, to others in fp32 (runtime/bf16_optimizer.py); that for fp16 accumulates in autograd's own 16 bits and casts
    its share alone (runtime/zero/stage_1_and_2.py)."""
    if "bf16 optimizer" in flags:
        return (("also", 2.0),)
    return (("gradients", 2.0),) if "fp16 optimizer" in flags else ()


def minibatch(r: Mapping[str, Any]) -> float:
    """Sequences between updates, as a row or its flags say; 0 where nothing does."""
    if r.get("gbs"):
        return float(r["gbs"])
    stated = re.search(r"minibatch (\d+)", str(r.get("flags") or ""))
    return float(stated[1]) if stated else 0.0
