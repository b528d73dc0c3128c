"""What a load generator wrote of a run: requests with the times a client saw, and what it says about what ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tierwise.serving.traffic.rows import Bools
from tierwise.serving.traffic.trace import Floats, Ints

FAILED = "requests that failed"


@dataclass(frozen=True)
class ClientRun:
    """A run as a client saw it; arrays of shape (n,), times in seconds of one clock.

    Attributes:
        arrival, prompt, output: when each was sent, tokens; nan where the file says nothing usable.
        first, last: of its tokens; nan where not recorded.
        failed: those without an answer; ``called``: what to call them.
        lines: where each stands in the file, in units of ``place``; ``broken``: what is no request at all.
        session: index of each one's session, -1 for none; its requests follow one another.
        closed: requests kept in flight, 0 for an open loop.
        model, machine, engine: names as written, "" where not said; ``count``: devices, 0 where not said.
        arguments: of the engine, as vLLM names them.
    """

    path: Path
    arrival: Floats
    prompt: Floats
    output: Floats
    first: Floats
    last: Floats
    failed: Bools
    lines: Ints
    place: str = "request"
    called: str = FAILED
    broken: tuple[tuple[int, str], ...] = ()
    notices: tuple[str, ...] = ()
    session: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    closed: int = 0
    model: str = ""
    machine: str = ""
    count: int = 0
    engine: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
