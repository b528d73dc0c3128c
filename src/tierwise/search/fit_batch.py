"""How to answer many requests with a model that does not fit: shares of weights and caches by tier, and batches.

The policy space of FlexGen (arXiv:2303.06865, section 4): weights stream to the device ahead of the layer that runs,
once a step for all sequences; caches lie on the device or the host, where the processors may attend next to them; what
the host does not hold either lies on a disk. All fractions and batches of one structure are one evaluation over arrays,
and "fits" is asked of the memory account.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import fmt
from tierwise.evaluation import evaluate
from tierwise.program.placement import Placement
from tierwise.result import Result
from tierwise.scenario.types import KV, Batch, Plan, Scenario
from tierwise.search.fit_question import FitQuestion

# Shares that are tried, and sequences at once.
SHARES = np.linspace(0.0, 1.0, 11)
CACHE_SHARES = (0.0, 0.5, 1.0)
BATCHES = 2.0 ** np.arange(0, 11)
# Steps around the best of them, and batches as parts of its own.
FINER = np.linspace(-0.1, 0.1, 21)
MORE = np.asarray((0.625, 0.75, 0.875, 1.0, 1.125, 1.25, 1.5, 1.75))
# One layer's weights ahead of the one that runs (FlexGen's overlapping schedule).
SCHEDULE = "prefetch:ahead=1"
FORMATS = ("fp16", "int8-g64", "int4-g64")

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class OffloadPolicy:
    """One point of the space.

    Attributes:
        weights, kv: formats. ``batch``: sequences at once.
        weight_shares, cache_shares: by node, ``""`` for the device; they add up to 1.
        attends: node that attends over the cache, ``""`` for the device.
        result: what it comes to; ``scenario``: that says so.
    """

    weights: str
    kv: str
    batch: float
    weight_shares: dict[str, float]
    cache_shares: dict[str, float]
    attends: str
    scenario: Scenario
    result: Result

    @property
    def throughput(self) -> float:
        """Generated tokens per second, prompts included."""
        return float(self.result.throughput)


def policies(q: FitQuestion) -> list[OffloadPolicy]:
    """The best policy of each structure (format, where attention runs), the fastest first; none where nothing fits.

    Raises:
        TierwiseError: a machine without a host.
    """
    if q.machine.host is None or q.machine.device.link("host") is None:
        raise TierwiseError(f"plan fit --goal throughput: {q.on} has no host to keep weights and caches in; spell it, "
                            "as in rtx4090 + 64GB ddr5 + nvme-gen4")  # fmt: skip
    out = []
    for name in q.weights or FORMATS:
        form = fmt(name)
        if float(np.max(form.bits)) + float(np.max(form.meta)) < q.min_bits:
            continue
        for attends in ("", "host") if q.has_host else ("",):
            found = _best(q, name, attends)
            if found is not None:
                out.append(found)
    return sorted(out, key=lambda p: -p.throughput)


def _best(q: FitQuestion, weights: str, attends: str) -> OffloadPolicy | None:
    """The fastest point of a structure that fits: of a grid, then of a finer one around the best of that."""
    whole = [SHARES, SHARES if q.disk else np.zeros(1), np.asarray((1.0,) if attends else CACHE_SHARES),
             BATCHES if q.batch is None else np.asarray([q.batch])]  # fmt: skip
    found = _fastest(q, weights, attends, whole)
    if found is None:
        return None
    host, far, caches, batch = found
    finer = [np.clip(host + FINER, 0.0, 1.0), np.clip(far + FINER[::5], 0.0, 1.0) if q.disk else np.zeros(1),
             whole[2] if attends else np.clip(caches + 2.0 * FINER[::2], 0.0, 1.0),
             np.asarray([batch]) if q.batch is not None else np.unique(np.round(batch * MORE))]  # fmt: skip
    host, far, caches, batch = _fastest(q, weights, attends, [np.unique(x) for x in finer]) or found
    one = _scenario(q, weights, attends, host, far, caches, batch)
    shares = {"": 1.0 - (host + far), "host": host, **({q.disk: far} if q.disk else {})}
    kept = {"": 1.0 - caches, "host": caches}
    return OffloadPolicy(weights, weights, batch, shares, kept, attends, one, evaluate(one))


def _fastest(q: FitQuestion, weights: str, attends: str, grids: list[Floats]) -> tuple[float, ...] | None:
    """(share on the host, on the disk, of caches on the host, sequences) of the fastest point that fits."""
    host, far, caches, batch = (x.ravel() for x in np.meshgrid(*grids, indexing="ij"))
    keep = host + far <= 1.0 + 1e-9
    points = [x[keep] for x in (host, far, caches, batch)]
    r = evaluate(_scenario(q, weights, attends, *points))
    speed: Floats = np.where(np.asarray(r.fits), np.asarray(r.output_tokens) / np.asarray(r.time), 0.0)
    speed = np.broadcast_to(speed, points[0].shape)
    return tuple(float(x[int(np.argmax(speed))]) for x in points) if speed.max() > 0.0 else None


def _scenario(q: FitQuestion, weights: str, attends: str, host: object, far: object, caches: object,
              batch: object) -> Scenario:  # fmt: skip
    """The scenario of one point, or of an array of them."""
    placement = Placement()
    if np.any(np.asarray(host) > 0) or np.any(np.asarray(far) > 0):
        places = {"host": host, **({q.disk: far} if q.disk and np.any(np.asarray(far) > 0) else {})}
        placement = placement.with_tensors("weights", places)  # type: ignore[arg-type]
    if np.any(np.asarray(caches) > 0):
        placement = placement.with_tensors("kv", {"host": caches})  # type: ignore[dict-item]
    if attends:
        placement = placement.with_ops("attention", attends)
    form = fmt(weights)
    kv = KV() if float(np.max(form.bits)) >= 16.0 else KV(form, form)
    plan = Plan(pp=float(q.machine.count), weights=form, kv=kv, placement=placement, schedule=SCHEDULE)
    traffic = Batch(q.prompt, q.output, batch)  # type: ignore[arg-type]
    return Scenario(q.model, q.machine, traffic, plan, engine="kernels")

