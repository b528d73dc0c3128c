"""T5Gemma (arXiv:2504.06225): Gemma 2's layers as encoder and decoder, which may differ in size.

Shapes after `transformers` (models/t5gemma): norms before and after every block, a cross attention behind the decoder's
own, a table of embeddings on either side, the decoder's shared by the head.
"""

from __future__ import annotations

from tierwise.models.blocks.common import Norm
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.config import Config
from tierwise.models.families._common import attention, context, depth, every, layer_types, mlp, sandwich, stack
from tierwise.models.types import Block, Layer, Model

TYPES = ("t5gemma",)


def build(c: Config, name: str) -> Model:
    encoder, decoder = c.section("encoder"), c.section("decoder")
    width, hidden = encoder.size("hidden_size"), decoder.size("hidden_size")
    vocab = c.size("vocab_size", default=decoder.size("vocab_size"))
    tied = c.flag("tie_word_embeddings", default=True)
    stacks = (
        stack("encoder", _layers(encoder, None), before=(Embedding(encoder.size("vocab_size", default=vocab), width),),
              after=(Norm(width, name="final_norm"),), stream="encode"),
        stack("decoder", _layers(decoder, width), before=(Embedding(vocab, hidden),),
              after=(Norm(hidden, name="final_norm"), Head(hidden, vocab, tied=tied)), stream="text"),
    )  # fmt: skip
    return Model(name, "t5gemma", hidden, vocab, stacks, max_context=context(decoder))


def _layers(c: Config, source: float | None) -> list[Layer]:
    """Layers that alternate between a window and all tokens; those of a decoder read a ``source`` of that width."""
    n, window, bias = depth(c), c.size("sliding_window", default=4096.0), c.flag("attention_bias")
    out = []
    for kind in layer_types(c, n, every(n, 2, "full_attention", "sliding_attention")):
        sliding = kind == "sliding_attention"
        attn = attention(c, window=window if sliding else None, causal=source is not None, qkv_bias=bias, out_bias=bias)
        blocks: list[Block] = [attn]
        if source is not None:
            blocks.append(attention(c, source="cross", name="cross", kv_hidden=source, qkv_bias=bias, out_bias=bias))
        out.append(sandwich("sliding+mlp" if sliding else "attention+mlp", attn.hidden, *blocks, mlp(c)))
    return out
