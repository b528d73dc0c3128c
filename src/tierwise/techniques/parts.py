"""Parts of a block left out while the rest of it stays."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace

from tierwise.models.blocks.ssm import Mamba, Mamba2
from tierwise.models.step import Step
from tierwise.models.types import Block, Layer, Model, Stack, State, Weight
from tierwise.program.types import Op
from tierwise.techniques._make import Technique, on_model


def drop_scans(count: int | None = None, layers: Collection[int] | None = None, stack: str = "decoder") -> Technique:
    """Take the state-space scan out of the Mamba blocks of some layers, whose projections, convolution and gate
    stay (Mamba-Shedder, arXiv:2501.17088): the given layers, or the last ``count``."""

    def change(s: Stack) -> Stack:
        drop = set(layers) if layers is not None else set(range(s.depth - (count or 0), s.depth))
        # A second copy of each kind stands for its layers without a scan.
        bare = tuple(_bare(kind) for kind in s.kinds)
        pattern = tuple(k + len(s.kinds) if i in drop else k for i, k in enumerate(s.pattern))
        return replace(s, kinds=(*s.kinds, *bare), pattern=pattern)

    def model(m: Model) -> Model:
        return replace(m, stacks=tuple(change(s) if s.name == stack else s for s in m.stacks))

    return on_model(f"{len(layers) if layers is not None else count} scans removed", model)


def _bare(layer: Layer) -> Layer:
    blocks = tuple(_Scanless(b) if isinstance(b, (Mamba, Mamba2)) else b for b in layer.blocks)
    return replace(layer, name=layer.name + ", no scan", blocks=blocks)


@dataclass(frozen=True)
class _Scanless:
    """A block whose scan does not run and keeps no state; its weights stay in place."""

    block: Block

    def weights(self) -> Iterable[Weight]:
        return self.block.weights()

    def ops(self, step: Step) -> Iterator[Op]:
        return (op for op in self.block.ops(step) if op.kind != "scan")

    def state(self, step: Step) -> Iterator[State]:
        return (s for s in self.block.state(step) if s.name == "conv_state")
