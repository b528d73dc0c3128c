"""All-reduces of serving engines inside one node, launched one by one (``eager``) or replayed (``graph``).

``message_size`` counts elements of two bytes, as in NCCL's rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tierwise.cost import Cost, Target, price
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
    return price(op(rows), node(replace(on, graphs=not eager(rows))))
