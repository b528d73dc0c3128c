"""Hugging Face Accelerate: a device map, layer by layer."""

from __future__ import annotations

import json

from tierwise.launch.fit import Divided

TITLE = "a device map, for `from_pretrained(NAME, device_map=json.load(open(...)), offload_folder=...)`"
SOURCE = "Accelerate 1.10, docs, Working with large models (cpu, disk, and numbers of cards)"
CANNOT = "it copies weights to the device for every use; this plan computes where they lie"
# Names of most decoders of Transformers.
BEFORE, LAYER, AFTER = ("model.embed_tokens",), "model.layers.{}", ("model.norm", "lm_head")


def files(d: Divided) -> dict[str, str]:
    """The map of a plan that streams, or of one that fits: as many whole layers of each tier as its share is of all."""
    if not d.streams and not d.whole:
        return {}
    near = round(d.depth * d.shares.get("", 1.0)) if d.streams else d.depth
    host = round(d.depth * d.shares.get("host", 0.0))
    found: dict[str, int | str] = dict.fromkeys(BEFORE, 0)
    for n in range(d.depth):
        card = min(n * d.cards // max(near, 1), d.cards - 1)
        found[LAYER.format(n)] = card if n < near else "cpu" if n < near + host else "disk"
    out = {"accelerate_device_map.json": json.dumps({**found, **dict.fromkeys(AFTER, d.cards - 1)}, indent=1) + "\n"}
    if d.cache_shares.get("host", 0.0) > 0:
        # Transformers, docs, KV cache strategies: caches on the host, each layer's copied ahead of it.
        out["accelerate_generate.json"] = json.dumps({"cache_implementation": "offloaded"}) + "\n"
    return out
