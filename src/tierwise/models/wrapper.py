"""Blocks that change another block and pass on what they do not change."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, cast

from tierwise.core.errors import TierwiseError
from tierwise.models.facts import BlockFacts
from tierwise.models.step import Step
from tierwise.models.types import Block, SequenceState, Weight
from tierwise.program.types import Op


@dataclass(frozen=True)
class Wrapper:
    """A block around another. A subclass overrides what it changes, most often ``ops``.

    Attributes:
        block: what it wraps; another wrapper, too.
    """

    block: Block

    def weights(self) -> Iterable[Weight]:
        return self.block.weights()

    def ops(self, step: Step) -> Iterable[Op]:
        return self.block.ops(step)

    def state(self, step: Step) -> Iterable[SequenceState]:
        return self.block.state(step)

    def facts(self) -> BlockFacts:
        return self.block.facts()

    def adapted(self, policy: str, value: Any) -> Self:
        return replace(self, block=adapt(self.block, policy, value))


@dataclass(frozen=True)
class OpPass(Wrapper):
    """A block some of whose ops are replaced.

    Attributes:
        picks: which of them; ``change``: an op to what takes its place.
    """

    picks: Callable[[Op], bool]
    change: Callable[[Op], Op]

    def ops(self, step: Step) -> Iterable[Op]:
        return (self.change(op) if self.picks(op) else op for op in self.block.ops(step))


class Adaptable(Protocol):
    """A block that can be changed from outside: attention, of policies of :data:`tierwise.models.facts.POLICIES`."""

    def adapted(self, policy: str, value: Any) -> Block:
        """The block under a policy it does not refuse, composed with what it already follows by its meaning; any other
        field of the block by its name takes the value as it is."""
        ...


def adapt(block: Block, policy: str, value: Any) -> Block:
    """The block under a policy that its facts do not refuse.

    Raises:
        TierwiseError: the block declares a cache, but no ``adapted``.
    """
    if not hasattr(block, "adapted"):
        raise TierwiseError(f"{type(block).__name__} declares what it caches but has no adapted(policy, value); "
                            "deriving it from tierwise.models.wrapper.Wrapper gives it one")  # fmt: skip
    return cast(Adaptable, block).adapted(policy, value)


def inside(block: Block, change: Callable[[Block], Block]) -> Block:
    """Change the block that is wrapped, however deep, and leave its wrappers around it."""
    if isinstance(block, Wrapper):
        return replace(block, block=inside(block.block, change))
    return change(block)
