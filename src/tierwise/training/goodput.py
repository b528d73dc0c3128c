"""What failures and checkpoints leave of a long run.

Devices fail independently of each other; a failure stops the whole run, which goes back to its last checkpoint. Between
checkpoints is Daly's interval (Daly, Future Generation Computer Systems 22, 2006, equation 37, which to first order is
Young's, Communications of the ACM 17, 1974: the root of twice the time of a checkpoint and the time between failures),
and how long the run takes is his equation 13: its intervals are repeated until they go through.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tierwise.core.errors import BadField

MONTH = 30.0 * 86400.0


@dataclass(frozen=True)
class Reliability:
    """What fails, and how it is brought back.

    Attributes:
        mtbf: seconds between failures of one device.
        restart: seconds from a failure to the first step again, with a spare at hand: it is noticed, replaced, the
            checkpoint is read.
        storage: bytes a second that checkpoints are written with, by all devices together.
        background: checkpoints are copied to hosts, which write them while training goes on: a step waits for the copy
            alone.
        spares: devices that stand by. ``repair``: seconds until one that failed is back.
    """

    mtbf: float
    restart: float = 600.0
    storage: float = float("inf")
    background: bool = False
    spares: float = 0.0
    repair: float = 86400.0


@dataclass(frozen=True)
class Goodput:
    """A run with failures.

    Attributes:
        between: seconds between failures of the run. ``size``: bytes of a checkpoint; ``write``: seconds that training
            stands still for one, ``written``: until it is safe.
        interval: seconds of training between checkpoints; ``young``: the first-order one.
        restart: mean seconds from a failure to the first step again, waits for a device included.
        share: of all time that goes into steps that count.
        failures: in a month, and ``lost`` hours of a month by cause.
    """

    between: float
    size: float
    write: float
    written: float
    interval: float
    young: float
    restart: float
    share: float
    failures: float
    lost: dict[str, float]


def goodput(what: Reliability, devices: float, size: float, copied: float) -> Goodput:
    """The share of a run that counts.

    Args:
        size: bytes of a checkpoint, over all devices. ``copied``: seconds in which devices hand their parts to hosts.

    Raises:
        BadField: a time or rate that is not above zero, or failures that come faster than a restart.
    """
    for name in ("mtbf", "restart", "storage", "repair"):
        if not getattr(what, name) > 0:
            raise BadField("--" + name, "value", getattr(what, name), "more than nothing")
    between = what.mtbf / devices
    written = size / what.storage
    write = copied if what.background else max(written, copied)
    restart = what.restart + _waits(what, between) * what.repair
    if restart >= between:
        raise BadField("--mtbf", "value", f"{between:.0f} s between failures of {devices:.0f} devices",
                       f"more than the {restart:.0f} s that a restart takes: more spares, better devices")  # fmt: skip
    young = math.sqrt(2.0 * write * between)
    interval = _daly(write, between)
    if what.background:
        # The next checkpoint cannot begin before the last one is written.
        interval = max(interval, written)
    unsafe = written if what.background else 0.0
    # Daly's equation 13, over the time that is solved for; work since a checkpoint that was not safe yet is lost too.
    total = between * math.exp((restart + unsafe) / between) * math.expm1((interval + write) / between) / interval
    failures = MONTH / between
    month = MONTH / 3600.0
    # A restart is cut short by the next failure as any work is.
    back = -between * math.expm1(-restart / between)
    lost = {"checkpoints": month / total * write / interval, "restarts": failures * back / 3600.0}
    lost["work done again"] = max(month * (1.0 - 1.0 / total) - sum(lost.values()), 0.0)
    return Goodput(between, size, write, written, interval, young, restart, 1.0 / total, failures, lost)


def _daly(write: float, between: float) -> float:
    """Daly's higher-order interval."""
    if write <= 0:
        return between / 1e3  # costs nothing: as often as one likes
    if write >= 2.0 * between:
        return between
    x = write / (2.0 * between)
    return math.sqrt(2.0 * write * between) * (1.0 + math.sqrt(x) / 3.0 + x / 9.0) - write


def _waits(what: Reliability, between: float) -> float:
    """Chance that a failed device finds no spare: more than there are have failed within the time of a repair, a number
    that is Poisson's."""
    mean = what.repair / between
    if mean > 700.0:  # far more failures than could be told apart; a normal one then
        z = (what.spares - mean) / math.sqrt(mean)
        return 0.5 * math.erfc(z / math.sqrt(2.0))
    term = math.exp(-mean)
    below = 0.0
    for k in range(int(min(what.spares, 2000))):  # of 700 on average, never more
        below += term
        term *= mean / (k + 1)
    return max(1.0 - below, 0.0)
