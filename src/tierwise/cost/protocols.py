"""How long collectives inside one domain take: message-size protocols of NCCL, one- and two-shot all-reduces."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tierwise.core.num import Num, maximum, scalar, where
from tierwise.cost.constants import constant

# Sharpness of the switch from one protocol to the next.
_SHARP = constant("protocols.sharp")


def nccl(k: Mapping[str, Num], size: Num, n: Num, link: Num, memory: Num, twice: bool, adds: Num = 0.0) -> Num:
    """Seconds of a collective of ``size`` bytes among ``n`` devices.

    Each device sends ``(n - 1)/n`` of the buffer (``twice`` for all-reduce) in as many steps, by the fastest of
    three protocols: low latency (``start``, ``step``, ``low``), 128-byte lines (``middle_extra``, ``middle_step``,
    ``middle``) and bulk (``bulk_extra``, ``bulk_step``, ``bulk``): seconds, seconds a step, fraction of the link.
    ``spread`` is the power of ``2/n`` in the bandwidth (more channels, or a host bus that all share), ``local`` the
    passes over the buffer in local memory, ``narrow`` the slow-down of sums over 8-bit elements (``adds``).
    """
    trips = (2.0 if twice else 1.0) * (n - 1.0)
    wire = link * (2.0 / n) ** k["spread"]
    sent = trips / n * size / wire * (1.0 + k["narrow"] * adds)
    start = k["start"] + k["middle_extra"]
    return _fastest(
        k["start"] + trips * k["step"] + sent / k["low"],
        start + trips * k["middle_step"] + sent / k["middle"],
        start + k["bulk_extra"] + trips * k["bulk_step"] + sent / k["bulk"],
    ) + k["local"] * size / memory  # fmt: skip


def custom(k: Mapping[str, Num], size: Num, n: Num, link: Num, memory: Num) -> Num:
    """Seconds of a serving engine's all-reduce through the host: one shot (every device reads all others' buffers), two
    shots (reduce-scatter, all-gather) or NCCL's bulk path, whichever is fastest. Coefficients as in :func:`nccl`."""
    wire = link * (2.0 / n) ** k["spread"]
    start = k["start"] + k["middle_extra"]
    once, both = (n - 1.0) * size / wire, 2.0 * (n - 1.0) / n * size / wire
    return _fastest(
        k["start"] + (n - 1.0) * k["step"] + once / k["low"],
        start + (n - 1.0) * k["middle_step"] + both / k["middle"],
        start + k["bulk_extra"] + (n - 1.0) * k["bulk_step"] + both / k["bulk"],
    ) + k["local"] * size / memory  # fmt: skip


def peers(k: Mapping[str, Num], size: Num, n: Num, link: Num, library: Num) -> tuple[Num, Num]:
    """(seconds of an all-reduce of ``size`` bytes among ``n`` devices that reach each other, whether they are the
    library's).

    Engines add in one pass (every device reads all others' buffers between two barriers, or has them pushed into its
    own), in two (a share each, then all shares), or have a switch add (one copy up, one down; symmetric memory, in two
    passes where the group is too small to gain), and leave what is larger to the ``library`` (seconds). Which, says the
    engine's own table (``once_2`` to ``cast_8``, :mod:`tierwise.cost.messages`); where it is not known, the fastest.
    Coefficients: ``start`` (seconds), ``step`` (seconds a peer), ``low`` and ``each`` (fractions of the link: of all
    peers' bytes, and of one's, which a thread has on the way at a time), ``middle_extra``, ``middle_step`` and
    ``middle`` of two passes, ``cast_extra`` and ``cast`` of symmetric memory. A way that has none is never taken.
    """
    once = k["start"] + (n - 1.0) * k["step"] + (n - 1.0) * size / (link * k["low"]) + size / (link * k["each"])
    both = 2.0 * (n - 1.0) / n * size
    twice: Num = np.inf
    cast: Num = np.inf
    if "middle" in k:
        twice = k["start"] + k["middle_extra"] + (n - 1.0) * k["middle_step"] + both / (link * k["middle"])
    if "once_2" not in k:
        return _fastest(once, twice, library), 0.0
    up = where(np.asarray(n) > 4.0, (1.0 + 1.0 / n) * size, both)
    if "cast" in k:
        cast = k["start"] + k["cast_extra"] + (n - 1.0) * k["step"] + up / (link * k["cast"])
    most = [_of_group(k, way, n) for way in ("once", "twice", "cast")]
    own = where(size <= most[0], once, where(size <= most[1], twice, cast))
    beyond = np.asarray(size) > maximum(*most)
    return where(beyond, library, own), where(beyond, 1.0, 0.0)


def _of_group(k: Mapping[str, Num], way: str, n: Num) -> Num:
    """The most bytes that go one way in a group of ``n``: as in the next larger group that engines tell apart."""
    small = where(np.asarray(n) <= 2.0, k[f"{way}_2"], where(np.asarray(n) <= 4.0, k[f"{way}_4"], k[f"{way}_8"]))
    return where(np.asarray(n) <= 8.0, small, 0.0)


def _fastest(*times: Num) -> Num:
    """A smooth minimum: libraries switch protocol a little before or after it pays."""
    least = np.minimum(np.minimum(times[0], times[1]), times[2])
    total = sum((np.asarray(t) / least) ** -_SHARP for t in times)
    return scalar(least * np.asarray(total) ** (-1.0 / _SHARP))
