"""Parts of a block left out while the rest of it stays."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace

from tierwise.core.errors import BadField
from tierwise.models.facts import BlockFacts, facts_of
from tierwise.models.step import Step
from tierwise.models.types import Layer, Model, SequenceState, Stack
from tierwise.models.wrapper import Wrapper
from tierwise.program.types import Op
from tierwise.scenario.types import Scenario
from tierwise.techniques._make import Technique, changed


def drop_scans(count: int | None = None, layers: Collection[int] | None = None, stack: str = "decoder") -> Technique:
    """Take the recurrence out of the state-space blocks of some layers, whose projections, convolution and gate
    stay (Mamba-Shedder, arXiv:2501.17088): the given layers, or the last ``count``.

    Example: ``drop_scans:count=2``
    """
    gone = len(set(layers)) if layers is not None else count or 0
    name = f"{gone} scans removed"

    def chosen(s: Stack) -> set[int]:
        drop = set(layers) if layers is not None else set(range(s.depth - gone, s.depth))
        bad = sorted(i for i in drop if not 0 <= i < s.depth)
        if bad:
            raise BadField("drop_scans", "layers", bad, f"of 0 to {s.depth - 1}")
        return drop

    def change(s: Stack) -> Stack:
        drop = chosen(s)
        # A second copy of each kind stands for its layers without a scan.
        bare = tuple(_bare(kind) for kind in s.kinds)
        pattern = tuple(k + len(s.kinds) if i in drop else k for i, k in enumerate(s.pattern))
        return replace(s, kinds=(*s.kinds, *bare), pattern=pattern)

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        found = next((x for x in r.model.stacks if x.name == stack), None)
        if found is None:
            raise BadField(r.model.name, "stack", stack, f"one of {', '.join(x.name for x in r.model.stacks)}")
        scans = sum(_scans(found.kinds[found.pattern[i]]) for i in chosen(found))
        model: Model = replace(r.model, stacks=tuple(change(x) if x is found else x for x in r.model.stacks))
        why = "none of the chosen layers has a recurrence" if gone else "none was named: give count or layers"
        return changed(s, name, r, model, (("recurrences", scans),), why)

    return technique


def _scans(layer: Layer) -> float:
    return float(sum(facts_of(b).state != "" for b in layer.blocks))


def _bare(layer: Layer) -> Layer:
    blocks = tuple(_Scanless(b) if facts_of(b).state else b for b in layer.blocks)
    return replace(layer, name=layer.name + ", no scan", blocks=blocks)


@dataclass(frozen=True)
class _Scanless(Wrapper):
    """A block whose scan does not run and keeps no state; its weights stay in place."""

    def ops(self, step: Step) -> Iterator[Op]:
        return (op for op in self.block.ops(step) if op.kind != "scan")

    def state(self, step: Step) -> Iterator[SequenceState]:
        gone = facts_of(self.block).state
        return (s for s in self.block.state(step) if s.name != gone)

    def facts(self) -> BlockFacts:
        return replace(self.block.facts(), state="")
