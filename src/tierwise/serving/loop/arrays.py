"""The loop's arrays behind one pointer: ``requests(s)`` and so on, of the record ``s`` of their addresses and sizes.

Thirty arrays as arguments of every function would be two hundred words to pass on each call, and minutes to compile.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from tierwise.serving.jit import jit
from tierwise.serving.loop import layout
from tierwise.serving.loop.layout import LoopState

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


carray: Any = numba.carray  # type: ignore[attr-defined]


def _address(typingctx, address):  # type: ignore[no-untyped-def]
    """An address as a pointer."""

    def codegen(context, builder, signature, args):  # type: ignore[no-untyped-def]
        return builder.inttoptr(args[0], cgutils.voidptr_t)

    return types.voidptr(types.int64), codegen


_pointer: Any = intrinsic(_address)


_CLUSTER, _REQUEST, _ENGINE, _GROUP = layout.CLUSTER, layout.REQUEST, layout.ENGINE, layout.GROUP
_FLIGHT, _RANK, _TENANT = layout.FLIGHT, layout.RANK, layout.TENANT
_FLOATS, _INTS, _SHORT, _TINY = np.dtype("f8"), np.dtype("i8"), np.dtype("i4"), np.dtype("i1")


@jit
def cluster(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.cluster), (s.cluster_0,), _CLUSTER)


@jit
def requests(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.requests), (s.requests_0,), _REQUEST)


@jit
def engines(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.engines), (s.engines_0,), _ENGINE)


@jit
def groups(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.groups), (s.groups_0,), _GROUP)


@jit
def flights(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.flights), (s.flights_0, s.flights_1), _FLIGHT)


@jit
def ranks(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.ranks), (s.ranks_0, s.ranks_1), _RANK)


@jit
def tenants(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.tenants), (s.tenants_0, s.tenants_1), _TENANT)


@jit
def running(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.running), (s.running_0, s.running_1), _INTS)


@jit
def queues(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.queues), (s.queues_0, s.queues_1), _INTS)


@jit
def tables(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.tables), (s.tables_0,), _FLOATS)


@jit
def graphs(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.graphs), (s.graphs_0,), _INTS)


@jit
def event_time(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.event_time), (s.event_time_0,), _FLOATS)


@jit
def event_kind(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.event_kind), (s.event_kind_0,), _INTS)


@jit
def event_item(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.event_item), (s.event_item_0,), _INTS)


@jit
def blocks(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.blocks), (s.blocks_0,), _INTS)


@jit
def block_start(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.block_start), (s.block_start_0,), _INTS)


@jit
def users(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.users), (s.users_0, s.users_1), _SHORT)


@jit
def spare_ends(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.spare_ends), (s.spare_ends_0, s.spare_ends_1, s.spare_ends_2), _INTS)


@jit
def spare_links(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.spare_links), (s.spare_links_0, s.spare_links_1, s.spare_links_2, s.spare_links_3), _SHORT)


@jit
def below(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.below), (s.below_0, s.below_1), _TINY)


@jit
def adapter_users(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.adapter_users), (s.adapter_users_0, s.adapter_users_1), _INTS)


@jit
def adapter_used(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.adapter_used), (s.adapter_used_0, s.adapter_used_1), _FLOATS)


@jit
def growth(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.growth), (s.growth_0, s.growth_1), _INTS)


@jit
def series(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.series), (s.series_0, s.series_1), _FLOATS)


@jit
def edges(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.edges), (s.edges_0,), _FLOATS)


@jit
def itl(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.itl), (s.itl_0,), _INTS)


@jit
def log_step(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.log_step), (s.log_step_0, s.log_step_1), _INTS)


@jit
def log_time(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.log_time), (s.log_time_0, s.log_time_1), _FLOATS)


@jit
def scratch(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.scratch), (s.scratch_0,), _INTS)


@jit
def among(s):  # type: ignore[no-untyped-def]
    return carray(_pointer(s.among), (s.among_0,), _INTS)
