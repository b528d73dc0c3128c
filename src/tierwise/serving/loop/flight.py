"""Several steps of one engine in flight: pipeline stages, or prefill and decode beside each other."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop.queue import next_of_lanes
from tierwise.serving.loop.settle import count_state
from tierwise.serving.loop.step import begin


@jit
def begin_lanes(s, r, tokens, order, blocks):  # type: ignore[no-untyped-def]
    """Begin what steps can begin at engine r now: one, into the first stage; or one in each free part of the device."""
    e = of.engines(s)[r]
    now = e.at
    e.gate = float("inf")
    count_state(s, e, now)
    for lane in range(e.lanes):
        flight = of.flights(s)[r, lane]
        if flight.at < float("inf"):
            continue
        e.at, e.lane = now, lane
        if begin(s, r, tokens, order, blocks):
            turn = e.dt / (e.stages_prompt if e.prompt_tokens > 0 else e.stages)
            if e.partition <= 0.0:
                # Steps pass the stages one behind the other: none leaves the last before the one ahead of it has.
                e.at = e.exit = max(e.at, e.exit + turn)
            flight.at, flight.begun, flight.dt = e.at, now, e.dt
            flight.decoding, flight.prompts, flight.prompt_tokens = e.decoding, e.prompts, e.prompt_tokens
            flight.compute, flight.memory, flight.link, flight.joules = e.compute, e.memory, e.link, e.joules
            flight.drafts = e.drafts
            if e.partition <= 0.0:
                # The first stage is free again when the step has moved on.
                e.gate = e.gate_after = now + turn
                break
            e.gate_after = now
        elif e.partition <= 0.0:
            break
    next_of_lanes(s, r)


@jit
def recall(s, r, lane):  # type: ignore[no-untyped-def]
    """The step of a lane is the one that ends now."""
    e, flight = of.engines(s)[r], of.flights(s)[r, lane]
    e.begun, e.dt = flight.begun, flight.dt
    e.decoding, e.prompts, e.prompt_tokens = flight.decoding, flight.prompts, flight.prompt_tokens
    e.compute, e.memory, e.link, e.joules = flight.compute, flight.memory, flight.link, flight.joules
    e.drafts = flight.drafts
