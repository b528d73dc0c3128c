"""The loop's arrays behind one pointer: ``requests(s)`` and so on, of the record ``s`` of their addresses and sizes.

Thirty arrays as arguments of every function would be two hundred words to pass on each call, and minutes to compile.
Each is put together where it is used, by instructions and not by a function: these were half of all there was to
compile.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.extending import intrinsic
from numba.np import arrayobj as _arrayobj

from tierwise.serving.loop import layout
from tierwise.serving.loop.layout import LoopState

numpy_arrays: Any = _arrayobj
WORD = 8  # bytes of an address or a size

HANDLE = np.dtype(
    [(name, "i8") for name in LoopState._fields]
    + [(name + "_" + str(k), "i8") for name in LoopState._fields for k in range(4)]
)


def handle(state: LoopState) -> Any:
    """(1,) HANDLE: where the arrays of a state are. It does not keep them alive."""
    out = np.zeros(1, HANDLE)
    for name, array in zip(LoopState._fields, state, strict=True):
        if not array.flags["C_CONTIGUOUS"]:
            raise ValueError(f"{name} is not contiguous")
        out[name] = array.ctypes.data
        for k, size in enumerate(array.shape):
            out[f"{name}_{k}"] = size
    return out


def _array(name: str, kind: Any, dims: int) -> Any:
    """The array of that name, of ``dims`` dimensions of ``kind``, as a function of the record of addresses."""
    dtype = np.dtype(kind)
    array: Any = types.Array(numba.from_dtype(dtype), dims, "C")

    def view(typingctx, s):  # type: ignore[no-untyped-def]
        def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
            word = context.get_value_type(types.intp)
            words = builder.bitcast(args[0], word.as_pointer())

            def field(name: str) -> Any:
                return builder.load(builder.gep(words, [word(s.offset(name) // WORD)]))

            shape = [field(f"{name}_{k}") for k in range(dims)]
            strides = [word(dtype.itemsize)]
            for size in shape[:0:-1]:
                strides = [builder.mul(strides[0], size), *strides]
            data = builder.inttoptr(field(name), context.get_data_type(array.dtype).as_pointer())
            made = numpy_arrays.make_array(array)(context, builder)
            numpy_arrays.populate_array(
                made, data=data, shape=shape, strides=strides, itemsize=word(dtype.itemsize), meminfo=None
            )
            return made._getvalue()

        return array(s), codegen

    return intrinsic(view)


cluster = _array("cluster", layout.CLUSTER, 1)
requests = _array("requests", layout.REQUEST, 1)
engines = _array("engines", layout.ENGINE, 1)
groups = _array("groups", layout.GROUP, 1)
flights = _array("flights", layout.FLIGHT, 2)
ranks = _array("ranks", layout.RANK, 2)
tenants = _array("tenants", layout.TENANT, 2)
running = _array("running", "i8", 2)
queues = _array("queues", "i8", 2)
tables = _array("tables", "f8", 1)
graphs = _array("graphs", "i8", 1)
event_time = _array("event_time", "f8", 1)
event_kind = _array("event_kind", "i8", 1)
event_item = _array("event_item", "i8", 1)
blocks = _array("blocks", "i8", 1)
block_start = _array("block_start", "i8", 1)
users = _array("users", "i4", 2)
spare_ends = _array("spare_ends", "i8", 3)
spare_links = _array("spare_links", "i4", 4)
below = _array("below", "i1", 2)
adapter_users = _array("adapter_users", "i8", 2)
adapter_used = _array("adapter_used", "f8", 2)
growth = _array("growth", "i8", 2)
series = _array("series", "f8", 2)
edges = _array("edges", "f8", 1)
itl = _array("itl", "i8", 1)
log_step = _array("log_step", "i8", 2)
log_time = _array("log_time", "f8", 2)
scratch = _array("scratch", "i8", 1)
among = _array("among", "i8", 1)
