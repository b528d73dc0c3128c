"""When each op of a pass runs: the one place where reports learn of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from tierwise.cost.types import Cost
from tierwise.program.types import Op
from tierwise.report.explain_phases import resource
from tierwise.result import Phase
from tierwise.schedule.streams import events
from tierwise.steps.cost import HOST


@dataclass(frozen=True)
class Execution:
    """One execution of an op.

    Attributes:
        lane: what works it off: ``compute``, ``link``, ``host``, or another lane of the schedule.
        name: of the op. ``layer``: it belongs to, numbered where there are several alike.
        start, duration: seconds from the start of the pass.
        bound_by: the resource that sets the duration.
        op: its place among ``phase.ops``; None for what the engine and its host add to them.
    """

    lane: str
    name: str
    layer: str
    start: float
    duration: float
    bound_by: str
    op: int | None


def executions(phase: Phase) -> list[Execution]:
    """Every execution of one pass of a scalar configuration, by layer and in the order of its ops; the host last."""
    places = _places(phase)
    rows: Iterable[dict[str, Any]] = map(dict, events(_order(phase), 1 if phase.cost.overlaps else None))
    out = [
        Execution(row["stream"], row["name"], row["layer"], row["start"], row["duration"],
                  resource(row["bound_by"]), place)
        for place, row in zip(places, rows, strict=True)
    ]  # fmt: skip
    end = max((x.start + x.duration for x in out), default=0.0)
    left = float(phase.pass_time) - end
    # What the sums of floating point leave is no work of the host.
    if left > 1e-9 * end:
        out.append(Execution(HOST, "host and gap to the next", "", end, left, HOST, None))
    return out


def _places(phase: Phase) -> list[int]:
    """Of each execution, where its op stands among ``phase.ops``."""
    segments = phase.program.segments
    first = [sum(len(s.ops) for s in segments[:i]) for i in range(len(segments))]
    return [first[i] + k for i in phase.program.order for k in range(len(segments[i].ops))]


def _order(phase: Phase) -> list[tuple[str, Sequence[Op], Sequence[Cost]]]:
    """(name, ops, costs) of each layer as executed; equal layers are numbered."""
    costs = {segment.name: [p.cost for p in priced] for segment, priced in phase.by_segment()}
    seen: dict[int, int] = {}
    out: list[tuple[str, Sequence[Op], Sequence[Cost]]] = []
    for i in phase.program.order:
        segment = phase.program.segments[i]
        number = seen.get(i, 0)
        seen[i] = number + 1
        alone = phase.program.order.count(i) == 1
        out.append((segment.name if alone else f"{segment.name} {number}", segment.ops, costs[segment.name]))
    return out
