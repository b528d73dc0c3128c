"""When each op of a pass runs: the one place where reports learn of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from tierwise.report.explain_phases import resource
from tierwise.result import Phase
from tierwise.schedule.rows import rows
from tierwise.steps.cost import HOST

LINK = "link"


@dataclass(frozen=True)
class Execution:
    """One execution of an op.

    Attributes:
        lane: what works it off: ``device``, ``link`` (whatever a collective runs on), ``host``, or another lane of the
            schedule.
        name: of the op. ``layer``: it belongs to, numbered where there are several alike.
        start, duration: seconds from the start of the pass.
        bound_by: the resource that sets the duration.
        op: its place among ``phase.ops``; None for what the engine and its host add to them, and for copies that the
            schedule makes.
    """

    lane: str
    name: str
    layer: str
    start: float
    duration: float
    bound_by: str
    op: int | None


def executions(phase: Phase) -> list[Execution]:
    """Every execution of one pass of a scalar configuration by its start; the host last.

    Raises:
        TierwiseError: the phase is a sweep.
    """
    order, timeline = phase.cost.executed
    places = {id(p.op): i for i, p in reversed([*enumerate(phase.ops)])}
    times: Counter[int] = Counter()
    out = []
    for row in rows(order, timeline):
        number, lane, start, duration = row["op"], str(row["lane"]), row["start"], row["duration"]
        assert isinstance(number, int) and isinstance(start, float) and isinstance(duration, float)
        op = order.work[number]
        place = places.get(id(op))
        if op is None or place is None:
            out.append(Execution(lane, str(row["name"]), "", start, duration, lane, None))
            continue
        priced = phase.ops[place]
        # Parts of a batch take turns, so executions of a layer follow each other.
        turn = int(times[place] // phase.cost.parts)
        times[place] += 1
        layer = priced.segment.name if priced.segment.repeat <= 1 else f"{priced.segment.name} {turn}"
        bound = resource(priced.cost.bound_by)
        # In line they run on the device's time, and yet somewhere else.
        lane = LINK if op.kind == "collective" else op.stream if op.kind == "copy" else lane
        out.append(Execution(lane, op.name, layer, start, duration, bound, place))
    end = float(timeline.time)
    left = float(phase.pass_time) - end
    # What the sums of floating point leave is no work of the host.
    if left > 1e-9 * end:
        out.append(Execution(HOST, "host and gap to the next", "", end, left, HOST, None))
    return out
