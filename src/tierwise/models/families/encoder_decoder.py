"""An encoder and a decoder of two types in one configuration: TrOCR (arXiv:2109.10282), captions by ViT and GPT-2,
BERT2BERT (arXiv:1907.12461).

Shapes after `transformers` (models/encoder_decoder, models/vision_encoder_decoder): the encoder is a bare model, every
layer of the decoder attends to what it leaves, and a map joins widths that differ.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType

from tierwise.core.errors import BadField
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.ends import Head
from tierwise.models.config import Config
from tierwise.models.families import bart, bert, gpt2, vit
from tierwise.models.types import Block, Layer, Model, Stack

TYPES = ("encoder-decoder", "vision-encoder-decoder", "speech-encoder-decoder")
# Each side's own, where a whole file repeats it.
ASIDE = ("tie_word_embeddings", "processor_class", "add_cross_attention", "pooler_output_size", "summary_use_proj",
         "summary_proj_to_labels")  # fmt: skip


def build(c: Config, name: str) -> Model:
    encoder, decoder = _section(c, "encoder", bert, vit), _section(c, "decoder", bart, bert, gpt2)
    kind = encoder.text("model_type")
    source = (bert if kind in bert.TYPES else vit).build(_bare(encoder), name)
    text = _decoder(decoder, name)
    (tower,) = source.stacks
    if source.hidden != text.hidden and not decoder.has("cross_attention_hidden_size"):
        role = "vision" if tower.stream == "vision" else "mlp"
        join = Projection(Linear("enc_to_dec_proj", source.hidden, text.hidden, True, role))
        tower = replace(tower, after=(*tower.after, join))
    if tower.stream == "vision":  # every request brings a picture, as it brings a clip to Whisper
        tower = replace(tower, stream="audio")
    return replace(text, family=c.text("model_type"), stacks=(tower, *text.stacks), task="generate")


def _section(c: Config, name: str, *families: ModuleType) -> Config:
    """One side's configuration, of a type that one of some families reads."""
    if not isinstance(c.data.get(name), Mapping):
        raise BadField(c.where, c.path + name, c.data.get(name), "a configuration with its own model_type")
    found = c.section(name)
    known = sorted(t for f in families for t in f.TYPES)
    kind = found.text("model_type", default="")
    if kind not in known:
        raise BadField(c.where, found.path + "model_type", kind, f"{', '.join(known)}; networks of any "
                       "other kind are read from ONNX files")  # fmt: skip
    return found


def _bare(c: Config) -> Config:
    return c.but(architectures=[])


def _decoder(c: Config, name: str) -> Model:
    kind = c.text("model_type")
    if kind in bart.TYPES:
        hidden, vocab = c.size("d_model", "hidden_size"), c.size("vocab_size")
        limit = c.size("max_position_embeddings", default=float("inf"))
        return Model(name, kind, hidden, vocab, (bart.decoder_stack(c, "another"),), max_context=limit)
    # An encoder's file says nothing of the head that predicts a token.
    built = gpt2.build(c, name) if kind in gpt2.TYPES else bert.build(c.but(architectures=["MaskedLM"]), name)
    (text,) = built.stacks
    return replace(built, stacks=(_crossed(text),))


def _crossed(text: Stack) -> Stack:
    """A text model that decodes and whose layers attend to an encoder, too."""
    def layer(old: Layer) -> Layer:
        blocks: list[Block] = []
        for block in old.blocks:
            blocks.append(block)
            if isinstance(block, Attention):
                blocks[-1] = own = replace(block, causal=True)
                blocks += [Norm(own.hidden, True), replace(own, source="cross", name="cross")]
        return replace(old, blocks=tuple(blocks))

    after = tuple(replace(b, every=False) if isinstance(b, Head) else b for b in text.after)
    return replace(text, name="decoder", kinds=tuple(layer(k) for k in text.kinds), after=after, stream="text")
