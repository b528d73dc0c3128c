"""What a library's collectives take from the work beside them: multiprocessors and memory.

A ring runs on as many channels as its slowest level has ports, and a channel holds a multiprocessor from beginning to
end, whatever little it moves meanwhile. Bytes that pass through a device are written to its memory and read again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from tierwise.core.num import Num, maximum, minimum, num, where
from tierwise.cost import Target
from tierwise.training.recipe import TrainingFramework

# Channels of a port, and at most ("coll channels" in NCCL's own logs): 24 on one node of A100 or H100, 16 on several
# p5.48xlarge with eight GPUs each, 2 with one port (github.com/NVIDIA/nccl-tests, issue 133).
EACH, MOST = 2.0, 24.0
# Bytes a second of a port: an NVLink of 2020 on, 16 lanes of PCIe 4.0, 200 Gb/s of a network. Faster ports of a network
# have no more channels: eight of 400 Gb/s have 16, too.
PORT = 25e9
# Bytes read and written for one of the buffer (Thakur, Rabenseifner and Gropp, 2005, sections 4.1 and 4.2: what comes
# in is kept and passed on; to be reduced it is written, read beside a device's own, and sent).
PASSES = {"all_gather": 2.0, "reduce_scatter": 3.0, "all_reduce": 5.0}


@dataclass(frozen=True)
class Taken:
    """Of a collective, seconds on the wire, and seconds of a whole device that work beside it does without."""

    wire: Num
    work: Num

    def __add__(self, other: Taken) -> Taken:
        return Taken(self.wire + other.wire, self.work + other.work)


def taken(on: Target, kind: str, seconds: Num, size: Num, group: Num, stride: Num) -> Taken:
    """What a collective takes that is ``seconds`` on the wire.

    Args:
        size: bytes of the buffer a device. ``group``, ``stride``: devices of it, and how far they stand apart.
    """
    units = num(on.rate("bf16")[1].units)
    # Chips of a few large units send by engines of their own.
    held = where(units > MOST, channels(on, group, stride) / units * seconds, 0.0)
    moved = PASSES[kind] * size / on.memory.bandwidth
    return Taken(seconds, where(np.asarray(group) > 1, held + moved, 0.0))


def channels(on: Target, group: Num, stride: Num) -> Num:
    """Channels of a collective, each of which holds a multiprocessor."""
    near, far, per_node = on.system.scale_up, on.system.scale_out, on.system.per_node
    inside = MOST / EACH if near is None else near.bandwidth / PORT
    ports = per_node if far is None else per_node * minimum(far.bandwidth / PORT, 1.0)
    beyond = (np.asarray(group) - 1.0) * stride >= per_node
    return minimum(EACH * maximum(np.floor(where(beyond, minimum(ports, inside), inside)), 1.0), MOST)


def waits(of: Taken, work: Num, how: TrainingFramework) -> Num:
    """Seconds that collectives beside a layer's work add to it: what they take of the device, or where they are longer
    than the work, the rest of them."""
    return maximum(how.contended * of.work, of.wire - work)
