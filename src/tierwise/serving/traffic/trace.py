"""A trace: requests with their arrival, lengths, and what they share, as arrays."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError

if TYPE_CHECKING:
    from tierwise.serving.traffic.summary import Summary

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ROWS = ("arrival", "prompt", "output", "tenant", "priority", "after", "think", "samples", "adapter")


@dataclass(frozen=True)
class Trace:
    """Requests in order of arrival; every array of shape (n,) unless said.

    Attributes:
        arrival: seconds from the start of the trace, not decreasing. Ignored for requests that come ``after``
            another one (there it only orders them, until ``take`` leaves the earlier one out), and for all of them
            under a closed loop.
        prompt: tokens of the prompt, history of the conversation included; at least 1.
        output: tokens to generate; at least 1.
        tenant: who asks, index into ``tenants``.
        priority: larger is more urgent.
        after: index of the request whose answer this one follows (a later turn of a session), -1 for none;
            always an earlier index.
        think: seconds between that answer's last token and this request.
        blocks, block_start, block_size: identities of the prompt's blocks of ``block_size`` tokens, so that equal
            identities mean equal prefixes: request i has ``blocks[block_start[i]:block_start[i + 1]]``. The last
            one may be partly filled (Mooncake's are). Nothing known to be shared: ``blocks`` empty and
            ``block_start`` [0].
        samples: sequences generated from one prompt (parallel sampling).
        adapter: LoRA adapter, -1 for none.
        closed_loop: requests kept in flight by the client, each replaced when it ends; 0 for an open loop.
        rate: requests a second that arrivals were drawn at; 0 where nobody drew them.
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
    rate: float = 0.0
    tenants: tuple[str, ...] = ("all",)
    source: str = ""
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.arrival)

    @property
    def duration(self) -> float:
        """Seconds from the first arrival to the last."""
        return float(self.arrival[-1] - self.arrival[0]) if len(self) else 0.0

    def take(self, index: object) -> Trace:
        """The requests of the given indices (or mask), in that order; their blocks and ``after`` come along.

        A later turn whose earlier one is left out starts a session of its own, at its ``arrival``.
        """
        rows = np.asarray(index)
        rows = np.flatnonzero(rows) if rows.dtype == bool else rows.astype(np.int64)
        place = np.full(len(self) + 1, -1, np.int64)  # the last entry answers for after = -1
        place[rows] = np.arange(len(rows))
        changed = {name: getattr(self, name)[rows] for name in ROWS}
        changed["after"] = place[changed["after"]]
        changed["think"] = np.where(changed["after"] < 0, 0.0, changed["think"])
        if len(self.blocks):
            count = np.diff(self.block_start)[rows]
            start = np.concatenate([[0], np.cumsum(count)])
            flat = np.arange(start[-1]) + np.repeat(self.block_start[rows] - start[:-1], count)
            changed |= {"blocks": self.blocks[flat], "block_start": start if start[-1] else start[:1]}
        return replace(self, **changed)

    def scaled(self, rate_scale: float) -> Trace:
        """The same requests ``rate_scale`` times as fast; think times stay, they are people's."""
        if not (np.isfinite(rate_scale) and rate_scale > 0):
            raise TierwiseError(f"rate scale: found {rate_scale}; allowed: a number above 0")
        return self if rate_scale == 1 else replace(self, arrival=self.arrival / rate_scale)

    def head(self, n: int) -> Trace:
        """The first ``n`` requests."""
        if n < 1:
            raise TierwiseError(f"limit: found {n}; allowed: a whole number of at least 1")
        return self if n >= len(self) else self.take(np.arange(n))

    def window(self, t0: float, t1: float) -> Trace:
        """Requests that arrive in [t0, t1) seconds, the clock starting again at ``t0``."""
        lo, hi = np.searchsorted(self.arrival, [t0, t1])
        if hi <= lo:
            raise TierwiseError(f"window {t0:g} s to {t1:g} s: no request arrives in it; "
                                f"the trace runs to {self.arrival[-1] if len(self) else 0:g} s")  # fmt: skip
        part = self.take(np.arange(lo, hi))
        return replace(part, arrival=part.arrival - t0)

    def summary(self) -> Summary:
        """What people want to know first: how many, how fast, how long, how much is shared."""
        from tierwise.serving.traffic.summary import summarized

        return summarized(self)


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
