"""A trace: requests with their arrival, lengths, and what they share, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival; every array of shape (n,) unless said.

    Attributes:
        arrival: seconds from the start of the trace, not decreasing. Ignored for requests that come ``after``
            another one, and for all of them under a closed loop.
        prompt: tokens of the prompt, history of the conversation included; at least 1.
        output: tokens to generate; at least 1.
        tenant: who asks, index into ``tenants``.
        priority: larger is more urgent.
        after: index of the request whose answer this one follows (a later turn of a session), -1 for none.
        think: seconds between that answer's last token and this request.
        blocks, block_start, block_size: identities of the prompt's blocks of ``block_size`` tokens, so that equal
            identities mean equal prefixes: request i has ``blocks[block_start[i]:block_start[i + 1]]``. Empty
            ``blocks``: nothing is known to be shared.
        samples: sequences generated from one prompt (parallel sampling).
        adapter: LoRA adapter, -1 for none.
        closed_loop: requests kept in flight by the client, each replaced when it ends; 0 for an open loop.
        source: where it came from; ``notices``: what was changed or left out when it was read, for people.
    """

    arrival: Floats
    prompt: Ints
    output: Ints
    tenant: Ints
    priority: Ints
    after: Ints
    think: Floats
    samples: Ints
    adapter: Ints
    blocks: Ints = field(default_factory=lambda: np.zeros(0, np.int64))
    block_start: Ints = field(default_factory=lambda: np.zeros(1, np.int64))
    block_size: int = 512
    closed_loop: int = 0
    tenants: tuple[str, ...] = ("all",)
    source: str = ""
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def duration(self) -> float:
        """Seconds from the first arrival to the last."""
        return float(self.arrival[-1] - self.arrival[0]) if len(self) else 0.0


def trace(arrival: object, prompt: object, output: object, **other: object) -> Trace:
    """A trace of the given arrays or lists; whatever is not given is the plainest value."""
    times = np.asarray(arrival, dtype=np.float64)
    n = len(times)
    plain = {"tenant": 0, "priority": 0, "after": -1, "samples": 1, "adapter": -1}
    columns = {k: np.asarray(other.pop(k, np.full(n, v)), dtype=np.int64) for k, v in plain.items()}
    think = np.asarray(other.pop("think", np.zeros(n)), dtype=np.float64)
    return Trace(times, np.asarray(prompt, dtype=np.int64), np.asarray(output, dtype=np.int64),
                 think=think, **columns, **other)  # type: ignore[arg-type]  # fmt: skip


__all__ = ["Trace", "trace"]
