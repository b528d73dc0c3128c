"""The loop and the policies, compiled for the one signature each has: a policy is called through a pointer, so one
compiled loop takes any of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba as _numba
from numba import types as _types

from tierwise.serving.loop.advance import advance
from tierwise.serving.loop.jit import compiled
from tierwise.serving.loop.layout import CLUSTER, ENGINE, REQUEST, TENANT, State

numba: Any = _numba
types: Any = _types  # Numba has annotations for part of itself only

POLICIES = 4  # different schedulers and KV managers that one deployment may mix

_engine, _request = numba.from_dtype(ENGINE), numba.from_dtype(REQUEST)
_tenant, _cluster = numba.from_dtype(TENANT), numba.from_dtype(CLUSTER)
SIGNATURES = {
    "tokens": types.int64(_engine, _request, _tenant),
    "order": types.float64(_engine, _request, _tenant),
    "blocks": types.int64(_engine, _request, types.int64),
    "route": types.int64(_cluster, _request, types.Array(_engine, 1, "C"), types.Array(types.int64, 1, "C")),
}


@cache
def policy(kind: str, function: Callable[..., Any]) -> Any:
    """A policy's function compiled for its kind.

    Raises:
        numba.core.errors.NumbaError: it uses what cannot be compiled.
    """
    return compiled(function, SIGNATURES[kind])


def loop(state: State) -> Callable[..., int]:
    """The event loop for states of this make; compiled once, or read from the cache."""
    return _loop(numba.typeof(state))  # type: ignore[no-any-return]


@cache
def _loop(state: Any) -> Any:
    def several(kind: str) -> Any:
        return types.UniTuple(types.FunctionType(SIGNATURES[kind]), POLICIES)

    signature = types.int64(state, types.int64, several("tokens"), several("order"), several("blocks"),
                            types.FunctionType(SIGNATURES["route"]))  # fmt: skip
    return compiled(advance, signature)


def by_arrival(engine, request, tenant):  # type: ignore[no-untyped-def]
    """First come, first served: the order of a scheduler that does not say another."""
    return request.ready
