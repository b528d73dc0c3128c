"""What most decoder families share: standard fields, and layers arranged into a model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from tierwise.core.errors import BadField
from tierwise.core.num import Num
from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.common import Linear, Norm, Projection
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.config import Config
from tierwise.models.types import Block, Layer, Model, Stack

MOST_LAYERS = 10_000


def decoder(
    c: Config,
    name: str,
    layers: Sequence[Layer],
    *,
    tied: bool = False,
    norm_bias: bool = False,
    norm_affine: bool = True,
    head_bias: bool = False,
    after_embedding: Iterable[Block] = (),
    before_head: Iterable[Block] = (),
    other: Iterable[Stack] = (),
    top: Config | None = None,
    notes: Iterable[str] = (),
) -> Model:
    """A decoder-only language model: embedding, layers, final norm, output head.

    Args:
        c: configuration of the text model.
        layers: one per depth, in order; equal ones become one kind.
        tied: whether the head shares the embedding's table when the configuration does not say.
        after_embedding, before_head: further blocks at the ends.
        other: stacks that run before the decoder (vision towers) or not at all (MTP modules).
        top: the outer configuration of a multimodal model, which may hold ``tie_word_embeddings``.
    """
    hidden, vocab = c.size("hidden_size", "n_embd", "d_model"), c.size("vocab_size")
    outer = c if top is None else top
    shared = outer.flag("tie_word_embeddings", default=c.flag("tie_word_embeddings", default=tied))
    text = stack(
        "decoder",
        layers,
        before=(Embedding(vocab, hidden), *after_embedding),
        after=(
            *before_head,
            Norm(hidden, norm_bias, "final_norm", affine=norm_affine),
            Head(hidden, vocab, tied=shared, bias=head_bias),
        ),
    )
    stacks = list(other)
    first = [s for s in stacks if s.active and s.stream != "text"]
    last = [s for s in stacks if s not in first]
    return Model(
        name=name,
        family=outer.text("model_type", default=""),
        hidden=hidden,
        vocab=vocab,
        stacks=(*first, text, *last),
        max_context=context(c),
        notes=tuple(notes),
    )


def stack(name: str, layers: Sequence[Layer], **more: Any) -> Stack:
    """A stack whose equal layers are one kind, in order of first appearance."""
    index: dict[Layer, int] = {}
    pattern = tuple(index.setdefault(layer, len(index)) for layer in layers)
    names = [k.name for k in index]
    kinds = tuple(
        k if names.count(k.name) == 1 else Layer(f"{k.name}-{i}", k.blocks, k.copies) for k, i in index.items()
    )
    return Stack(name, kinds, pattern, **more)


def pre_norm(name: str, hidden: Num, *blocks: Block, bias: bool = False, affine: bool = True) -> Layer:
    """A norm before each block."""
    out: list[Block] = []
    for block in blocks:
        out += [Norm(hidden, bias, affine=affine), block]
    return Layer(name, tuple(out))


def sandwich(name: str, hidden: Num, *blocks: Block) -> Layer:
    """A norm before and after each block."""
    out: list[Block] = []
    for block in blocks:
        out += [Norm(hidden), block, Norm(hidden, name="post_norm", residual=False)]
    return Layer(name, tuple(out))


def beside(name: str, hidden: Num, *blocks: Block, norms: int = 1, bias: bool = False) -> Layer:
    """Blocks that all read the layer's input (parallel attention and MLP), behind ``norms`` norms."""
    return Layer(name, (*(Norm(hidden, bias) for _ in range(norms)), *blocks))


def with_defaults(c: Config, **values: Any) -> Config:
    """The configuration with fields that published files leave to `transformers`' class defaults."""
    return c.but(**{k: v for k, v in values.items() if not c.has(k)})


def depth(c: Config, *names: str) -> int:
    """Number of layers."""
    names = names or ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
    n = c.size(*names)
    if n > MOST_LAYERS:
        raise BadField(c.where, c.path + names[0], n, f"at most {MOST_LAYERS} layers")
    return int(n)


def modules(c: Config, *names: str) -> int:
    """Number of prediction modules or other layers that may be absent: 0 when no field says."""
    n = c.size(*names, default=0.0, least=0)
    if n > MOST_LAYERS:
        raise BadField(c.where, c.path + names[0], n, f"at most {MOST_LAYERS}")
    return int(n)


def heads(c: Config) -> tuple[float, float, float]:
    """(query heads, KV heads, width of a head) by their usual names."""
    hidden = c.size("hidden_size", "n_embd", "d_model")
    h = c.size("num_attention_heads", "n_head", "n_heads")
    kv = c.size("num_key_value_heads", default=h)
    if kv > h or h % kv:
        raise BadField(c.where, c.path + "num_key_value_heads", kv, f"a divisor of num_attention_heads = {h:.0f}")
    if c.has("head_dim"):
        return h, kv, c.size("head_dim")
    if hidden % h:
        raise BadField(c.where, c.path + "num_attention_heads", h, f"a divisor of hidden_size = {hidden:.0f}")
    return h, kv, hidden / h


def attention(c: Config, **changes: Any) -> Attention:
    """Grouped-query attention from the usual fields."""
    h, kv, d = heads(c)
    return Attention(c.size("hidden_size", "n_embd", "d_model"), h, kv, d, **changes)


def mlp(c: Config, inner: str = "intermediate_size", **changes: Any) -> MLP:
    """A gated MLP from the usual fields."""
    return MLP(c.size("hidden_size", "n_embd", "d_model"), c.size(inner), **changes)


def context(c: Config) -> float:
    """Longest context the configuration was made for; infinite when it does not say."""
    return c.size("max_position_embeddings", "n_positions", "max_seq_len", "seq_length", default=float("inf"))


def layer_types(c: Config, n: int, default: Sequence[str] | None = None) -> list[str]:
    """The kind of each layer (``full_attention``, ``sliding_attention``, ...), one per depth."""
    kinds = c.items("layer_types", default=None) or list(default if default is not None else ["full_attention"] * n)
    if len(kinds) < n or not all(isinstance(k, str) for k in kinds):
        raise BadField(c.where, c.path + "layer_types", kinds, f"{n} names")
    return kinds[:n]


def every(n: int, step: int, special: str, other: str) -> list[str]:
    """``special`` at each ``step``-th of ``n`` layers (counting from one), ``other`` elsewhere."""
    return [special if (i + 1) % step == 0 else other for i in range(n)]


def mtp_stack(hidden: float, vocab: float, layers: Sequence[Layer]) -> Stack:
    """Multi-token-prediction modules (DeepSeek-V3 report, arXiv:2412.19437, section 2.2).

    Each joins the normed hidden state with the normed embedding of the next token, and runs one layer; the
    embedding and the head are the model's own.
    """
    join = Projection(Linear("eh_proj", 2.0 * hidden, hidden, role="attn"))
    before = (
        Norm(hidden, name="embed_norm", residual=False),
        Norm(hidden, name="hidden_norm", residual=False),
        join,
    )
    modules = [Layer(f"mtp-{layer.name}", (*before, *layer.blocks, Norm(hidden, name="head_norm"))) for layer in layers]
    return stack("mtp", modules, after=(Head(hidden, vocab, tied=True),), active=False)
