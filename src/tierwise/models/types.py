"""What a model is: blocks in layers in stacks. A model knows its shapes and what it computes, not its price.

A block is any frozen dataclass with the four methods of :class:`Block`; families
(``models/families/*.py``) only arrange blocks. Sizes may be arrays, so that an architect can sweep them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol

from tierwise.core.num import Num, is_zero
from tierwise.core.numerics import Format, fmt
from tierwise.models.facts import BlockFacts, facts_of
from tierwise.program.types import Op

if TYPE_CHECKING:
    from tierwise.models.step import Step


@dataclass(frozen=True)
class Weight:
    """A parameter tensor (or several equal ones).

    Attributes:
        name: as in "q_proj".
        elements: number of parameters.
        role: which number format applies: ``attn``, ``mlp``, ``expert``, ``shared_expert``, ``router``,
            ``ssm``, ``conv``, ``embed``, ``head``, ``norm``, ``vision``.
        split: how parallelism divides it: ``tp`` (over the tensor-parallel group), ``ep`` (over the experts'
            group), ``none`` (a copy on every device).
        grain: parameters that must stay together when split (one KV head, one expert); 0 for any.
        shape: (inputs, outputs) of a linear map; None for anything else.
        cut: which of them tensor parallelism divides: ``in``, ``out``; ``""`` for neither.
        sides: rows and columns of what is no linear map but a matrix to those who look at the tensor alone: a table, an
            expert's maps, the kernel of a convolution (taps of all inputs by outputs).
    """

    name: str
    elements: Num
    role: str
    split: str = "none"
    grain: Num = 0.0
    shape: tuple[Num, Num] | None = None
    cut: str = ""
    sides: tuple[Num, Num] | None = None

    @property
    def matrix(self) -> tuple[Num, Num] | None:
        """(rows, columns), where it has two."""
        return self.shape or self.sides


@dataclass(frozen=True)
class SequenceState:
    """Memory a layer keeps for every running sequence.

    Attributes:
        name: "kv", "latent", "ssm", "conv".
        role: ``kv`` (grows with context, the KV policy applies) or ``state`` (fixed size).
        elements: elements on one device for one sequence.
        format: how it is stored.
        once: elements on one device stored once for the whole batch (a shared prefix).
    """

    name: str
    role: str
    elements: Num
    format: Format
    once: Num = 0.0


class Block(Protocol):
    """Anything a layer is made of."""

    def weights(self) -> Iterable[Weight]:
        """Parameter tensors of one instance, unsharded."""
        ...

    def ops(self, step: Step) -> Iterable[Op]:
        """The work of one instance in one step, on one device (after sharding by ``step.plan``)."""
        ...

    def state(self, step: Step) -> Iterable[SequenceState]:
        """What one instance keeps per running sequence on one device."""
        ...

    def facts(self) -> BlockFacts:
        """What others need to know of it: heads, experts, what it caches."""
        ...


@dataclass(frozen=True)
class Layer:
    """Blocks executed one after the other.

    Attributes:
        name: "attention+mlp", ... (unique in its stack).
        blocks: in order.
        copies: executions that share one set of weights (weight sharing across depth); 1 for none.
    """

    name: str
    blocks: tuple[Block, ...]
    copies: Num = 1.0

    def weights(self) -> Iterator[Weight]:
        for block in self.blocks:
            yield from block.weights()

    @property
    def parameters(self) -> Num:
        return sum((w.elements for w in self.weights()), 0.0)


@dataclass(frozen=True)
class Stack:
    """Layers that see the same tokens.

    Attributes:
        name: "decoder", "encoder", "vision", "mtp".
        kinds: the distinct layers.
        pattern: index into ``kinds`` for each layer, in order of execution.
        before, after: blocks executed once around the layers (embedding; final norm and head).
        stream: what its tokens are: ``text`` (prefill then decode), ``encode`` (once per sequence, over the
            prompt), ``vision`` (once per image, ``tokens`` tokens each), ``audio`` (the same for a clip, or a picture,
            that every request brings and the decoder attends to), ``clip`` (an audio tower beside a text model: stored,
            and run by no workload yet).
        tokens: tokens per item for vision and audio streams.
        patch: pixels along one side of the patch behind a vision token; 0 when tokens do not follow from the
            image's size.
        extra_tokens: class and distillation tokens beside the patches.
        active: False for weights that are stored but not run by default (multi-token prediction modules).
    """

    name: str
    kinds: tuple[Layer, ...]
    pattern: tuple[int, ...]
    before: tuple[Block, ...] = ()
    after: tuple[Block, ...] = ()
    stream: str = "text"
    tokens: Num = 0.0
    patch: Num = 0.0
    extra_tokens: Num = 0.0
    active: bool = True

    def tokens_at(self, image_size: Num | None) -> Num:
        """Tokens of one square image of that many pixels a side; None for the model's own size."""
        if image_size is None or is_zero(self.patch):
            return self.tokens
        return (image_size / self.patch) ** 2 + self.extra_tokens

    @property
    def depth(self) -> int:
        return len(self.pattern)

    def runs(self) -> list[tuple[Layer, Num]]:
        """Every distinct layer with how often it is executed."""
        return [(k, float(self.pattern.count(i))) for i, k in enumerate(self.kinds) if i in self.pattern]

    @property
    def parameters(self) -> Num:
        ends = sum((w.elements for b in (*self.before, *self.after) for w in b.weights()), 0.0)
        return ends + sum((k.parameters * n / k.copies for k, n in self.runs()), 0.0)


@dataclass(frozen=True)
class Model:
    """A model: its stacks and the number formats it is stored in.

    Attributes:
        name: as the catalog or the file calls it.
        family: its ``model_type``.
        hidden: width of the residual stream.
        vocab: vocabulary size (0 when it has none).
        stacks: in order of execution.
        formats: stored format by weight role; ``"*"`` is the default.
        kv_format: format of the KV cache the checkpoint asks for, or None.
        activations: format of activations.
        max_context: longest context it was made for (inf when unbounded).
        task: ``generate``, ``encode`` or ``classify``.
        source: where the description comes from.
        notes: what a reader of a report should know (ignored parts, unpriced ops).
        stored_bytes: exact size of the checkpoint when a file said so, else None.
        pinned: roles whose format was set by name, so that a plan's format for all linear weights passes them by.
    """

    name: str
    family: str
    hidden: Num
    vocab: Num
    stacks: tuple[Stack, ...]
    formats: Mapping[str, Format] = field(default_factory=lambda: {"*": fmt("bf16")})
    kv_format: Format | None = None
    activations: Format = field(default_factory=lambda: fmt("bf16"))
    max_context: float = float("inf")
    task: str = "generate"
    source: str = ""
    notes: tuple[str, ...] = ()
    stored_bytes: float | None = None
    pinned: frozenset[str] = frozenset()

    @property
    def parameters(self) -> Num:
        """All parameters, the inactive stacks' (MTP) left out, as `transformers` counts them."""
        return sum((s.parameters for s in self.stacks if s.active), 0.0)

    @property
    def active_parameters(self) -> Num:
        """Parameters one token is multiplied with: of routed experts only the top k."""
        total: Num = 0.0
        for stack in self.stacks:
            if not stack.active:
                continue
            blocks: list[tuple[Block, Num]] = [(b, 1.0) for b in (*stack.before, *stack.after)]
            blocks += [(b, n / k.copies) for k, n in stack.runs() for b in k.blocks]
            for block, n in blocks:
                used = facts_of(block).active_fraction
                for w in block.weights():
                    total = total + n * w.elements * (used if w.role == "expert" else 1.0)
        return total

    def format_of(self, role: str) -> Format:
        """The stored format of a weight role."""
        return self.formats.get(role) or self.formats.get("*") or fmt("bf16")

    def stack(self, name: str) -> Stack:
        """The stack of a name; raises KeyError when there is none."""
        for s in self.stacks:
            if s.name == name:
                return s
        raise KeyError(name)

    def map_blocks(self, change: Callable[[Block], Block | None]) -> Model:
        """The model with every block replaced by ``change(block)``; None removes it."""

        def layer(old: Layer) -> Layer:
            return replace(old, blocks=_mapped(old.blocks, change))

        stacks = tuple(
            replace(
                s,
                kinds=tuple(layer(k) for k in s.kinds),
                before=_mapped(s.before, change),
                after=_mapped(s.after, change),
            )
            for s in self.stacks
        )
        return replace(self, stacks=stacks)


def _mapped(blocks: tuple[Block, ...], change: Callable[[Block], Block | None]) -> tuple[Block, ...]:
    return tuple(new for b in blocks if (new := change(b)) is not None)


__all__ = ["Block", "Layer", "Model", "SequenceState", "Stack", "Weight"]
