"""All-reduces of serving engines inside one node, launched one by one (``eager``) or replayed (``graph``).

``message_size`` counts elements of two bytes, as in NCCL's rows. What is launched one by one was timed with a copy of
its input before each (AIConfigurator, collector/network/collect_all_reduce.py: ``input_tensor.clone()``).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tierwise.cost import Cost, Target, price
from tierwise.cost.collective import fabric
from tierwise.cost.flash import smooth_maximum
from tierwise.measure.columns import SIZE
from tierwise.measure.rows.collective import node
from tierwise.program.types import Op

COLUMNS = frozenset({"allreduce_dtype", "num_gpus", "message_size"})
DTYPE = "allreduce_dtype"
BOUNDS = {"num_gpus": SIZE, "message_size": (1.0, 1e15)}

Rows = Mapping[str, np.ndarray]


def op(rows: Rows) -> Op:
    """One op whose sizes are the arrays of the rows."""
    width = np.where(np.asarray(rows["allreduce_dtype"], dtype=str) == "float32", 4.0, 2.0)
    dims = {"bytes": np.asarray(rows["message_size"], dtype=float) * width,
            "group": np.asarray(rows["num_gpus"], dtype=float)}  # fmt: skip
    return Op("collective", "all_reduce", "comm", dims, 0.0, (), (), "bf16", options={"collective": "all_reduce"})


def eager(rows: Rows) -> bool:
    """The rows' kernels were launched by the host."""
    return "eager" in str(rows["kernel_source"][0]).lower() if "kernel_source" in rows else False


def cost(rows: Rows, on: Target) -> Cost:
    """The price of the rows."""
    on = node(replace(on, graphs=not eager(rows)))
    found = price(op(rows), on)
    if on.graphs or fabric(on.system):  # of devices that only the host connects, classes hold copy and launch
        return found
    # In a loop now the host waits and now the device.
    copied = 2.0 * op(rows).dims["bytes"] / on.memory.bandwidth
    taken = smooth_maximum(found.overlapped["link"] + copied, found.overlapped.get("launch", 0.0))
    return replace(found, overlapped={"link": taken})
