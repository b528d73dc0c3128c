"""Attention as an engine computes it, where its kernels differ from what the model's authors describe."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tierwise.models.types import Block, Model


def attending(model: Model, latent_prompts: bool = False, masked: bool = False) -> Model:
    """The model as an engine attends.

    Args:
        latent_prompts: latent attention works in the latent space for prompts too, as it does in decoding.
        masked: sparse attention works on all past tokens, with those that the indexer did not choose masked.
    """

    def changed(block: Block) -> Block:
        b: Any = block
        if latent_prompts and hasattr(block, "latent_prompts"):
            b = replace(b, latent_prompts=True)
        if masked and getattr(block, "indexer", None) is not None:
            b = replace(b, indexer=replace(b.indexer, masked=True))
        return b  # type: ignore[no-any-return]

    return model.map_blocks(changed) if latent_prompts or masked else model
