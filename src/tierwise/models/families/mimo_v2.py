"""MiMo-V2-Flash: mostly sliding layers, which have twice the KV heads, values narrower than keys, and attention sinks.

Shapes after `transformers` (models/mimo_v2_flash) and the published fields (``hybrid_layer_pattern``, ``swa_*``).
"""

from __future__ import annotations

from tierwise.models.config import Config
from tierwise.models.families import _generic
from tierwise.models.families._common import depth
from tierwise.models.types import Model

TYPES = ("mimo_v2_flash",)
# Usual fields that no count follows from here (or that others say again).
ASIDE = (*_generic.ASIDE, "attention_value_scale", "hybrid_block_size", "add_full_attention_sink_bias",
         "add_swa_attention_sink_bias", "attention_chunk_size")  # fmt: skip


def build(c: Config, name: str) -> Model:
    n = depth(c)
    if not c.has("layer_types") and not c.has("hybrid_layer_pattern"):
        c = c.but(layer_types=["sliding_attention" if i and (i + 1) % 6 else "full_attention" for i in range(n)])
    if not c.has("mlp_layer_types") and not c.has("moe_layer_freq"):
        c = c.but(first_k_dense_replace=1)
    kv = c.size("swa_num_key_value_heads", default=2.0 * c.size("num_key_value_heads"))
    return _generic.build(c.but(swa_num_key_value_heads=kv), name)
