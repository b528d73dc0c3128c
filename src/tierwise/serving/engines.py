"""Facts of serving engines that steps depend on, from ``calibration/engines.yaml``."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_FILE = Path(__file__).parent / "calibration" / "engines.yaml"


@dataclass(frozen=True)
class EngineFacts:
    """What an engine does by default.

    Attributes:
        steps: (first size, distance) from which recorded batch sizes lie that far apart, ascending.
        few: sizes recorded besides.
        per_seqs: sizes reach at most so many times the sequences of a step.
        mixed: steps with prefill are replayed too, where they are no larger than the largest size.
        ahead: the next step is put together while one runs.
        together: families of devices on which one attention kernel serves prefill and decoding rows together.
        tile: query rows of that kernel's tile, 0 where there is none.
        source: where this stands.
    """

    steps: tuple[tuple[int, int], ...]
    few: tuple[int, ...]
    per_seqs: float
    mixed: bool
    ahead: bool
    together: frozenset[str]
    tile: int
    source: str

    def graph_sizes(self, max_seqs: int, largest: int) -> NDArray[np.int64]:
        """Batch sizes replayed from recorded graphs, ascending; empty when ``largest`` is 0."""
        most = min(int(self.per_seqs * max_seqs), largest)
        ends = [first for first, _ in self.steps[1:]] + [most + 1]
        ranges = [np.arange(first, end, step) for (first, step), end in zip(self.steps, ends, strict=True)]
        sizes = np.unique(np.concatenate([np.asarray(self.few, np.int64), *ranges]))
        return sizes[sizes <= most].astype(np.int64)


@lru_cache(maxsize=1)
def engine_names() -> tuple[str, ...]:
    """Engines on file."""
    import yaml

    return tuple(name for name in yaml.safe_load(_FILE.read_text()) if name != "*")


@lru_cache(maxsize=32)
def engine_facts(engine: str) -> EngineFacts:
    """The facts of an engine, of a typical one where it is not on file."""
    import yaml

    data: dict[str, Any] = yaml.safe_load(_FILE.read_text())
    x = data.get(engine) or data["*"]
    steps = tuple((int(a), int(b)) for a, b in x["steps"])
    return EngineFacts(steps, tuple(map(int, x["few"])), float(x["per_seqs"]), bool(x["mixed"]), bool(x["ahead"]),
                       frozenset(x["together"]), int(x.get("tile", 0)), str(x["source"]))  # fmt: skip
