"""NCCL inside one node: operation, devices, elements of the message (``nccl_dtype`` says of what width).

Elements, not bytes: rows of ``half`` take as long as rows of ``int8`` with twice as many, and read so, large
messages come close to the links' datasheet bandwidth. The message is the whole buffer: what every device ends with.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from tierwise.core.errors import UnknownName
from tierwise.cost import Cost, Target, price
from tierwise.machines import several
from tierwise.measure.columns import SIZE
from tierwise.program.types import Op

COLUMNS = frozenset({"op_name", "num_gpus", "message_size", "nccl_dtype"})
DTYPE = "op_name"
BOUNDS = {"num_gpus": SIZE, "message_size": (1.0, 1e15)}

NAMES = {"all_reduce": "all_reduce", "all_gather": "all_gather", "reduce_scatter": "reduce_scatter",
         "alltoall": "all_to_all"}  # fmt: skip
WIDTHS = {"half": 2.0, "bfloat16": 2.0, "float": 4.0, "int8": 1.0}

Rows = Mapping[str, np.ndarray]


def op(rows: Rows) -> Op:
    """One op whose sizes are the arrays of the rows, all of one operation."""
    name = str(rows["op_name"][0])
    if name not in NAMES:
        raise UnknownName("op_name", name, list(NAMES))
    kinds = [str(d) for d in rows["nccl_dtype"]]
    for kind in kinds:
        if kind not in WIDTHS:
            raise UnknownName("nccl_dtype", kind, list(WIDTHS))
    width = np.asarray([WIDTHS[k] for k in kinds])
    sums = name in ("all_reduce", "reduce_scatter")
    dims = {"bytes": np.asarray(rows["message_size"], dtype=float) * width,
            "group": np.asarray(rows["num_gpus"], dtype=float),
            "narrow": np.where((width < 2.0) & sums, 1.0, 0.0)}  # fmt: skip
    options = {"collective": NAMES[name], "library": True}
    return Op("collective", name, "comm", dims, 0.0, (), (), "bf16", options=options)


def node(on: Target) -> Target:
    """The same device, eight of them."""
    return replace(on, system=several(on.system, 8))


def cost(rows: Rows, on: Target) -> Cost:
    """The price of the rows by NCCL."""
    return price(op(rows), node(replace(on, efficiency=replace(on.efficiency, engine=""))))
