"""As in a recorded trace: each value drawn from its requests, with replacement."""

from __future__ import annotations

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.serving.traffic.trace import Floats

FIELDS = ("prompt", "output")


def draw(n: int, rng: np.random.Generator, *, path: str, field: str) -> Floats:
    """Values (n,) of ``field`` (prompt or output) of the trace in ``path``."""
    from tierwise.serving.traffic.load import load

    if field not in FIELDS:
        raise TierwiseError(f"empirical: field: found {field!r}; allowed: {' or '.join(FIELDS)}")
    return np.asarray(rng.choice(getattr(load(path), field), n), np.float64)
