"""Caches whose values live in the host's memory."""

from __future__ import annotations

from tierwise.core.num import Num, num
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.rebuilt import RebuiltAttention
from tierwise.models.types import Block
from tierwise.techniques._make import Technique, on_model


def rebuild_keys(rank: Num, chunk: Num, budget: Num, kept: Num = 0.0, hit: Num = 0.0) -> Technique:
    """Low-rank keys and landmarks on the device, values on the host; a step rebuilds and fetches a few tokens
    (ShadowKV, arXiv:2410.21465).

    Args:
        rank: of the stored keys of all heads together; ``chunk``: tokens of one landmark.
        budget: tokens a step attends to; ``kept``: further ones that never leave the device.
        hit: fraction of a step's tokens that are on the device from the step before.
    """

    def change(block: Block) -> Block:
        if isinstance(block, Attention) and block.causal and block.source == "self":
            return RebuiltAttention(block, num(rank), num(chunk), num(budget), num(kept), num(hit))
        return block

    return on_model(f"keys of rank {rank}, values on the host", lambda m: m.map_blocks(change))
